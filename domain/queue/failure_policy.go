package queue

import (
	"fmt"
	"slices"
)

// MaxNonRetryable bounds the kinds of errors that a queue does not retry.
const MaxNonRetryable = 32

// FailurePolicy says how a queue handles failures beyond retries and backoff.
type FailurePolicy struct {
	// NonRetryable are the kinds of errors that make a failure final, whatever retries are left; sorted, without repeats.
	NonRetryable []string
}

// FailurePolicyMeta is what a caller says of a FailurePolicy; nil as in QueueMeta.
type FailurePolicyMeta struct {
	// NonRetryable replaces the whole list; an empty one takes it away.
	NonRetryable *[]string
}

// applyMeta sets what m says.
func (p *FailurePolicy) applyMeta(m FailurePolicyMeta) {
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
	return nil
}

// isFinal reports whether a failure in c ends its task, whatever retries are left.
func (q *Queue) isFinal(c Circumstances) bool {
	return c.Permanent || c.ErrorKind != "" && slices.Contains(q.NonRetryable, c.ErrorKind)
}
