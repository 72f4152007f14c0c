package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testFacts(e *env) {
	facts := func(e *env, name string, t *queue.Task) queue.StoreFacts {
		e.Helper()
		f, err := e.s.ReadFacts(e.ctx(), e.ns, name, t)
		e.ok(err)
		return f
	}
	e.it("a queue without tasks has no facts but the time", func(e *env) {
		q := e.queue("q", queue.QueueMeta{})
		f := facts(e, "q", nil)
		e.near("now", f.Now, q.CreatedAt, aWhile)
		f.Now = time.Time{}
		e.equal("facts", f, queue.StoreFacts{})
		_, err := e.s.ReadFacts(e.ctx(), e.ns, "none", nil)
		e.kind(err, queue.KindNotFound)
	})
	e.it("the oldest hold of a queue is known, and that of the task", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(100 * time.Hour)})
		e.queue("other", queue.QueueMeta{})
		made := e.createN("q", 4)
		e.createN("other", 1)
		e.retain("elsewhere", 1, "other")
		e.advance(10 * time.Hour)
		first := e.retain("ann", 2, "q")
		e.advance(10 * time.Hour)
		second := e.retain("bob", 1, "q")[0]

		f := facts(e, "q", e.find(second.ID))
		e.equal("oldest", []any{f.Oldest.Task, f.Oldest.Worker}, []any{first[0].ID, "ann"})
		e.near("since", f.Oldest.Since, first[0].StartedAt, time.Second)
		e.near("expires", f.Oldest.ExpiresAt, first[0].Lease.ExpiresAt, time.Second)
		e.equal("present", []any{f.Present.Task, f.Present.Worker}, []any{second.ID, "bob"})
		e.near("expires", f.Present.ExpiresAt, second.Lease.ExpiresAt, time.Second)

		e.release(first[0], queue.OutcomeSuccess, "")
		f = facts(e, "q", e.find(made[3]))
		e.equal("oldest, present", []any{f.Oldest.Task, f.Present == nil}, []any{first[1].ID, true})
	})
	e.it("a lease that ran out is known until its task is taken back", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(time.Hour)})
		e.createN("q", 1)
		held := e.hold("q")
		e.equal("expired", facts(e, "q", nil).ExpiredAt.IsZero(), true)
		e.advance(2 * time.Hour)
		e.near("expired", facts(e, "q", nil).ExpiredAt, held.Lease.ExpiresAt, time.Second)
		e.chores(queue.ChoreRescue)
		f := facts(e, "q", nil)
		e.equal("expired, oldest", []any{f.ExpiredAt.IsZero(), f.Oldest == nil}, []any{true, true})
	})
	e.it("the next due time of a queue is known, and a due task that is not ready", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.queue("other", queue.QueueMeta{})
		e.create("other", queue.TaskMeta{Delay: time.Hour})
		late := e.create("q", queue.TaskMeta{Delay: 20 * time.Hour})
		early := e.create("q", queue.TaskMeta{Delay: 10 * time.Hour})

		f := facts(e, "q", e.find(early.ID))
		e.near("due", f.DueAt, early.DelayedAt, time.Second)
		e.equal("unpromoted", f.Unpromoted, false)
		e.advance(11 * time.Hour)
		e.equal("unpromoted", facts(e, "q", e.find(early.ID)).Unpromoted, true)
		e.equal("unpromoted", facts(e, "q", e.find(late.ID)).Unpromoted, false)
		e.chores(queue.ChorePromote)
		f = facts(e, "q", e.find(early.ID))
		e.near("due", f.DueAt, late.DelayedAt, time.Second)
		e.equal("unpromoted", f.Unpromoted, false)
	})
}

func serveExplanations(v *svc) {
	explain := func(v *svc, id int64) []queue.ReasonCode {
		v.Helper()
		e, err := v.s.ExplainTask(v.ctx(), id)
		v.ok(err)
		v.equal("task, queue, namespace", []any{e.Task, e.Queue, e.Namespace}, []any{id, "q", v.s.Namespace()})
		return codesOf(e)
	}
	v.it("a task is explained in each state", func(v *svc) {
		v.queue("q", queue.QueueMeta{Concurrency: new(1), Retries: new(1)})
		made := v.createN("q", 2)
		v.equal("without workers", explain(v, made[0]), []queue.ReasonCode{queue.ReasonNoHolder})
		held := v.hold("q")
		v.equal("held", explain(v, held.ID), []queue.ReasonCode{queue.ReasonRetained})
		v.equal("behind it", explain(v, made[1]), []queue.ReasonCode{queue.ReasonConcurrency})

		e, err := v.s.ExplainTask(v.ctx(), made[1])
		v.ok(err)
		h := e.Reasons[0].Hold
		v.equal("hold", []any{h.Task, h.Worker}, []any{held.ID, "w"})
		sameTime(v, "since", h.Since, held.StartedAt)
		sameTime(v, "expires", h.ExpiresAt, held.Lease.ExpiresAt)

		after := v.release(held, queue.OutcomeFailure)
		e, err = v.s.ExplainTask(v.ctx(), held.ID)
		v.ok(err)
		v.equal("after a failure", codesOf(e), []queue.ReasonCode{queue.ReasonBackoff})
		sameTime(v, "until", e.Reasons[0].Until, after.DelayedAt)
		v.equal("status", e.Status, queue.StatusRetry)
		if e.At.IsZero() || e.Reasons[0].Text == "" {
			v.Fatalf("explanation is %+v", e)
		}

		v.release(v.hold("q"), queue.OutcomePermanent)
		v.equal("finished", explain(v, made[1]), []queue.ReasonCode{queue.ReasonFinished})
		_, err = v.s.ExplainTask(v.ctx(), held.ID+1_000_000)
		v.kind(err, queue.KindNotFound)
		_, err = v.s.ExplainTask(v.ctx(), 0)
		v.invalid(err, queue.KindInvalid, "id")
	})
	v.it("a queue is explained", func(v *svc) {
		v.queue("q", queue.QueueMeta{Paused: new(true)})
		v.create("q", queue.TaskMeta{})
		e, err := v.s.ExplainQueue(v.ctx(), " Q ")
		v.ok(err)
		v.equal("queue, task, status", []any{e.Queue, e.Task, e.Status}, []any{"q", int64(0), queue.Status("")})
		v.equal("reasons", codesOf(e), []queue.ReasonCode{queue.ReasonPaused})
		if e.Reasons[0].Advice == "" {
			v.Fatal("there should be advice")
		}
		_, err = v.s.ExplainQueue(v.ctx(), "none")
		v.kind(err, queue.KindNotFound)
	})
}

func codesOf(e *queue.Explanation) []queue.ReasonCode {
	var codes []queue.ReasonCode
	for _, r := range e.Reasons {
		codes = append(codes, r.Code)
	}
	return codes
}
