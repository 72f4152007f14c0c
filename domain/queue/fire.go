package queue

import (
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

// Bounds of one step of ChoreTick, and of one TakeTicks. A ticker that has more to fire goes on in the next step, behind the
// tickers that were not looked at in this one.
const (
	// MaxStepTickers is the most due tickers of a step.
	MaxStepTickers = 200
	// MaxStepTicks is the most ticks of a step: 200 tickers have room for five each.
	MaxStepTicks = 1_000
	// MaxStepTickBytes is the most bytes of payloads that the ticks of a step write. A single payload may exceed it.
	MaxStepTickBytes = 8 << 20
	// MaxTakenTicks is the most ticks that one TakeTicks hands out: 32 payloads of 1 MiB.
	MaxTakenTicks = 32
	// TickFaultRest is how long a ticker that could not fire is left alone.
	TickFaultRest = 10 * time.Second
)

// TickBudget is what a step may still fire. The zero value has nothing left; begin with NewTickBudget.
type TickBudget struct{ ticks, bytes int }

// NewTickBudget is the budget of a whole step.
func NewTickBudget() TickBudget { return TickBudget{ticks: MaxStepTicks, bytes: MaxStepTickBytes} }

// Fires returns the times at which t fires now and when it is due next, as schedule.Due does, within its share of the budget:
// the rest, divided by the tickers that are still to come, t included, and one tick at least. In a step that is cut short next
// is the first time that was left out, and more is true. An error, also a panic of the schedule, is about t alone.
func (b *TickBudget) Fires(t *Ticker, now time.Time, tickers int) (fires []time.Time, next time.Time, more bool, err error) {
	// A schedule comes from text of a caller. A panic in it must not end the tick firer for all tickers.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("schedule: %v", p)
		}
	}()
	s, err := t.Schedule()
	if err != nil {
		return nil, next, false, err
	}

	// Due looks at times behind its start, and NextAt itself is due. A microsecond is the step of the database.
	out := s.Due(t.Anchor, t.NextAt.Add(-time.Microsecond), now, schedule.Policy{
		Misfire: schedule.Misfire(t.Misfire), Limit: t.MisfireLimit,
	})

	// An empty payload counts as one byte, which keeps the division by its size valid.
	tickers, size := max(tickers, 1), max(len(t.Payload), 1)
	share := max(1, min(b.ticks/tickers, b.bytes/tickers/size))
	fires, next = out.Fires, out.Next
	if share < len(fires) {
		fires, next, more = fires[:share], fires[share], true
	}

	b.ticks -= len(fires)
	b.bytes -= len(fires) * size
	return fires, next, more, nil
}

// Replan is the anchor and the next time of t when next was computed by a clock that was ahead of now: both count from
// now, so that t does not stand still until the clock is there again.
func (t *Ticker) Replan(now time.Time) (anchor, next time.Time, err error) {
	s, err := t.Schedule()
	if err != nil {
		return t.Anchor, t.NextAt, err
	}
	anchor = t.Anchor
	if anchor.After(now) {
		anchor = now
	}
	if !t.Paused {
		next, _ = s.Next(anchor, now)
	}
	return anchor, next, nil
}

// Fault is what a step of background work could not do for one owner. It passed over that and did the rest.
type Fault struct {
	// Namespace of the owner; "" where the work is of no one namespace.
	Namespace string
	// Subject is what was passed over, as "ticker nightly", "queue mail" or "partition 1".
	Subject string
	Err     error
	// Known says that the step before reported the same fault.
	Known bool
}
