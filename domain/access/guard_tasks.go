package access

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateTasks creates nothing when one task names a queue without the right.
func (g *guard) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	s, err := g.scope(ctx, queue.OpCreateTasks)
	if err != nil {
		return nil, err
	}

	if !s.All() {
		for i, t := range tasks {
			if err := checkQueue(s, queue.ActionTaskCreate, g.namespace, t.Queue); err != nil {
				return nil, queue.At(fmt.Sprintf("tasks[%d]", i), queue.At("queue", err))
			}
		}
	}
	return g.next.CreateTasks(ctx, tasks)
}

// RetainTasks needs the right in each queue that r names. A retain from all queues needs it in the whole namespace.
func (g *guard) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	s, err := g.scope(ctx, queue.OpRetainTasks)
	if err != nil {
		return nil, err
	}

	if !s.All() {
		// All queues of the namespace include some that the principal may not see.
		if len(r.Queues) == 0 {
			return nil, g.demandQueue("queues", s, queue.ActionTaskWork)
		}
		for i, name := range r.Queues {
			if err := checkQueue(s, queue.ActionTaskWork, g.namespace, name); err != nil {
				return nil, queue.At(fmt.Sprintf("queues[%d]", i), err)
			}
		}
	}

	// A call that does not wait ends before the next look at its credential.
	if r.Wait == 0 {
		return g.next.RetainTasks(ctx, r)
	}

	ctx, stop := g.watch(ctx)
	defer stop()
	tasks, err := g.next.RetainTasks(ctx, r)
	return tasks, endOf(ctx, err)
}

// demandQueue returns the error of an operation that must name a queue, because the principal has the right in some only.
func (g *guard) demandQueue(field string, s Scope, action queue.Action) *queue.Error {
	return &queue.Error{
		Kind: queue.KindDenied, Field: field,
		Msg: fmt.Sprintf("must name a queue, because the credential has %s in %.200q only, got none; name one of these", action, s.Patterns()),
	}
}

// hideForeign returns the ids of tasks that are not in a queue of s: each is treated as if the task did not exist. A task
// that does not exist yet is among them, because the operation could meet it in a foreign queue a moment later. An id that
// breaks the rules of ids is left to the operation.
func (g *guard) hideForeign(ctx context.Context, s Scope, ids []int64) (map[int64]bool, error) {
	if s.All() || len(ids) == 0 {
		return nil, nil
	}

	queues, err := g.Queues.QueuesOfTasks(ctx, g.namespace, ids)
	if err != nil {
		return nil, err
	}

	var foreign map[int64]bool
	for _, id := range ids {
		if id > 0 && !s.Has(queues[id]) {
			if foreign == nil {
				foreign = map[int64]bool{}
			}
			foreign[id] = true
		}
	}
	return foreign, nil
}

// HeartbeatTasks answers a heartbeat of a task in another queue as that of a task that does not exist.
func (g *guard) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	s, err := g.scope(ctx, queue.OpHeartbeatTasks)
	if err != nil || s.All() {
		if err != nil {
			return nil, err
		}
		return g.next.HeartbeatTasks(ctx, beats)
	}

	return guardEach(ctx, g, s, beats,
		func(b queue.Heartbeat) int64 { return b.ID },
		func(id int64) queue.Beat { return queue.Beat{Err: queue.NotFoundTask(id)} },
		g.next.HeartbeatTasks)
}

// ReleaseTasks answers a release of a task in another queue as that of a task that does not exist.
func (g *guard) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	s, err := g.scope(ctx, queue.OpReleaseTasks)
	if err != nil || s.All() {
		if err != nil {
			return nil, err
		}
		return g.next.ReleaseTasks(ctx, releases)
	}

	return guardEach(ctx, g, s, releases,
		func(r queue.Release) int64 { return r.ID },
		func(id int64) queue.Released { return queue.Released{Err: queue.NotFoundTask(id)} },
		g.next.ReleaseTasks)
}

// guardEach calls do with the items of visible tasks, and answers the others by missing. When all items are refused, the
// call fails, as it does without a guard.
func guardEach[I, A any](ctx context.Context, g *guard, s Scope, items []I, idOf func(I) int64, missing func(id int64) A,
	do func(context.Context, []I) ([]A, error),
) ([]A, error) {
	if len(items) > queue.MaxBatch {
		return do(ctx, items) // refuses them
	}

	ids := make([]int64, len(items))
	for i, item := range items {
		ids[i] = idOf(item)
	}
	foreign, err := g.hideForeign(ctx, s, ids)
	if err != nil || len(foreign) == 0 {
		if err != nil {
			return nil, err
		}
		return do(ctx, items)
	}

	own := make([]I, 0, len(items))
	for i, item := range items {
		if !foreign[ids[i]] {
			own = append(own, item)
		}
	}

	var answers []A
	if len(own) > 0 {
		answers, err = do(ctx, own)
		// The call failed as a whole, so no item has an answer of its own.
		if len(answers) < len(own) {
			return nil, err
		}
	} else {
		err = queue.NotFoundTask(ids[0])
	}

	// The answers go to the places of their items.
	all := make([]A, len(items))
	next := 0
	for i, id := range ids {
		if foreign[id] {
			all[i] = missing(id)
			continue
		}
		all[i] = answers[next]
		next++
	}
	return all, err
}

// GetTask shows a task with its content to principals that may read content or results, else without.
func (g *guard) GetTask(ctx context.Context, id int64) (*queue.Task, error) {
	read, errRead := findActionScope(ctx, queue.ActionTaskRead, g.namespace)
	result, errResult := findActionScope(ctx, queue.ActionTaskResult, g.namespace)
	if errRead != nil && errResult != nil {
		return nil, errRead
	}

	t, err := g.next.GetTask(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case result.Has(t.Queue):
		return t, nil
	case read.Has(t.Queue):
		return g.redactTask(ctx, t), nil
	}
	return nil, queue.NotFoundTask(id)
}

// redactTask returns t without its content, unless the principal may read content in its queue.
func (g *guard) redactTask(ctx context.Context, t *queue.Task) *queue.Task {
	if From(ctx).May(queue.ActionTaskPayload, g.namespace, t.Queue) {
		return t
	}

	bare := *t
	bare.Payload = nil
	bare.Result = nil
	bare.Progress = nil
	bare.Headers = nil
	bare.Errors = slices.Clone(t.Errors)
	for i := range bare.Errors {
		e := &bare.Errors[i]
		e.Error = nil
		e.Kind, e.Fingerprint = "", ""
	}
	return &bare
}

// ListTasks needs the right in the queue of the filter, or in the whole namespace without one.
func (g *guard) ListTasks(ctx context.Context, q queue.TaskQuery) (queue.TaskPage, error) {
	s, err := g.scope(ctx, queue.OpListTasks)
	if err != nil {
		return queue.TaskPage{}, err
	}
	if err := g.checkFilter(s, queue.ActionTaskRead, &q.TaskFilter); err != nil {
		return queue.TaskPage{}, err
	}

	if err := g.checkText(ctx, &q.TaskFilter); err != nil {
		return queue.TaskPage{}, err
	}

	page, err := g.next.ListTasks(ctx, q)
	for i, t := range page.Tasks {
		page.Tasks[i] = g.redactTask(ctx, t)
	}
	return page, err
}

// checkFilter returns an error unless s has the queue of f.
func (g *guard) checkFilter(s Scope, action queue.Action, f *queue.TaskFilter) error {
	switch {
	case s.All():
		return nil
	case f.Queue == "":
		return g.demandQueue("queue", s, action)
	}
	return queue.At("queue", checkQueue(s, action, g.namespace, f.Queue))
}

// checkText returns an error when f searches payloads that the principal may not read: each answer would show a part of them.
func (g *guard) checkText(ctx context.Context, f *queue.TaskFilter) error {
	if f == nil || f.Text == "" {
		return nil
	}
	s, err := findActionScope(ctx, queue.ActionTaskPayload, g.namespace)
	if err == nil {
		err = g.checkFilter(s, queue.ActionTaskPayload, f)
	}
	return queue.At("text", err)
}

func (g *guard) CancelTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return g.changeTasks(ctx, queue.OpCancelTasks, s, g.next.CancelTasks)
}

func (g *guard) RetryTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return g.changeTasks(ctx, queue.OpRetryTasks, s, g.next.RetryTasks)
}

func (g *guard) DeleteTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error) {
	return g.changeTasks(ctx, queue.OpDeleteTasks, s, g.next.DeleteTasks)
}

// changeTasks guards a bulk operation: a filter must name a queue with the right, and ids of other queues are answered as
// those of tasks that do not exist.
func (g *guard) changeTasks(ctx context.Context, op queue.Op, sel queue.Selection, do func(context.Context, queue.Selection) (queue.Bulk, error)) (queue.Bulk, error) {
	s, err := g.scope(ctx, op)
	if err != nil {
		return queue.Bulk{}, err
	}
	if err := g.checkText(ctx, sel.Filter); err != nil {
		return queue.Bulk{}, err
	}
	if s.All() {
		return do(ctx, sel)
	}
	if sel.Filter != nil {
		if err := g.checkFilter(s, queue.ActionTaskOperate, sel.Filter); err != nil {
			return queue.Bulk{}, err
		}
		return do(ctx, sel)
	}

	// Too many ids are refused before their queues are read.
	if _, err := sel.Normalize(); err != nil {
		return queue.Bulk{}, err
	}
	foreign, err := g.hideForeign(ctx, s, sel.IDs)
	if err != nil || len(foreign) == 0 {
		if err != nil {
			return queue.Bulk{}, err
		}
		return do(ctx, sel)
	}

	var b queue.Bulk
	sel.IDs = slices.DeleteFunc(slices.Clone(sel.IDs), func(id int64) bool { return foreign[id] })
	if len(sel.IDs) > 0 {
		b, err = do(ctx, sel)
	}
	if b.Errs == nil {
		b.Errs = map[int64]error{}
	}
	for id := range foreign {
		b.Errs[id] = queue.NotFoundTask(id)
	}
	return b, err
}

// requireVisibleTask returns an error unless the principal may call op for the task. A foreign task does not exist for it.
func (g *guard) requireVisibleTask(ctx context.Context, op queue.Op, id int64) error {
	s, err := g.scope(ctx, op)
	if err != nil {
		return err
	}
	foreign, err := g.hideForeign(ctx, s, []int64{id})
	if err == nil && foreign[id] {
		return queue.NotFoundTask(id)
	}
	return err
}

// AwaitTask waits for tasks of visible queues only.
func (g *guard) AwaitTask(ctx context.Context, id int64, wait time.Duration) (*queue.Task, error) {
	if err := g.requireVisibleTask(ctx, queue.OpAwaitTask, id); err != nil {
		return nil, err
	}

	ctx, stop := g.watch(ctx)
	defer stop()
	t, err := g.next.AwaitTask(ctx, id, wait)
	return t, endOf(ctx, err)
}
