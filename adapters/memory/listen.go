package memory

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxWakes bounds the hints that wait for one listener; more of them become one hint for everything.
const maxWakes = 1_000

// listener is one Listen.
type listener struct {
	heard  map[queue.Wake]struct{} // under Store.mu
	signal chan struct{}           // holds at most one
}

// wakeListeners hints to every listener that l may have tasks. The mutex is held.
func (s *Store) wakeListeners(qs *queueState) {
	for e := range s.listeners {
		if len(e.heard) >= maxWakes {
			// The zero Wake is the hint for everything. It bounds the memory of a listener that is slow.
			clear(e.heard)
			e.heard[queue.Wake{}] = struct{}{}
		}
		if _, all := e.heard[queue.Wake{}]; !all {
			e.heard[queue.Wake{Namespace: qs.settings.Namespace, Queue: qs.settings.Name}] = struct{}{}
		}
		select {
		// A full channel holds a signal that has not been read, and its reader takes this hint too.
		case e.signal <- struct{}{}:
		default:
		}
	}
}

// Listen calls wake with each hint, in the caller's goroutine, until ctx ends.
func (s *Store) Listen(ctx context.Context, wake func(queue.Wake)) error {
	e := &listener{heard: map[queue.Wake]struct{}{}, signal: make(chan struct{}, 1)}
	s.mu.Lock()
	s.listeners[e] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, e)
		s.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.signal:
		}
		s.mu.Lock()
		// The map changes hands under the mutex; wake runs without it, so it may call the store.
		heard := e.heard
		e.heard = map[queue.Wake]struct{}{}
		s.mu.Unlock()
		for w := range heard {
			wake(w)
		}
	}
}
