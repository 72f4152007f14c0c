package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

const (
	// flushTimeout bounds the last retains and releases of a stop, after drain and grace.
	flushTimeout = 10 * time.Second
	// hurryWait is the time that a retain at the service still has after StopNow. By default it ends by itself in that
	// time, so that a stop loses no answer under way, and no attempt with it.
	hurryWait = DefaultWait
)

// run is the state of one Run. One lock guards the states of all held tasks; a task passes through them once.
// Goroutines exist only while there is work for them, except the heartbeater.
type run struct {
	svc      queue.Consumer
	cfg      config
	handlers map[string]queueHandler
	pools    []*slotPool
	shared   *slotPool // of the queues without slots of their own; nil without such queues
	ticks    *tickLoop

	// base has the values of Run's context and never ends. takes ends with the stop. waits, for retains that wait at the
	// service, ends a little after StopNow, or at once WithInProcess. calls ends when all work is over. retains, for
	// retains that do not wait, is calls without pauses for another attempt once the stop has begun.
	base, takes, waits, calls context.Context
	// callerLabels has the labels of profiles of Run's context, for goroutines between two handlers.
	callerLabels                 context.Context
	retains                      context.Context
	endTakes, endWaits, endCalls context.CancelFunc

	hurry        sync.Once
	hurried      chan struct{} // closed by StopNow
	quiet        chan struct{} // closed when the run stops and no handler runs
	heartbeating chan struct{} // full during a heartbeat
	kick         chan struct{} // wakes the heartbeater

	retainers, executors, releasing, beats sync.WaitGroup

	retainLog, releaseLog, heartbeatLog *changeLog

	// ended is closed when the run has done what WithMaxTasks or WithUntilEmpty asked for.
	ended chan struct{}

	mu       sync.Mutex
	stopping bool
	finished bool // ended is closed
	// failure is the error of the service for which the run ended by itself.
	failure error
	// accepted counts the held tasks of this run, without those that were handed back.
	accepted int
	// changed is the time of the last end of a handler or a release; unused without WithUntilEmpty.
	changed time.Time
	// running counts the handlers of all slot pools and ticks.
	running int
	// held lists every task with a lease to extend, in no order.
	held []*heldTask
	// wakeAt is the time of the heartbeater's next step.
	wakeAt time.Time
	// isHeartbeating: a call of the heartbeater is under way.
	isHeartbeating bool
	// unreleased counts the releases that wait or are under way.
	unreleased    int
	maxUnreleased int
	releases      *releaser
}

// profileLabel names the queue of a handler in profiles of the CPU and of goroutines.
const profileLabel = "pgqueue.queue"

// queueHandler is the handler of a queue. The contexts of its tasks descend from base, which has the label of the queue.
type queueHandler struct {
	Handler
	base context.Context
}

// newRun returns the state of a run without queues.
func newRun(ctx context.Context, svc queue.Consumer, cfg config) *run {
	r := &run{
		svc: svc, cfg: cfg, handlers: map[string]queueHandler{}, base: context.WithoutCancel(ctx),
		hurried: make(chan struct{}), quiet: make(chan struct{}), heartbeating: make(chan struct{}, 1),
		kick: make(chan struct{}, 1), ended: make(chan struct{}),
		retainLog:    &changeLog{log: cfg.log, what: "retain tasks"},
		releaseLog:   &changeLog{log: cfg.log, what: "release tasks"},
		heartbeatLog: &changeLog{log: cfg.log, what: "extend leases"},
	}

	// A look for labels in base itself would allocate each time.
	r.callerLabels = pprof.WithLabels(r.base, pprof.Labels())
	r.takes, r.endTakes = context.WithCancel(r.base)
	r.calls, r.endCalls = context.WithCancel(r.base)
	r.retains = queue.WithPausesUntil(r.calls, r.takes)
	r.waits, r.endWaits = context.WithCancel(r.retains)

	r.releases = newReleaser(r)
	return r
}

// addQueue adds a queue to the slot pool that works it.
func (r *run) addQueue(name string, h Handler, cfg queueConfig) {
	r.handlers[name] = queueHandler{h, pprof.WithLabels(r.base, pprof.Labels(profileLabel, name))}
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
	// The slots, the prefetched tasks and four full calls may wait. Beyond that retains stop, so that leases do not lapse in
	// the line.
	r.maxUnreleased += l.slots + maxPrefetch + 4*maxRelease
}

// checkQueueCounts checks that one retain can name the queues of each slot pool.
func (r *run) checkQueueCounts() error {
	for _, l := range r.pools {
		if n := len(l.queues); n > queue.MaxQueuesPerRetain {
			return queue.Invalid("queue", fmt.Sprintf("must be at most %d queues that share slots, got %d", queue.MaxQueuesPerRetain, n))
		}
	}
	return nil
}

// runUntilDone works until ctx ends, then stops in the order that Run promises.
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

	// The stop: first no new tasks, then the drain, then the grace, and last the remaining releases.
	select {
	case <-ctx.Done():
	case <-r.ended:
	}
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

	// Leases are extended until the last release, so the heartbeater ends after retains and releases.
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
	return r.failure
}

// stopRetaining ends the retains and hands back the tasks that have not started.
func (r *run) stopRetaining() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
	r.endTakes()

	// A manager in process loses no answer, so its waiting retains need no time to end.
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
		l.handBackChained("")
	}

	if r.running == 0 {
		r.markQuiet()
	}
}

// markQuiet records that no handler runs any more. The caller holds mu; stopping is set.
func (r *run) markQuiet() {
	select {
	case <-r.quiet:
	default:
		close(r.quiet)
	}
}

// waitUntilQuiet waits until no handler runs, for at most d or until cut. It reports whether no handler runs.
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

// interruptHandlers ends the contexts of all running handlers.
func (r *run) interruptHandlers() {
	r.mu.Lock()
	var ends []context.CancelCauseFunc
	for _, h := range r.held {
		if !h.over {
			ends = append(ends, h.end)
		}
	}
	r.mu.Unlock()

	// The end of a context runs callbacks of handlers, which must not run under the lock.
	for _, end := range ends {
		end(ErrDraining)
	}
	if r.ticks != nil {
		r.ticks.interruptHandler()
	}
}

// abandonHandlers hands back the tasks of the handlers that still run, and returns the number of these handlers.
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

// handBackTask hands a held task back. The caller holds mu.
func (r *run) handBackTask(h *heldTask) {
	h.end(ErrDraining)
	r.queueRelease(h, queue.Release{Outcome: queue.OutcomeHandBack})
}

// queueRelease queues the release rel of h. The caller holds mu.
func (r *run) queueRelease(h *heldTask, rel queue.Release) {
	rel.ID, rel.Token = h.info.ID, h.token
	h.release, h.over = rel, true
	r.unreleased++
	if rel.Outcome == queue.OutcomeHandBack {
		r.accepted--
	}
	r.releases.Add(struct{}{}, h)
	if rel.Outcome != queue.OutcomeSuccess {
		r.handBackBehind(h)
	}
}

// addHeldTask makes the heartbeater extend the lease of h. The caller holds mu.
func (r *run) addHeldTask(h *heldTask) {
	h.pos = len(r.held)
	r.held = append(r.held, h)
	r.wakeHeartbeaterBy(h.heartbeatDue)
}

// removeHeldTask makes the heartbeater leave h alone. The caller holds mu.
func (r *run) removeHeldTask(h *heldTask) {
	if h.pos < 0 {
		return
	}

	// The last task takes the place of h, so that removal costs the same for any number of tasks.
	last := len(r.held) - 1
	r.held[h.pos] = r.held[last]
	r.held[h.pos].pos = h.pos
	r.held[last] = nil
	r.held = r.held[:last]
	h.pos = -1

	if n := h.progress.Load(); n != nil {
		n.answerFlushes(ErrLeaseLost) // flushes of sent versions have their answer already
	}
}

// markLost records that the lease of h is lost. The caller holds mu; after unlocking it calls reportLostLease.
func (r *run) markLost(h *heldTask) {
	h.lost = true
	r.removeHeldTask(h)
	if h.chained {
		h.unchain()
		r.accepted--
	}
	r.handBackBehind(h)
}

// reportLostLease ends the context of h, logs the loss and reports it to the observer.
func (r *run) reportLostLease(h *heldTask, why string) {
	h.end(ErrLeaseLost)
	r.cfg.log.Warn("lease lost", "task", h.info.ID, "queue", h.info.Queue, "attempt", h.info.Attempt, "why", why)
	r.cfg.observer.LeaseLost(h.info)
}

// canceller is a service that can cancel tasks.
type canceller interface {
	CancelTasks(ctx context.Context, s queue.Selection) (queue.Bulk, error)
}

// cancelTask requests the cancel of a task for its handler; the release that follows then ends the task cancelled. A
// task that is no longer held stays as it is, as another worker may hold it.
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

// changeLog logs an error of the service once when it appears, changes its kind, or ends.
type changeLog struct {
	log  *slog.Logger
	what string

	mu   sync.Mutex
	last queue.Kind
}

// recordError logs err when its kind differs from that of the last call. It is safe for concurrent use.
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
