package queue

import (
	"cmp"
	"fmt"
	"time"
)

// Queue holds the tasks of one kind of work in a namespace, with its policy (contract section 3).
type Queue struct {
	Namespace string
	Name      string
	// TTL: a task not finished this long after it became due expires; 0 = none.
	TTL time.Duration
	// Retries after the first attempt; 0 = one attempt only.
	Retries int
	// RetryDelay is the base of the backoff.
	RetryDelay time.Duration
	Backoff    Backoff
	// RetryMaxDelay caps the backoff before jitter; 0 = no cap but MaxDuration.
	RetryMaxDelay time.Duration
	// Lease is how long a retained task is held without a heartbeat.
	Lease time.Duration
	// Concurrency is the most tasks retained at once over all workers; 0 = no limit.
	Concurrency int
	// Retention is how long finished tasks stay, as set; 0 = not set: see FinishedStay.
	Retention time.Duration
	// Paused: nothing is retained while true.
	Paused bool
	// PausedUntil: nothing is retained before. A release of scope queue sets it, and an update of Paused to false ends it; zero
	// = not set.
	PausedUntil time.Time
	// Events says whether the tasks' events are kept in the feed. Counts are kept either way.
	Events bool
	Flow
	FailurePolicy
	// GroupPolicies is the number of groups with settings of their own, or with a pause.
	GroupPolicies int
	// Version grows by one with every update; it is the ETag of REST.
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Bytes is about how many bytes q takes in an answer.
func (q *Queue) Bytes() int { return RowBytes }

// FinishedStay is how long finished tasks of the queue stay: retention if set, else ttl if set, else 7 days.
func (q *Queue) FinishedStay() time.Duration {
	switch {
	case q.Retention > 0:
		return q.Retention
	case q.TTL > 0:
		return q.TTL
	default:
		return DefaultRetention
	}
}

// QueueMeta is what a caller says of a queue. On create nil means the default; on update nil means unchanged.
// A TTL or a Retention of 0 takes it away again.
type QueueMeta struct {
	Name          string
	TTL           *time.Duration
	Retries       *int
	RetryDelay    *time.Duration
	Backoff       *Backoff
	RetryMaxDelay *time.Duration
	Lease         *time.Duration
	Concurrency   *int
	Retention     *time.Duration
	Paused        *bool
	Events        *bool
	FlowMeta
	FailurePolicyMeta
	// IfVersion refuses an update with ErrPrecondition unless the queue has this version; 0 = whatever it has.
	IfVersion int64
}

// IfVersion is a condition of a change: the queue or the ticker has this version; 0 = whatever it has.
type IfVersion int64

// IfEmpty is a condition of DeleteQueue: with true, the queue has no unfinished task, also none of a create that is under way.
type IfEmpty bool

// DeleteCondition is a condition of DeleteQueue: an IfVersion or an IfEmpty.
type DeleteCondition interface{ isDeleteCondition() }

func (IfVersion) isDeleteCondition() {}
func (IfEmpty) isDeleteCondition()   {}

// SplitDeleteConditions returns the versions that conditions demand, and whether one of them demands an empty queue.
func SplitDeleteConditions(conditions []DeleteCondition) (versions []IfVersion, empty bool) {
	for _, c := range conditions {
		switch c := c.(type) {
		case IfVersion:
			versions = append(versions, c)
		case IfEmpty:
			empty = empty || bool(c)
		}
	}
	return versions, empty
}

// CheckEmpty returns an error of KindConflict when a queue that must be empty has unfinished tasks.
func CheckEmpty(name string, unfinished int64) error {
	if unfinished == 0 {
		return nil
	}
	return &Error{
		Kind: KindConflict, Subject: "queue " + name, Field: "if_empty",
		Msg: fmt.Sprintf("must have no unfinished tasks, got %d; work them off or cancel them, or delete the queue with them", unfinished),
	}
}

// CheckVersion returns an error of KindPrecondition when the present version of the subject does not meet a condition.
func CheckVersion(subject string, present int64, conditions ...IfVersion) error {
	want := RequiredVersion(conditions)
	if want == 0 || want == present {
		return nil
	}
	return &Error{
		Kind: KindPrecondition, Subject: subject, Field: "version",
		Msg: fmt.Sprintf("has version %d by now, not %d; read it again", present, want),
	}
}

// RequiredVersion is the version that meets all conditions: 0 = any, -1 = none, as two of them differ.
func RequiredVersion(conditions []IfVersion) int64 {
	var one int64
	for _, c := range conditions {
		switch {
		case c == 0 || int64(c) == one:
		case one == 0:
			one = int64(c)
		default:
			return -1
		}
	}
	return one
}

// NewQueue is the queue that meta creates in namespace: defaults filled in, names normalised, limits checked.
func NewQueue(namespace string, meta QueueMeta) (Queue, error) {
	n, err := QueueName(meta.Name)
	if err != nil {
		return Queue{}, err
	}
	return Queue{
		Namespace: namespace, Name: n, Retries: DefaultRetries, RetryDelay: DefaultRetryDelay, Backoff: DefaultBackoff,
		RetryMaxDelay: DefaultRetryMaxDelay, Lease: DefaultLease, Events: true, Flow: defaultFlow, Version: 1,
	}.With(meta)
}

// With is the queue after an update by meta; q itself stays as it is. The name is not changed by it, nor are version
// and times: those are the store's.
func (q Queue) With(meta QueueMeta) (Queue, error) {
	setIfGiven(&q.TTL, meta.TTL)
	setIfGiven(&q.Retries, meta.Retries)
	setIfGiven(&q.RetryDelay, meta.RetryDelay)
	setIfGiven(&q.Backoff, meta.Backoff)
	setIfGiven(&q.RetryMaxDelay, meta.RetryMaxDelay)
	setIfGiven(&q.Lease, meta.Lease)
	setIfGiven(&q.Concurrency, meta.Concurrency)
	setIfGiven(&q.Retention, meta.Retention)
	setIfGiven(&q.Paused, meta.Paused)
	setIfGiven(&q.Events, meta.Events)
	q.Flow.applyMeta(meta.FlowMeta)
	q.FailurePolicy.applyMeta(meta.FailurePolicyMeta)
	if meta.Paused != nil && !*meta.Paused {
		q.PausedUntil = time.Time{}
	}
	return q, cmp.Or(q.checkPolicy(), q.checkFlow(), q.checkFailurePolicy())
}

// IsPaused reports whether nothing is retained from the queue at a time.
func (q *Queue) IsPaused(now time.Time) bool { return q.Paused || now.Before(q.PausedUntil) }

func (q *Queue) checkPolicy() error {
	if err := cmp.Or(CheckInt("retries", q.Retries, 0, MaxRetries), CheckInt("concurrency", q.Concurrency, 0, MaxConcurrency)); err != nil {
		return err
	}
	if !q.Backoff.Valid() {
		return Invalid("backoff", fmt.Sprintf("must be exponential, linear or constant, got %.64q", q.Backoff))
	}

	return cmp.Or(
		CheckDuration("ttl", q.TTL, 0),
		CheckDuration("retry_delay", q.RetryDelay, 0),
		CheckDuration("retry_max_delay", q.RetryMaxDelay, 0),
		CheckDuration("lease", q.Lease, MinLease),
		CheckDuration("retention", q.Retention, 0),
	)
}

// CheckDuration checks least ≤ d ≤ MaxDuration.
func CheckDuration(field string, d, least time.Duration) error {
	if d < least || d > MaxDuration {
		return Invalid(field, fmt.Sprintf("must be a duration from %v to 10 years, got %v", least, d))
	}
	return nil
}

// CheckInt checks least ≤ n ≤ most.
func CheckInt(field string, n, least, most int) error {
	if n < least || n > most {
		return Invalid(field, fmt.Sprintf("must be a number from %d to %d, got %d", least, most, n))
	}
	return nil
}

func setIfGiven[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}
