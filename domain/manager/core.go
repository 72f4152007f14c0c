package manager

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// core is what the managers of all namespaces share. It owns every goroutine: each was started by spawn, ends by itself
// when it has nothing to do, and at the latest when closing is closed.
type core struct {
	store queue.Store
	cfg   config

	base    context.Context //nolint:containedctx // bounds the Store calls of the manager's own goroutines
	stop    context.CancelFunc
	closing chan struct{}

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
	seats  atomic.Int64 // taken by parked callers

	creates  *batch.Batcher[createKey, queue.NewTask, queue.Created]
	retains  *batch.Batcher[lot, queue.RetainShare, []*queue.Task]
	beats    *batch.Batcher[string, queue.Heartbeat, queue.Beat]
	releases *batch.Batcher[string, queue.Release, queue.Released]

	rooms  *rooms
	awaits *awaits
	feeds  *feeds
	ticks  *tickHubs
	chores *chores
	held   *held
	capped *capped

	workers *workers
}

func newCore(store queue.Store, cfg config) *core {
	c := &core{store: store, cfg: cfg, closing: make(chan struct{})}
	c.base, c.stop = context.WithCancel(queue.WithoutWait(context.Background()))
	c.creates = newBatcher(c, writes, c.createTasks, func(o *batch.Options[createKey, queue.NewTask, queue.Created]) {
		o.Bytes = func(t queue.NewTask) int { return len(t.Payload) }
		o.Copy, o.Restore = copyTask, restoreTask
		o.Number = func(t *queue.NewTask, call int) { t.Call = call }
		o.Locked = func(c queue.Created) bool { return queue.IsLocked(c.Err) }
	})
	c.retains = newBatcher(c, reads, c.retainTasks, func(o *batch.Options[lot, queue.RetainShare, []*queue.Task]) {
		o.Weight = func(s queue.RetainShare) int { return s.Limit }
		o.Unclaimed = func(key lot, _ []queue.RetainShare, outs [][]*queue.Task, _ error) {
			for _, tasks := range outs {
				c.giveBack(key, tasks)
			}
		}
	})
	c.beats = newBatcher(c, reads, store.HeartbeatTasks, func(o *batch.Options[string, queue.Heartbeat, queue.Beat]) {
		o.Bytes = func(h queue.Heartbeat) int { return len(h.Progress) }
		o.Copy = copyHeartbeat
		o.Locked = func(b queue.Beat) bool { return queue.IsLocked(b.Err) }
	})
	c.releases = newBatcher(c, writes, c.releaseTasks, func(o *batch.Options[string, queue.Release, queue.Released]) {
		o.Bytes = func(r queue.Release) int { return len(r.Result) }
		o.Copy, o.Restore = copyRelease, restoreRelease
		o.Number = func(r *queue.Release, call int) { r.Call = call }
		o.Locked = func(r queue.Released) bool { return queue.IsLocked(r.Err) }
	})
	c.rooms = newRooms(c)
	c.awaits = newAwaits(c)
	c.feeds = newFeeds(c)
	c.ticks = newTickHubs(c)
	c.chores = newChores(c)
	c.held = newHeld()
	c.capped = newCapped(c)
	c.workers = newWorkers(c)
	return c
}

// newBatcher returns a Batcher for one kind of Store call.
func newBatcher[K comparable, In, Out any](
	c *core, unanswered queue.Kind, commit func(context.Context, K, []In) ([]Out, error), set func(*batch.Options[K, In, Out]),
) *batch.Batcher[K, In, Out] {
	limits := c.cfg.gather
	o := batch.Options[K, In, Out]{
		Commit: commit, Context: c.base, Timeout: c.cfg.callTimeout, Go: c.spawn, Owner: "manager", Unanswered: unanswered,
		MaxItems: limits.MaxBatch, MaxBytes: maxGatherBytes, MaxInFlight: limits.MaxCalls, MaxFullInFlight: fullCalls,
		MaxGoroutines: max(limits.MaxCalls, fullCalls) * gatherSpread, MaxWaiting: limits.MaxWaiting, MaxDelay: limits.MaxDelay,
	}
	set(&o)
	return batch.New(o)
}

// spawn runs f in a goroutine that close waits for; false when the manager is closed.
func (c *core) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// enter lets a caller's goroutine call the Store: its context ends after timeout, and when close gives up waiting.
func (c *core) enter(ctx context.Context, timeout time.Duration) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, batch.Closed("manager")
	}
	c.wg.Add(1)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	unhook := context.AfterFunc(c.base, cancel)
	return ctx, func() { unhook(); cancel(); c.wg.Done() }, nil
}

// call is the context of a Store call by a goroutine of the manager's own.
func (c *core) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.base, c.cfg.callTimeout)
}

// sit counts a caller that parks; there are as many seats as callers may wait for gathered calls of a kind.
func (c *core) sit() (stand func(), err error) {
	stand = func() { c.seats.Add(-1) }
	if c.seats.Add(1) > int64(c.cfg.gather.MaxWaiting) {
		stand()
		return nil, batch.TooManyWaiting(c.cfg.gather.MaxWaiting)
	}
	return stand, nil
}

func (c *core) isClosed() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// close refuses new calls, answers those that wait, and lets Store calls in flight end until ctx does; then it cancels
// them.
func (c *core) close(ctx context.Context) error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.closing)
	}
	c.mu.Unlock()
	c.creates.Close()
	c.retains.Close()
	c.beats.Close()
	c.releases.Close()
	defer c.stop()
	unhook := context.AfterFunc(ctx, c.stop)
	c.wg.Wait()
	if !unhook() && c.base.Err() != nil {
		return queue.ContextError(ctx.Err())
	}
	return nil
}

// createKey is what creates share a Store call for. A key may be taken by an open transaction, and telling that takes a
// moment: creates without one do not wait for it.
type createKey struct {
	namespace string
	keyed     bool
}

// createTasks is a gathered Store call and the telling of what it made ready.
func (c *core) createTasks(ctx context.Context, key createKey, tasks []queue.NewTask) ([]queue.Created, error) {
	return c.create(ctx, queue.Create{Namespace: key.namespace, Tasks: tasks})
}

// create starts what it creates where somebody waits for it.
func (c *core) create(ctx context.Context, create queue.Create) (made []queue.Created, err error) {
	var started []int64
	if p := c.rooms.invite(create); p != nil {
		made, started, err = c.createFor(ctx, p, create)
		if queue.IsLocked(err) && queue.Waits(ctx) { // the party has not waited for it
			made, err = c.store.CreateTasks(ctx, create)
		}
	} else {
		made, err = c.store.CreateTasks(ctx, create)
	}
	if err != nil {
		return nil, err
	}
	told := teller{c: c, namespace: create.Namespace}
	for i := range made {
		switch t := made[i].Task; {
		case !isNew(made[i]):
		case slices.Contains(started, t.ID):
			told.any = true
		default:
			told.waiting(t)
		}
	}
	told.changed()
	return made, nil
}

// isNew says that a create made a task, and did not find it under its key.
func isNew(c queue.Created) bool { return c.Task != nil && c.Err == nil && !c.Task.Replayed }

func (c *core) retainTasks(ctx context.Context, l lot, shares []queue.RetainShare) ([][]*queue.Task, error) {
	outs, err := c.store.RetainTasks(ctx, queue.Retain{Namespace: l.namespace, Queues: l.names(), Requests: shares})
	if err != nil {
		return nil, err
	}
	for _, tasks := range outs {
		if len(tasks) > 0 {
			c.feeds.changed(l.namespace)
			break
		}
	}
	return outs, nil
}

func (c *core) releaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	outs, err := c.store.ReleaseTasks(ctx, namespace, releases)
	if err != nil {
		return nil, err
	}
	told := teller{c: c, namespace: namespace}
	for i := range outs {
		t := outs[i].Task
		if t == nil || outs[i].Err != nil {
			continue
		}
		switch {
		case t.Status.Waiting():
			told.waiting(t)
		case releases[i].Quiet || t.Payload == nil: // without its content
			c.awaits.suspect(namespace, t.ID)
		default:
			c.awaits.finished(t)
		}
		told.freed(t.Queue)
	}
	told.changed()
	return outs, nil
}

// giveBack is handBack for what a lot has retained. Tasks of a request with an id stay for its repeat.
func (c *core) giveBack(l lot, tasks []*queue.Task) {
	u, ok := queue.StoreAs[queue.UndeliveredRequests](c.store)
	if l.request.id == "" || !ok {
		c.handBack(l.namespace, tasks)
		return
	}
	if len(tasks) == 0 {
		return
	}
	c.wg.Go(func() {
		ctx, cancel := c.call()
		defer cancel()
		if err := u.UndeliveredRequest(ctx, l.namespace, l.request.worker, l.request.id); err != nil {
			c.cfg.log.Warn("cannot note that a retain was not delivered; its leases end by themselves",
				"namespace", l.namespace, "worker", l.request.worker, "tasks", len(tasks), "error", err)
		}
	})
}

// handBack returns tasks that were retained for a caller that has gone, so that nothing stays held. It is called from
// goroutines of the manager's own.
func (c *core) handBack(namespace string, tasks []*queue.Task) {
	var back []queue.Release
	for _, t := range tasks {
		if t.Lease != nil {
			back = append(back, queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeHandBack, Quiet: true})
		}
	}
	if len(back) == 0 {
		return
	}
	c.wg.Go(func() {
		tries := pace{least: 100 * time.Millisecond, most: c.cfg.poll}
		for range 5 {
			ctx, cancel := c.call()
			outs, err := c.releaseTasks(ctx, namespace, back)
			cancel()
			if err == nil {
				if back = stillLocked(back, outs); len(back) == 0 {
					return
				}
				err = queue.Locked(back[0].ID)
			}
			c.cfg.log.Warn("cannot hand back tasks whose caller has gone; their leases end by themselves",
				"namespace", namespace, "tasks", len(back), "error", err)
			pauseUntil(c.base.Done(), tries.next())
		}
	})
}

// stillLocked are the releases that another transaction has kept from being done.
func stillLocked(releases []queue.Release, outs []queue.Released) (left []queue.Release) {
	for i := range outs {
		if queue.IsLocked(outs[i].Err) {
			left = append(left, releases[i])
		}
	}
	return left
}

// teller tells the parked what one Store call of a namespace made ready, each queue once.
type teller struct {
	c         *core
	namespace string
	ready     string // the last queue told of; runs of one queue are the rule
	freedLast string
	any       bool
}

// waiting tells of a task that is new or retry.
func (t *teller) waiting(task *queue.Task) {
	t.any = true
	if !task.DelayedAt.IsZero() {
		if in := time.Until(task.DelayedAt); in > 0 { // a hint: only the database's clock decides
			t.c.chores.kickIn(queue.ChorePromote, in)
			t.c.rooms.wakeIn(t.namespace, task.Queue, in)
			return
		}
	}
	if t.ready != task.Queue {
		t.ready = task.Queue
		t.c.rooms.wake(queue.Wake{Namespace: t.namespace, Queue: task.Queue})
	}
}

// freed tells of a place in a queue whose concurrency may be limited.
func (t *teller) freed(name string) {
	t.any = true
	if t.freedLast != name && t.ready != name {
		t.freedLast = name
		if t.c.rooms.wanted(t.namespace, name) && t.c.capped.is(t.namespace, name) {
			t.c.rooms.wake(queue.Wake{Namespace: t.namespace, Queue: name})
		}
	}
}

func (t *teller) changed() {
	if t.any {
		t.c.feeds.changed(t.namespace)
	}
}
