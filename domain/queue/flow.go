package queue

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// Order says whether the tasks of a group run one after the other.
type Order string

// The orders of a queue.
const (
	// OrderNone starts tasks by priority and turn; tasks of one group may run side by side.
	OrderNone Order = "none"
	// OrderFIFO runs the tasks of a group one after the other, in the order of their creates. A task ends before the next
	// one starts; a retry keeps its place.
	OrderFIFO Order = "fifo"
)

// GroupOnFailure says how a group of a FIFO queue goes on when a task of it has failed for good.
type GroupOnFailure string

// The ways to go on after a failure.
const (
	// GroupSkip starts the next task.
	GroupSkip GroupOnFailure = "skip"
	// GroupBlock starts no task of the group until the failed one is retried or deleted, or the group is unblocked.
	GroupBlock GroupOnFailure = "block"
)

// Flow is how a queue shares its workers among groups, and limits and orders their tasks (contract section 13). The zero
// value with its defaults does none of it.
type Flow struct {
	// Fair lets the groups share the queue equally, also with unequal backlogs; see GroupPolicy.Weight.
	Fair bool
	// RateLimit is the most starts in RatePeriod over all workers; 0 = no limit. RateBurst is how many of them may come at
	// once; 0 = as many as belong to a tenth of a second, at least 1.
	RateLimit  int
	RatePeriod time.Duration
	RateBurst  int
	// GroupConcurrency is the most tasks of one group retained at once; 0 = no limit.
	GroupConcurrency int
	// GroupRateLimit, GroupRatePeriod and GroupRateBurst limit the starts of each group as the rate limits those of the queue.
	GroupRateLimit  int
	GroupRatePeriod time.Duration
	GroupRateBurst  int
	Order           Order
	// FIFOBatch is the most tasks of one group that one retain takes from a FIFO queue. Its worker runs them one after the
	// other, and hands back the rest when one fails.
	FIFOBatch      int
	GroupOnFailure GroupOnFailure
	// MaxWaiting is the number of waiting tasks from which on creates are refused; 0 = no limit.
	MaxWaiting int
}

// FlowMeta is what a caller says of the flow of a queue; nil as in QueueMeta.
type FlowMeta struct {
	Fair             *bool
	RateLimit        *int
	RatePeriod       *time.Duration
	RateBurst        *int
	GroupConcurrency *int
	GroupRateLimit   *int
	GroupRatePeriod  *time.Duration
	GroupRateBurst   *int
	Order            *Order
	FIFOBatch        *int
	GroupOnFailure   *GroupOnFailure
	MaxWaiting       *int
}

// The limits of a flow.
const (
	// MaxRate bounds a rate limit and its burst.
	MaxRate = 1_000_000
	// MinRatePeriod and MaxRatePeriod bound the period of a rate.
	MinRatePeriod = time.Second
	MaxRatePeriod = 24 * time.Hour
	// DefaultRatePeriod is the period of a rate that does not say one.
	DefaultRatePeriod = time.Second
	// MaxGroupConcurrency bounds the tasks of one group that are retained at once.
	MaxGroupConcurrency = 256
	// MaxFIFOBatch bounds the tasks of one group that one retain takes from a FIFO queue.
	MaxFIFOBatch = 32
	// MaxWaitingLimit bounds the limit of waiting tasks of a queue.
	MaxWaitingLimit = 1_000_000_000
	// MaxGroupBytes bounds the group of a task, in bytes of UTF-8.
	MaxGroupBytes = 255
	// burstTime is the part of a rate that may start at once when no burst is set: a retain that comes a little late still
	// reaches the rate.
	burstTime = 100 * time.Millisecond
)

// defaultFlow is the flow of a queue that says none.
var defaultFlow = Flow{
	RatePeriod: DefaultRatePeriod, GroupRatePeriod: DefaultRatePeriod, Order: OrderNone, FIFOBatch: 1, GroupOnFailure: GroupSkip,
}

// StartsPerSecond is the rate limit of the queue as starts a second; 0 = no limit.
func (f *Flow) StartsPerSecond() float64 {
	if f.RateLimit == 0 {
		return 0
	}
	return float64(f.RateLimit) / f.RatePeriod.Seconds()
}

// applyMeta sets the given fields.
func (f *Flow) applyMeta(m FlowMeta) {
	setIfGiven(&f.Fair, m.Fair)
	setIfGiven(&f.RateLimit, m.RateLimit)
	setIfGiven(&f.RatePeriod, m.RatePeriod)
	setIfGiven(&f.RateBurst, m.RateBurst)
	setIfGiven(&f.GroupConcurrency, m.GroupConcurrency)
	setIfGiven(&f.GroupRateLimit, m.GroupRateLimit)
	setIfGiven(&f.GroupRatePeriod, m.GroupRatePeriod)
	setIfGiven(&f.GroupRateBurst, m.GroupRateBurst)
	setIfGiven(&f.Order, m.Order)
	setIfGiven(&f.FIFOBatch, m.FIFOBatch)
	setIfGiven(&f.GroupOnFailure, m.GroupOnFailure)
	setIfGiven(&f.MaxWaiting, m.MaxWaiting)
}

// checkFlow checks the settings, and that none contradicts another.
func (f *Flow) checkFlow() error {
	err := cmp.Or(
		checkRate("", f.RateLimit, f.RatePeriod, f.RateBurst),
		CheckInt("group_concurrency", f.GroupConcurrency, 0, MaxGroupConcurrency),
		checkRate("group_", f.GroupRateLimit, f.GroupRatePeriod, f.GroupRateBurst),
		CheckInt("fifo_batch", f.FIFOBatch, 1, MaxFIFOBatch),
		CheckInt("max_waiting", f.MaxWaiting, 0, MaxWaitingLimit),
	)

	switch {
	case err != nil:
		return err
	case f.Order != OrderNone && f.Order != OrderFIFO:
		return Invalid("order", fmt.Sprintf("must be none or fifo, got %.64q", f.Order))
	case f.GroupOnFailure != GroupSkip && f.GroupOnFailure != GroupBlock:
		return Invalid("group_on_failure", fmt.Sprintf("must be skip or block, got %.64q", f.GroupOnFailure))
	case f.Order == OrderFIFO && f.GroupConcurrency > 1:
		return Invalid("group_concurrency", fmt.Sprintf(
			"must be 0 or 1 in a fifo queue, where the tasks of a group run one after the other, got %d; set it to 0, or order to none", f.GroupConcurrency))
	}
	return nil
}

// checkRate checks the three settings of a rate. The names of their fields begin with prefix.
func checkRate(prefix string, limit int, period time.Duration, burst int) error {
	if err := cmp.Or(CheckInt(prefix+"rate_limit", limit, 0, MaxRate), CheckInt(prefix+"rate_burst", burst, 0, MaxRate)); err != nil {
		return err
	}
	if period < MinRatePeriod || period > MaxRatePeriod {
		return Invalid(prefix+"rate_period", fmt.Sprintf("must be from %v to %v, got %v", MinRatePeriod, MaxRatePeriod, period))
	}
	return nil
}

// Rate is the limit of the starts of the queue.
func (f *Flow) Rate() Rate { return Rate{f.RateLimit, f.RatePeriod, f.RateBurst} }

// IsFIFO reports whether the tasks of a group run one after the other.
func (f *Flow) IsFIFO() bool { return f.Order == OrderFIFO }

// RunsBatches reports whether one retain may give several tasks of a group, which then run one after the other.
func (f *Flow) RunsBatches() bool { return f.IsFIFO() && f.FIFOBatch > 1 }

// KeepsPlaces reports whether the tasks in hand count against a limit of their group.
func (f *Flow) KeepsPlaces() bool { return f.IsFIFO() || f.GroupConcurrency > 0 }

// LimitsGroups reports whether the settings of the queue limit its groups.
func (f *Flow) LimitsGroups() bool { return f.KeepsPlaces() || f.GroupRateLimit > 0 }

// FreesPlaces reports whether the end of a task may let another one start.
func (q *Queue) FreesPlaces() bool {
	return q.Concurrency > 0 || q.KeepsPlaces() || q.GroupPolicies > 0
}

// CheckNewTask refuses a task that contradicts the order of the queue.
func (f *Flow) CheckNewTask(t *NewTask) error {
	if f.IsFIFO() && t.Priority != 0 {
		return Invalid("priority", fmt.Sprintf("must be 0 in a fifo queue, where the order of the creates decides, got %d; leave it out", t.Priority))
	}
	return nil
}

// CheckWaiting refuses more new tasks, with KindExhausted, when the queue has so many waiting ones that they would exceed its limit.
func (q *Queue) CheckWaiting(waiting int64, more int) error {
	if q.MaxWaiting == 0 || waiting+int64(more) <= int64(q.MaxWaiting) {
		return nil
	}
	return &Error{
		Kind: KindExhausted, Subject: "queue " + q.Name, Field: "max_waiting",
		Msg: fmt.Sprintf("is reached: %d tasks wait and at most %d may; repeat the create later, or raise the limit", waiting, q.MaxWaiting),
	}
}

// CheckGroup checks the group of a task: at most 255 bytes of valid UTF-8 without NUL; empty means none.
func CheckGroup(s string) error {
	if len(s) > MaxGroupBytes {
		return Invalid("group", fmt.Sprintf("must have at most %d bytes, got %d", MaxGroupBytes, len(s)))
	}
	return checkStorableText("group", s)
}

// GroupBuckets is the number of buckets over which the groups of a fair queue are spread.
const GroupBuckets = 256

// HashGroup returns the number of a group in narrow rows: the first 64 bits of its SHA-256. Two groups with one number share
// their limits; among a million groups that has a chance of 3 in 100 million. 0 stands for no group and is never returned.
func HashGroup(group string) int64 {
	// Callers choose the text, so the hash must be one for which they cannot find a second text.
	sum := sha256.Sum256([]byte(group))
	h := int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // all bits of the hash are used
	return cmp.Or(h, 1)
}

// BucketOfGroup returns the bucket of a group, by its hash, in a fair queue: from 1 to GroupBuckets.
func BucketOfGroup(hash int64) int16 { return 1 + int16(uint64(hash)>>48&(GroupBuckets-1)) } //nolint:gosec // below 257

// Rate is a limit of starts: at most Limit in each Period, and at most Burst at once. It is exact over all workers, by the
// generic cell rate algorithm: one number, the theoretical time of the next start, is all of its state.
type Rate struct {
	Limit  int // 0 = no limit
	Period time.Duration
	Burst  int // 0 = as many as belong to burstTime, at least 1
}

// Admit returns how many of n tasks may start now, and the state after their start. Without a limit it is n. next is when
// more of them may start; zero when all start. At high rates that is when several may start together, so that a start does
// not cost a wake-up each. state is in ns since 1970; 0 = no start so far.
func (r Rate) Admit(state int64, now time.Time, n int) (admitted int, after int64, next time.Time) {
	if r.Limit == 0 || n <= 0 {
		return n, state, time.Time{}
	}

	burst, step, present := r.burst(), int64(r.Period)/int64(r.Limit), now.UnixNano()
	// A rate that was idle gets no credit for that time beyond its burst.
	from := max(state, present)
	admitted = min(n, max(0, int((present+int64(burst)*step-from)/step)))
	after = state
	if admitted > 0 {
		after = from + int64(admitted)*step
	}

	// Half of a burst leaves the other half for the time until the wake-up is served.
	if admitted < n {
		together := min(n-admitted, (burst+1)/2)
		next = time.Unix(0, max(after, present)-int64(burst-together)*step).UTC()
	}
	return admitted, after, next
}

// burst is the number of tasks that may start at once.
func (r Rate) burst() int {
	return cmp.Or(r.Burst, max(1, int(int64(r.Limit)*int64(burstTime)/int64(r.Period))))
}
