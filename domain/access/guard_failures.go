package access

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ListFailures shows errors and their fingerprints only to a principal that may read content in the queue. Others see numbers,
// times and ids.
func (g *guard) ListFailures(ctx context.Context, name string, q queue.FailureQuery) (*queue.Failures, error) {
	s, err := g.scope(ctx, queue.OpListFailures)
	if err != nil {
		return nil, err
	}
	if err := checkQueue(s, queue.ActionTaskRead, g.namespace, name); err != nil {
		return nil, err
	}

	f, err := g.next.ListFailures(ctx, name, q)
	if err != nil || From(ctx).May(queue.ActionTaskPayload, g.namespace, f.Queue) {
		return f, err
	}
	return f.WithoutErrors(), nil
}
