package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
)

// byQueue keeps the metrics of each queue at hand, of at most most queues; the others share one.
type byQueue[T any] struct {
	most  int
	make  func(namespace, name string) *T
	other func() *T

	// of is never changed: it is replaced by a copy that has one more. So looking takes no lock.
	of atomic.Pointer[map[queueKey]*T]
	mu sync.Mutex // of who replaces it
}

type queueKey struct{ namespace, name string }

func newByQueue[T any](most int, mk func(namespace, name string) *T) *byQueue[T] {
	b := &byQueue[T]{most: most, make: mk, other: sync.OnceValue(func() *T { return mk(Other, Other) })}
	b.of.Store(&map[queueKey]*T{})
	return b
}

// get gives the metrics of a queue. name "" is a queue that nobody told.
func (b *byQueue[T]) get(namespace, name string) *T {
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
	return b.add(key)
}

func (b *byQueue[T]) add(key queueKey) *T {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := *b.of.Load()
	if t := of[key]; t != nil {
		return t
	}
	if len(of) >= b.most {
		return b.other()
	}
	t := b.make(key.namespace, key.name)
	more := maps.Clone(of)
	more[key] = t
	b.of.Store(&more)
	return t
}
