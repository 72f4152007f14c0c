package memory

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// heldTick is a tick of a ticker without a queue that no listener has settled.
type heldTick struct {
	tick  queue.Tick
	until time.Time // handed out until then
}

// fireTickers makes one step of ChoreTick. A tick and its task come into being under the one mutex: both or none.
func (s *Store) fireTickers(st *step) {
	ticks, n, more := s.fireDueTickers(&s.firing, st.now, func(sp *namespaceState, t *ticker) { st.recordLag(t.NextAt) }, &st.done.Faults)
	for _, tick := range ticks {
		st.done.Ticks = append(st.done.Ticks, copyTick(tick))
		if tick.TaskID != 0 {
			st.recordWakeUp(s.spaces[tick.Namespace].queues[tick.Queue])
			st.done.Tallies.Add(tick.Namespace, tick.Queue, "", queue.StatusNew, 1)
		}
	}
	st.done.Moved, st.done.More = n, more
	if t, ok := s.firing.earliest(); ok && !more {
		// Never 0: that means not known.
		st.done.NextIn = max(t.dueAt.Sub(st.now), 1)
	}
}

// fireDueTickers fires the due tickers of a heap, those looked at longest ago first, within one step's bounds. It says how many it
// looked at, and whether there is more to do.
func (s *Store) fireDueTickers(
	h *heap[*ticker], now time.Time, look func(*namespaceState, *ticker), faults *[]queue.Fault,
) (ticks []queue.Tick, n int, more bool) {
	var due []*ticker
	size := 0
	for t, ok := h.earliest(); ok && !t.dueAt.After(now); t, ok = h.earliest() {
		if len(due) == queue.MaxStepTickers || size >= queue.MaxStepTickBytes {
			more = true
			break
		}
		size += len(t.Payload)
		due = append(due, t)
		// Out of the heap at once, so that the loop meets each ticker once. Firing puts it back.
		t.in.removeItem(t)
		t.in = nil
	}

	// Each ticker gets a share of the rest, so that a long backlog does not keep the others from firing.
	budget := queue.NewTickBudget()
	for i, t := range due {
		sp := s.spaces[t.Namespace]
		look(sp, t)
		fired, again, err := s.fireMissedTicks(sp, t, now, &budget, len(due)-i)
		ticks, more = append(ticks, fired...), more || again
		if err != nil {
			*faults = append(*faults, queue.Fault{Namespace: t.Namespace, Subject: "ticker " + t.Name, Err: err, Known: t.Fault == err.Error()})
		}
		if t.Fault = ""; err != nil {
			t.Fault = err.Error()
		}
	}

	return ticks, len(due), more
}

// fireMissedTicks fires t for the times that its misfire policy and its share of the budget leave, and plans its next. An error says
// that t cannot fire, or that its ticks make no tasks.
func (s *Store) fireMissedTicks(sp *namespaceState, t *ticker, now time.Time, budget *queue.TickBudget, tickers int) ([]queue.Tick, bool, error) {
	fires, next, more, err := budget.Fires(&t.Ticker, now, tickers)
	if err != nil {
		// Without the rest, a broken ticker would take part in each step, and fill the log.
		s.scheduleTickerAt(sp, t, t.NextAt, now.Add(queue.TickFaultRest))
		return nil, false, err
	}

	ticks := make([]queue.Tick, 0, len(fires))
	for _, at := range fires {
		if !at.After(t.Timestamp) && t.hasFired(at) { // the clock went back: its time has fired already
			continue
		}
		tick := s.fireTick(sp, t, at, now, false)
		ticks = append(ticks, tick)
		if t.Queue != "" && sp.queues[t.Queue] == nil {
			err = queue.NotFoundQueue(t.Queue)
		}
		if at.After(t.Timestamp) {
			t.Timestamp = at
		}
	}

	t.plannedAt = now
	if more { // behind those that were not looked at
		s.scheduleTickerAt(sp, t, next, now)
	} else {
		s.scheduleTicker(sp, t, next)
	}

	return ticks, more, err
}

// hasFired says whether a nominal time has fired, as far as the history goes.
func (t *ticker) hasFired(at time.Time) bool {
	return slices.ContainsFunc(t.ticks, func(k queue.Tick) bool { return !k.Manual && k.At.Equal(at) })
}

// replanTickers counts tickers from now that were planned while the clock was ahead of now; it has gone back since.
func (s *Store) replanTickers(now time.Time) {
	for _, sp := range s.spaces {
		for _, t := range sp.tickers {
			if !t.plannedAt.After(now.Add(time.Second)) {
				continue
			}
			anchor, next, err := t.Replan(now)
			if err != nil {
				// A schedule that cannot be read is due now: firing it reports the fault.
				next = now
			}
			t.Anchor, t.plannedAt = anchor, now
			s.scheduleTicker(sp, t, next)
		}
	}
}

// fireTick makes one tick of t, with its task when t has a queue. It makes no task for a deleted queue, or while the
// task of the tick before is unfinished under OverlapSkip.
func (s *Store) fireTick(sp *namespaceState, t *ticker, at, now time.Time, manual bool) queue.Tick {
	s.lastTick++
	tick := queue.Tick{
		ID: s.lastTick, Namespace: sp.name, Ticker: t.Name, At: at, FiredAt: now, Manual: manual,
		Payload: t.Payload, Queue: t.Queue, Period: t.Period, Cron: t.Cron,
	}

	if t.Queue != "" {
		qs := sp.queues[t.Queue]
		tick.Skipped = qs == nil || !manual && t.Overlap == queue.OverlapSkip && s.isUnfinished(t.lastTask)
		if !tick.Skipped {
			r := s.insertTask(qs, queue.NewTask{Queue: t.Queue, TaskMeta: queue.TaskMeta{Payload: t.Payload}}, now)
			t.lastTask, tick.TaskID = r.task.ID, r.task.ID
		}
	} else {
		// A ticker without a queue fires for listeners; the tick waits for one of them.
		sp.pending = append(sp.pending, &heldTick{tick: tick})
	}

	// Times that are still to come stay: a clock that went back reaches them again.
	if len(t.ticks) >= maxTicks {
		if i := slices.IndexFunc(t.ticks, func(k queue.Tick) bool { return !k.At.After(now) }); i >= 0 {
			t.ticks = slices.Delete(t.ticks, i, i+1)
		}
	}

	t.ticks = append(t.ticks, tick)
	return tick
}

func (s *Store) isUnfinished(id int64) bool {
	r := s.tasks[id]
	return r != nil && !r.queue.gone && !r.task.Status.Finished()
}

// RunTicker fires a ticker now, beside its schedule, pause and overlap rule.
func (s *Store) RunTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	sp := s.findNamespace(namespace)
	t, err := sp.findTicker(name, only...)
	if err != nil {
		return nil, err
	}

	if t.Queue != "" && sp.queues[t.Queue] == nil {
		return nil, queue.NotFoundQueue(t.Queue)
	}

	tick := copyTick(s.fireTick(sp, t, now, now, true))
	return &tick, nil
}

// ListTicks returns the last ticks of a ticker, newest first.
func (s *Store) ListTicks(ctx context.Context, namespace, name string, limit int) ([]queue.Tick, error) {
	if _, err := s.lockStore(ctx); err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	t, err := s.findNamespace(namespace).findTicker(name)
	if err != nil {
		return nil, err
	}

	ticks, size := []queue.Tick{}, 0
	for _, tick := range slices.Backward(t.ticks) {
		size += len(tick.Payload)
		// At least one tick, also where that one exceeds the bound on bytes.
		if len(ticks) == limit || size > queue.MaxPageBytes && len(ticks) > 0 {
			break
		}
		ticks = append(ticks, copyTick(tick))
	}

	return ticks, nil
}

// maxPending bounds the ticks of one namespace that wait for a listener; the oldest give way.
const maxPending = queue.MaxMisfireLimit

// TakeTicks fires the due tickers without a queue now, at the call of a listener, so that a time without listeners is a
// downtime under their misfire policy, and hands out ticks that no other listener holds.
func (s *Store) TakeTicks(ctx context.Context, namespace string, limit int, hold time.Duration) ([]queue.Tick, time.Duration, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, 0, err
	}

	defer s.mu.Unlock()

	sp := s.findNamespace(namespace)
	var faults []queue.Fault // each ticker shows its own
	s.fireDueTickers(&sp.firing, now, func(*namespaceState, *ticker) {}, &faults)
	if extra := len(sp.pending) - maxPending; extra > 0 {
		sp.pending = slices.Delete(sp.pending, 0, extra)
	}

	ticks := []queue.Tick{}
	var next time.Time
	soonest := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}

	for _, h := range sp.pending {
		// A listener that never settles keeps a tick until its hold ends. Then another one gets it.
		if len(ticks) < min(limit, queue.MaxTakenTicks) && !h.until.After(now) {
			h.until = now.Add(hold)
			ticks = append(ticks, copyTick(h.tick))
		}
		soonest(h.until)
	}

	if t, ok := sp.firing.earliest(); ok {
		soonest(t.dueAt)
	}

	if next.IsZero() {
		return ticks, 0, nil
	}

	return ticks, max(next.Sub(now), 1), nil // never 0: that means not known
}

// SettleTicks ends the hold of taken ticks; those that are settled already are left alone.
func (s *Store) SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error {
	if _, err := s.lockStore(ctx); err != nil {
		return err
	}

	defer s.mu.Unlock()

	sp := s.findNamespace(namespace)
	if delivered {
		sp.pending = slices.DeleteFunc(sp.pending, func(h *heldTick) bool { return slices.Contains(ids, h.tick.ID) })
		return nil
	}

	for _, h := range sp.pending {
		if slices.Contains(ids, h.tick.ID) {
			// Not delivered: the next call of any listener may take it at once.
			h.until = time.Time{}
		}
	}

	return nil
}

// forgetTicks drops the pending ticks of a ticker.
func (sp *namespaceState) forgetTicks(name string) {
	sp.pending = slices.DeleteFunc(sp.pending, func(h *heldTick) bool { return h.tick.Ticker == name })
}

func copyTick(t queue.Tick) queue.Tick {
	t.Payload = bytes.Clone(t.Payload)
	return t
}
