package worker

import (
	"context"
	"errors"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// maxPrefetch bounds the held tasks of a queue that wait for a slot. Measured run times set their number below it.
const maxPrefetch = 4_000

// Bounds of the retains of a slot pool.
const (
	// maxRetain is the largest number of tasks of one retain. Larger ones gain nothing and answer later.
	maxRetain = 1_000
	// maxRetains bounds the retains of a pool that are under way at once while there is a backlog.
	maxRetains = 3
	// minWindow and maxWindow bound the time that a prefetched task should wait for its start. Handlers that began
	// together end together, so with less than minWindow most of them would wait for a round trip each time.
	minWindow = 50 * time.Millisecond
	maxWindow = 250 * time.Millisecond
	// maxAheadBytes bounds the payloads of prefetched tasks, by the average of recent payloads.
	maxAheadBytes = 64 << 20
	// staleAfter is the time after which a prefetched task that has not started is handed back for other workers.
	staleAfter = 2 * time.Second
	// callTimeout bounds a call of the service, beyond the time that it may wait there.
	callTimeout = 30 * time.Second
	// pollInterval separates the retains of an idle worker that do not wait at the service.
	pollInterval = time.Second
	// absentFor is the time for which retains leave out a queue that the service did not know.
	absentFor = 5 * time.Second
)

// slotPool works a set of queues with slots of its own. run.mu guards its fields, except those that never change.
type slotPool struct {
	run    *run
	queues []string
	slots  int

	// ready lists held tasks that wait for a slot, from head on.
	ready []*heldTask
	head  int
	// chained counts the held tasks that wait for the one before them in their group.
	chained int
	// running counts handlers, starting counts new executors that have taken no task yet.
	running, starting int
	// retains counts the retains under way, asked the tasks that they request.
	retains, asked int
	// dry: the last answer had fewer tasks than requested, so there is no backlog.
	dry bool
	// stale: prefetched tasks were handed back, and no handler has ended since.
	stale bool
	// absent maps queues that the service did not know to the time of their next retain. A queue that was deleted, or does
	// not exist yet, must not keep the worker from the others.
	absent map[string]time.Time
	// pauses holds the queues with faults that their tasks did not cause; nil without such queues.
	pauses map[string]*queuePause
	// shortest is the shortest lease so far; it bounds the wait of a retain.
	shortest time.Duration
	// runTime of handlers and tripTime of retains that did not wait are moving averages.
	runTime, tripTime time.Duration
	// payload is the moving average of the bytes of a task's payload.
	payload int64
	// emptySince is the begin of the first retain that found the queues empty; zero = they are not known to be empty.
	emptySince time.Time
	// failure is the error of the last retain, and failingSince the begin of the first of a row that failed; unused without
	// WithUntilEmpty.
	failure      error
	failingSince time.Time
}

// countReady returns the number of held tasks that wait for a slot.
func (l *slotPool) countReady() int { return len(l.ready) - l.head }

// prefetchLimit returns the number of tasks to hold beyond the slots: as many as the slots start within the window.
// Without a backlog it is 0, so that workers with free slots get the tasks. Large payloads lower it.
func (l *slotPool) prefetchLimit() int {
	if l.dry || l.stale || l.runTime == 0 {
		return 0
	}

	// Twice the round trip covers the time until the answer to the next retain.
	window := min(max(2*l.tripTime, minWindow), maxWindow)
	n := float64(l.slots) * float64(window) / float64(l.runTime)
	return int(min(n, maxPrefetch, float64(maxAheadBytes/max(l.payload, 1))))
}

// countToRetain returns the number of tasks to request now; 0 = none. With no retain under way one free slot is enough.
// Otherwise there must be a backlog, and a batch of useful size must fit.
func (l *slotPool) countToRetain() int {
	if l.run.stopping || l.run.unreleased > l.run.maxUnreleased {
		return 0
	}
	// A task behind another one takes no slot, but it is work ahead as a prefetched one.
	free := l.slots - l.running - l.countReady() - l.asked
	ahead := max(l.prefetchLimit()-l.chained, 0)
	if int64(l.chained)*l.payload > maxAheadBytes {
		return 0
	}
	room := free + ahead
	// Half of a full load is a useful batch: smaller ones cost as many round trips for fewer tasks.
	enough := min(max((l.slots+ahead)/2, 1), maxRetain)

	switch {
	case l.retains == 0 && free > 0:
	case l.retains > 0 && (l.dry || l.retains == maxRetains):
		return 0
	case room < enough:
		return 0
	}
	return min(room, maxRetain, l.run.countAllowed())
}

// startRetains starts retains as long as there is a reason for one. The caller holds run.mu.
func (l *slotPool) startRetains() {
	for {
		n := l.countToRetain()
		if n <= 0 {
			return
		}
		l.retains++
		l.asked += n
		l.run.retainers.Go(func() { l.retainTasks(n) })
	}
}

// retainTasks requests n tasks, and retains again as long as there is a reason to.
func (l *slotPool) retainTasks(n int) {
	r := l.run
	backoff := newCallBackoff()
	for n > 0 {
		r.mu.Lock()
		wait, names, limit := l.boundWait(l.retainWait(), time.Now()), l.queuesToAsk(time.Now()), n
		if l.isProbe(names) {
			// One task shows whether the fault is over; a wait would delay the other queues of the pool.
			wait, limit = 0, 1
		}
		r.mu.Unlock()
		if len(names) == 0 { // all queues are paused
			retry.Sleep(r.takes, pausedPoll)
			r.mu.Lock()
			n = l.finishRetain(n)
			r.mu.Unlock()
			continue
		}

		// The lease counts from before the call, because the database grants it at an unknown time within.
		from := time.Now()
		tasks, err := l.requestTasks(names, limit, wait)
		now := time.Now()
		if l.recordKnownQueues(names, err, now) {
			continue
		}

		// A stop ends retains on purpose, so their errors are neither logged nor observed.
		if err == nil || r.takes.Err() == nil {
			r.cfg.observer.Retained(limit, len(tasks), now.Sub(from), err)
			r.retainLog.recordError(err)
		}
		holds := l.makeHeldTasks(tasks, from, now)

		pause := time.Duration(0)
		if err != nil {
			pause = backoff.Next()
		} else {
			backoff.Reset()
			if len(tasks) == 0 && r.cfg.wait <= 0 {
				pause = retry.Jitter(pollInterval)
			}
		}

		r.mu.Lock()
		l.recordProbe(names, len(holds), now)
		l.acceptTasks(holds)
		// A backlog gives as many tasks as were asked for.
		l.dry = len(tasks) < n
		l.recordEmpty(names, len(tasks), err, from)
		r.endWhenDone()
		// A call that waited at the service measures the wait and not the round trip.
		if wait == 0 && len(tasks) > 0 {
			updateAverage(&l.tripTime, now.Sub(from), 4)
		}

		// Tasks that no call requests do not count as asked, so that another retain may request them meanwhile.
		if pause > 0 {
			l.asked -= n
			r.mu.Unlock()
			retry.Sleep(r.takes, pause)
			r.mu.Lock()
			l.asked += n
		}
		n = l.finishRetain(n)
		r.mu.Unlock()
	}
}

// requestTasks makes one call for at most limit tasks of the queues in names.
func (l *slotPool) requestTasks(names []string, limit int, wait time.Duration) ([]*queue.Task, error) {
	r := l.run
	base := r.retains
	if wait > 0 {
		// A stop ends waiting retains earlier than others, which may have taken tasks.
		base = r.waits
	}

	// The service may wait for wait, and then it has callTimeout to answer.
	ctx, cancel := context.WithTimeout(base, wait+callTimeout)
	defer cancel()
	return r.svc.RetainTasks(ctx, queue.RetainRequest{
		Worker: r.cfg.name, Queues: names, Limit: limit, Wait: wait, Lease: r.cfg.lease,
	})
}

// finishRetain ends a retain of n tasks, and returns the number to request next; 0 = none. The caller holds run.mu.
func (l *slotPool) finishRetain(n int) (next int) {
	l.asked -= n
	l.retains--
	if next = l.countToRetain(); next > 0 {
		l.retains++
		l.asked += next
	}
	l.startRetains()
	return next
}

// queuesToAsk returns the queues to retain from at now; all of them when the service knows none. It returns a queue to
// probe after its pause alone, and none when all queues are paused. The caller holds run.mu.
func (l *slotPool) queuesToAsk(now time.Time) []string {
	if len(l.absent) == 0 && l.pauses == nil {
		return l.queues
	}

	awake := l.queues
	if l.pauses != nil {
		var probe string
		if awake, probe = l.unpausedQueues(now); probe != "" {
			return []string{probe}
		}
	}

	names := make([]string, 0, len(l.queues))
	for _, name := range awake {
		if again, ok := l.absent[name]; !ok || !now.Before(again) {
			names = append(names, name)
		}
	}

	// The service knows none of the queues: only a retain from all shows the first one that exists again.
	if len(names) == 0 {
		return awake
	}
	return names
}

// recordKnownQueues records which queues exist, from the answer to a retain of names. It reports whether to retain at
// once from the remaining queues.
func (l *slotPool) recordKnownQueues(names []string, err error, now time.Time) (again bool) {
	var came, went []string
	r := l.run

	// The error of an unknown queue names it: the others still have work, so the retain goes on without it.
	r.mu.Lock()
	switch e, _ := errors.AsType[*queue.Error](err); {
	case err == nil:
		for _, name := range names {
			if _, ok := l.absent[name]; ok {
				delete(l.absent, name)
				came = append(came, name)
			}
		}
	case e == nil || e.Kind != queue.KindNotFound || len(names) == 1:
	default:
		name, _ := strings.CutPrefix(e.Subject, "queue ")
		if again = slices.Contains(names, name); !again {
			break
		}
		if _, ok := l.absent[name]; !ok {
			went = append(went, name)
		}
		if l.absent == nil {
			l.absent = map[string]time.Time{}
		}
		l.absent[name] = now.Add(absentFor)
	}
	r.mu.Unlock()

	for _, name := range went {
		r.cfg.log.Warn("a queue is not there; the others are worked, and it when it is made", "queue", name)
	}
	for _, name := range came {
		r.cfg.log.Info("a queue is there now", "queue", name)
	}
	return again
}

// retainWait returns the time that the next retain may wait at the service. With a backlog it is 0. A lease counts from
// before the call, so the wait is at most a quarter of the shortest lease.
func (l *slotPool) retainWait() time.Duration {
	if !l.dry {
		return 0
	}
	wait := max(l.run.cfg.wait, 0)

	if l.shortest > 0 {
		wait = min(wait, l.shortest/4)
	}
	if len(l.absent) > 0 {
		wait = min(wait, absentFor)
	}
	if l.pauses != nil {
		wait = min(wait, minPause)
	}
	return wait
}

// makeHeldTasks wraps retained tasks, requested at from and answered at now. When the answer took more than a third of
// a lease, it extends that lease first.
func (l *slotPool) makeHeldTasks(tasks []*queue.Task, from, now time.Time) []*heldTask {
	r := l.run
	holds := make([]*heldTask, 0, len(tasks))
	var unsure []*heldTask
	for _, t := range tasks {
		if t.Lease == nil {
			r.cfg.log.Error("a retained task came without its lease", "task", t.ID)
			continue
		}
		work, known := r.handlers[t.Queue]
		if !known {
			work.base = r.base
		}
		h := newHeldTask(work.base, work.Handler, t, now)
		h.run, h.pool = r, l
		h.recordLease(from, now, *t.Lease, r.cfg.heartbeat)
		holds = append(holds, h)
		if now.Sub(from) > t.Lease.Duration/3 {
			unsure = append(unsure, h)
		}
	}

	if len(unsure) > 0 {
		_ = r.heartbeatTasks(unsure) // handled: lost tasks are marked
	}
	return holds
}

// acceptTasks queues held tasks for slots and starts an executor. The caller holds run.mu.
func (l *slotPool) acceptTasks(holds []*heldTask) {
	r := l.run
	// The waiting tasks move to the front, so that the slice does not grow with all tasks of the run.
	if l.head > 0 {
		n := copy(l.ready, l.ready[l.head:])
		clear(l.ready[n:])
		l.ready, l.head = l.ready[:n], 0
	}

	bytes := 0
	var groups chainEnds
	for _, h := range holds {
		bytes += len(h.task.Payload)
		if d := h.granted; l.shortest == 0 || d < l.shortest {
			l.shortest = d
		}
		if h.lost {
			groups.breakAt(h)
			continue
		}
		r.addHeldTask(h)
		r.accepted++

		switch {
		case r.stopping, l.isPaused(h.info.Queue):
			r.handBackTask(h)
		case h.handler == nil: // of a queue that was not requested: other workers get it, not at once
			h.end(errEnded)
			r.queueRelease(h, queue.Release{Outcome: queue.OutcomeSnooze, Delay: time.Minute})
		case groups.append(h):
		default:
			l.ready = append(l.ready, h)
		}
	}

	if len(holds) > 0 {
		updateAverage(&l.payload, int64(bytes/len(holds)), 4)
	}
	if l.countReady() > 0 {
		r.wakeHeartbeaterBy(l.ready[0].taken.Add(staleAfter))
	}
	l.startExecutor()
}

// startExecutor starts an executor when a task and a slot are ready. Each executor starts the next before it begins its
// task. So a burst of blocking handlers spreads at once, and quick handlers need no more executors than there are CPUs.
// The caller holds run.mu.
func (l *slotPool) startExecutor() {
	if l.starting == 0 && l.countReady() > 0 && l.running < l.slots {
		l.starting++
		l.run.executors.Go(l.executeTasks)
	}
}

// executeTasks runs tasks until none waits for a slot.
func (l *slotPool) executeTasks() {
	r := l.run
	r.mu.Lock()
	l.starting--
	h := l.takeReadyTask()
	l.startExecutor()
	r.mu.Unlock()
	if h == nil {
		return
	}

	// A handler may end this goroutine by runtime.Goexit; the deferred function then finishes its task.
	began := time.Now()
	exited := true
	defer func() {
		if exited {
			pprof.SetGoroutineLabels(r.callerLabels)
			r.cfg.observer.TaskFinished(h.info, Finished{
				Outcome: queue.OutcomeFailure, Waited: began.Sub(h.taken), Took: time.Since(began), Err: errGoexit, Cause: h.endCause(),
			})
			h.end(errEnded)
			r.mu.Lock()
			l.finishHandler(h, queue.Release{Outcome: queue.OutcomeFailure, Result: goexitJSON}, time.Since(began))
			l.startExecutor()
			r.mu.Unlock()
		}
	}()

	for h != nil {
		pprof.SetGoroutineLabels(h)
		v := h.runHandler(r.cfg.maxResult, r.cfg.observer)
		pprof.SetGoroutineLabels(r.callerLabels)
		if v.cancel {
			r.cancelTask(h)
		}

		// One lock serves the end of this task and the begin of the next one.
		now := time.Now()
		r.mu.Lock()
		pauseChange := l.recordOutcome(h.info.Queue, v, began, now)
		l.finishHandler(h, v.release, now.Sub(began))
		h = l.takeReadyTask()
		l.startExecutor()
		r.mu.Unlock()

		if pauseChange != nil {
			pauseChange.writeLog(r.cfg.log)
		}
		began = now
	}
	exited = false
}

// takeReadyTask takes the next task that may still start; nil when there is none. The caller holds run.mu.
func (l *slotPool) takeReadyTask() *heldTask {
	lost := false
	for l.head < len(l.ready) && l.running < l.slots {
		h := l.ready[l.head]
		l.ready[l.head] = nil
		if l.head++; l.head == len(l.ready) {
			l.ready, l.head = l.ready[:0], 0
		}

		if h.lost {
			l.run.accepted--
			lost = true
			continue
		}

		l.running++
		l.run.running++
		return h
	}

	if lost { // WithMaxTasks allows others in their place
		l.startRetains()
		l.run.endWhenDone()
	}
	return nil
}

// finishHandler records that a handler ran for took, and queues its release. The caller holds run.mu.
func (l *slotPool) finishHandler(h *heldTask, rel queue.Release, took time.Duration) {
	r := l.run
	l.running--
	r.running--
	// A slot became free, so prefetched tasks may start in time again.
	l.stale = false
	updateAverage(&l.runTime, took, 16)

	if !h.over {
		r.queueRelease(h, rel)
	}
	if h.next != nil {
		l.startNext(h)
	}

	r.recordChange()
	r.endWhenDone()

	// A free slot may be the reason for the next retain, or the end that a stop waits for.
	l.startRetains()
	if r.stopping && r.running == 0 {
		r.markQuiet()
	}
}

// handBackStaleTasks hands back tasks that have waited for a slot for staleAfter. The caller holds run.mu.
func (l *slotPool) handBackStaleTasks(now time.Time) {
	for l.countReady() > 0 && now.Sub(l.ready[l.head].taken) >= staleAfter && l.running == l.slots {
		h := l.ready[l.head]
		l.ready[l.head] = nil
		l.head++
		// The handlers take longer than the window assumed, so no task is prefetched until one ends.
		l.stale = true
		if !h.lost {
			l.run.handBackTask(h)
		}
	}

	if l.head == len(l.ready) {
		l.ready, l.head = l.ready[:0], 0
	}
}

// updateAverage moves *avg towards v with the weight 1/n. The first value becomes the average.
func updateAverage[T ~int64](avg *T, v, n T) {
	v = max(v, 1)
	if *avg == 0 {
		*avg = v
		return
	}
	*avg = max(*avg+(v-*avg)/n, 1)
}

// newCallBackoff returns the pause after failed calls of the service.
func newCallBackoff() retry.Backoff {
	return retry.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second}
}
