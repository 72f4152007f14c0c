package run

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// garbageRoom is how many bytes of garbage may gather before they are collected. By itself Go collects when the heap
	// has doubled: a server holds a few megabytes and makes hundreds a second, so that it would collect all the time.
	garbageRoom = 64 << 20
	// leastHeap is what Go takes a smaller heap for.
	leastHeap = 4 << 20
	// usualPercent is Go's own measure; it holds where the heap is larger than the room.
	usualPercent = 100
)

// roomForGarbage gives garbage its room until stop is called, unless whoever started the process has set GOGC. Only
// main programs call it: the collector is the whole process's.
func roomForGarbage(lookup func(string) (string, bool)) (stop func()) {
	if v, _ := lookup("GOGC"); v != "" {
		return func() {}
	}
	r := &room{sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	r.adjust()
	return r.stop
}

// room follows the size of the heap.
type room struct {
	mu      sync.Mutex
	sample  []metrics.Sample
	percent int
	stopped bool
}

// adjust sets the collector's percentage by what the last collection has left, and sees to it that the next one calls
// adjust again.
func (r *room) adjust() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	metrics.Read(r.sample)
	live := max(r.sample[0].Value.Uint64(), leastHeap)
	if p := max(int(garbageRoom*usualPercent/live), usualPercent); p != r.percent {
		r.percent = p
		debug.SetGCPercent(p)
	}
	runtime.AddCleanup(new([8]*room), (*room).adjust, r) // nobody holds it: the next collection finds it
}

func (r *room) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	debug.SetGCPercent(usualPercent)
}
