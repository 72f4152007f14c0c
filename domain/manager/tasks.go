package manager

import (
	"context"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/waitlist"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateTask creates one task in queue. The creates of many goroutines share commits; each returns after its commit.
func (m *Manager) CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	return runOperation(ctx, m, queue.OpCreateTask, func(ctx context.Context) (*queue.Task, error) {
		t, err := queue.NewTask{Queue: name, TaskMeta: meta}.Normalize(m.cfg.maxPayload)
		if err != nil {
			return nil, err
		}
		// Two creates of one Store call must not replace each other.
		if !t.IsPlain() {
			created, err := m.createWithHandOff(ctx, queue.Create{Namespace: m.namespace, Tasks: []queue.NewTask{t}}, waitlist.OfCaller)
			if err != nil {
				return nil, err
			}
			return created[0].Task, created[0].Err
		}
		created, err := m.creates.Do(ctx, createKey{m.namespace, t.Key != ""}, t)
		if err != nil {
			return nil, err
		}
		return created[0].Task, created[0].Err
	})
}

// CreateTasks creates up to MaxBatch tasks in one commit, all or none, and returns them in the order given.
func (m *Manager) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	return callStoreDirectly(ctx, m, queue.OpCreateTasks, func(ctx context.Context) ([]*queue.Task, error) {
		if err := checkBatchSize("tasks", len(tasks)); err != nil || len(tasks) == 0 {
			return nil, err
		}
		normalized, err := queue.NormalizeTasks(tasks, m.cfg.maxPayload)
		if err != nil {
			return nil, err
		}
		created, err := m.createWithHandOff(ctx, queue.Create{Namespace: m.namespace, Tasks: normalized, Atomic: true}, waitlist.OfCaller)
		if err != nil {
			return nil, err
		}
		out := make([]*queue.Task, len(created))
		for i := range created {
			if created[i].Err != nil {
				return nil, queue.At(fmt.Sprintf("tasks[%d]", i), created[i].Err)
			}
			out[i] = created[i].Task
		}
		return out, nil
	})
}

func checkBatchSize(field string, n int) error {
	if n > queue.MaxBatch {
		return queue.Invalid(field, fmt.Sprintf("must be at most %d in one call, got %d", queue.MaxBatch, n))
	}
	return nil
}

// GetTask returns a task with its errors, or KindNotFound.
func (m *Manager) GetTask(ctx context.Context, id int64) (*queue.Task, error) {
	return callStoreDirectly(ctx, m, queue.OpGetTask, func(ctx context.Context) (*queue.Task, error) {
		return m.readTaskByID(ctx, id, true)
	})
}

func (m *Manager) readTaskByID(ctx context.Context, id int64, withErrors bool) (*queue.Task, error) {
	if err := checkTaskID(id); err != nil {
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

func checkTaskID(id int64) error {
	if id <= 0 {
		return queue.Invalid("id", fmt.Sprintf("must be above 0, got %d", id))
	}
	return nil
}

// ListTasks returns a page, newest first.
func (m *Manager) ListTasks(ctx context.Context, q queue.TaskQuery) (queue.TaskPage, error) {
	return callStoreDirectly(ctx, m, queue.OpListTasks, func(ctx context.Context) (queue.TaskPage, error) {
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

// CancelTasks cancels waiting tasks, and requests the cancel of retained ones from their workers.
func (m *Manager) CancelTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return m.runBulkOperation(ctx, queue.OpCancelTasks, s, m.store.CancelTasks)
}

// RetryTasks makes finished tasks new again, with attempts from the start.
func (m *Manager) RetryTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return m.runBulkOperation(ctx, queue.OpRetryTasks, s, m.store.RetryTasks)
}

// DeleteTasks deletes tasks that no worker has retained.
func (m *Manager) DeleteTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return m.runBulkOperation(ctx, queue.OpDeleteTasks, s, m.store.DeleteTasks)
}

// bulkCall is the Store call of a bulk operation.
type bulkCall func(ctx context.Context, namespace string, s queue.Selection) (queue.Bulk, error)

func (m *Manager) runBulkOperation(ctx context.Context, op queue.Op, s queue.Selection, call bulkCall) (queue.Bulk, error) {
	var total queue.Bulk
	_, err := runOperation(ctx, m, op, func(ctx context.Context) (struct{}, error) {
		s, err := s.Normalize()
		if err == nil {
			step := func(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
				return m.runBulkStep(ctx, op, s, call)
			}
			total, err = queue.InSteps(ctx, s, stepTimeout(ctx, m.cfg.callTimeout), step)
		}

		return struct{}{}, err
	})

	return total, err
}

// runBulkStep is one Store call of a bulk operation, and the wake-ups for the tasks that it moved.
func (m *Manager) runBulkStep(ctx context.Context, op queue.Op, s queue.Selection, call bulkCall) (queue.Bulk, error) {
	ctx, leave, err := m.owner.EnterCall(ctx)
	if err != nil {
		return queue.Bulk{}, err
	}
	defer leave()

	b, err := call(ctx, m.namespace, s)
	for id, e := range b.Errs {
		b.Errs[id] = queue.WithOp(op.String(), e)
	}
	if b.Moved > 0 {
		m.feeds.Changed(m.namespace)
		m.awaits.SearchAll(m.namespace)
		if op == queue.OpRetryTasks {
			m.waitlists.Wake(queue.Wake{Namespace: m.namespace, Queue: selectedQueue(s)})
		}
	}

	// The caller gets the result of the step first. The next step meets the error again, if it lasts.
	if err != nil && b.Next != "" && b.Next != s.Cursor {
		return b, nil
	}

	return b, err
}

// stepTimeout bounds a step of a long operation, well below the limit of its call and of its caller.
func stepTimeout(ctx context.Context, callTimeout time.Duration) time.Duration {
	// Half of each limit leaves the other half for the commit and the way of the answer.
	timeout := min(queue.BulkStep, callTimeout/2)
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline)/2, 1))
	}

	return timeout
}

// selectedQueue returns the one queue that s selects from; "" = any.
func selectedQueue(s queue.Selection) string {
	if s.Filter != nil {
		return s.Filter.Queue
	}

	return ""
}

// AwaitTask returns the task as soon as it is finished, or as it is when wait (0 to MaxWait) is over. It uses no database
// connection while it waits, and one Store call searches for all awaited tasks of a namespace.
func (m *Manager) AwaitTask(ctx context.Context, id int64, wait time.Duration) (*queue.Task, error) {
	return runOperation(ctx, m, queue.OpAwaitTask, func(ctx context.Context) (*queue.Task, error) {
		if err := checkTaskID(id); err != nil {
			return nil, err
		}
		if err := checkDurationRange("wait", wait, 0, queue.MaxWait); err != nil {
			return nil, err
		}

		if wait > 0 {
			t, err := m.awaits.Await(ctx, m.namespace, id, wait)
			if t != nil || err != nil {
				return t, err
			}
		}
		ctx, leave, err := m.owner.EnterCall(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()

		return m.readTaskByID(ctx, id, false)
	})
}

// ListWorkers returns the workers with retained tasks of the namespace, in the order of names.
func (m *Manager) ListWorkers(ctx context.Context) ([]queue.Worker, error) {
	return callStoreDirectly(ctx, m, queue.OpListWorkers, func(ctx context.Context) ([]queue.Worker, error) {
		return m.store.ListWorkers(ctx, m.namespace)
	})
}
