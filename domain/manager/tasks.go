package manager

import (
	"context"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateTask creates one task in queue. Those of many goroutines share commits; each is answered after its own.
func (m *Manager) CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	return runOperation(ctx, m, opCreateTask, func(ctx context.Context) (*queue.Task, error) {
		t, err := queue.NewTask{Queue: name, TaskMeta: meta}.Normalize(m.cfg.maxPayload)
		if err != nil {
			return nil, err
		}
		made, err := m.creates.Do(ctx, createKey{m.namespace, t.Key != ""}, t)
		if err != nil {
			return nil, err
		}
		return made[0].Task, made[0].Err
	})
}

// CreateTasks creates up to MaxBatch tasks in one commit, all or none, and returns them in the order given.
func (m *Manager) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	return callStore(ctx, m, opCreateTasks, func(ctx context.Context) ([]*queue.Task, error) {
		if err := checkBatch("tasks", len(tasks)); err != nil || len(tasks) == 0 {
			return nil, err
		}
		checked := make([]queue.NewTask, len(tasks))
		for i, t := range tasks {
			t, err := t.Normalize(m.cfg.maxPayload)
			if err != nil {
				return nil, queue.At(fmt.Sprintf("tasks[%d]", i), err)
			}
			checked[i] = t
		}
		made, err := m.create(ctx, queue.Create{Namespace: m.namespace, Tasks: checked, Atomic: true})
		if err != nil {
			return nil, err
		}
		out := make([]*queue.Task, len(made))
		for i := range made {
			if made[i].Err != nil {
				return nil, queue.At(fmt.Sprintf("tasks[%d]", i), made[i].Err)
			}
			out[i] = made[i].Task
		}
		return out, nil
	})
}

func checkBatch(field string, n int) error {
	if n > queue.MaxBatch {
		return queue.Invalid(field, fmt.Sprintf("at most %d in one call, these are %d", queue.MaxBatch, n))
	}
	return nil
}

// GetTask returns a task with its errors, or KindNotFound.
func (m *Manager) GetTask(ctx context.Context, id int64) (*queue.Task, error) {
	return callStore(ctx, m, opGetTask, func(ctx context.Context) (*queue.Task, error) {
		return m.getTask(ctx, id, true)
	})
}

func (m *Manager) getTask(ctx context.Context, id int64, withErrors bool) (*queue.Task, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	found, err := m.store.GetTasks(ctx, m.namespace, []int64{id}, withErrors)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, queue.NotFoundTask(id)
	}
	return found[0], nil
}

func checkID(id int64) error {
	if id <= 0 {
		return queue.Invalid("id", "a task id above 0 is needed")
	}
	return nil
}

// ListTasks returns a page, newest first.
func (m *Manager) ListTasks(ctx context.Context, q queue.TaskQuery) (queue.TaskPage, error) {
	return callStore(ctx, m, opListTasks, func(ctx context.Context) (queue.TaskPage, error) {
		var err error
		if q.TaskFilter, err = q.TaskFilter.Normalize(); err != nil {
			return queue.TaskPage{}, err
		}
		if q.Page, err = q.Page.Normalize(); err != nil {
			return queue.TaskPage{}, err
		}
		return m.store.ListTasks(ctx, m.namespace, q)
	})
}

// CancelTasks cancels waiting tasks and asks the holders of retained ones.
func (m *Manager) CancelTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return m.bulk(ctx, opCancelTasks, s, m.store.CancelTasks)
}

// RetryTasks makes finished tasks new again, with attempts from the start.
func (m *Manager) RetryTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return m.bulk(ctx, opRetryTasks, s, m.store.RetryTasks)
}

// DeleteTasks deletes tasks that nobody holds.
func (m *Manager) DeleteTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return m.bulk(ctx, opDeleteTasks, s, m.store.DeleteTasks)
}

func (m *Manager) bulk(ctx context.Context, o op, s queue.Selection, f func(context.Context, string, queue.Selection) (queue.Bulk, error)) (queue.Bulk, error) {
	var total queue.Bulk
	_, err := runOperation(ctx, m, o, func(ctx context.Context) (struct{}, error) {
		s, err := s.Normalize()
		if err == nil {
			total, err = queue.InSteps(ctx, s, stepWithin(ctx, m.cfg.callTimeout), func(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
				return m.bulkStep(ctx, o, s, f)
			})
		}
		return struct{}{}, err
	})
	return total, err
}

// bulkStep is one Store call of a bulk operation, and the telling of what it moved.
func (m *Manager) bulkStep(ctx context.Context, o op, s queue.Selection, f func(context.Context, string, queue.Selection) (queue.Bulk, error)) (queue.Bulk, error) {
	ctx, leave, err := m.enter(ctx, m.cfg.callTimeout)
	if err != nil {
		return queue.Bulk{}, err
	}
	defer leave()

	b, err := f(ctx, m.namespace, s)
	for id, e := range b.Errs {
		b.Errs[id] = queue.WithOp(o.name, e)
	}
	if b.Moved > 0 {
		m.feeds.changed(m.namespace)
		m.awaits.suspectAll(m.namespace)
		if o == opRetryTasks {
			m.rooms.wake(queue.Wake{Namespace: m.namespace, Queue: queueOf(s)})
		}
	}
	if err != nil && b.Next != "" && b.Next != s.Cursor {
		return b, nil // what was done is told first; the step behind it meets the error, if it lasts
	}
	return b, err
}

// stepWithin is how long a step of a long operation may work: well below the limit of its call, and of its caller.
func stepWithin(ctx context.Context, call time.Duration) time.Duration {
	within := min(queue.BulkStep, call/2)
	if deadline, ok := ctx.Deadline(); ok {
		within = min(within, max(time.Until(deadline)/2, 1))
	}
	return within
}

// queueOf is the one queue that s selects from, "" for any.
func queueOf(s queue.Selection) string {
	if s.Filter != nil {
		return s.Filter.Queue
	}
	return ""
}

// ListWorkers returns who holds tasks of the namespace now, in the order of names.
func (m *Manager) ListWorkers(ctx context.Context) ([]queue.Worker, error) {
	return callStore(ctx, m, opListWorkers, func(ctx context.Context) ([]queue.Worker, error) {
		return m.store.ListWorkers(ctx, m.namespace)
	})
}
