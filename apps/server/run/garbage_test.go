package run

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func TestRoomForGarbage(t *testing.T) {
	read := func(name string) uint64 {
		s := []metrics.Sample{{Name: name}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	const goal, percent = "/gc/heap/goal:bytes", "/gc/gogc:percent"
	// A collection is followed by an adjustment, a little later.
	collected := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: the heap may grow to %d, GOGC is %d", what, read(goal), read(percent))
			}
			runtime.GC()
		}
	}
	before := read(percent)

	stop := roomForGarbage(func(string) (string, bool) { return "50", true })
	runtime.GC()
	stop()
	if read(percent) != before {
		t.Fatalf("GOGC became %d though it was set", read(percent))
	}

	stop = roomForGarbage(func(string) (string, bool) { return "", false })
	if got := read(goal); got < garbageRoom || got > 2*garbageRoom {
		t.Fatalf("the heap may grow to %d bytes at first", got)
	}
	collected("a small heap", func() bool { return read(goal) >= garbageRoom && read(percent) > usualPercent })
	large := make([]byte, 2*garbageRoom)
	collected("a large heap", func() bool { return read(percent) == usualPercent })
	runtime.KeepAlive(large)
	collected("a small heap again", func() bool { return read(percent) > usualPercent })
	stop()
	for range 3 {
		runtime.GC()
	}
	if read(percent) != usualPercent {
		t.Fatalf("GOGC is %d after the stop", read(percent))
	}
}
