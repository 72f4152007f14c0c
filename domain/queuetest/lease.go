package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testLease(e *env) {
	e.it("a heartbeat extends the lease from now on", func(e *env) {
		e.queue("mail", queue.QueueMeta{Lease: new(2 * time.Hour)})
		e.create("mail", queue.TaskMeta{})
		t := e.hold("mail")
		e.advance(time.Hour)
		b := e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token})
		e.ok(b.Err)
		e.equal("token", b.Lease.Token, t.Lease.Token)
		e.equal("duration", b.Lease.Duration, 2*time.Hour)
		e.equal("cancel requested", b.CancelRequested, false)
		e.near("end", b.Lease.ExpiresAt, t.StartedAt.Add(3*time.Hour), aWhile)
		e.advance(90 * time.Minute)
		e.chores(queue.ChoreRescue)
		e.status(t.ID, queue.StatusRetained)
		e.release(t, queue.OutcomeSuccess, "")
	})
	e.it("a heartbeat may ask for another lease", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.create("mail", queue.TaskMeta{})
		t := e.hold("mail")
		b := e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Lease: 50 * time.Hour})
		e.equal("duration", b.Lease.Duration, 50*time.Hour)
		e.near("end", b.Lease.ExpiresAt, t.StartedAt.Add(50*time.Hour), aWhile)
	})
	e.it("a heartbeat without a lease keeps what the retain granted", func(e *env) {
		e.queue("mail", queue.QueueMeta{Lease: new(30 * time.Minute)})
		e.createN("mail", 2)
		held := e.retainFor(5*time.Hour, "w", 2, "mail")
		e.update("mail", queue.QueueMeta{Lease: new(time.Minute)}) // a granted lease stays as it is
		for i := range 3 {
			e.advance(time.Hour)
			b := e.beat(queue.Heartbeat{ID: held[0].ID, Token: held[0].Lease.Token})
			e.ok(b.Err)
			e.equal("duration", b.Lease.Duration, 5*time.Hour)
			e.near("end", b.Lease.ExpiresAt, held[0].StartedAt.Add(time.Duration(i+6)*time.Hour), aWhile)
		}
	})
	e.it("a heartbeat without a lease keeps the queue's lease as it was when it was granted", func(e *env) {
		e.queue("mail", queue.QueueMeta{Lease: new(5 * time.Hour)})
		e.createN("mail", 1)
		t := e.retain("w", 1, "mail")[0]
		e.update("mail", queue.QueueMeta{Lease: new(time.Minute)})
		e.advance(time.Hour)
		b := e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token})
		e.ok(b.Err)
		e.equal("duration", b.Lease.Duration, 5*time.Hour)
		e.near("end", b.Lease.ExpiresAt, t.StartedAt.Add(6*time.Hour), aWhile)
	})
	e.it("a heartbeat without a lease keeps what the last one with a lease was granted", func(e *env) {
		e.queue("mail", queue.QueueMeta{Lease: new(time.Hour)})
		e.createN("mail", 2)
		t := e.retain("w", 2, "mail")[0]
		e.ok(e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Lease: 50 * time.Hour}).Err)
		e.advance(10 * time.Hour)
		b := e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token})
		e.ok(b.Err)
		e.near("end", b.Lease.ExpiresAt, t.StartedAt.Add(60*time.Hour), aWhile)
	})
	e.it("a heartbeat with a lease may shorten the present one", func(e *env) {
		e.queue("mail", queue.QueueMeta{Lease: new(50 * time.Hour)})
		e.createN("mail", 1)
		t := e.hold("mail")
		b := e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Lease: time.Hour})
		e.ok(b.Err)
		e.near("end", b.Lease.ExpiresAt, t.StartedAt.Add(time.Hour), aWhile)
		e.advance(2 * time.Hour)
		e.chores(queue.ChoreRescue)
		e.status(t.ID, queue.StatusRetry)
	})
	e.it("progress stays with the task until there is other", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.create("mail", queue.TaskMeta{})
		t := e.hold("mail")
		e.ok(e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Progress: []byte(`{"done":1}`)}).Err)
		e.ok(e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token}).Err)
		e.equal("progress", string(e.get(t.ID).Progress), `{"done":1}`)
		e.ok(e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Progress: []byte(`2`)}).Err)
		e.equal("progress", string(e.get(t.ID).Progress), `2`)
	})
	e.it("a stale token extends nothing", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.create("mail", queue.TaskMeta{})
		t := e.hold("mail")
		e.unchanged(t.ID, func() {
			b := e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token + 1_000_000, Progress: []byte(`1`)})
			e.kind(b.Err, queue.KindLeaseLost)
		})
		e.release(t, queue.OutcomeSuccess, "")
		e.unchanged(t.ID, func() {
			e.kind(e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Progress: []byte(`1`)}).Err, queue.KindLeaseLost)
		})
	})
	e.it("the token of another task extends nothing", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.createN("mail", 2)
		two := e.retain("w", 2, "mail")
		e.unchanged(two[0].ID, func() {
			e.kind(e.beat(queue.Heartbeat{ID: two[0].ID, Token: two[1].Lease.Token, Progress: []byte(`1`)}).Err, queue.KindLeaseLost)
		})
	})
	e.it("a heartbeat of a task that is not there is not found", func(e *env) {
		err := e.beat(queue.Heartbeat{ID: 1 << 60, Token: 1}).Err
		e.kind(err, queue.KindNotFound)
		e.subject(err, "task 1152921504606846976", "")
	})
	e.it("a lease that ran out is good until the task has been rescued", func(e *env) {
		e.queue("mail", queue.QueueMeta{Lease: new(time.Hour)})
		e.createN("mail", 2)
		two := e.retain("w", 2, "mail")
		e.advance(2 * time.Hour)
		b := e.beat(queue.Heartbeat{ID: two[0].ID, Token: two[0].Lease.Token})
		e.ok(b.Err)
		e.release(two[1], queue.OutcomeSuccess, `1`)
		e.chores(queue.ChoreRescue)
		e.status(two[0].ID, queue.StatusRetained)
		e.status(two[1].ID, queue.StatusReleased)
	})
	e.it("a batch of heartbeats is answered in order, each by itself", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.createN("mail", 3)
		held := e.retain("w", 3, "mail")
		out, err := e.s.HeartbeatTasks(e.ctx(), e.ns, []queue.Heartbeat{
			{ID: held[2].ID, Token: held[2].Lease.Token},
			{ID: 1 << 60, Token: 1},
			{ID: held[0].ID, Token: held[1].Lease.Token},
			{ID: held[1].ID, Token: held[1].Lease.Token, Lease: 9 * time.Hour},
		})
		e.ok(err)
		e.ok(out[0].Err)
		e.equal("token", out[0].Lease.Token, held[2].Lease.Token)
		e.kind(out[1].Err, queue.KindNotFound)
		e.kind(out[2].Err, queue.KindLeaseLost)
		e.ok(out[3].Err)
		e.equal("duration", out[3].Lease.Duration, 9*time.Hour)
	})
}
