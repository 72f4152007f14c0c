package memory

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ListFailures groups the newest failed tasks of a queue.
func (s *Store) ListFailures(ctx context.Context, namespace, name string) (*queue.Failures, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()

	l, err := s.findNamespace(namespace).findQueue(name)
	if err != nil {
		return nil, err
	}

	g := queue.NewFailureGrouper(namespace, name)
	for r := range l.roster.eachNewestFirst() {
		if r.task.Status != queue.StatusFailed || l.isPastRetention(r, now) {
			continue
		}
		f := queue.Failure{Task: r.task.ID, At: r.task.FinishedAt}
		if n := len(r.errors); n > 0 {
			last := &r.errors[n-1]
			f.Error, f.Kind, f.Fingerprint = last.Error, last.Kind, last.Fingerprint
		}
		if !g.Add(f) {
			break
		}
	}
	return g.Groups(), nil
}
