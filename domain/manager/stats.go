package manager

import (
	"context"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxReadings is the number of namespaces from which on old readings are forgotten.
const maxReadings = 100

// sharedStats has the last reading of the counts of each namespace. It is safe for concurrent use.
type sharedStats struct {
	mu       sync.Mutex
	readings map[string]*statsReading
}

// statsReading is one reading, under way until done is closed. The fields below done are set by then, and never change again.
type statsReading struct {
	done  chan struct{}
	at    time.Time // the end of the reading
	stats []*queue.QueueStats
	err   error
}

// isFresh reports whether a call at now may share r: it is under way, or it succeeded a moment ago.
func (r *statsReading) isFresh(now time.Time) bool {
	select {
	case <-r.done:
		return r.err == nil && now.Sub(r.at) < queue.StatsAge
	default:
		return true
	}
}

// join returns the reading that a call shares, and whether the call must start it.
func (s *sharedStats) join(namespace string) (r *statsReading, start bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	now := time.Now()
	if r := s.readings[namespace]; r != nil && r.isFresh(now) {
		return r, false
	}

	// The map does not grow with namespaces that no caller asks for any more.
	if len(s.readings) >= maxReadings {
		for name, old := range s.readings {
			if !old.isFresh(now) {
				delete(s.readings, name)
			}
		}
	}
	if s.readings == nil {
		s.readings = map[string]*statsReading{}
	}
	r = &statsReading{done: make(chan struct{})}
	s.readings[namespace] = r
	return r, true
}

// SharedStats returns the counts of every queue of the namespace, as ListQueueStatuses does, by a reading that all calls of a
// moment share. The reading belongs to the manager, so it outlives the call that started it.
func (m *Manager) SharedStats(ctx context.Context) ([]*queue.QueueStats, error) {
	return runOperation(ctx, m, queue.OpListQueueStatuses, func(ctx context.Context) ([]*queue.QueueStats, error) {
		r, start := m.shared.join(m.namespace)
		// Other calls may wait for r already, so it must end with an answer.
		if start && !m.owner.Go(func() { m.readStats(r) }) {
			r.err = owner.ClosedError()
			close(r.done)
		}

		select {
		case <-r.done:
			return r.stats, r.err
		case <-ctx.Done():
			return nil, queue.ContextError(ctx.Err())
		}
	})
}

// readStats makes a reading.
func (m *Manager) readStats(r *statsReading) {
	ctx, cancel := m.owner.NewCall()
	defer cancel()

	r.stats, r.err = m.store.QueueStats(ctx, m.namespace, "")
	r.at = time.Now()
	close(r.done)
}
