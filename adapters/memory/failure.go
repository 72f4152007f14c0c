package memory

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ListFailures groups the newest failed tasks of a queue that q selects.
func (s *Store) ListFailures(ctx context.Context, namespace, name string, q queue.FailureQuery) (*queue.Failures, error) {
	qs, now, err := s.lockQueue(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()

	g := queue.NewFailureGrouper(namespace, name)
	for r := range qs.roster.eachNewestFirst() {
		if r.task.Status != queue.StatusFailed || qs.isPastRetention(r, now) || !q.Selects(r.task.FinishedAt) {
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
	return g.Result(), nil
}
