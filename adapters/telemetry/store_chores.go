package telemetry

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func (s *store) Maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	ctx, span := s.t.within(ctx, "store", opMaintain, "", nil)
	start := stopwatch()
	done, err := s.next.Maintain(ctx, chore)
	took := stopwatch() - start
	end(span, err)
	m := s.t.m
	if m == nil {
		return done, err
	}
	c := m.chores[chore]
	if c == nil {
		return done, err
	}
	c.seconds.Observe(took.Seconds())
	if err != nil {
		if queue.KindOf(err) != queue.KindCanceled {
			c.failed.Inc()
		}
		return done, err
	}
	c.well.Inc()
	c.lastSuccess.SetToCurrentTime()
	c.moved.Add(float64(done.Moved))
	c.faults.Add(float64(len(done.Faults)))
	if lag := done.Lag.Seconds(); done.Moved > 0 {
		c.lag.Set(lag)
	} else {
		c.lag.Set(0)
	}
	m.maintained(chore, done)
	return done, nil
}

// maintained counts the tasks that a step of a chore moved.
func (m *meters) maintained(chore queue.Chore, done queue.Maintained) {
	switch chore {
	case queue.ChoreRescue:
		for _, t := range told(done, queue.StatusRetained, done.Moves) {
			of := m.tasks.get(t.Namespace, t.Queue)
			of.rescued.Add(float64(t.N))
			of.became(t)
		}
	case queue.ChoreExpire:
		for _, t := range told(done, queue.StatusNew, map[queue.Status]int{queue.StatusExpired: done.Moved}) {
			m.tasks.get(t.Namespace, t.Queue).became(t)
		}
	case queue.ChoreTick:
		for _, t := range done.Tallies {
			m.tasks.get(t.Namespace, t.Queue).created.Add(float64(t.N))
		}
		for i := range done.Ticks {
			m.fired(&done.Ticks[i])
		}
	case queue.ChorePromote, queue.ChorePrune, queue.ChoreFold: // they end nothing
	}
}

// fired counts a tick of a ticker with a queue.
func (m *meters) fired(t *queue.Tick) {
	result := "skipped"
	if t.TaskID != 0 {
		result = "task"
	}
	m.ticks.WithLabelValues(result).Inc()
	m.tickLateness.Observe(max(t.FiredAt.Sub(t.At), 0).Seconds())
}

// told is what a step tells by queue; of a store that does not, all under no queue.
func told(done queue.Maintained, was queue.Status, moves map[queue.Status]int) queue.Tallies {
	if len(done.Tallies) > 0 {
		return done.Tallies
	}
	var all queue.Tallies
	for is, n := range moves {
		all.Add("", "", was, is, n)
	}
	return all
}

// became counts tasks by the status that they have now.
func (t *taskMeters) became(tally queue.Tally) {
	n := float64(tally.N)
	switch tally.Is {
	case queue.StatusRetry:
		t.retried.Add(n)
	case queue.StatusFailed:
		t.failed.Add(n)
	case queue.StatusExpired:
		t.expired.Add(n)
	case queue.StatusCancelled:
		t.cancelled.Add(n)
	case queue.StatusNew:
		t.revived.Add(n)
	case "":
		t.deleted.Add(n)
	case queue.StatusRetained, queue.StatusReleased: // no bulk move leads there
	}
}

// bulk counts what an operator moved.
func (s *store) bulk(b queue.Bulk) {
	if s.t.m == nil {
		return
	}
	for _, t := range b.Tallies {
		s.t.m.tasks.get(t.Namespace, t.Queue).became(t)
	}
}

func (s *store) RunTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	tick, err := stored(ctx, s, opRunTicker, namespace, func(ctx context.Context) (*queue.Tick, error) {
		return s.next.RunTicker(ctx, namespace, name, only...)
	})
	if m := s.t.m; m != nil && err == nil && tick != nil {
		m.ticks.WithLabelValues("manual").Inc()
		if tick.TaskID != 0 {
			m.tasks.get(namespace, tick.Queue).created.Inc()
		}
	}
	return tick, err
}

func (s *store) TakeTicks(ctx context.Context, namespace string, limit int, hold time.Duration) ([]queue.Tick, time.Duration, error) {
	ctx, span := s.t.within(ctx, "store", opTakeTicks, namespace, nil)
	start := stopwatch()
	ticks, next, err := s.next.TakeTicks(ctx, namespace, limit, hold)
	took := stopwatch() - start
	end(span, err)
	if m := s.t.m; m != nil {
		m.store.done(opTakeTicks, took, err)
		for i := range ticks {
			if !ticks[i].Manual {
				m.tickLateness.Observe(max(ticks[i].FiredAt.Sub(ticks[i].At), 0).Seconds())
			}
		}
	}
	return ticks, next, err
}

func (s *store) SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error {
	_, err := stored(ctx, s, opSettleTicks, namespace, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.next.SettleTicks(ctx, namespace, ids, delivered)
	})
	if m := s.t.m; m != nil && err == nil {
		result := "returned"
		if delivered {
			result = "delivered"
		}
		m.ticks.WithLabelValues(result).Add(float64(len(ids)))
	}
	return err
}

// listeningStore is the decorated store of one that can listen.
type listeningStore struct {
	*store
	listener queue.Listener
}

// hearing is a Listener that knows whether it hears.
type hearing interface{ Listening() bool }

func (s *listeningStore) Listen(ctx context.Context, wake func(queue.Wake)) error {
	m := s.t.m
	if m == nil {
		return s.listener.Listen(ctx, wake)
	}
	hears := func() bool { return m.listens.Load() > 0 }
	if h, ok := s.listener.(hearing); ok {
		hears = h.Listening
	}
	m.listening.Store(&hears)
	m.listens.Add(1)
	defer m.listens.Add(-1)
	return s.listener.Listen(ctx, func(w queue.Wake) {
		if w != (queue.Wake{}) { // that one is only to look again
			m.notifications.Inc()
		}
		wake(w)
	})
}
