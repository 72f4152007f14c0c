package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// idleWake is the interval of the heartbeater's checks when no task needs one earlier.
const idleWake = time.Hour

// runHeartbeater extends the leases of all held tasks, in one call at a third of a lease. It ends the contexts of tasks
// with a lease that has lapsed by the worker's clock. It also hands back tasks that wait too long for a slot.
func (r *run) runHeartbeater(ctx context.Context) {
	timer := time.NewTimer(idleWake)
	defer timer.Stop()
	for {
		timer.Reset(r.stepHeartbeater(time.Now()))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.kick:
		}
	}
}

// stepHeartbeater does the work that is due at now, and returns the time until the next step.
func (r *run) stepHeartbeater(now time.Time) time.Duration {
	var due, lost []*heldTask

	r.mu.Lock()
	next := now.Add(idleWake)
	for _, l := range r.pools {
		l.handBackStaleTasks(now)
		if l.countReady() > 0 {
			t := l.ready[l.head].taken.Add(staleAfter)
			if !t.After(now) {
				t = now.Add(staleAfter)
			}
			next = earlierTime(next, t)
		}
	}

	for _, h := range slices.Backward(r.held) { // backwards: markLost moves the last task into the place of the lost one
		switch {
		case !now.Before(h.expires):
			if r.markLost(h); !h.over {
				lost = append(lost, h)
			}
		// One call at a time: its end starts the next step, which finds the tasks that are due by then.
		case r.isHeartbeating:
			next = earlierTime(next, h.expires)
		case !now.Before(h.heartbeatDue):
			due = append(due, h)
			next = earlierTime(next, h.expires)
		default:
			next = earlierTime(next, earlierTime(h.heartbeatDue, h.expires))
		}
	}

	if len(due) > 0 {
		due = r.addNearlyDue(due, now)
		// In a goroutine of its own: a slow service must not keep this loop from ending lost leases.
		r.isHeartbeating = true
		r.beats.Go(func() { r.heartbeatDueTasks(due) })
	}

	r.wakeAt = next
	r.mu.Unlock()

	for _, h := range lost {
		r.reportLostLease(h, "no heartbeat got through in time")
	}
	return max(time.Until(next), time.Millisecond)
}

// addNearlyDue adds the tasks with a heartbeat due within the last third of its interval, so that one call carries
// both. The caller holds mu.
func (r *run) addNearlyDue(due []*heldTask, now time.Time) []*heldTask {
	for _, h := range r.held {
		if left := h.heartbeatDue.Sub(now); left > 0 && left <= r.heartbeatInterval(h)/3 {
			due = append(due, h)
		}
	}
	return due
}

// heartbeatInterval returns the time between two heartbeats of h.
func (r *run) heartbeatInterval(h *heldTask) time.Duration {
	return min(h.granted/3, r.cfg.heartbeat)
}

func earlierTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// wakeHeartbeaterBy makes the heartbeater check its tasks not later than t. The caller holds mu.
func (r *run) wakeHeartbeaterBy(t time.Time) {
	if !t.Before(r.wakeAt) {
		return
	}
	r.wakeAt = t
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// heartbeatDueTasks sends the heartbeats of one step.
func (r *run) heartbeatDueTasks(due []*heldTask) {
	_ = r.heartbeatTasks(due) // retryHeartbeats has handled the error
	r.mu.Lock()
	r.isHeartbeating = false
	r.wakeAt = time.Now().Add(idleWake)
	r.wakeHeartbeaterBy(time.Now()) // the next step finds the tasks that became due meanwhile
	r.mu.Unlock()
}

// sendProgress sends the unsent progress of tasks that are about to be released. Only a heartbeat carries progress.
func (r *run) sendProgress(batch []*heldTask) {
	var dirty []*heldTask
	for _, h := range batch {
		if n := h.progress.Load(); n != nil && n.hasUnsent() {
			dirty = append(dirty, h)
		}
	}
	if len(dirty) > 0 {
		_ = r.heartbeatTasks(dirty) // the release goes on: the outcome matters more than the progress
	}
}

// heartbeatTasks extends the leases of held tasks and sends their progress. One call is under way at a time, so that
// progress arrives in order. It returns the first error, after retryHeartbeats has handled it.
func (r *run) heartbeatTasks(holds []*heldTask) error {
	r.heartbeating <- struct{}{}
	defer func() { <-r.heartbeating }()
	var first error
	for len(holds) > 0 {
		n := min(len(holds), queue.MaxBatch)
		if err := r.sendHeartbeats(holds[:n]); err != nil && first == nil {
			first = err
		}
		holds = holds[n:]
	}
	return first
}

// sendHeartbeats sends one call of at most queue.MaxBatch heartbeats and applies the answers.
func (r *run) sendHeartbeats(holds []*heldTask) error {
	beats := make([]queue.Heartbeat, len(holds))
	versions := make([]int, len(holds))
	shortest := 3 * callTimeout
	r.mu.Lock()

	oldest := holds[0].heartbeatDue
	for i, h := range holds {
		oldest = earlierTime(oldest, h.heartbeatDue)
		shortest = min(shortest, h.granted)
		beats[i] = queue.Heartbeat{ID: h.info.ID, Token: h.token, Lease: r.cfg.lease}
	}
	r.mu.Unlock()

	// The documents are encoded outside of the lock of all tasks: each may have queue.MaxProgressBytes.
	for i, h := range holds {
		if n := h.progress.Load(); n != nil {
			beats[i].Progress, versions[i] = n.encodeUnsent()
		}
	}

	// A third of the shortest lease leaves time for two more heartbeats before that lease lapses.
	ctx, cancel := context.WithTimeout(r.calls, max(shortest/3, 250*time.Millisecond))
	from := time.Now()
	answers, err := r.svc.HeartbeatTasks(ctx, beats)
	cancel()
	if len(answers) == len(beats) {
		err = nil // each heartbeat has its own answer
	} else if err == nil {
		err = &queue.Error{Kind: queue.KindInternal, Msg: fmt.Sprintf("%d heartbeats, %d answers", len(beats), len(answers))}
	}

	r.cfg.observer.Heartbeat(len(beats), max(from.Sub(oldest), 0), err)
	r.heartbeatLog.recordError(err)

	if err != nil {
		r.retryHeartbeats(holds, err)
		return err
	}
	r.applyHeartbeats(holds, answers, versions, from)
	return nil
}

// retryHeartbeats delays failed heartbeats a little. It discards progress that the service cannot take.
func (r *run) retryHeartbeats(holds []*heldTask, err error) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range holds {
		if n := h.progress.Load(); n != nil {
			// A refused progress would fail each following heartbeat too.
			if isRejected(err) {
				n.discardUnsent()
			}
			n.answerFlushes(err)
		}
		// A quarter of the interval leaves three more tries before the lease lapses. The jitter spreads workers that
		// failed together.
		h.heartbeatDue = now.Add(retry.Jitter(min(max(r.heartbeatInterval(h)/4, 50*time.Millisecond), 2*time.Second)))
		r.wakeHeartbeaterBy(h.heartbeatDue)
	}
}

// applyHeartbeats applies the answers to a heartbeat that began at from.
func (r *run) applyHeartbeats(holds []*heldTask, answers []queue.Beat, versions []int, from time.Time) {
	var lost, cancelled []*heldTask
	now := time.Now()

	r.mu.Lock()
	for i, h := range holds {
		interval := r.heartbeatInterval(h)
		switch b := answers[i]; {
		case b.Err == nil:
			r.renewLease(h, b.Lease, versions[i], from, now)
			if b.CancelRequested && !h.over {
				cancelled = append(cancelled, h)
			}

		case isRejected(b.Err):
			h.rejectProgress(b.Err)
			h.heartbeatDue = from.Add(interval / 4)
		case queue.KindOf(b.Err) == queue.KindUnavailable: // as for the lock of another transaction; the lease still lasts
			h.heartbeatDue = from.Add(interval / 4)
		case h.over: // its release is under way, and the answer to that decides
			h.heartbeatDue = from.Add(interval)
		default:
			r.markLost(h)
			h.over = true // a release would be refused
			lost = append(lost, h)
		}

		if !h.lost {
			r.wakeHeartbeaterBy(h.heartbeatDue)
		}
	}
	r.mu.Unlock()

	// The ends of handlers and the observer may take time, so they come after the lock.
	for _, h := range cancelled {
		h.end(ErrCancelRequested)
	}
	for _, h := range lost {
		r.reportLostLease(h, "heartbeat refused")
	}
}

// renewLease records the lease that a heartbeat of h from from until now has granted. Progress that came meanwhile brings
// the next heartbeat forward. The caller holds mu.
func (r *run) renewLease(h *heldTask, lease queue.Lease, version int, from, now time.Time) {
	h.recordLease(from, now, lease, r.cfg.heartbeat)
	n := h.progress.Load()
	if n == nil {
		return
	}

	switch newer, urgent := n.recordSent(version); {
	case urgent:
		h.heartbeatDue = now
	case newer:
		h.heartbeatDue = earlierTime(h.heartbeatDue, now.Add(progressPace))
	}
}

// rejectProgress discards the unsent progress of h, which the service refuses with err.
func (h *heldTask) rejectProgress(err error) {
	if n := h.progress.Load(); n != nil {
		n.discardUnsent()
		n.answerFlushes(err)
	}
}
