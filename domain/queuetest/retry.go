package queuetest

import (
	"fmt"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testRetry(e *env) {
	for _, row := range []struct {
		backoff queue.Backoff
		limit   time.Duration
		want    []int // hours
	}{
		{queue.BackoffExponential, 0, []int{10, 20, 40, 80, 160}},
		{queue.BackoffExponential, 60 * time.Hour, []int{10, 20, 40, 60, 60}},
		{queue.BackoffLinear, 0, []int{10, 20, 30, 40, 50}},
		{queue.BackoffLinear, 25 * time.Hour, []int{10, 20, 25, 25, 25}},
		{queue.BackoffConstant, 0, []int{10, 10, 10, 10, 10}},
	} {
		e.it(fmt.Sprintf("%s backoff with a cap of %v waits %v hours, ±10 %%", row.backoff, row.limit, row.want), func(e *env) {
			e.queue("q", queue.QueueMeta{
				Retries: new(len(row.want)), RetryDelay: new(10 * time.Hour), Backoff: &row.backoff, RetryMaxDelay: &row.limit,
				Lease: new(100 * time.Hour),
			})
			t := e.create("q", queue.TaskMeta{})
			for i, hours := range row.want {
				held := e.hold("q")
				before := e.now()
				after := e.release(held, queue.OutcomeFailure, fmt.Sprintf(`{"n":%d}`, i))
				e.equal("status, attempt, retries", []any{after.Status, after.Attempt, after.Retries},
					[]any{queue.StatusRetry, i + 1, len(row.want) - i - 1})
				want := time.Duration(hours) * time.Hour
				e.near("delayed_at", after.DelayedAt, before.Add(want), want/10+aWhile)
				e.nothing("q")
				e.advance(want + want/10 + aWhile)
			}
			after := e.release(e.hold("q"), queue.OutcomeFailure, `{"n":"last"}`)
			e.equal("status, attempt, retries", []any{after.Status, after.Attempt, after.Retries},
				[]any{queue.StatusFailed, len(row.want) + 1, 0})
			got := e.status(t.ID, queue.StatusFailed)
			e.equal("number of errors", len(got.Errors), len(row.want)+1)
			for i, a := range got.Errors {
				e.equal("attempt", a.Attempt, i+1)
				e.equal("worker", a.Worker, "w")
				if i < len(row.want) {
					e.equal("error", string(a.Error), fmt.Sprintf(`{"n":%d}`, i))
				}
				if i > 0 && !a.At.After(got.Errors[i-1].At) {
					e.Fatalf("errors are not in the order of time: %v", got.Errors)
				}
			}
		})
	}
	e.it("retry_in is used instead of the backoff, exactly", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.create("q", queue.TaskMeta{})
		t := e.hold("q")
		before := e.now()
		after, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Delay: 50 * time.Hour})
		e.ok(err)
		e.equal("status, retries", []any{after.Status, after.Retries}, []any{queue.StatusRetry, queue.DefaultRetries - 1})
		e.near("delayed_at", after.DelayedAt, before.Add(50*time.Hour), aWhile)
	})
	e.it("a permanent failure fails whatever retries are left", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(10)})
		e.create("q", queue.TaskMeta{})
		after := e.release(e.hold("q"), queue.OutcomePermanent, `"no"`)
		e.equal("status, retries", []any{after.Status, after.Retries}, []any{queue.StatusFailed, 10})
		e.equal("result", string(after.Result), `"no"`)
	})
	e.it("with retries of 0 there is one attempt", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(0)})
		e.create("q", queue.TaskMeta{})
		e.equal("status", e.release(e.hold("q"), queue.OutcomeFailure, `1`).Status, queue.StatusFailed)
	})
	e.it("the newest errors of many attempts are kept", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(queue.MaxErrors + 10), RetryDelay: new(time.Duration(0))})
		t := e.create("q", queue.TaskMeta{})
		for i := range queue.MaxErrors + 3 {
			e.release(e.hold("q"), queue.OutcomeFailure, strconv.Itoa(i+1))
		}
		errs := e.get(t.ID).Errors
		e.equal("number", len(errs), queue.MaxErrors)
		e.equal("oldest", []any{errs[0].Attempt, string(errs[0].Error)}, []any{4, "4"})
		e.equal("newest", errs[len(errs)-1].Attempt, queue.MaxErrors+3)
	})
	e.it("errors come with a task when they are asked for", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		t := e.create("q", queue.TaskMeta{})
		e.release(e.hold("q"), queue.OutcomeFailure, `1`)
		got, err := e.s.GetTasks(e.ctx(), e.ns, []int64{t.ID}, false)
		e.ok(err)
		e.equal("errors", got[0].Errors, []queue.AttemptError(nil))
		e.equal("errors", len(e.get(t.ID).Errors), 1)
	})
	e.it("an operator's retry starts from the beginning, with the queue's present retries and ttl", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(1)})
		t := e.create("q", queue.TaskMeta{})
		e.release(e.hold("q"), queue.OutcomePermanent, `1`)
		e.update("q", queue.QueueMeta{Retries: new(9), TTL: new(10 * time.Hour)})
		before := e.now()
		e.ok(e.one(e.s.RetryTasks, t.ID))
		got := e.status(t.ID, queue.StatusNew)
		e.equal("attempt, retries", []int{got.Attempt, got.Retries}, []int{0, 9})
		e.near("dies_at", got.DiesAt, before.Add(10*time.Hour), aWhile)
		e.equal("payload", string(got.Payload), "{}")
	})
}

// now reads the store's clock from the time of a stored value.
func (e *env) now() time.Time {
	e.Helper()
	q, err := queue.NewQueue("clock", queue.QueueMeta{Name: "clock"})
	e.ok(err)
	made, err := e.s.CreateQueue(e.ctx(), q)
	if queue.KindOf(err) == queue.KindAlreadyExists {
		made, err = e.s.UpdateQueue(e.ctx(), "clock", "clock", queue.QueueMeta{})
	}
	e.ok(err)
	return made.UpdatedAt
}
