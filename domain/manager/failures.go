package manager

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ListFailures returns the newest failed tasks of a queue in groups of equal fingerprints, or KindNotFound.
func (m *Manager) ListFailures(ctx context.Context, name string) (*queue.Failures, error) {
	return callWithQueue(ctx, m, queue.OpListFailures, name, m.store.ListFailures)
}
