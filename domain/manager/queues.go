package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxRegisterTries bounds the races of a register with calls that create and delete the same name.
const maxRegisterTries = 5

// CreateQueue makes a queue; KindAlreadyExists when it exists.
func (m *Manager) CreateQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	return callStoreDirectly(ctx, m, queue.OpCreateQueue, func(ctx context.Context) (*queue.Queue, error) {
		q, err := queue.NewQueue(m.namespace, meta)
		if err != nil {
			return nil, err
		}
		return m.store.CreateQueue(ctx, q)
	})
}

// RegisterQueue makes a queue, or sets the fields of meta on the one that exists.
func (m *Manager) RegisterQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	return callStoreDirectly(ctx, m, queue.OpRegisterQueue, func(ctx context.Context) (*queue.Queue, error) {
		q, err := queue.NewQueue(m.namespace, meta)
		if err != nil {
			return nil, err
		}
		return updateOrCreate(
			func() (*queue.Queue, error) { return m.updateQueue(ctx, q.Name, meta) },
			func() (*queue.Queue, error) { return m.store.CreateQueue(ctx, q) },
			meta.IfVersion)
	})
}

// updateOrCreate updates the thing, or creates it when it does not exist.
func updateOrCreate[T any](update, create func() (*T, error), ifVersion int64) (*T, error) {
	for try := 1; ; try++ {
		// The update first: programs register their queues at each start, and all but the first find them.
		t, err := update()
		if !errors.Is(err, queue.ErrNotFound) {
			return t, err
		}
		if ifVersion != 0 {
			return nil, &queue.Error{Kind: queue.KindPrecondition, Field: "if_version", Msg: fmt.Sprintf("must be empty for a new name, got %d; leave it out", ifVersion)}
		}
		t, err = create()
		if !errors.Is(err, queue.ErrAlreadyExists) || try == maxRegisterTries {
			return t, err
		}
	}
}

// GetQueue returns a queue, or KindNotFound.
func (m *Manager) GetQueue(ctx context.Context, name string) (*queue.Queue, error) {
	return callWithQueue(ctx, m, queue.OpGetQueue, name, m.store.GetQueue)
}

// callWithQueue is an operation on the queue of a name.
func callWithQueue[T any](ctx context.Context, m *Manager, op queue.Op, name string, f func(context.Context, string, string) (T, error)) (T, error) {
	return callStoreDirectly(ctx, m, op, func(ctx context.Context) (T, error) {
		n, err := queue.QueueName(name)
		if err != nil {
			var none T
			return none, err
		}
		return f(ctx, m.namespace, n)
	})
}

// ListQueues returns a page in the order of names.
func (m *Manager) ListQueues(ctx context.Context, p queue.Page) (queue.QueuePage, error) {
	return callStoreDirectly(ctx, m, queue.OpListQueues, func(ctx context.Context) (queue.QueuePage, error) {
		p, err := p.Normalize()
		if err != nil {
			return queue.QueuePage{}, err
		}
		return m.store.ListQueues(ctx, m.namespace, p)
	})
}

// UpdateQueue sets the fields of meta. KindPrecondition when IfVersion is not the present version.
func (m *Manager) UpdateQueue(ctx context.Context, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	return callWithQueue(ctx, m, queue.OpUpdateQueue, name, func(ctx context.Context, _, name string) (*queue.Queue, error) {
		// A name in the body that differs from the one of the call hints at a rename, which does not exist.
		if err := checkSameName("queue", name, meta.Name, queue.QueueName); err != nil {
			return nil, err
		}
		meta.Name = name
		// A field that is wrong for a new queue is wrong for any queue.
		if _, err := queue.NewQueue(m.namespace, meta); err != nil {
			return nil, err
		}
		return m.updateQueue(ctx, name, meta)
	})
}

func (m *Manager) updateQueue(ctx context.Context, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	q, err := m.store.UpdateQueue(ctx, m.namespace, name, meta)
	if err != nil {
		return nil, err
	}
	m.concurrency.Forget(m.namespace, name)
	if meta.Paused != nil || meta.Concurrency != nil || meta.FlowMeta != (queue.FlowMeta{}) { // more tasks may be retained now
		m.waitlists.Wake(queue.Wake{Namespace: m.namespace, Queue: name})
	}
	return q, nil
}

// checkSameName refuses a meta with another name than the call.
func checkSameName(field, name, given string, normalize func(string) (string, error)) error {
	if given == "" {
		return nil
	}
	n, err := normalize(given)
	if err == nil && n != name {
		err = queue.Invalid(field, fmt.Sprintf("must be %s or empty, got %.64q; a %s cannot be renamed", name, n, field))
	}
	return err
}

// DeleteQueue deletes a queue and its tasks, and returns its last state.
func (m *Manager) DeleteQueue(ctx context.Context, name string, only ...queue.DeleteCondition) (*queue.Queue, error) {
	q, err := callWithQueue(ctx, m, queue.OpDeleteQueue, name, func(ctx context.Context, namespace, name string) (*queue.Queue, error) {
		return m.store.DeleteQueue(ctx, namespace, name, only...)
	})
	if err == nil {
		m.concurrency.Forget(m.namespace, q.Name)
		// The awaited tasks of the queue are gone now, and no event says so.
		m.awaits.SearchAll(m.namespace)
		m.agents.WakeIn(queue.ChorePrune, 0)
	}
	return q, err
}

// CleanQueue deletes the finished tasks of a queue now, whatever their retention, and returns their number.
func (m *Manager) CleanQueue(ctx context.Context, name string, only ...queue.IfVersion) (n int64, err error) {
	for {
		c, err := m.CleanQueueWithin(ctx, name, queue.BulkStep, only...)
		n += c.Count
		if err != nil || !c.More {
			return n, err
		}
	}
}

// CleanQueueWithin is a step of CleanQueue: it stops after about within, at most queue.BulkStep, and reports whether there
// may be more tasks to delete.
func (m *Manager) CleanQueueWithin(ctx context.Context, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	return callWithQueue(ctx, m, queue.OpCleanQueue, name, func(ctx context.Context, namespace, name string) (queue.Cleaned, error) {
		if err := queue.CheckDuration("within", within, 1); err != nil {
			return queue.Cleaned{}, err
		}
		c, err := m.store.CleanQueue(ctx, namespace, name, min(within, stepTimeout(ctx, m.cfg.callTimeout)), only...)
		if c.Count > 0 {
			m.feeds.Changed(m.namespace)
			return c, nil // the next step meets the error again, if it lasts
		}
		return c, err
	})
}

// QueueStats returns the counts of a queue.
func (m *Manager) QueueStats(ctx context.Context, name string) (*queue.QueueStats, error) {
	return callWithQueue(ctx, m, queue.OpQueueStats, name, func(ctx context.Context, namespace, name string) (*queue.QueueStats, error) {
		all, err := m.store.QueueStats(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			return nil, queue.NotFoundQueue(name)
		}
		return all[0], nil
	})
}

// ListQueueStatuses returns the counts of every queue of the namespace, in the order of names.
func (m *Manager) ListQueueStatuses(ctx context.Context) ([]*queue.QueueStats, error) {
	return callStoreDirectly(ctx, m, queue.OpListQueueStatuses, func(ctx context.Context) ([]*queue.QueueStats, error) {
		return m.store.QueueStats(ctx, m.namespace, "")
	})
}
