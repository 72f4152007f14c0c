package queuetest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// failWith releases t as failed with an error of a kind.
func (e *env) failWith(t *queue.Task, kind string) *queue.Task {
	e.Helper()
	after, err := e.tryRelease(queue.Release{
		ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Result: json.RawMessage(`{"error":"no"}`), ErrorKind: kind,
	})
	e.ok(err)
	return after
}

func testNonRetryable(e *env) {
	e.it("an error of a kind that the queue does not retry ends the task, whatever retries are left", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Duration(0)), FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: new([]string{"gone", "bad"})}})
		e.create("q", queue.TaskMeta{})
		e.equal("other kind", e.failWith(e.hold("q"), "busy").Status, queue.StatusRetry)
		e.equal("no kind", e.failWith(e.hold("q"), "").Status, queue.StatusRetry)
		after := e.failWith(e.hold("q"), "gone")
		e.equal("status, retries", []any{after.Status, after.Retries}, []any{queue.StatusFailed, 1})

		e.update("q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: new([]string{})}})
		e.create("q", queue.TaskMeta{})
		e.equal("after the list is taken away", e.failWith(e.hold("q"), "gone").Status, queue.StatusRetry)
	})
}

func serveFailurePolicy(v *svc) {
	v.it("the failure policy of a queue is kept, changed and taken away", func(v *svc) {
		check := func(q *queue.Queue, err error, want queue.FailurePolicy) {
			v.Helper()
			v.ok(err)
			v.equal("policy", q.FailurePolicy, want)
			q, err = v.s.GetQueue(v.ctx(), "q")
			v.ok(err)
			v.equal("policy of a read", q.FailurePolicy, want)
		}
		q, err := v.s.CreateQueue(v.ctx(), queue.QueueMeta{Name: "q", FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: new([]string{"b", "a", "b"})}})
		check(q, err, queue.FailurePolicy{NonRetryable: []string{"a", "b"}})
		q, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{Retries: new(1)})
		check(q, err, queue.FailurePolicy{NonRetryable: []string{"a", "b"}})
		q, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: new([]string{})}})
		check(q, err, queue.FailurePolicy{})
	})

	v.it("a failure policy out of bounds is refused", func(v *svc) {
		kinds := func(n int) *[]string {
			var list []string
			for i := range n {
				list = append(list, fmt.Sprint(i))
			}
			return &list
		}
		v.queue("q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: kinds(queue.MaxNonRetryable)}})
		for _, bad := range []*[]string{kinds(queue.MaxNonRetryable + 1), {""}, {queue.ErrorKindQuarantined}, {long(queue.MaxErrorKindBytes + 1)}} {
			_, err := v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: bad}})
			v.invalid(err, queue.KindInvalid, "non_retryable")
		}
	})
}
