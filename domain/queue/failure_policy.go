package queue

import (
	"fmt"
	"slices"
)

const (
	// MaxNonRetryable bounds the kinds of errors that a queue does not retry.
	MaxNonRetryable = 32
	// MaxLeaseLossesLimit bounds the lost leases that a queue allows a task.
	MaxLeaseLossesLimit = 100
	// MaxAttempt is where the count of attempts stops: lost leases that cost no retry leave it without another bound.
	MaxAttempt = 1<<13 - 1
)

// FailurePolicy says how a queue handles failures beyond retries and backoff.
type FailurePolicy struct {
	// NonRetryable are the kinds of errors that make a failure final, whatever retries are left; sorted, without repeats.
	NonRetryable []string
	// MaxLeaseLosses is the number of lost leases in a row that fail a task with the kind ErrorKindQuarantined, whatever retries are
	// left. A lost lease then costs no retry. A task that has lost its lease is a suspect: a worker holds at most one at a
	// time, because the task may be what kills workers. 0 = off: a lost lease is a failure like others.
	MaxLeaseLosses int
	// DeadLetter gets a task for each one that fails for good, in the transaction of the failure; "" = none. It is a queue of the
	// same namespace and does not lead back here.
	DeadLetter string
}

// FailurePolicyMeta is what a caller says of a FailurePolicy; nil as in QueueMeta.
type FailurePolicyMeta struct {
	// NonRetryable replaces the whole list; an empty one takes it away.
	NonRetryable   *[]string
	MaxLeaseLosses *int
	// DeadLetter is the name of a queue; "" takes it away.
	DeadLetter *string
}

// applyMeta sets what m says.
func (p *FailurePolicy) applyMeta(m FailurePolicyMeta) {
	setIfGiven(&p.MaxLeaseLosses, m.MaxLeaseLosses)
	if m.DeadLetter != nil {
		p.DeadLetter = foldName(*m.DeadLetter)
	}
	if m.NonRetryable == nil {
		return
	}
	kinds := slices.Clone(*m.NonRetryable)
	slices.Sort(kinds)
	if p.NonRetryable = slices.Compact(kinds); len(p.NonRetryable) == 0 {
		p.NonRetryable = nil // equal policies look alike
	}
}

// checkFailurePolicy checks the policy of q against the limits.
func (q *Queue) checkFailurePolicy() error {
	if n := len(q.NonRetryable); n > MaxNonRetryable {
		return Invalid("non_retryable", fmt.Sprintf("must be at most %d kinds of errors, got %d", MaxNonRetryable, n))
	}
	for _, kind := range q.NonRetryable {
		if kind == "" || isOwnErrorKind(kind) {
			return Invalid("non_retryable", fmt.Sprintf("must be kinds of errors that workers report, got %.64q; leave it out", kind))
		}
		if err := CheckErrorKind("non_retryable", kind); err != nil {
			return err
		}
	}
	if q.DeadLetter != "" {
		if _, err := normalizeName("dead_letter", q.DeadLetter); err != nil {
			return err
		}
	}
	return CheckInt("max_lease_losses", q.MaxLeaseLosses, 0, MaxLeaseLossesLimit)
}

// isFinal reports whether a failure in c ends its task, whatever retries are left.
func (q *Queue) isFinal(c Circumstances) bool {
	return c.Permanent || c.ErrorKind != "" && slices.Contains(q.NonRetryable, c.ErrorKind)
}

// KindOfLoss returns the kind of the error of a lost lease that led to l.
func (q *Queue) KindOfLoss(l Life) string {
	if q.isQuarantined(l) {
		return ErrorKindQuarantined
	}
	return ErrorKindLeaseLost
}

// EventOfLoss returns the kind of the event of a lost lease that led to l.
func (q *Queue) EventOfLoss(l Life) EventKind {
	if q.isQuarantined(l) {
		return EventQuarantined
	}
	return EventKind(l.Status)
}

// isQuarantined reports whether lost leases alone ended l.
func (q *Queue) isQuarantined(l Life) bool {
	return l.Status == StatusFailed && q.MaxLeaseLosses > 0 && int(l.Losses) >= q.MaxLeaseLosses
}

// countLoss is l after a lost lease that costs no retry. The task waits for its backoff, or it has lost too many in a row.
func (q *Queue) countLoss(l Life, c Circumstances) Life {
	l.Losses = min(l.Losses+1, MaxLeaseLossesLimit)
	if l.CancelRequested || int(l.Losses) >= q.MaxLeaseLosses {
		return l.finishLife(StatusFailed, c.Now)
	}
	l.Status = StatusRetry
	l.DelayedAt = c.Now.Add(q.Backoff.Delay(q.RetryDelay, q.RetryMaxDelay, l.Attempt, c.Jitter))
	return l
}
