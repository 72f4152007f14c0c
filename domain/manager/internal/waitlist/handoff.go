package waitlist

import (
	"context"
	"maps"
	"slices"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// MaxHandoff bounds the tasks of a create that hands them to waiting callers. The commit of a large batch should not
// grow, and its caller does not wait for each task.
const MaxHandoff = 64

// Memory says to which side the payloads and headers of a create belong.
type Memory uint8

// The owners of memory.
const (
	OfCaller Memory = iota // may change once the call has returned
	OfManager
)

// copyContents gives tasks payloads and headers of their own.
func copyContents(tasks []queue.NewTask) {
	size := 0
	for i := range tasks {
		size += len(tasks[i].Payload)
	}

	room := make([]byte, 0, size)
	for i := range tasks {
		tasks[i].Headers = maps.Clone(tasks[i].Headers)
		room = batch.CopyBytes(room, &tasks[i].Payload)
	}
}

// handoff has the callers of a waitlist that one create serves.
type handoff struct {
	list    *waitlist
	callers []*caller
	shares  []queue.RetainShare
}

// Create creates tasks and hands them to waiting callers in the same commit. So an idle system starts a task with one
// commit, and no wake-up is needed. started has the ids of the tasks that a caller got. memory says to which
// side the content of the tasks belongs; the slice of the tasks is always the manager's.
func (w *Waitlists) Create(
	ctx context.Context, create queue.Create, memory Memory,
) (created []queue.Created, started []int64, err error) {
	h := w.reserveCallers(create)
	if h == nil {
		created, err = w.Store.CreateTasks(ctx, create)
		return created, nil, err
	}

	if memory == OfCaller && ctx.Done() != nil { // without an end of ctx the call does not return before the Store
		copyContents(create.Tasks)
	}
	created, started, err = w.createForCallers(ctx, h, create)
	if !queue.Waits(ctx) {
		return created, started, err
	}

	// A create that hands off does not wait for locks.
	if queue.IsLocked(err) {
		created, err = w.Store.CreateTasks(ctx, create)
		return created, started, err
	}
	w.createLocked(ctx, create, created)
	return created, started, err
}

// createLocked creates the tasks of create again that were answered with queue.Locked, and waits for what has locked them.
func (w *Waitlists) createLocked(ctx context.Context, create queue.Create, created []queue.Created) {
	var places []int
	var tasks []queue.NewTask
	for i := range created {
		if queue.IsLocked(created[i].Err) {
			places, tasks = append(places, i), append(tasks, create.Tasks[i])
		}
	}
	if len(places) == 0 {
		return
	}

	create.Tasks = tasks
	again, err := w.Store.CreateTasks(ctx, create)
	for i, at := range places {
		if err != nil {
			created[at] = queue.Created{Err: err}
			continue
		}
		created[at] = again[i]
	}
}

// reserveCallers chooses the callers that create serves: those of the waitlist in which a caller has waited longest, in
// their order. Until deliver no search serves them. It returns nil when no caller waits.
func (w *Waitlists) reserveCallers(create queue.Create) *handoff {
	if len(create.Tasks) > MaxHandoff {
		return nil
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	var h *handoff
	var first *caller
	remaining := 0
	for _, l := range w.lists[create.Namespace] {
		c := firstUnserved(l.callers.Front())
		if c == nil || l.gotNothing || l.set.Request.ID != "" || first != nil && first.arrival < c.arrival {
			continue
		}
		if n := l.countReadyCallers(create.Tasks); n > 0 {
			h, first = &handoff{list: l}, c
			remaining = n
		}
	}

	for c := first; c != nil && remaining > 0; c = firstUnserved(c.element.Next()) {
		c.served = true
		share := c.share
		share.Limit = min(share.Limit, remaining) // the create does not wait for other tasks than its own
		remaining -= share.Limit
		h.callers = append(h.callers, c)
		h.shares = append(h.shares, share)
	}

	return h
}

// countReadyCallers counts the tasks that are ready at once and for the callers of the waitlist.
func (l *waitlist) countReadyCallers(tasks []queue.NewTask) (n int) {
	for i := range tasks {
		if t := &tasks[i]; t.Delay == 0 && t.DelayedAt.IsZero() && l.includesQueue(t.Queue) {
			n++
		}
	}

	return n
}

// createForCallers creates tasks for the callers of h. It carries on when ctx ends, because other callers are to have its tasks:
// so it reads create after its return.
func (w *Waitlists) createForCallers(ctx context.Context, h *handoff, create queue.Create) ([]queue.Created, []int64, error) {
	call, leave, err := w.Owner.EnterCall(queue.WithoutWait(context.WithoutCancel(ctx)))
	if err != nil {
		w.deliverTasks(h, nil, false)
		return nil, nil, err
	}

	type answer struct {
		created []queue.Created
		started []int64
		err     error
	}
	done := make(chan answer, 1)
	go func() {
		defer leave()
		var a answer
		var outs [][]*queue.Task
		defer func() {
			if p := recover(); p != nil {
				a.err = batch.Panicked(p)
			}
			w.deliverTasks(h, outs, len(a.started) == 0 && slices.ContainsFunc(a.created, isReadyAtOnce))
			done <- a
		}()

		a.created, outs, a.err = w.Store.CreateAndRetain(call, create, queue.Retain{
			Namespace: create.Namespace, Queues: h.list.queues, Requests: h.shares,
		})
		for _, tasks := range outs {
			for _, t := range tasks {
				a.started = append(a.started, t.ID)
			}
		}
	}()

	select {
	case a := <-done:
		return a.created, a.started, a.err
	case <-ctx.Done():
		return nil, nil, batch.LeftDuringCall(ctx)
	}
}

// deliverTasks gives the callers of h the tasks that the create has retained for them. The others search again, because they
// may have missed a wake-up. gotNothing says that there were ready tasks and no caller got one, as from a paused queue:
// then the next creates pass the waitlist over, until it gets tasks.
func (w *Waitlists) deliverTasks(h *handoff, outs [][]*queue.Task, gotNothing bool) {
	var err error
	if outs == nil { // the create failed, which says nothing about the next search
		outs = make([][]*queue.Task, len(h.callers))
		err = w.errorOfLastSearch(h.list)
	}
	served := w.serveCallers(h.list, h.callers, outs, err)

	w.mu.Lock()
	defer w.mu.Unlock()
	h.list.gotNothing = gotNothing
	if served < len(h.callers) {
		h.list.Fire()
	}
}

func (w *Waitlists) errorOfLastSearch(l *waitlist) error {
	w.mu.Lock()
	defer w.mu.Unlock()

	return l.err
}

// IsNew reports whether a create made the task, and did not find it by its key.
func IsNew(c queue.Created) bool { return c.Task != nil && c.Err == nil && !c.Task.Replayed }

// isReadyAtOnce reports whether a create made a task that can be retained at once.
func isReadyAtOnce(c queue.Created) bool { return IsNew(c) && c.Task.DelayedAt.IsZero() }
