package queue

import (
	"cmp"
	"fmt"
	"time"
)

// HistoryStep is the length of time of a point of a history.
type HistoryStep string

// The steps. Points of a minute are kept for a day, points of an hour for 30 days.
const (
	HistoryMinute HistoryStep = "minute"
	HistoryHour   HistoryStep = "hour"
)

const (
	// HistoryMinutesKept is how long the points of minutes are kept.
	HistoryMinutesKept = 24 * time.Hour
	// HistoryHoursKept is how long the points of hours are kept.
	HistoryHoursKept = 30 * 24 * time.Hour
)

// Duration returns the length of s.
func (s HistoryStep) Duration() time.Duration {
	if s == HistoryHour {
		return time.Hour
	}
	return time.Minute
}

// Kept returns how long the points of s are kept.
func (s HistoryStep) Kept() time.Duration {
	if s == HistoryHour {
		return HistoryHoursKept
	}
	return HistoryMinutesKept
}

// HistoryQuery selects points of a history. Zero times select all that is kept: at most 1,440 minutes or 720 hours.
type HistoryQuery struct {
	// Step is HistoryMinute when it is empty.
	Step HistoryStep
	// After and Before bound HistoryPoint.At, both exclusive.
	After  time.Time
	Before time.Time
}

// Normalize checks q and fills in its default.
func (q HistoryQuery) Normalize() (HistoryQuery, error) {
	q.Step = cmp.Or(q.Step, HistoryMinute)
	if q.Step != HistoryMinute && q.Step != HistoryHour {
		return q, Invalid("step", fmt.Sprintf("must be minute or hour, got %.64q", q.Step))
	}
	return q, cmp.Or(CheckTime("after", q.After), CheckTime("before", q.Before))
}

// HistoryPoint says what happened in a queue in one minute or hour. A point is missing where nothing happened and no task was
// ready. Background work writes the points once a minute: after an interruption, the first one has what happened meanwhile.
type HistoryPoint struct {
	// At is the beginning of the minute or hour, in UTC.
	At time.Time
	// The numbers of tasks that were created, released and failed, and of attempts that failed and are tried again.
	Created  int64
	Released int64
	Failed   int64
	Retried  int64
	// Ready is the number of ready tasks at the end of the minute; of an hour, the most of these.
	Ready int64
	// OldestReadyAge is the age of the task that was ready the longest, like Ready.
	OldestReadyAge time.Duration
}

// Add adds a later point of the same hour to p.
func (p *HistoryPoint) Add(later HistoryPoint) {
	p.Created += later.Created
	p.Released += later.Released
	p.Failed += later.Failed
	p.Retried += later.Retried
	p.Ready = max(p.Ready, later.Ready)
	p.OldestReadyAge = max(p.OldestReadyAge, later.OldestReadyAge)
}

// QueueHistory is the history of a queue, the oldest point first.
type QueueHistory struct {
	Namespace string
	Queue     string
	Step      HistoryStep
	Points    []HistoryPoint
}
