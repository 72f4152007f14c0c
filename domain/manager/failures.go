package manager

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ListFailures returns the newest failed tasks of a queue that q selects in groups of equal fingerprints, or KindNotFound.
func (m *Manager) ListFailures(ctx context.Context, name string, q queue.FailureQuery) (*queue.Failures, error) {
	return callWithQueue(ctx, m, queue.OpListFailures, name, func(ctx context.Context, namespace, name string) (*queue.Failures, error) {
		q, err := q.Normalize()
		if err != nil {
			return nil, err
		}
		return m.store.ListFailures(ctx, namespace, name, q)
	})
}
