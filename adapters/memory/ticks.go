package memory

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schedule"
)

// heldTick is a tick of a ticker without a queue that no listener has settled.
type heldTick struct {
	tick  queue.Tick
	until time.Time // handed out until then
}

// tick makes one step of ChoreTick. A tick and its task come into being under the one mutex: both or none.
func (s *Store) tick(st *step) {
	for t, ok := s.firing.top(); ok; t, ok = s.firing.top() {
		if t.NextAt.After(st.now) {
			st.done.NextIn = t.NextAt.Sub(st.now)
			return
		}
		if st.done.Moved >= stepSize {
			st.done.More = true
			return
		}
		st.late(t.NextAt)
		sp := s.spaces[t.Namespace]
		for _, tick := range s.due(sp, t, st.now) {
			st.done.Ticks = append(st.done.Ticks, viewTick(tick))
			if tick.TaskID != 0 {
				st.woken(sp.lanes[t.Queue])
				st.done.Tallies.Add(t.Namespace, t.Queue, "", queue.StatusNew, 1)
			}
		}
		st.done.Moved++
	}
}

// due fires t for the times that its misfire policy leaves, and plans its next.
func (s *Store) due(sp *space, t *ticker, now time.Time) []queue.Tick {
	out := t.schedule.Due(t.Anchor, t.NextAt.Add(-time.Microsecond), now, schedule.Policy{
		Misfire: schedule.Misfire(t.Misfire), Limit: t.MisfireLimit,
	})
	ticks := make([]queue.Tick, 0, len(out.Fires))
	for _, at := range out.Fires {
		t.Timestamp = at
		ticks = append(ticks, s.fire(sp, t, at, now, false))
	}
	s.await(sp, t, out.Next)
	return ticks
}

// fire makes one tick of t, with its task when t has a queue. A tick whose queue has been deleted, or whose
// predecessor's task is unfinished under OverlapSkip, makes none.
func (s *Store) fire(sp *space, t *ticker, at, now time.Time, manual bool) queue.Tick {
	s.lastTick++
	tick := queue.Tick{
		ID: s.lastTick, Namespace: sp.name, Ticker: t.Name, At: at, FiredAt: now, Manual: manual,
		Payload: t.Payload, Queue: t.Queue, Period: t.Period, Cron: t.Cron,
	}
	if t.Queue != "" {
		l := sp.lanes[t.Queue]
		tick.Skipped = l == nil || !manual && t.Overlap == queue.OverlapSkip && s.unfinished(t.lastTask)
		if !tick.Skipped {
			r := s.insert(l, queue.NewTask{Queue: t.Queue, TaskMeta: queue.TaskMeta{Payload: t.Payload}}, now)
			t.lastTask, tick.TaskID = r.task.ID, r.task.ID
		}
	} else {
		sp.pending = append(sp.pending, &heldTick{tick: tick})
	}
	if len(t.ticks) == maxTicks {
		t.ticks = slices.Delete(t.ticks, 0, 1)
	}
	t.ticks = append(t.ticks, tick)
	return tick
}

func (s *Store) unfinished(id int64) bool {
	r := s.tasks[id]
	return r != nil && !r.lane.gone && !r.task.Status.Finished()
}

// RunTicker fires a ticker now, whatever its schedule, pause and overlap say.
func (s *Store) RunTicker(ctx context.Context, namespace, name string) (*queue.Tick, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	sp := s.find(namespace)
	t, err := sp.ticker(name)
	if err != nil {
		return nil, err
	}
	if t.Queue != "" && sp.lanes[t.Queue] == nil {
		return nil, noQueue(t.Queue)
	}
	tick := viewTick(s.fire(sp, t, now, now, true))
	return &tick, nil
}

// ListTicks returns the last ticks of a ticker, newest first.
func (s *Store) ListTicks(ctx context.Context, namespace, name string, limit int) ([]queue.Tick, error) {
	if _, err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	t, err := s.find(namespace).ticker(name)
	if err != nil {
		return nil, err
	}
	ticks, bytes := []queue.Tick{}, 0
	for _, tick := range slices.Backward(t.ticks) {
		bytes += len(tick.Payload)
		if len(ticks) == limit || bytes > queue.MaxPageBytes && len(ticks) > 0 {
			break
		}
		ticks = append(ticks, viewTick(tick))
	}
	return ticks, nil
}

// maxPending bounds the ticks of one namespace that wait for a listener; the oldest give way.
const maxPending = queue.MaxMisfireLimit

// TakeTicks fires the due tickers without a queue now, when somebody looks, so that a time without listeners is a
// downtime under their misfire policy, and hands out what nobody else holds.
func (s *Store) TakeTicks(ctx context.Context, namespace string, limit int, hold time.Duration) ([]queue.Tick, time.Duration, error) {
	now, err := s.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer s.mu.Unlock()
	sp := s.find(namespace)
	for t, ok := sp.firing.top(); ok && !t.NextAt.After(now); t, ok = sp.firing.top() {
		s.due(sp, t, now)
	}
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
		if len(ticks) < limit && !h.until.After(now) {
			h.until = now.Add(hold)
			ticks = append(ticks, viewTick(h.tick))
		}
		soonest(h.until)
	}
	if t, ok := sp.firing.top(); ok {
		soonest(t.NextAt)
	}
	if next.IsZero() {
		return ticks, 0, nil
	}
	return ticks, max(next.Sub(now), 1), nil // never 0: that means not known
}

// SettleTicks ends the hold of taken ticks; those that are settled already are left alone.
func (s *Store) SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error {
	if _, err := s.begin(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	sp := s.find(namespace)
	if delivered {
		sp.pending = slices.DeleteFunc(sp.pending, func(h *heldTick) bool { return slices.Contains(ids, h.tick.ID) })
		return nil
	}
	for _, h := range sp.pending {
		if slices.Contains(ids, h.tick.ID) {
			h.until = time.Time{}
		}
	}
	return nil
}

// forget drops the pending ticks of a ticker.
func (sp *space) forget(name string) {
	sp.pending = slices.DeleteFunc(sp.pending, func(h *heldTick) bool { return h.tick.Ticker == name })
}

func viewTick(t queue.Tick) queue.Tick {
	t.Payload = bytes.Clone(t.Payload)
	return t
}
