package access

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ExplainTask explains tasks of queues in which the principal may read tasks. Any other task does not exist for it.
func (g *guard) ExplainTask(ctx context.Context, id int64) (*queue.Explanation, error) {
	if err := g.requireVisibleTask(ctx, queue.OpExplainTask, id); err != nil {
		return nil, err
	}
	return g.next.ExplainTask(ctx, id)
}

// ExplainQueue shows the tasks and workers in the way only to a principal that may read tasks of the queue.
func (g *guard) ExplainQueue(ctx context.Context, name string) (*queue.Explanation, error) {
	s, err := g.scope(ctx, queue.OpExplainQueue)
	if err != nil {
		return nil, err
	}
	if err := checkQueue(s, queue.ActionQueueRead, g.namespace, name); err != nil {
		return nil, err
	}

	e, err := g.next.ExplainQueue(ctx, name)
	if err != nil || From(ctx).May(queue.ActionTaskRead, g.namespace, e.Queue) {
		return e, err
	}
	return new(e.WithoutHolds()), nil
}
