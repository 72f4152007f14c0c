package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// maxPrefetch bounds the held tasks of a queue that wait for a slot. Their number follows the measured run times.
const maxPrefetch = 4_000

// Bounds of a lane's retains.
const (
	// maxRetain is the most tasks of one retain. Larger ones gain nothing and answer later.
	maxRetain = 1_000
	// maxRetains is how many retains of a lane are under way at once while there is a backlog.
	maxRetains = 3
	// minWindow and maxWindow bound the time that a task retained ahead should wait for its start. Handlers that began
	// together end together, so less than minWindow would let most of them wait for a round trip each time.
	minWindow = 50 * time.Millisecond
	maxWindow = 250 * time.Millisecond
	// maxAheadBytes bounds the payloads that are held ahead, by what those of late weighed.
	maxAheadBytes = 64 << 20
	// staleAfter: a task retained ahead that has not started by then is handed back for others to take.
	staleAfter = 2 * time.Second
	// callTimeout bounds a call of the service beside what it may wait.
	callTimeout = 30 * time.Second
	// pollInterval paces an idle worker whose retains do not wait at the service.
	pollInterval = time.Second
	// absentFor is how long a queue that was not there is not asked for beside others that are.
	absentFor = 5 * time.Second
)

// lane works a set of queues with slots of its own. Its fields are guarded by run.mu but for those set once.
type slotPool struct {
	run    *run
	queues []string
	slots  int

	// ready are held tasks that wait for a slot, from head on.
	ready []*heldTask
	head  int
	// running handlers, and starting executors that have taken no task yet.
	running, starting int
	// retains under way, and how many tasks they ask for.
	retains, asked int
	// dry: the last answer was short of what was asked, so there is no backlog.
	dry bool
	// stale: tasks retained ahead had to be handed back, and no handler has ended since.
	stale bool
	// absent queues, which the service did not know, and when to ask for them again: one queue that was deleted, or is not
	// made yet, must not keep the others from being worked.
	absent map[string]time.Time
	// rests are the queues whose handlers had trouble that is not their tasks'; nil while there are none.
	pauses map[string]*queuePause
	// shortest lease seen; it bounds how long a retain may wait.
	shortest time.Duration
	// runTime of handlers and tripTime of retains that did not wait: moving averages.
	runTime, tripTime time.Duration
	// payload in bytes of the tasks of a retain: a moving average.
	payload int64
}

func (l *slotPool) countReady() int { return len(l.ready) - l.head }

// prefetchLimit is how many tasks to hold beyond the slots: as many as the slots start within the window. Without a
// backlog it is none: what there is should go to whoever is free. Large payloads are not piled up.
func (l *slotPool) prefetchLimit() int {
	if l.dry || l.stale || l.runTime == 0 {
		return 0
	}
	window := min(max(2*l.tripTime, minWindow), maxWindow)
	n := float64(l.slots) * float64(window) / float64(l.runTime)
	return int(min(n, maxPrefetch, float64(maxAheadBytes/max(l.payload, 1))))
}

// countToRetain is how many tasks to ask for now; 0 = none. With nothing under way any free slot is reason enough; else a
// sensible batch must have room, and there must be a backlog.
func (l *slotPool) countToRetain() int {
	if l.run.stopping || l.run.unreleased > l.run.maxUnreleased {
		return 0
	}
	free := l.slots - l.running - l.countReady() - l.asked
	ahead := l.prefetchLimit()
	room := free + ahead
	enough := min(max((l.slots+ahead)/2, 1), maxRetain)
	switch {
	case l.retains == 0 && free > 0:
	case l.retains > 0 && (l.dry || l.retains == maxRetains):
		return 0
	case room < enough:
		return 0
	}
	return min(room, maxRetain)
}

// startRetains starts retains as long as there is reason for one. Caller holds run.mu.
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

// retainTasks asks for n tasks, and again as long as there is reason to.
func (l *slotPool) retainTasks(n int) {
	r := l.run
	backoff := newCallBackoff()
	for n > 0 {
		r.mu.Lock()
		wait, names, limit := l.retainWait(), l.queuesToAsk(time.Now()), n
		if l.isProbe(names) {
			wait, limit = 0, 1
		}
		r.mu.Unlock()
		if len(names) == 0 { // all rest
			retry.Sleep(r.takes, pausedPoll)
			r.mu.Lock()
			n = l.finishRetain(n)
			r.mu.Unlock()
			continue
		}
		base := r.retains
		if wait > 0 {
			base = r.waits
		}
		ctx, cancel := context.WithTimeout(base, wait+callTimeout)
		from := time.Now()
		tasks, err := r.svc.RetainTasks(ctx, queue.RetainRequest{
			Worker: r.cfg.name, Queues: names, Limit: limit, Wait: wait, Lease: r.cfg.lease,
		})
		cancel()
		now := time.Now()
		if l.recordKnownQueues(names, err, now) {
			continue
		}
		stopped := err != nil && r.takes.Err() != nil
		if r.cfg.observer != nil && !stopped {
			r.cfg.observer.Retained(limit, len(tasks), now.Sub(from), err)
		}
		if !stopped {
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
		l.dry = len(tasks) < n
		if wait == 0 && len(tasks) > 0 {
			updateAverage(&l.tripTime, now.Sub(from), 4)
		}
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

// finishRetain ends a retain that asked for n, and says how many tasks to ask for next; 0 = none. Caller holds run.mu.
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

// queuesToAsk are the queues to ask for at now; all when none is known to be there. A queue whose rest is over is asked for
// alone; none means that all rest. Caller holds run.mu.
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
	if len(names) == 0 {
		return awake
	}
	return names
}

// recordKnownQueues takes note of which queues are there by the answer to a retain of names, and reports whether to ask at once for
// those that are left.
func (l *slotPool) recordKnownQueues(names []string, err error, now time.Time) (again bool) {
	var came, went []string
	r := l.run
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

// retainWait is how long the next retain may wait at the service: not at all while there is a backlog, and never so long
// that the lease, which counts from before the call, is well on its way when the answer comes.
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

// makeHeldTasks makes the holds of retained tasks, asked for at from and answered at now. When the answer took so long that a
// good part of a lease may be over, the lease is made sure of first.
func (l *slotPool) makeHeldTasks(tasks []*queue.Task, from, now time.Time) []*heldTask {
	r := l.run
	holds := make([]*heldTask, 0, len(tasks))
	var unsure []*heldTask
	for _, t := range tasks {
		if t.Lease == nil {
			r.cfg.log.Error("a retained task came without its lease", "task", t.ID)
			continue
		}
		h := newHeldTask(r.base, r.handlers[t.Queue], t, now)
		h.run, h.pool = r, l
		h.recordLease(from, now, *t.Lease, r.cfg.heartbeat)
		holds = append(holds, h)
		if now.Sub(from) > t.Lease.Duration/3 {
			unsure = append(unsure, h)
		}
	}
	if len(unsure) > 0 {
		_ = r.heartbeatTasks(unsure) // dealt with: what was lost is marked
	}
	return holds
}

// acceptTasks puts holds in line and starts executors. Caller holds run.mu.
func (l *slotPool) acceptTasks(holds []*heldTask) {
	r := l.run
	if l.head > 0 {
		n := copy(l.ready, l.ready[l.head:])
		clear(l.ready[n:])
		l.ready, l.head = l.ready[:n], 0
	}
	bytes := 0
	for _, h := range holds {
		bytes += len(h.task.Payload)
		if d := h.granted; l.shortest == 0 || d < l.shortest {
			l.shortest = d
		}
		if h.lost {
			continue
		}
		r.addHeldTask(h)
		switch {
		case r.stopping, l.isPaused(h.info.Queue):
			r.handBackTask(h)
		case h.handler == nil: // a task of a queue that was not asked for; give it to others, not at once
			h.end(errEnded)
			r.queueRelease(h, queue.Release{Outcome: queue.OutcomeSnooze, Delay: time.Minute})
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

// startExecutor starts an executor when there is something for one. Each starts the next before it begins its task: so a burst
// of blocking handlers is spread at once, and handlers that return at once need no more executors than there are CPUs.
// Caller holds run.mu.
func (l *slotPool) startExecutor() {
	if l.starting == 0 && l.countReady() > 0 && l.running < l.slots {
		l.starting++
		l.run.executors.Go(l.executeTasks)
	}
}

// executeTasks runs tasks until none waits.
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
	began := time.Now()
	exited := true
	defer func() {
		if exited { // by runtime.Goexit
			if obs := r.cfg.observer; obs != nil {
				obs.TaskFinished(h.info, Finished{
					Outcome: queue.OutcomeFailure, Waited: began.Sub(h.taken), Took: time.Since(began), Err: errGoexit, Cause: h.endCause(),
				})
			}
			h.end(errEnded)
			r.mu.Lock()
			l.finishHandler(h, queue.Release{Outcome: queue.OutcomeFailure, Result: goexitJSON}, time.Since(began))
			l.startExecutor()
			r.mu.Unlock()
		}
	}()
	for h != nil {
		v := h.runHandler(r.cfg.maxResult, r.cfg.observer)
		if v.cancel {
			r.cancelTask(h)
		}
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

// takeReadyTask takes the next task that may still start; nil when there is none. Caller holds run.mu.
func (l *slotPool) takeReadyTask() *heldTask {
	for l.head < len(l.ready) && l.running < l.slots {
		h := l.ready[l.head]
		l.ready[l.head] = nil
		if l.head++; l.head == len(l.ready) {
			l.ready, l.head = l.ready[:0], 0
		}
		if h.lost {
			continue
		}
		l.running++
		l.run.running++
		return h
	}
	return nil
}

// finishHandler accounts for a handler that ran for took, and hands its outcome to the releases. Caller holds run.mu.
func (l *slotPool) finishHandler(h *heldTask, rel queue.Release, took time.Duration) {
	r := l.run
	l.running--
	r.running--
	l.stale = false
	updateAverage(&l.runTime, took, 16)
	if !h.over {
		r.queueRelease(h, rel)
	}
	l.startRetains()
	if r.stopping && r.running == 0 {
		r.markQuiet()
	}
}

// handBackStaleTasks hands back what has waited for a slot for too long. Caller holds run.mu.
func (l *slotPool) handBackStaleTasks(now time.Time) {
	for l.countReady() > 0 && now.Sub(l.ready[l.head].taken) >= staleAfter && l.running == l.slots {
		h := l.ready[l.head]
		l.ready[l.head] = nil
		l.head++
		l.stale = true
		if !h.lost {
			l.run.handBackTask(h)
		}
	}
	if l.head == len(l.ready) {
		l.ready, l.head = l.ready[:0], 0
	}
}

// average moves *avg towards v with the weight 1/n; the first value is taken as it is.
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
