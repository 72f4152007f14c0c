package queue

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// DefaultScaleWithin is the time in which wanted slots work off the ready tasks.
const DefaultScaleWithin = 30 * time.Second

// Scale is the number of slots that queues have work for. A slot runs one task at a time; a worker has as many as its
// concurrency.
type Scale struct {
	// Slots may have a fraction: a slot that is needed for a third of the time counts a third.
	Slots float64
	// Ready and Retained are the numbers of tasks behind Slots.
	Ready    int64
	Retained int64
}

// CheckScaleWithin checks the time of a scale: from 1 second to 1 day.
func CheckScaleWithin(within time.Duration) error {
	if within < time.Second || within > 24*time.Hour {
		return Invalid("within", fmt.Sprintf("must be from 1s to 24h, got %v; leave it out for %v", within, DefaultScaleWithin))
	}
	return nil
}

// ReadScale reads the stats of 1 to MaxQueuesPerRetain queues and returns what ScaleQueues says of them. It counts a queue once, however
// often names has it. KindInvalid names the field within or queue; KindNotFound is about an unknown queue.
func ReadScale(ctx context.Context, s QueueStatuses, within time.Duration, names ...string) (Scale, error) {
	if err := CheckScaleWithin(within); err != nil {
		return Scale{}, err
	}
	if n := len(names); n < 1 || n > MaxQueuesPerRetain {
		return Scale{}, Invalid("queue", fmt.Sprintf("must be 1 to %d queues, got %d; ask for some of them at a time", MaxQueuesPerRetain, n))
	}

	var all []*QueueStats
	for _, name := range names {
		stats, err := s.QueueStats(ctx, name)
		if err != nil {
			return Scale{}, err
		}
		if !slices.ContainsFunc(all, func(other *QueueStats) bool { return other.Queue == stats.Queue }) {
			all = append(all, stats)
		}
	}
	return ScaleQueues(within, all...), nil
}

// ScaleQueues returns the slots that the queues of stats want together, when their ready tasks are to be worked off within a
// time above 0.
func ScaleQueues(within time.Duration, stats ...*QueueStats) Scale {
	var sum Scale
	for _, s := range stats {
		sum.Slots += s.wantedSlots(within)
		sum.Ready += s.Ready
		sum.Retained += s.Counts[StatusRetained]
	}
	return sum
}

// wantedSlots returns the slots that the tasks in hand use, and those that the ready tasks need within a time. A task takes
// W = retained / finished per second on average (Little's law), so a slot works off within/W tasks, at least one. Before the
// first task has finished, W is not known, and each ready task wants a slot.
//
// A queue wants no more slots than it can use: while it is paused those in hand, with a rate limit those of the tasks that start
// within W, and never more than its concurrency. A burst of the rate does not count, because it soon ends.
func (s *QueueStats) wantedSlots(within time.Duration) float64 {
	retained, ready := float64(s.Counts[StatusRetained]), float64(s.Ready)
	if s.Paused || !s.PausedUntil.IsZero() || ready <= 0 {
		return retained
	}

	rate, most := s.StartsPerSecond, math.Inf(1)
	if rate > 0 {
		ready = min(ready, rate*within.Seconds())
	}
	if s.Concurrency > 0 {
		most = float64(s.Concurrency)
	}

	share := 1.0
	if s.FinishedPerSecond > 0 {
		length := retained / s.FinishedPerSecond // seconds
		share = min(1, length/within.Seconds())
		if rate > 0 {
			most = min(most, rate*length)
		}
	}
	// A ready task always wants a slot, or a queue with few short tasks would scale to none.
	return max(retained, 1, min(retained+ready*share, most))
}
