package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testExpiry(e *env) {
	e.it("a task dies its queue's ttl after it became due", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(10 * time.Hour)})
		now := e.create("q", queue.TaskMeta{})
		e.near("dies_at", now.DiesAt, now.CreatedAt.Add(10*time.Hour), time.Second)
		later := e.create("q", queue.TaskMeta{Delay: 5 * time.Hour})
		e.near("dies_at", later.DiesAt, later.CreatedAt.Add(15*time.Hour), time.Second)
	})
	e.it("an expired task is never retained, also before the background work comes by", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(2 * time.Hour), Retention: new(1000 * time.Hour)})
		first := e.create("q", queue.TaskMeta{})
		e.advance(time.Hour)
		second := e.create("q", queue.TaskMeta{})
		e.advance(90 * time.Minute)
		e.equal("retained", ids(e.retain("w", 10, "q")), []int64{second.ID})
		e.chores(queue.ChoreExpire)
		e.status(first.ID, queue.StatusExpired)
	})
	e.it("a delayed task's ttl does not run out before it is due", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(2 * time.Hour), Retention: new(1000 * time.Hour)})
		t := e.create("q", queue.TaskMeta{Delay: 50 * time.Hour})
		e.pass(51 * time.Hour)
		e.equal("retained", e.hold("q").ID, t.ID)
	})
	e.it("a task with a backoff past its ttl expires", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(2 * time.Hour), RetryDelay: new(20 * time.Hour), Retention: new(1000 * time.Hour)})
		t := e.create("q", queue.TaskMeta{})
		e.release(e.hold("q"), queue.OutcomeFailure, `1`)
		e.pass(3 * time.Hour)
		e.equal("result", string(e.status(t.ID, queue.StatusExpired).Result), `1`)
	})
	e.it("a retained task does not expire while its lease lives, and ends as its holder says", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(2 * time.Hour), Lease: new(100 * time.Hour), Retention: new(1000 * time.Hour)})
		t := e.create("q", queue.TaskMeta{})
		held := e.hold("q")
		e.pass(50 * time.Hour)
		e.status(t.ID, queue.StatusRetained)
		e.ok(e.beat(queue.Heartbeat{ID: held.ID, Token: held.Lease.Token}).Err)
		e.equal("status", e.release(held, queue.OutcomeSuccess, "").Status, queue.StatusReleased)
	})
	e.it("a queue without a ttl never expires a task", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		t := e.create("q", queue.TaskMeta{})
		e.pass(50_000 * time.Hour)
		e.equal("retained", e.hold("q").ID, t.ID)
	})
	e.it("an expiry can be retried by an operator, with a new time to live", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(2 * time.Hour), Retention: new(1000 * time.Hour)})
		t := e.create("q", queue.TaskMeta{})
		e.pass(3 * time.Hour)
		e.status(t.ID, queue.StatusExpired)
		e.ok(e.one(e.s.RetryTasks, t.ID))
		e.pass(time.Hour)
		e.equal("retained", e.hold("q").ID, t.ID)
	})
}
