package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// idleWake is when the keeper looks at nothing.
const idleWake = time.Hour

// runHeartbeater keeps up the leases of everything held, one call for all at a third of a lease, and ends the contexts of
// holds whose lease has run out by our own clock. It also looks after what waits for a slot for too long.
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

// stepHeartbeater does what is due at now and says in how long to look again.
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
	for _, h := range slices.Backward(r.held) { // backwards: lose moves the last into the place of the lost
		switch {
		case !now.Before(h.expires):
			if r.markLost(h); !h.over {
				lost = append(lost, h)
			}
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

// addNearlyDue adds what is due within the last third of its interval, so that it goes with the same call. Caller holds
// mu.
func (r *run) addNearlyDue(due []*heldTask, now time.Time) []*heldTask {
	for _, h := range r.held {
		if left := h.heartbeatDue.Sub(now); left > 0 && left <= r.heartbeatInterval(h)/3 {
			due = append(due, h)
		}
	}
	return due
}

// heartbeatInterval between heartbeats of h.
func (r *run) heartbeatInterval(h *heldTask) time.Duration {
	return min(h.granted/3, r.cfg.heartbeat)
}

func earlierTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// wakeHeartbeaterBy makes the keeper look not later than t. Caller holds mu.
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

// heartbeatDueTasks is one heartbeat of the keeper.
func (r *run) heartbeatDueTasks(due []*heldTask) {
	_ = r.heartbeatTasks(due) // dealt with
	r.mu.Lock()
	r.isHeartbeating = false
	r.wakeAt = time.Now().Add(idleWake)
	r.wakeHeartbeaterBy(time.Now()) // its next look finds what is due by now
	r.mu.Unlock()
}

// sendProgress sends the progress of holds that are about to be released: it goes with a heartbeat, and would be lost.
func (r *run) sendProgress(batch []*heldTask) {
	var dirty []*heldTask
	for _, h := range batch {
		if n := h.progress.Load(); n != nil && n.hasUnsent() {
			dirty = append(dirty, h)
		}
	}
	if len(dirty) > 0 {
		_ = r.heartbeatTasks(dirty) // the outcome counts more than the progress
	}
}

// heartbeatTasks extends the leases of holds and sends their progress. One call is under way at a time, so that progress arrives
// in order. The first error is returned; it has been dealt with.
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
	for i, h := range holds {
		if n := h.progress.Load(); n != nil {
			beats[i].Progress, versions[i] = n.encodeUnsent()
		}
	}
	ctx, cancel := context.WithTimeout(r.calls, max(shortest/3, 250*time.Millisecond))
	from := time.Now()
	answers, err := r.svc.HeartbeatTasks(ctx, beats)
	cancel()
	if len(answers) == len(beats) {
		err = nil // each heartbeat has its own answer
	} else if err == nil {
		err = &queue.Error{Kind: queue.KindInternal, Msg: fmt.Sprintf("%d heartbeats, %d answers", len(beats), len(answers))}
	}
	if r.cfg.observer != nil {
		r.cfg.observer.Heartbeat(len(beats), max(from.Sub(oldest), 0), err)
	}
	r.heartbeatLog.recordError(err)
	if err != nil {
		r.retryHeartbeats(holds, err)
		return err
	}
	r.applyHeartbeats(holds, answers, versions, from)
	return nil
}

// retryHeartbeats puts a failed heartbeat off by a little. Progress that the service cannot take is given up.
func (r *run) retryHeartbeats(holds []*heldTask, err error) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range holds {
		if n := h.progress.Load(); n != nil {
			if isRejected(err) {
				n.discardUnsent()
			}
			n.answerFlushes(err)
		}
		h.heartbeatDue = now.Add(retry.Jitter(min(max(r.heartbeatInterval(h)/4, 50*time.Millisecond), 2*time.Second)))
		r.wakeHeartbeaterBy(h.heartbeatDue)
	}
}

// applyHeartbeats takes the answers to a heartbeat that began at from.
func (r *run) applyHeartbeats(holds []*heldTask, answers []queue.Beat, versions []int, from time.Time) {
	var lost, cancelled []*heldTask
	now := time.Now()
	r.mu.Lock()
	for i, h := range holds {
		switch b := answers[i]; {
		case b.Err == nil:
			h.recordLease(from, now, b.Lease, r.cfg.heartbeat)
			if n := h.progress.Load(); n != nil {
				switch newer, urgent := n.recordSent(versions[i]); {
				case urgent:
					h.heartbeatDue = now
				case newer:
					h.heartbeatDue = earlierTime(h.heartbeatDue, now.Add(progressPace))
				}
			}
			if b.CancelRequested && !h.over {
				cancelled = append(cancelled, h)
			}
		case isRejected(b.Err):
			if n := h.progress.Load(); n != nil {
				n.discardUnsent()
				n.answerFlushes(b.Err)
			}
			h.heartbeatDue = from.Add(r.heartbeatInterval(h) / 4)
		case queue.KindOf(b.Err) == queue.KindUnavailable: // another transaction has locked it, say; its lease lasts still
			h.heartbeatDue = from.Add(r.heartbeatInterval(h) / 4)
		case h.over: // being released; that tells what became of it
			h.heartbeatDue = from.Add(r.heartbeatInterval(h))
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
	for _, h := range cancelled {
		h.end(ErrCancelRequested)
	}
	for _, h := range lost {
		r.reportLostLease(h, "heartbeat refused")
	}
}
