package run

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// garbageRoom is the number of bytes of garbage before a collection. By default Go collects when the heap has
	// doubled. A server holds a few megabytes and allocates hundreds per second, so it would collect all the time.
	garbageRoom = 64 << 20
	// leastHeap is the smallest heap with which Go computes: it rounds a smaller one up to it.
	leastHeap = 4 << 20
	// usualPercent is the default of Go. It applies to heaps larger than the room.
	usualPercent = 100
)

// roomForGarbage delays collections by garbageRoom until stop is called, unless the environment sets GOGC. Only main
// programs call it, because the collector belongs to the whole process.
func roomForGarbage(lookup func(string) (string, bool)) (stop func()) {
	if v, _ := lookup("GOGC"); v != "" {
		return func() {}
	}
	r := &room{sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	r.adjustPercent()
	return r.stopAdjusting
}

// room adapts the collector to the size of the heap.
type room struct {
	mu      sync.Mutex
	sample  []metrics.Sample
	percent int
	stopped bool
}

// adjustPercent sets the percentage of the collector from the heap after the last collection. It arranges that the next
// collection calls it again.
func (r *room) adjustPercent() {
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
	// The new object is unreferenced, so the next collection runs the cleanup.
	runtime.AddCleanup(new([8]*room), (*room).adjustPercent, r)
}

func (r *room) stopAdjusting() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	debug.SetGCPercent(usualPercent)
}
