package queue

import (
	"fmt"
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
// first task has finished, W is not known, and each ready task wants a slot. A paused queue gives out no task, and its
// concurrency bounds those in hand.
func (s *QueueStats) wantedSlots(within time.Duration) float64 {
	retained, ready := float64(s.Counts[StatusRetained]), float64(s.Ready)
	if s.Paused || ready <= 0 {
		return retained
	}

	share := 1.0
	if s.FinishedPerSecond > 0 {
		share = min(1, retained/s.FinishedPerSecond/within.Seconds())
	}
	// A ready task always wants a slot, or a queue with few short tasks would scale to none.
	slots := max(retained+ready*share, 1)
	if s.Concurrency > 0 {
		slots = max(retained, min(slots, float64(s.Concurrency)))
	}
	return slots
}
