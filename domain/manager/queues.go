package manager

import (
	"context"
	"errors"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// registerTries bounds the races of a register with others that create and delete the same name.
const registerTries = 5

// CreateQueue makes a queue; KindAlreadyExists when it is there.
func (m *Manager) CreateQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	return callStore(ctx, m, opCreateQueue, func(ctx context.Context) (*queue.Queue, error) {
		q, err := queue.NewQueue(m.namespace, meta)
		if err != nil {
			return nil, err
		}
		return m.store.CreateQueue(ctx, q)
	})
}

// RegisterQueue makes a queue, or updates what meta names of the one that is there.
func (m *Manager) RegisterQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	return callStore(ctx, m, opRegisterQueue, func(ctx context.Context) (*queue.Queue, error) {
		q, err := queue.NewQueue(m.namespace, meta)
		if err != nil {
			return nil, err
		}
		return register(
			func() (*queue.Queue, error) { return m.updateQueue(ctx, q.Name, meta) },
			func() (*queue.Queue, error) { return m.store.CreateQueue(ctx, q) },
			meta.IfVersion)
	})
}

// register updates what is there, or creates it, whichever can be done.
func register[T any](update, create func() (*T, error), ifVersion int64) (*T, error) {
	for try := 1; ; try++ {
		t, err := update()
		if !errors.Is(err, queue.ErrNotFound) {
			return t, err
		}
		if ifVersion != 0 {
			return nil, &queue.Error{Kind: queue.KindPrecondition, Msg: "it is not there, so it has no version"}
		}
		t, err = create()
		if !errors.Is(err, queue.ErrAlreadyExists) || try == registerTries {
			return t, err
		}
	}
}

// GetQueue returns a queue, or KindNotFound.
func (m *Manager) GetQueue(ctx context.Context, name string) (*queue.Queue, error) {
	return onQueue(ctx, m, opGetQueue, name, m.store.GetQueue)
}

// onQueue is an operation on the one queue of a name.
func onQueue[T any](ctx context.Context, m *Manager, o op, name string, f func(context.Context, string, string) (T, error)) (T, error) {
	return callStore(ctx, m, o, func(ctx context.Context) (T, error) {
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
	return callStore(ctx, m, opListQueues, func(ctx context.Context) (queue.QueuePage, error) {
		p, err := p.Normalize()
		if err != nil {
			return queue.QueuePage{}, err
		}
		return m.store.ListQueues(ctx, m.namespace, p)
	})
}

// UpdateQueue changes what meta names. KindPrecondition when IfVersion is not the present version.
func (m *Manager) UpdateQueue(ctx context.Context, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	return onQueue(ctx, m, opUpdateQueue, name, func(ctx context.Context, _, name string) (*queue.Queue, error) {
		if err := sameName("queue", name, meta.Name, queue.QueueName); err != nil {
			return nil, err
		}
		meta.Name = name
		if _, err := queue.NewQueue(m.namespace, meta); err != nil { // what is wrong on a new queue is wrong on any
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
	m.capped.forget(m.namespace, name)
	if meta.Paused != nil || meta.Concurrency != nil { // what was held back may be retained now
		m.rooms.wake(queue.Wake{Namespace: m.namespace, Queue: name})
	}
	return q, nil
}

// sameName refuses a meta that names another thing than the call does.
func sameName(field, name, given string, norm func(string) (string, error)) error {
	if given == "" {
		return nil
	}
	n, err := norm(given)
	if err == nil && n != name {
		err = queue.Invalid(field, "a "+field+" cannot be renamed; leave the name out or give "+name)
	}
	return err
}

// DeleteQueue deletes a queue and its tasks and returns it as it was.
func (m *Manager) DeleteQueue(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Queue, error) {
	q, err := onQueue(ctx, m, opDeleteQueue, name, func(ctx context.Context, namespace, name string) (*queue.Queue, error) {
		return m.store.DeleteQueue(ctx, namespace, name, only...)
	})
	if err == nil {
		m.capped.forget(m.namespace, q.Name)
		m.awaits.suspectAll(m.namespace)
		m.chores.kickIn(queue.ChorePrune, 0)
	}
	return q, err
}

// CleanQueue deletes the finished tasks of a queue now, whatever their retention, and returns how many.
func (m *Manager) CleanQueue(ctx context.Context, name string, only ...queue.IfVersion) (n int64, err error) {
	for {
		c, err := m.CleanQueueWithin(ctx, name, queue.BulkStep, only...)
		n += c.Count
		if err != nil || !c.More {
			return n, err
		}
	}
}

// CleanQueueWithin is a step of CleanQueue: it stops after about within, at most queue.BulkStep, and says whether there may
// be more.
func (m *Manager) CleanQueueWithin(ctx context.Context, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	return onQueue(ctx, m, opCleanQueue, name, func(ctx context.Context, namespace, name string) (queue.Cleaned, error) {
		if err := queue.CheckDuration("within", within, 1); err != nil {
			return queue.Cleaned{}, err
		}
		c, err := m.store.CleanQueue(ctx, namespace, name, min(within, stepWithin(ctx, m.cfg.callTimeout)), only...)
		if c.Count > 0 {
			m.feeds.changed(m.namespace)
			return c, nil // what was done is told first; the step behind it meets the error, if it lasts
		}
		return c, err
	})
}

// QueueStats tells how a queue is doing.
func (m *Manager) QueueStats(ctx context.Context, name string) (*queue.QueueStats, error) {
	return onQueue(ctx, m, opQueueStats, name, func(ctx context.Context, namespace, name string) (*queue.QueueStats, error) {
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

// ListQueueStatuses tells how every queue of the namespace is doing, in the order of names.
func (m *Manager) ListQueueStatuses(ctx context.Context) ([]*queue.QueueStats, error) {
	return callStore(ctx, m, opQueueStatuses, func(ctx context.Context) ([]*queue.QueueStats, error) {
		return m.store.QueueStats(ctx, m.namespace, "")
	})
}
