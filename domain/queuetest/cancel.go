package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testCancel(e *env) {
	e.it("a delayed task is cancelled at once and never becomes due", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		t := e.create("q", queue.TaskMeta{Delay: time.Hour})
		e.ok(e.one(e.s.CancelTasks, t.ID))
		e.status(t.ID, queue.StatusCancelled)
		e.pass(2 * time.Hour)
		e.nothing("q")
	})
	for _, o := range outcomes() {
		e.it("a cancel of a retained task ends it cancelled when its holder says "+string(o), func(e *env) {
			e.queue("q", queue.QueueMeta{})
			e.create("q", queue.TaskMeta{})
			t := e.hold("q")
			e.ok(e.one(e.s.CancelTasks, t.ID))
			e.ok(e.one(e.s.CancelTasks, t.ID)) // a second cancel changes nothing
			after := e.release(t, o, "")
			e.equal("status", after.Status, queue.StatusCancelled)
			e.equal("still asked", after.CancelRequested, false)
			e.status(t.ID, queue.StatusCancelled)
			e.nothing("q")
		})
	}
	e.it("a cancel that was asked for holds when the lease runs out", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(time.Hour)})
		e.create("q", queue.TaskMeta{})
		t := e.hold("q")
		e.ok(e.one(e.s.CancelTasks, t.ID))
		e.pass(2 * time.Hour)
		e.status(t.ID, queue.StatusCancelled)
	})
	e.it("a cancel of tasks that were retained together asks for each of them", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 5)
		held := e.retain("w", 5, "q")
		e.bulk(e.s.CancelTasks, queue.Selection{IDs: made[:2]})
		b := e.bulk(e.s.CancelTasks, queue.Selection{IDs: made[1:4]})
		e.equal("matched, moved", []int64{b.Matched, b.Moved}, []int64{3, 3})
		for i, t := range held {
			want := queue.StatusReleased
			if i < 4 {
				want = queue.StatusCancelled
			}
			e.equal("status", e.release(t, queue.OutcomeSuccess, "").Status, want)
		}
	})
	e.it("a cancel of what is not there is not found", func(e *env) {
		e.kind(e.one(e.s.CancelTasks, 1<<60), queue.KindNotFound)
		e.kind(e.one(e.s.RetryTasks, 1<<60), queue.KindNotFound)
		e.kind(e.one(e.s.DeleteTasks, 1<<60), queue.KindNotFound)
	})
	e.it("an operator's retry of a cancelled task is retained without the old cancel", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.create("q", queue.TaskMeta{})
		t := e.hold("q")
		e.ok(e.one(e.s.CancelTasks, t.ID))
		e.release(t, queue.OutcomeSuccess, "")
		e.ok(e.one(e.s.RetryTasks, t.ID))
		again := e.hold("q")
		e.equal("cancel requested", again.CancelRequested, false)
		e.equal("status", e.release(again, queue.OutcomeSuccess, "").Status, queue.StatusReleased)
	})
}

func testBulk(e *env) {
	e.it("a task without a lease is deleted, one that is held is not", func(e *env) {
		for _, s := range queue.Statuses() {
			e.it(string(s), func(e *env) {
				t := e.reach(s)
				if s == queue.StatusRetained {
					e.unchanged(t.ID, func() { e.kind(e.one(e.s.DeleteTasks, t.ID), queue.KindConflict) })
					return
				}
				e.ok(e.one(e.s.DeleteTasks, t.ID))
				if e.find(t.ID) != nil {
					e.Fatal("it is still there")
				}
				e.kind(e.one(e.s.DeleteTasks, t.ID), queue.KindNotFound)
				e.counts("q", nil)
				e.nothing("q")
			})
		}
	})
	e.it("a selection by ids reports each that was not moved", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 3)
		e.release(e.hold("q"), queue.OutcomeSuccess, "")
		b := e.bulk(e.s.CancelTasks, queue.Selection{IDs: []int64{made[0], made[1], made[2], 1 << 60, made[1]}})
		e.equal("matched, moved", []int64{b.Matched, b.Moved}, []int64{2, 2})
		e.equal("errors", len(b.Errs), 2)
		e.kind(b.Errs[made[0]], queue.KindConflict)
		e.kind(b.Errs[1<<60], queue.KindNotFound)
		e.status(made[0], queue.StatusReleased)
		e.status(made[1], queue.StatusCancelled)
	})
	e.it("a selection by filter takes what the move is allowed for", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.queue("other", queue.QueueMeta{})
		made := e.createN("q", 250)
		rest := e.createN("other", 2)
		e.release(e.hold("q"), queue.OutcomeSuccess, "")
		held := e.hold("q")
		b := e.bulk(e.s.CancelTasks, queue.Selection{Filter: &queue.TaskFilter{Queue: "q"}})
		e.equal("matched, moved, errors", []int64{b.Matched, b.Moved, int64(len(b.Errs))}, []int64{249, 249, 0})
		e.tallies(b.Tallies, queue.Tally{Queue: "q", Was: queue.StatusNew, Is: queue.StatusCancelled, N: 248})
		e.counts("q", map[queue.Status]int64{queue.StatusReleased: 1, queue.StatusRetained: 1, queue.StatusCancelled: 248})
		e.equal("asked", e.get(held.ID).CancelRequested, true)
		e.status(rest[0], queue.StatusNew)
		b = e.bulk(e.s.RetryTasks, queue.Selection{Filter: &queue.TaskFilter{Statuses: []queue.Status{queue.StatusCancelled}}})
		e.equal("matched, moved", []int64{b.Matched, b.Moved}, []int64{248, 248})
		e.equal("ready", e.stats("q").Ready, int64(248))
		b = e.bulk(e.s.DeleteTasks, queue.Selection{Filter: &queue.TaskFilter{Queue: "q"}})
		e.equal("matched, moved", []int64{b.Matched, b.Moved}, []int64{249, 249})
		e.tallies(b.Tallies, queue.Tally{Queue: "q", Was: queue.StatusNew, N: 248}, queue.Tally{Queue: "q", Was: queue.StatusReleased, N: 1})
		e.counts("q", map[queue.Status]int64{queue.StatusRetained: 1})
		if e.find(made[5]) != nil {
			e.Fatal("a deleted task is there")
		}
	})
	e.it("a dry run counts the same and changes nothing", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 4)
		e.release(e.hold("q"), queue.OutcomeSuccess, "")
		e.hold("q")
		for _, c := range []struct {
			name string
			do   bulkFunc
			want int64
		}{{"cancel", e.s.CancelTasks, 3}, {"retry", e.s.RetryTasks, 1}, {"delete", e.s.DeleteTasks, 3}} {
			b := e.bulk(c.do, queue.Selection{Filter: &queue.TaskFilter{Queue: "q"}, DryRun: true})
			e.equal(c.name+" by filter: matched, moved", []int64{b.Matched, b.Moved}, []int64{c.want, 0})
			b = e.bulk(c.do, queue.Selection{IDs: made, DryRun: true})
			e.equal(c.name+" by ids: matched, moved", []int64{b.Matched, b.Moved}, []int64{c.want, 0})
			e.equal(c.name+" errors", len(b.Errs), 4-int(c.want))
			for _, err := range b.Errs {
				e.kind(err, queue.KindConflict)
			}
		}
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 2, queue.StatusReleased: 1, queue.StatusRetained: 1})
	})
	e.it("a filter that matches nothing moves nothing", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 2)
		b := e.bulk(e.s.DeleteTasks, queue.Selection{Filter: &queue.TaskFilter{Queue: "none"}})
		e.equal("matched, moved", []int64{b.Matched, b.Moved}, []int64{0, 0})
		b = e.bulk(e.s.DeleteTasks, queue.Selection{Filter: &queue.TaskFilter{Worker: "nobody"}})
		e.equal("matched, moved", []int64{b.Matched, b.Moved}, []int64{0, 0})
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 2})
	})
}
