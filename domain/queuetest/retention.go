package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testRetention(e *env) {
	for _, c := range []struct {
		sentence string
		meta     queue.QueueMeta
		stay     time.Duration
	}{
		{"finished tasks stay for the retention", queue.QueueMeta{Retention: new(30 * time.Hour), TTL: new(500 * time.Hour)}, 30 * time.Hour},
		{"without a retention finished tasks stay for the ttl", queue.QueueMeta{TTL: new(20 * time.Hour)}, 20 * time.Hour},
		{"without retention and ttl finished tasks stay for 7 days", queue.QueueMeta{}, 7 * 24 * time.Hour},
	} {
		e.it(c.sentence, func(e *env) {
			e.queue("q", c.meta)
			t := e.create("q", queue.TaskMeta{})
			e.release(e.hold("q"), queue.OutcomeSuccess, `1`)
			e.pass(c.stay - time.Hour)
			e.status(t.ID, queue.StatusReleased)
			e.advance(2 * time.Hour)
			if e.find(t.ID) != nil {
				e.Fatal("it can be seen past its retention")
			}
			e.equal("listed", e.list(queue.TaskFilter{}, queue.Page{}).Count, int64(0))
			e.kind(e.one(e.s.RetryTasks, t.ID), queue.KindNotFound)
			e.chores(queue.ChorePrune)
			e.counts("q", nil)
			if e.find(t.ID) != nil {
				e.Fatal("it is there past its retention")
			}
		})
	}
	e.it("a changed retention holds for what is finished already", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		t := e.create("q", queue.TaskMeta{})
		e.release(e.hold("q"), queue.OutcomeSuccess, "")
		e.pass(100 * time.Hour)
		e.update("q", queue.QueueMeta{Retention: new(1000 * time.Hour)})
		e.pass(100 * time.Hour)
		e.status(t.ID, queue.StatusReleased)
		e.update("q", queue.QueueMeta{Retention: new(time.Hour)})
		e.chores(queue.ChorePrune)
		if e.find(t.ID) != nil {
			e.Fatal("it is there past its retention")
		}
	})
	e.it("retention never touches a task that is not finished", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(time.Hour), Lease: new(10_000 * time.Hour)})
		made := e.createN("q", 2)
		delayed := e.create("q", queue.TaskMeta{Delay: 5000 * time.Hour})
		e.hold("q")
		e.pass(2000 * time.Hour)
		e.status(made[0], queue.StatusRetained)
		e.status(made[1], queue.StatusNew)
		e.status(delayed.ID, queue.StatusNew)
	})
	e.it("an operator's retry saves a task from its retention", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(10 * time.Hour)})
		t := e.create("q", queue.TaskMeta{})
		e.release(e.hold("q"), queue.OutcomeSuccess, "")
		e.pass(9 * time.Hour)
		e.ok(e.one(e.s.RetryTasks, t.ID))
		e.pass(20 * time.Hour)
		e.status(t.ID, queue.StatusNew)
	})
}
