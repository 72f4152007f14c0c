package telemetry

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Maintain has metrics by kind of background work instead of those of a store call.
func (s *store) Maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	ctx, span := s.observer.startSpan(ctx, queue.Call{Op: queue.OpMaintain}, nil)
	start := readStopwatch()
	done, err := s.next.Maintain(ctx, chore)
	took := readStopwatch() - start
	endSpan(span, err)

	if s.m == nil {
		return done, err
	}
	if of := s.m.chores[chore]; of != nil {
		of.recordStep(done, took, err)
		if err == nil {
			s.m.countMaintained(chore, done)
		}
	}
	return done, err
}

// recordStep records one step of background work.
func (c *choreMeters) recordStep(done queue.Maintained, took time.Duration, err error) {
	c.seconds.Observe(took.Seconds())
	if err != nil {
		// A step that the stop of the process cuts has not failed.
		if queue.KindOf(err) != queue.KindCanceled {
			c.failed.Inc()
		}
		return
	}

	c.succeeded.Inc()
	c.lastSuccess.SetToCurrentTime()
	c.moved.Add(float64(done.Moved))
	c.faults.Add(float64(len(done.Faults)))
	// A step without work sets 0, so that the gauge falls once the work has been caught up.
	lag := 0.0
	if done.Moved > 0 {
		lag = done.Lag.Seconds()
	}
	c.lag.Set(lag)
}

// countMaintained counts the tasks that a step of background work moved.
func (m *meters) countMaintained(chore queue.Chore, done queue.Maintained) {
	switch chore {
	case queue.ChoreRescue:
		for _, t := range talliesOf(done, queue.StatusRetained, done.Moves) {
			of := m.tasks.metersOf(t.Namespace, t.Queue)
			of.rescued.Add(float64(t.N))
			of.countMoved(t)
		}
		for _, t := range done.Quarantined {
			m.tasks.metersOf(t.Namespace, t.Queue).quarantined.Add(float64(t.N))
		}
	case queue.ChoreExpire:
		for _, t := range talliesOf(done, queue.StatusNew, map[queue.Status]int{queue.StatusExpired: done.Moved}) {
			m.tasks.metersOf(t.Namespace, t.Queue).countMoved(t)
		}
	case queue.ChoreTick:
		for _, t := range done.Tallies {
			m.tasks.metersOf(t.Namespace, t.Queue).created.Add(float64(t.N))
		}
		for i := range done.Ticks {
			m.countTick(&done.Ticks[i])
		}
	case queue.ChorePromote, queue.ChorePrune, queue.ChoreFold: // they end no task
	}
}

// countTick counts a tick of a ticker with a queue.
func (m *meters) countTick(t *queue.Tick) {
	result := "skipped"
	if t.TaskID != 0 {
		result = "task"
	}
	m.ticks.WithLabelValues(result).Inc()
	m.observeLateness(t)
}

func (m *meters) observeLateness(t *queue.Tick) {
	m.tickLateness.Observe(max(t.FiredAt.Sub(t.At), 0).Seconds())
}

// talliesOf returns the counts of a step by queue. For a store without them it counts moves under no queue.
func talliesOf(done queue.Maintained, was queue.Status, moves map[queue.Status]int) queue.Tallies {
	if len(done.Tallies) > 0 {
		return done.Tallies
	}
	var all queue.Tallies
	for is, n := range moves {
		all.Add("", "", was, is, n)
	}
	return all
}

// countMoved counts tasks by the status that they have now.
func (t *taskMeters) countMoved(tally queue.Tally) {
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
	case queue.StatusRetained, queue.StatusReleased: // no bulk operation leads there
	}
}

func (s *store) RunTicker(
	ctx context.Context, namespace, name string, only ...queue.IfVersion,
) (*queue.Tick, error) {
	tick, err := s.Store.RunTicker(ctx, namespace, name, only...)
	if s.m != nil && err == nil && tick != nil {
		s.m.ticks.WithLabelValues("manual").Inc()
		if tick.TaskID != 0 {
			s.m.tasks.metersOf(namespace, tick.Queue).created.Inc()
		}
	}
	return tick, err
}

func (s *store) TakeTicks(
	ctx context.Context, namespace string, limit int, hold time.Duration,
) ([]queue.Tick, time.Duration, error) {
	ticks, next, err := s.Store.TakeTicks(ctx, namespace, limit, hold)
	if s.m != nil {
		for i := range ticks {
			if !ticks[i].Manual { // a manual tick has no nominal time to be late for
				s.m.observeLateness(&ticks[i])
			}
		}
	}
	return ticks, next, err
}

func (s *store) SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error {
	err := s.Store.SettleTicks(ctx, namespace, ids, delivered)
	if s.m != nil && err == nil {
		result := "returned"
		if delivered {
			result = "delivered"
		}
		s.m.ticks.WithLabelValues(result).Add(float64(len(ids)))
	}
	return err
}

// listeningStore is the decorated store of a store that is a Listener.
type listeningStore struct {
	*store
	listener queue.Listener
}

// connectionReporter is a Listener that reports whether it receives notifications.
type connectionReporter interface{ Listening() bool }

func (s *listeningStore) Listen(ctx context.Context, wake func(queue.Wake)) error {
	m := s.m
	if m == nil {
		return s.listener.Listen(ctx, wake)
	}

	// A Listener that reports nothing counts as connected while its call lasts.
	connected := func() bool { return m.listens.Load() > 0 }
	if r, ok := s.listener.(connectionReporter); ok {
		connected = r.Listening
	}
	m.listening.Store(&connected)
	m.listens.Add(1)
	defer m.listens.Add(-1)

	return s.listener.Listen(ctx, func(w queue.Wake) {
		if w != (queue.Wake{}) { // the zero Wake only asks for a new search
			m.notifications.Inc()
		}
		wake(w)
	})
}
