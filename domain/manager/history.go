package manager

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// QueueHistory returns what happened in a queue, by minutes or hours, the oldest point first.
func (m *Manager) QueueHistory(ctx context.Context, name string, q queue.HistoryQuery) (*queue.QueueHistory, error) {
	return callWithQueue(ctx, m, queue.OpQueueHistory, name, func(ctx context.Context, namespace, name string) (*queue.QueueHistory, error) {
		q, err := q.Normalize()
		if err != nil {
			return nil, err
		}
		return m.store.QueueHistory(ctx, namespace, name, q)
	})
}
