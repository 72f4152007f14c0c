package queue

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Group is a group of tasks of a queue: the settings that it has for itself, and its state.
type Group struct {
	Queue string
	// Name is the group of its tasks.
	Name string
	GroupPolicy
	// Waiting is the number of tasks that wait for the group, at most MaxGroupWaiting. Tasks that no retain has met yet are not among
	// them.
	Waiting int64
	// Retained is the number of tasks that keep a place of the group: those in hand, and those of a FIFO queue that come back.
	Retained int64
	// Next is when the next task may start; zero = at once, or when a place is free.
	Next time.Time
	// Blocked names the task that failed and holds up the group of a FIFO queue with group_on_failure block; 0 = none.
	Blocked int64
}

// Bytes is about how many bytes g takes in an answer.
func (g *Group) Bytes() int { return 2*taskFrame + TextBytes(g.Name) }

// GroupPolicy holds the settings of one group. 0 means that those of the queue hold.
type GroupPolicy struct {
	// Weight is the share of the group in a fair queue, as a multiple of that of the others; 0 = 1.
	Weight      int
	Concurrency int
	RateLimit   int
	RatePeriod  time.Duration
	RateBurst   int
	// PausedUntil: no task of the group starts before; zero = not paused.
	PausedUntil time.Time
}

// GroupMeta is what a caller sets for one group; nil = unchanged. 0 takes a setting away.
type GroupMeta struct {
	Weight      *int
	Concurrency *int
	RateLimit   *int
	RatePeriod  *time.Duration
	RateBurst   *int
	PausedUntil *time.Time
}

// GroupQuery selects groups of a queue.
type GroupQuery struct {
	// Name selects one group, also one without tasks.
	Name string
	// Limit is the most groups; 0 = DefaultPage.
	Limit int
	// Cursor is the Next of the page before; "" starts at the beginning. It is opaque.
	Cursor string
}

// GroupPage is a page of groups.
type GroupPage struct {
	Groups []*Group
	// Next is the cursor of the next page, "" at the end, and only there.
	Next string
}

// The limits of groups.
const (
	// MaxGroupWeight bounds the weight of a group.
	MaxGroupWeight = 1_000
	// MaxGroupPolicies bounds the groups of a queue with a weight or limits of their own.
	MaxGroupPolicies = 1_000
	// MaxGroupPauses bounds the groups of a queue that are paused, with those of MaxGroupPolicies. A release that would pause one
	// more group pauses its task alone.
	MaxGroupPauses = 100_000
	// MaxGroupWaiting bounds the count of the tasks that wait for one group.
	MaxGroupWaiting = 1_000
)

// GroupName checks the name of a group in a call.
func GroupName(s string) (string, error) {
	if s == "" {
		return s, Invalid("group", "must be the group of tasks, got none; name it")
	}
	return s, CheckGroup(s)
}

// Normalize checks q and fills in its default.
func (q GroupQuery) Normalize() (GroupQuery, error) {
	q.Limit = cmp.Or(q.Limit, DefaultPage)
	return q, cmp.Or(CheckInt("limit", q.Limit, 1, MaxPage), CheckGroup(q.Name))
}

// With is the policy after an update by m; p itself stays as it is.
func (p GroupPolicy) With(m GroupMeta) (GroupPolicy, error) {
	setIfGiven(&p.Weight, m.Weight)
	setIfGiven(&p.Concurrency, m.Concurrency)
	setIfGiven(&p.RateLimit, m.RateLimit)
	setIfGiven(&p.RatePeriod, m.RatePeriod)
	setIfGiven(&p.RateBurst, m.RateBurst)
	setIfGiven(&p.PausedUntil, m.PausedUntil)
	// Also without a rate: a period of 0 would divide by 0 once a later update sets the limit.
	p.RatePeriod = cmp.Or(p.RatePeriod, DefaultRatePeriod)

	// For all other settings 0 takes the setting away. A weight of 0 reads like a pause, so it is refused.
	if m.Weight != nil && *m.Weight == 0 {
		return p, Invalid("weight", fmt.Sprintf("must be a number from 1 to %d, got 0; pause the group to start none of its tasks", MaxGroupWeight))
	}
	return p, cmp.Or(
		CheckInt("weight", p.Weight, 0, MaxGroupWeight),
		CheckInt("concurrency", p.Concurrency, 0, MaxGroupConcurrency),
		checkRate("", p.RateLimit, p.RatePeriod, p.RateBurst),
		CheckTime("paused_until", p.PausedUntil),
	)
}

// CheckGroupPolicy refuses settings of a group that contradict those of its queue.
func (q *Queue) CheckGroupPolicy(p GroupPolicy) error {
	if q.IsFIFO() && p.Concurrency > 1 {
		return Invalid("concurrency", fmt.Sprintf(
			"must be 0 or 1 in a fifo queue, where the tasks of a group run one after the other, got %d; leave it out", p.Concurrency))
	}
	return nil
}

// IsEmpty reports whether the group has no setting of its own.
func (p GroupPolicy) IsEmpty() bool {
	return p.Weight == 0 && p.Concurrency == 0 && p.RateLimit == 0 && p.PausedUntil.IsZero()
}

// HasSettings reports whether the group has a weight or a limit of its own, besides a pause.
func (p GroupPolicy) HasSettings() bool { return p.Weight > 0 || p.Concurrency > 0 || p.RateLimit > 0 }

// WithoutEndedPause returns the policy without a pause that is over at a time.
func (p GroupPolicy) WithoutEndedPause(now time.Time) GroupPolicy {
	if !now.Before(p.PausedUntil) {
		p.PausedUntil = time.Time{}
	}
	return p
}

// CheckGroupNumber refuses one more group with settings of its own than MaxGroupPolicies, where with is their number after the
// change, and one more paused group than MaxGroupPauses, where all is the number of both after it.
func (p GroupPolicy) CheckGroupNumber(before GroupPolicy, with, all int) error {
	switch {
	case p.HasSettings() && !before.HasSettings() && with > MaxGroupPolicies:
		return Invalid("group", fmt.Sprintf(
			"must be one of at most %d groups with settings of their own, got one more; take the settings of another away", MaxGroupPolicies))
	case !p.IsEmpty() && before.IsEmpty() && all > MaxGroupPauses:
		return Invalid("paused_until", fmt.Sprintf(
			"must pause at most %d groups, got one more; pause the queue, or resume other groups", MaxGroupPauses))
	}
	return nil
}

// GroupLimits are the limits of one group of a queue.
type GroupLimits struct {
	// Concurrency is the most tasks in hand; 0 = no limit.
	Concurrency int
	Rate        Rate
	// PausedUntil: no task starts before.
	PausedUntil time.Time
	// FIFO: tasks start one after the other, at most Batch of them in one hand.
	FIFO  bool
	Batch int
}

// LimitsOf returns the limits of a group of q with a policy of its own; the zero policy stands for none. Tasks without a
// group have limits in a FIFO queue alone.
func (q *Queue) LimitsOf(p GroupPolicy) GroupLimits {
	l := GroupLimits{
		Concurrency: cmp.Or(p.Concurrency, q.GroupConcurrency), PausedUntil: p.PausedUntil, FIFO: q.IsFIFO(), Batch: q.FIFOBatch,
		Rate: Rate{q.GroupRateLimit, q.GroupRatePeriod, q.GroupRateBurst},
	}
	if p.RateLimit > 0 {
		l.Rate = Rate{p.RateLimit, p.RatePeriod, p.RateBurst}
	}
	return l
}

// KeepPlaces reports whether tasks in hand count.
func (l GroupLimits) KeepPlaces() bool { return l.FIFO || l.Concurrency > 0 }

// GroupState is what limits need to know of the past of a group.
type GroupState struct {
	// Holders are the tasks that keep a place, in the order of their starts: those in hand, and in a FIFO queue those that come back.
	Holders []int64
	// RateState belongs to Rate.Admit.
	RateState int64
}

// IsEmpty reports whether the state can be forgotten at a time.
func (s GroupState) IsEmpty(now time.Time) bool {
	return len(s.Holders) == 0 && s.RateState <= now.UnixNano()
}

// Free ends the place of a task. A task without a place changes nothing.
func (s *GroupState) Free(id int64) {
	s.Holders = slices.DeleteFunc(slices.Clone(s.Holders), func(holder int64) bool { return holder == id })
}

// Admit chooses the tasks of a group that may start now, at most most of them. waiting lists tasks that could start, in
// their order; in a FIFO queue that is the order of ids. It returns the chosen ones in order, and s contains their places. next is
// when more of them may start; zero when none waits, or when a place must become free first.
func (s *GroupState) Admit(l GroupLimits, now time.Time, waiting []int64, most int) (chosen []int64, next time.Time) {
	if len(waiting) == 0 {
		return nil, time.Time{}
	}
	if now.Before(l.PausedUntil) {
		return nil, l.PausedUntil
	}

	places := most
	if l.FIFO {
		waiting = s.inOrder(waiting)
		places = min(places, max(1, l.Batch))
	} else if l.Concurrency > 0 {
		places = min(places, l.Concurrency-len(s.Holders))
	}
	// An update may have lowered the limit below the places in use, so places may be negative.
	wanted := min(max(places, 0), len(waiting))
	n, state, next := l.Rate.Admit(s.RateState, now, wanted)
	if n == 0 {
		return nil, next
	}

	chosen = waiting[:n]
	s.RateState = state
	if l.KeepPlaces() {
		// Callers probe with copies of a state, which share this array.
		s.Holders = slices.Clone(s.Holders)
		for _, id := range chosen {
			if !slices.Contains(s.Holders, id) {
				s.Holders = append(s.Holders, id)
			}
		}
	}
	return chosen, next
}

// inOrder returns the tasks of a FIFO group that may start now. Tasks that keep their place come first; while one of them is
// in hand, or comes back later, none may start.
func (s *GroupState) inOrder(waiting []int64) []int64 {
	for _, holder := range s.Holders {
		if !slices.Contains(waiting, holder) {
			return nil
		}
	}

	ordered := slices.Clone(s.Holders)
	for _, id := range waiting {
		if !slices.Contains(s.Holders, id) {
			ordered = append(ordered, id)
		}
	}
	return ordered
}
