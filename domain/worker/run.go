package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

const (
	// flushTimeout bounds what a stop takes beyond drain and grace: the last retains and releases.
	flushTimeout = 10 * time.Second
	// hurryWait is what a retain that waits at the service still gets after StopNow: by default it ends by itself in it, so
	// that no answer on its way is lost and no attempt with it.
	hurryWait = DefaultWait
)

// run is the state of one Run: a state machine under one lock, which a task passes once, and goroutines that exist only
// while there is something to do, beside the one that keeps the leases.
type run struct {
	svc      queue.Consumer
	cfg      config
	handlers map[string]Handler
	pools    []*slotPool
	shared   *slotPool // of the queues without slots of their own; nil when there is none
	ticks    *tickLoop

	// base has the values of Run's context and never ends; takes ends with the stop, waits (for retains that wait at the
	// service) a little after StopNow or at once WithInProcess, calls when all is over.
	// retains is calls for those that do not wait: they do not pause for another attempt once the stop has begun.
	base, takes, waits, calls    context.Context
	retains                      context.Context
	endTakes, endWaits, endCalls context.CancelFunc

	hurry        sync.Once
	hurried      chan struct{} // closed by StopNow
	quiet        chan struct{} // closed when stopping and nothing runs
	heartbeating chan struct{} // held during a heartbeat
	kick         chan struct{} // wakes the keeper of the leases

	retainers, executors, releasing, beats sync.WaitGroup

	retainLog, releaseLog, heartbeatLog *changeLog

	mu       sync.Mutex
	stopping bool
	// running handlers of all lanes and ticks.
	running int
	// held: every task whose lease is to be kept up, in no order.
	held []*heldTask
	// wakeAt is when the keeper looks next.
	wakeAt time.Time
	// beatOut: a heartbeat of the keeper is under way.
	isHeartbeating bool
	// unreleased counts the releases that wait or are in flight.
	unreleased    int
	maxUnreleased int
	releases      *releaser
}

func newRun(ctx context.Context, svc queue.Consumer, cfg config) *run {
	r := &run{
		svc: svc, cfg: cfg, handlers: map[string]Handler{}, base: context.WithoutCancel(ctx),
		hurried: make(chan struct{}), quiet: make(chan struct{}), heartbeating: make(chan struct{}, 1),
		kick:         make(chan struct{}, 1),
		retainLog:    &changeLog{log: cfg.log, what: "retain tasks"},
		releaseLog:   &changeLog{log: cfg.log, what: "release tasks"},
		heartbeatLog: &changeLog{log: cfg.log, what: "extend leases"},
	}
	r.takes, r.endTakes = context.WithCancel(r.base)
	r.calls, r.endCalls = context.WithCancel(r.base)
	r.retains = queue.WithPausesUntil(r.calls, r.takes)
	r.waits, r.endWaits = context.WithCancel(r.retains)
	r.releases = newReleaser(r)
	return r
}

// addQueue makes the run work a queue.
func (r *run) addQueue(name string, h Handler, cfg queueConfig) {
	r.handlers[name] = h
	if cfg.slots == 0 && r.shared != nil {
		r.shared.queues = append(r.shared.queues, name)
		return
	}
	l := &slotPool{run: r, queues: []string{name}, slots: cfg.slots, dry: true}
	if cfg.slots == 0 {
		l.slots = r.cfg.concurrency
		r.shared = l
	}
	r.pools = append(r.pools, l)
	r.maxUnreleased += l.slots + maxPrefetch + 4*maxRelease
}

func (r *run) checkQueueCounts() error {
	for _, l := range r.pools {
		if n := len(l.queues); n > queue.MaxQueuesPerRetain {
			return queue.Invalid("queue", fmt.Sprintf("at most %d queues share slots, these are %d", queue.MaxQueuesPerRetain, n))
		}
	}
	return nil
}

// runUntilDone is Run.
func (r *run) runUntilDone(ctx context.Context) error {
	defer r.endCalls()
	defer r.endTakes()
	keep, endKeep := context.WithCancel(r.base)
	defer endKeep()
	var keeper sync.WaitGroup
	keeper.Go(func() { r.runHeartbeater(keep) })

	r.mu.Lock()
	for _, l := range r.pools {
		l.startRetains()
	}
	if r.ticks != nil {
		r.executors.Go(func() { r.ticks.receiveTicks(r.takes) })
	}
	r.mu.Unlock()

	<-ctx.Done()
	r.stopRetaining()
	keeper.Go(func() {
		select {
		case <-r.hurried:
			retry.Sleep(r.waits, hurryWait)
			r.endWaits()
		case <-r.waits.Done():
		}
	})
	if !r.waitUntilQuiet(r.cfg.drain, r.hurried) {
		r.interruptHandlers()
		r.waitUntilQuiet(r.cfg.grace, nil)
	}
	left := r.abandonHandlers()

	last := time.AfterFunc(flushTimeout, r.endCalls)
	defer last.Stop()
	r.retainers.Wait()
	r.endWaits()
	r.releasing.Wait()
	endKeep()
	keeper.Wait()
	r.endCalls()
	r.beats.Wait()
	if left > 0 {
		return fmt.Errorf("%w: %d", ErrHandlersLeft, left)
	}
	r.executors.Wait()
	return nil
}

// stopRetaining takes nothing new from here on and hands back what has not started.
func (r *run) stopRetaining() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
	r.endTakes()
	if r.cfg.inProcess {
		r.endWaits()
	}
	for _, l := range r.pools {
		for _, h := range l.ready[l.head:] {
			if !h.lost {
				r.handBackTask(h)
			}
		}
		l.ready, l.head = nil, 0
	}
	if r.running == 0 {
		r.markQuiet()
	}
}

// markQuiet says that nothing runs any more. Caller holds mu; stopping is set.
func (r *run) markQuiet() {
	select {
	case <-r.quiet:
	default:
		close(r.quiet)
	}
}

// waitUntilQuiet waits until nothing runs, for at most d or until cut; it reports whether that is so.
func (r *run) waitUntilQuiet(d time.Duration, cut <-chan struct{}) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-r.quiet:
		return true
	case <-t.C:
	case <-cut:
	}
	select {
	case <-r.quiet:
		return true
	default:
		return false
	}
}

// interruptHandlers ends the contexts of the handlers.
func (r *run) interruptHandlers() {
	r.mu.Lock()
	var ends []context.CancelCauseFunc
	for _, h := range r.held {
		if !h.over {
			ends = append(ends, h.end)
		}
	}
	r.mu.Unlock()
	for _, end := range ends {
		end(ErrDraining)
	}
	if r.ticks != nil {
		r.ticks.interruptHandler()
	}
}

// abandonHandlers hands back what still runs, and says how much that is.
func (r *run) abandonHandlers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		if !h.over {
			r.handBackTask(h)
		}
	}
	return r.running
}

// handBackTask hands a held task back. Caller holds mu.
func (r *run) handBackTask(h *heldTask) {
	h.end(ErrDraining)
	r.queueRelease(h, queue.Release{Outcome: queue.OutcomeHandBack})
}

// queueRelease ends a hold with rel. Caller holds mu.
func (r *run) queueRelease(h *heldTask, rel queue.Release) {
	rel.ID, rel.Token = h.info.ID, h.token
	h.release, h.over = rel, true
	r.unreleased++
	r.releases.Add(struct{}{}, h)
}

// addHeldTask makes the keeper keep up h's lease. Caller holds mu.
func (r *run) addHeldTask(h *heldTask) {
	h.pos = len(r.held)
	r.held = append(r.held, h)
	r.wakeHeartbeaterBy(h.heartbeatDue)
}

// removeHeldTask ends that. Caller holds mu.
func (r *run) removeHeldTask(h *heldTask) {
	if h.pos < 0 {
		return
	}
	last := len(r.held) - 1
	r.held[h.pos] = r.held[last]
	r.held[h.pos].pos = h.pos
	r.held[last] = nil
	r.held = r.held[:last]
	h.pos = -1
	if n := h.progress.Load(); n != nil {
		n.answerFlushes(ErrLeaseLost) // what was sent has been settled before
	}
}

// markLost notes that h's lease is gone. Caller holds mu, and ends the context and reports it after unlocking.
func (r *run) markLost(h *heldTask) {
	h.lost = true
	r.removeHeldTask(h)
}

// reportLostLease ends the context of a lost hold and tells of it.
func (r *run) reportLostLease(h *heldTask, why string) {
	h.end(ErrLeaseLost)
	r.cfg.log.Warn("lease lost", "task", h.info.ID, "queue", h.info.Queue, "attempt", h.info.Attempt, "why", why)
	if r.cfg.observer != nil {
		r.cfg.observer.LeaseLost(h.info)
	}
}

// canceller is the power of a service to cancel tasks.
type canceller interface {
	CancelTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error)
}

// cancelTask asks for the cancel of a task that its handler wants cancelled: the release that follows ends it so. A task
// that is no longer held is another's to cancel.
func (r *run) cancelTask(h *heldTask) {
	r.mu.Lock()
	gone := h.over || h.lost
	r.mu.Unlock()
	if gone {
		return
	}
	err := errors.ErrUnsupported
	if c, ok := r.svc.(canceller); ok {
		ctx, cancel := context.WithTimeout(r.calls, flushTimeout)
		defer cancel()
		_, err = c.CancelTasks(ctx, queue.Selection{IDs: []int64{h.info.ID}})
	}
	if err != nil {
		r.cfg.log.Warn("a task that was to be cancelled fails for good instead", "task", h.info.ID, "err", err)
	}
}

// changeLog logs a service's error once when it comes, changes its kind, or goes.
type changeLog struct {
	log  *slog.Logger
	what string

	mu   sync.Mutex
	last queue.Kind
}

func (c *changeLog) recordError(err error) {
	kind := queue.KindOf(err)
	c.mu.Lock()
	changed := kind != c.last
	c.last = kind
	c.mu.Unlock()
	switch {
	case !changed:
	case err != nil:
		c.log.Error("cannot "+c.what+", trying on", "err", err)
	default:
		c.log.Info("can " + c.what + " again")
	}
}
