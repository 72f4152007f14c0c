package manager

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ExplainTask returns the reasons why a task is not running, or KindNotFound.
func (m *Manager) ExplainTask(ctx context.Context, id int64) (*queue.Explanation, error) {
	return callStoreDirectly(ctx, m, queue.OpExplainTask, func(ctx context.Context) (*queue.Explanation, error) {
		t, err := m.readTaskByID(ctx, id, true)
		if err != nil {
			return nil, err
		}
		return m.explain(ctx, t.Queue, t)
	})
}

// ExplainQueue returns the reasons why no task of a queue is retained, or KindNotFound.
func (m *Manager) ExplainQueue(ctx context.Context, name string) (*queue.Explanation, error) {
	return callWithQueue(ctx, m, queue.OpExplainQueue, name, func(ctx context.Context, _, name string) (*queue.Explanation, error) {
		return m.explain(ctx, name, nil)
	})
}

// explain reads the facts of a queue and of t, nil for none, and explains them.
func (m *Manager) explain(ctx context.Context, name string, t *queue.Task) (*queue.Explanation, error) {
	f := queue.Facts{Task: t}
	var err error
	if f.StoreFacts, err = m.store.ReadFacts(ctx, m.namespace, name, t); err != nil {
		return nil, err
	}
	if f.Queue, err = m.store.GetQueue(ctx, m.namespace, name); err != nil {
		return nil, err
	}

	stats, err := m.store.QueueStats(ctx, m.namespace, name)
	if err != nil {
		return nil, err
	}
	if len(stats) == 0 { // it was deleted between two reads
		return nil, queue.NotFoundQueue(name)
	}
	f.Stats = stats[0]

	e := queue.Explain(f)
	return &e, nil
}
