package telemetry

import "sync"

// byQueue keeps the metrics of each queue at hand, of at most most queues; the others share one.
type byQueue[T any] struct {
	most  int
	make  func(namespace, name string) *T
	other func() *T

	mu sync.RWMutex
	of map[queueKey]*T
}

type queueKey struct{ namespace, name string }

func newByQueue[T any](most int, mk func(namespace, name string) *T) *byQueue[T] {
	return &byQueue[T]{
		most: most, make: mk, of: map[queueKey]*T{},
		other: sync.OnceValue(func() *T { return mk(Other, Other) }),
	}
}

// get gives the metrics of a queue. name "" is a queue that nobody told.
func (b *byQueue[T]) get(namespace, name string) *T {
	if name == "" {
		return b.other()
	}
	key := queueKey{namespace, name}
	b.mu.RLock()
	t := b.of[key]
	full := len(b.of) >= b.most
	b.mu.RUnlock()
	if t != nil {
		return t
	}
	if full {
		return b.other()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.of[key]; t != nil {
		return t
	}
	if len(b.of) >= b.most {
		return b.other()
	}
	t = b.make(namespace, name)
	b.of[key] = t
	return t
}
