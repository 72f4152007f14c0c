package manager

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// AwaitTask returns the task as soon as it is finished, or as it is when wait (0 to MaxWait) is over. It holds no
// database connection while it waits, and all awaited tasks of a namespace are looked at in one Store call.
func (m *Manager) AwaitTask(ctx context.Context, id int64, wait time.Duration) (*queue.Task, error) {
	return runOperation(ctx, m, opAwaitTask, func(ctx context.Context) (*queue.Task, error) {
		if err := checkID(id); err != nil {
			return nil, err
		}
		if err := checkRange("wait", wait, 0, queue.MaxWait); err != nil {
			return nil, err
		}
		if wait > 0 {
			t, err := m.awaits.await(ctx, m.namespace, id, wait)
			if t != nil || err != nil {
				return t, err
			}
		}
		ctx, leave, err := m.enter(ctx, m.cfg.callTimeout)
		if err != nil {
			return nil, err
		}
		defer leave()
		return m.getTask(ctx, id, false)
	})
}

// awaits are the tasks that somebody awaits: a releasing goroutine of this process tells of their end at once, the feed
// of events, where it is read, gives a hint, and looks at a growing interval find what nobody told.
type awaits struct {
	c  *core
	mu sync.Mutex
	of map[string]*awaited // by namespace
}

type awaited struct {
	*alarm
	tasks map[int64]*awaitedTask
}

type awaitedTask struct {
	awaiters map[*awaiter]struct{}
	pace     pace
	rest     time.Duration // between the last look and the next
	lookAt   time.Time
}

type awaiter struct {
	done chan struct{}
	task *queue.Task
	err  error
}

func newAwaits(c *core) *awaits { return &awaits{c: c, of: map[string]*awaited{}} }

// await returns the finished task, or nil when the time is over.
func (as *awaits) await(ctx context.Context, namespace string, id int64, wait time.Duration) (*queue.Task, error) {
	stand, err := as.c.sit()
	if err != nil {
		return nil, err
	}
	defer stand()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	a := &awaiter{done: make(chan struct{})}
	if !as.add(namespace, id, a) {
		return nil, batch.Closed("manager")
	}
	defer as.remove(namespace, id, a)
	select {
	case <-a.done:
		return a.task, a.err
	case <-ctx.Done():
		return nil, queue.ContextError(ctx.Err())
	case <-as.c.closing:
		return nil, batch.Closed("manager")
	case <-timer.C:
		return nil, nil
	}
}

func (as *awaits) add(namespace string, id int64, a *awaiter) bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	ns := as.of[namespace]
	if ns == nil {
		ns = &awaited{alarm: newAlarm(), tasks: map[int64]*awaitedTask{}}
		if !as.c.spawn(func() { as.run(namespace, ns) }) {
			return false
		}
		as.of[namespace] = ns
	}
	t := ns.tasks[id]
	if t == nil {
		t = &awaitedTask{
			awaiters: map[*awaiter]struct{}{},
			pace:     pace{least: min(leastPoll, as.c.cfg.poll), most: as.c.cfg.poll},
		}
		ns.tasks[id] = t
	}
	t.awaiters[a] = struct{}{}
	t.lookAt = time.Time{}
	ns.ring()
	return true
}

func (as *awaits) remove(namespace string, id int64, a *awaiter) {
	as.mu.Lock()
	defer as.mu.Unlock()
	ns := as.of[namespace]
	if ns == nil || ns.tasks[id] == nil {
		return
	}
	delete(ns.tasks[id].awaiters, a)
	if len(ns.tasks[id].awaiters) == 0 {
		delete(ns.tasks, id)
	}
	if len(ns.tasks) == 0 {
		ns.ring() // the loop ends
	}
}

// run looks at awaited tasks while there are any.
func (as *awaits) run(namespace string, ns *awaited) {
	for {
		ids, sleep, ok := as.due(namespace, ns)
		switch {
		case !ok:
			return
		case len(ids) > 0:
			as.look(namespace, ns, ids)
		case !ns.wait(as.c.closing, sleep):
			return
		}
	}
}

// due gives the tasks to look at now, at most a page of them, and else how long to sleep; ok is false when none is left.
// When one is due, those that have waited half their time come along, so that all share calls however they started.
func (as *awaits) due(namespace string, ns *awaited) (ids []int64, sleep time.Duration, ok bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if len(ns.tasks) == 0 || as.c.isClosed() {
		delete(as.of, namespace)
		return nil, 0, false
	}
	now := time.Now()
	sleep = as.c.cfg.poll
	for _, t := range ns.tasks {
		sleep = min(sleep, t.lookAt.Sub(now))
	}
	if sleep > 0 {
		return nil, sleep, true
	}
	for id, t := range ns.tasks {
		if t.lookAt.Sub(now) <= t.rest/2 && len(ids) < queue.MaxPage {
			ids = append(ids, id)
			t.rest = t.pace.next()
			t.lookAt = now.Add(t.rest)
		}
	}
	slices.Sort(ids)
	return ids, 0, true
}

// endsPerRead is how many tasks that have ended are read in one call, so that few payloads are in memory at once.
const endsPerRead = 16

// look asks the Store which tasks have ended, reads those, and tells of them.
func (as *awaits) look(namespace string, ns *awaited, ids []int64) {
	ctx, cancel := as.c.call()
	defer cancel()
	ended, err := as.c.store.EndedTasks(ctx, namespace, ids)
	if err != nil {
		as.failed(ns, ids, err)
		return
	}
	for some := range slices.Chunk(ended, endsPerRead) {
		as.read(ctx, namespace, ns, some)
	}
}

// failed tells those who await ids of a failure that will not pass.
func (as *awaits) failed(ns *awaited, ids []int64, err error) {
	as.mu.Lock()
	defer as.mu.Unlock()
	for _, id := range ids {
		if !passing(err) {
			ns.tell(id, nil, err)
		}
	}
}

// read reads tasks that have ended and tells of them. One that an operator made new meanwhile is awaited still.
func (as *awaits) read(ctx context.Context, namespace string, ns *awaited, ids []int64) {
	found, err := as.c.store.GetTasks(ctx, namespace, ids, false)
	if err != nil {
		as.failed(ns, ids, err)
		return
	}
	as.mu.Lock()
	defer as.mu.Unlock()
	there := make(map[int64]bool, len(found))
	for _, t := range found {
		there[t.ID] = true
		if t.Status.Finished() {
			ns.tell(t.ID, t, nil)
		}
	}
	for _, id := range ids {
		if !there[id] {
			ns.tell(id, nil, queue.NotFoundTask(id))
		}
	}
}

// tell answers those who await a task.
func (ns *awaited) tell(id int64, t *queue.Task, err error) {
	at := ns.tasks[id]
	if at == nil {
		return
	}
	for a := range at.awaiters {
		if t != nil {
			a.task = clone(t)
		}
		a.err = err
		close(a.done)
	}
	delete(ns.tasks, id)
	if len(ns.tasks) == 0 {
		ns.ring()
	}
}

// finished tells of a task whose end this process has just seen; t stays the caller's.
func (as *awaits) finished(t *queue.Task) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if ns := as.of[t.Namespace]; ns != nil {
		ns.tell(t.ID, t, nil)
	}
}

// suspect has a task looked at that may have ended.
func (as *awaits) suspect(namespace string, id int64) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if ns := as.of[namespace]; ns != nil && ns.tasks[id] != nil {
		ns.tasks[id].lookAt = time.Time{}
		ns.ring()
	}
}

// suspectAll has every awaited task of the namespace ("" = of all) looked at.
func (as *awaits) suspectAll(namespace string) {
	as.mu.Lock()
	defer as.mu.Unlock()
	for name, ns := range as.of {
		if namespace == "" || namespace == name {
			for _, t := range ns.tasks {
				t.lookAt = time.Time{}
			}
			ns.ring()
		}
	}
}

// clone is a copy of t that shares nothing with it.
func clone(t *queue.Task) *queue.Task {
	c := *t
	c.Payload, c.Result, c.Progress = slices.Clone(t.Payload), slices.Clone(t.Result), slices.Clone(t.Progress)
	c.Headers, c.Errors = maps.Clone(t.Headers), slices.Clone(t.Errors)
	if t.Lease != nil {
		l := *t.Lease
		c.Lease = &l
	}
	return &c
}
