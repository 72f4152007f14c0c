package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
)

// byQueue holds the metrics of at most most queues; the others share one set.
type byQueue[T any] struct {
	most  int
	make  func(namespace, name string) *T
	drop  func(namespace, name string) // unregisters the metrics of make
	other func() *T

	// of is never changed: it is replaced by a copy that has one more. So looking takes no lock.
	of atomic.Pointer[map[queueKey]*T]
	mu sync.Mutex // guards the replacement of the map
	// missed are those that were not among the queues at the last look.
	missed map[queueKey]bool
}

type queueKey struct{ namespace, name string }

func newByQueue[T any](most int, mk func(namespace, name string) *T, drop func(namespace, name string)) *byQueue[T] {
	b := &byQueue[T]{most: most, make: mk, drop: drop, other: sync.OnceValue(func() *T { return mk(Other, Other) })}
	b.of.Store(&map[queueKey]*T{})
	return b
}

// metersOf returns the metrics of a queue; name "" = a queue that is not known.
func (b *byQueue[T]) metersOf(namespace, name string) *T {
	if name == "" {
		return b.other()
	}
	key := queueKey{namespace, name}
	of := *b.of.Load()
	if t := of[key]; t != nil {
		return t
	}
	if len(of) >= b.most {
		return b.other()
	}
	return b.addQueue(key)
}

func (b *byQueue[T]) addQueue(key queueKey) *T {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := *b.of.Load()
	if t := of[key]; t != nil {
		return t
	}

	if len(of) >= b.most {
		return b.other()
	}

	// Readers hold the old map without a lock, so a new map replaces it.
	t := b.make(key.namespace, key.name)
	more := maps.Clone(of)
	more[key] = t
	b.of.Store(&more)
	return t
}

// addQueues makes the metrics of all queues before anything happens to them: a counter that begins at its first event has no
// increase by it. Where not all queues have a place, the busy ones come first: none is added.
func (b *byQueue[T]) addQueues(queues map[queueKey]bool) {
	if len(queues) > b.most {
		return
	}
	for key := range queues {
		b.metersOf(key.namespace, key.name)
	}
}

// keepOnly gives back the places of queues that are not there any more, so that later ones get their own. A queue goes
// when two looks in a row have not found it: one that was made during a look is counted before it is seen.
func (b *byQueue[T]) keepOnly(there map[queueKey]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	missed := map[queueKey]bool{}
	kept := maps.Clone(*b.of.Load())
	for key := range kept {
		switch {
		case there[key]:
		case b.missed[key]:
			delete(kept, key)
			b.drop(key.namespace, key.name)
		default:
			missed[key] = true
		}
	}

	b.missed = missed
	b.of.Store(&kept)
}
