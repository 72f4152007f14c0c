package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// idleWake is when the keeper looks at nothing.
const idleWake = time.Hour

// keepLeases keeps up the leases of everything held, one call for all at a third of a lease, and ends the contexts of
// holds whose lease has run out by our own clock. It also looks after what waits for a slot for too long.
func (r *run) keepLeases(ctx context.Context) {
	timer := time.NewTimer(idleWake)
	defer timer.Stop()
	for {
		timer.Reset(r.look(time.Now()))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.kick:
		}
	}
}

// look does what is due at now and says in how long to look again.
func (r *run) look(now time.Time) time.Duration {
	var due, lost []*hold
	r.mu.Lock()
	next := now.Add(idleWake)
	for _, l := range r.lanes {
		l.handBackStale(now)
		if l.waiting() > 0 {
			t := l.ready[l.head].taken.Add(staleAfter)
			if !t.After(now) {
				t = now.Add(staleAfter)
			}
			next = earlier(next, t)
		}
	}
	r.flush()
	for _, h := range slices.Backward(r.held) { // backwards: lose moves the last into the place of the lost
		switch {
		case !now.Before(h.lapses):
			if r.lose(h); !h.over {
				lost = append(lost, h)
			}
		case r.beatOut:
			next = earlier(next, h.lapses)
		case !now.Before(h.beatDue):
			due = append(due, h)
			next = earlier(next, h.lapses)
		default:
			next = earlier(next, earlier(h.beatDue, h.lapses))
		}
	}
	if len(due) > 0 {
		due = r.nearlyDue(due, now)
		r.beatOut = true
		r.beats.Go(func() { r.beatDueOnes(due) })
	}
	r.wakeAt = next
	r.mu.Unlock()
	for _, h := range lost {
		r.reportLost(h, "no heartbeat got through in time")
	}
	return max(time.Until(next), time.Millisecond)
}

// nearlyDue adds what is due within the last third of its interval, so that it goes with the same call. Caller holds
// mu.
func (r *run) nearlyDue(due []*hold, now time.Time) []*hold {
	for _, h := range r.held {
		if left := h.beatDue.Sub(now); left > 0 && left <= r.interval(h)/3 {
			due = append(due, h)
		}
	}
	return due
}

// interval between heartbeats of h.
func (r *run) interval(h *hold) time.Duration {
	return min(h.granted/3, r.cfg.heartbeat)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// wakeBy makes the keeper look not later than t. Caller holds mu.
func (r *run) wakeBy(t time.Time) {
	if !t.Before(r.wakeAt) {
		return
	}
	r.wakeAt = t
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// beatDueOnes is one heartbeat of the keeper.
func (r *run) beatDueOnes(due []*hold) {
	_ = r.beat(due) // dealt with
	r.mu.Lock()
	r.beatOut = false
	r.wakeAt = time.Now().Add(idleWake)
	r.wakeBy(time.Now()) // its next look finds what is due by now
	r.mu.Unlock()
}

// beatNotes sends the progress of holds that are about to be released: it goes with a heartbeat, and would be lost.
func (r *run) beatNotes(batch []*hold) {
	var dirty []*hold
	for _, h := range batch {
		if n := h.note.Load(); n != nil && n.dirty() {
			dirty = append(dirty, h)
		}
	}
	if len(dirty) > 0 {
		_ = r.beat(dirty) // the outcome counts more than the progress
	}
}

// beat extends the leases of holds and sends their progress. One call is under way at a time, so that progress arrives
// in order. The first error is returned; it has been dealt with.
func (r *run) beat(holds []*hold) error {
	r.beating <- struct{}{}
	defer func() { <-r.beating }()
	var first error
	for len(holds) > 0 {
		n := min(len(holds), queue.MaxBatch)
		if err := r.beatSome(holds[:n]); err != nil && first == nil {
			first = err
		}
		holds = holds[n:]
	}
	return first
}

func (r *run) beatSome(holds []*hold) error {
	beats := make([]queue.Heartbeat, len(holds))
	versions := make([]int, len(holds))
	shortest := 3 * callTimeout
	r.mu.Lock()
	oldest := holds[0].beatDue
	for i, h := range holds {
		oldest = earlier(oldest, h.beatDue)
		shortest = min(shortest, h.granted)
		beats[i] = queue.Heartbeat{ID: h.held.ID, Token: h.token, Lease: r.cfg.lease}
	}
	r.mu.Unlock()
	for i, h := range holds {
		if n := h.note.Load(); n != nil {
			beats[i].Progress, versions[i] = n.document()
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
	r.beatLog.note(err)
	if err != nil {
		r.beatAgain(holds, err)
		return err
	}
	r.beaten(holds, answers, versions, from)
	return nil
}

// beatAgain puts a failed heartbeat off by a little. Progress that the service cannot take is given up.
func (r *run) beatAgain(holds []*hold, err error) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range holds {
		if n := h.note.Load(); n != nil {
			if unfit(err) {
				n.giveUp()
			}
			n.settle(err)
		}
		h.beatDue = now.Add(jitter(min(max(r.interval(h)/4, 50*time.Millisecond), 2*time.Second)))
		r.wakeBy(h.beatDue)
	}
}

// beaten takes the answers to a heartbeat that began at from.
func (r *run) beaten(holds []*hold, answers []queue.Beat, versions []int, from time.Time) {
	var lost, cancelled []*hold
	now := time.Now()
	r.mu.Lock()
	for i, h := range holds {
		switch b := answers[i]; {
		case b.Err == nil:
			h.lease(from, now, b.Lease, r.cfg.heartbeat)
			if n := h.note.Load(); n != nil {
				switch newer, urgent := n.sent(versions[i]); {
				case urgent:
					h.beatDue = now
				case newer:
					h.beatDue = earlier(h.beatDue, now.Add(progressPace))
				}
			}
			if b.CancelRequested && !h.over {
				cancelled = append(cancelled, h)
			}
		case unfit(b.Err):
			if n := h.note.Load(); n != nil {
				n.giveUp()
				n.settle(b.Err)
			}
			h.beatDue = from.Add(r.interval(h) / 4)
		case queue.KindOf(b.Err) == queue.KindUnavailable: // another transaction has locked it, say; its lease lasts still
			h.beatDue = from.Add(r.interval(h) / 4)
		case h.over: // being released; that tells what became of it
			h.beatDue = from.Add(r.interval(h))
		default:
			r.lose(h)
			h.over = true // a release would be refused
			lost = append(lost, h)
		}
		if !h.lost {
			r.wakeBy(h.beatDue)
		}
	}
	r.mu.Unlock()
	for _, h := range cancelled {
		h.end(ErrCancelRequested)
	}
	for _, h := range lost {
		r.reportLost(h, "heartbeat refused")
	}
}
