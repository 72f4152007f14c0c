package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// testHuntedFlow has reports about the limits and the order of other queues as sentences; docs/field-reports.md names them.
func testHuntedFlow(e *env) {
	e.it("a task that ends without a worker gives its place to the next one of its group", func(e *env) {
		e.queue("q", queue.QueueMeta{
			Lease: new(time.Hour), TTL: new(3 * time.Hour), Retries: new(0), Retention: new(time.Minute), FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)},
		})
		made := e.createInOne("q", same("a", 4)...)
		e.equal("the first", e.takeIDs(10, "q"), made[:1])
		e.pass(2 * time.Hour) // its lease lapses, and its worker never comes back
		e.status(made[0], queue.StatusFailed)
		e.equal("after a lost worker", e.takeIDs(10, "q"), made[1:2])

		e.bulk(e.s.CancelTasks, queue.Selection{IDs: made[1:2]})
		e.end(made[1], queue.OutcomeSuccess)
		e.equal("after a cancel", e.takeIDs(10, "q"), made[2:3])
		e.pass(2 * time.Hour) // past the ttl of all; the retention removes the ended ones
		e.nothing("q")
		later := e.createIn("q", "a")
		e.equal("after the others are gone", e.takeIDs(10, "q"), later)
		e.equal("places of the group", e.group("q", "a").Retained, int64(1))
	})
	e.it("a backlog above the rate delays no task that comes after it, below the rate", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{RateLimit: new(10), RatePeriod: new(time.Minute), RateBurst: new(10)}))
		e.createN("q", 30)
		for range 3 {
			e.equal("in a minute", len(e.takeIDs(50, "q")), 10)
			e.nothing("q")
			e.advance(time.Minute)
		}
		for range 5 {
			one := e.createN("q", 1)
			e.equal("at once", e.takeIDs(50, "q"), one)
			e.advance(10 * time.Second)
		}
	})
	e.it("tasks above a rate are neither lost nor charged, and keep their order", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{RateLimit: new(2), RatePeriod: new(10 * time.Minute), RateBurst: new(2)}))
		made := e.createN("q", 20)
		var got []int64
		for range 10 {
			e.counts("q", map[queue.Status]int64{queue.StatusNew: int64(20 - len(got)), queue.StatusRetained: int64(len(got))})
			for _, t := range e.retain("w", 20, "q") {
				e.equal("attempt", t.Attempt, 1)
				got = append(got, t.ID)
			}
			e.nothing("q")
			e.advance(10 * time.Minute)
		}
		e.equal("started", got, made)
	})
	e.it("a group of a FIFO queue goes on after a task at its last attempt loses its worker", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(time.Hour), Retries: new(1), RetryDelay: new(time.Minute), FlowMeta: fifo()})
		made := e.createInOne("q", same("a", 2)...)
		for range 2 {
			e.equal("the first", e.takeIDs(10, "q"), made[:1])
			e.pass(2 * time.Hour)
			e.pass(10 * time.Minute) // past the delay of the retry
		}
		e.status(made[0], queue.StatusFailed)
		e.equal("the second", e.takeIDs(10, "q"), made[1:])
	})
	e.it("a retry that comes back beside a newer task of its key stops neither", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour), Lease: new(1000 * time.Hour)})
		rule := queue.KeyRule{UniqueUntil: queue.UniqueUntilStarted}
		first := e.create("q", queue.TaskMeta{Key: "k", KeyRule: rule})
		e.equal("the first", e.takeIDs(10, "q"), []int64{first.ID})
		e.end(first.ID, queue.OutcomeFailure)
		second := e.create("q", queue.TaskMeta{Key: "k", KeyRule: rule})
		if second.ID == first.ID {
			e.Fatal("a started task still has its key")
		}
		other := e.createN("q", 1)
		e.pass(2 * time.Hour)
		e.equal("all", sortIDs(e.takeIDs(10, "q")), sortIDs([]int64{first.ID, second.ID, other[0]}))
	})
	e.it("a group that is paused while its tasks run starts nothing when they end", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{GroupConcurrency: new(2)}))
		made := e.createInOne("q", same("a", 4)...)
		e.equal("retained", e.takeIDs(10, "q"), made[:2])
		until := e.now().Add(24 * time.Hour)
		e.setGroup("q", "a", queue.GroupMeta{PausedUntil: &until})
		e.end(made[0], queue.OutcomeSuccess)
		e.end(made[1], queue.OutcomeSuccess)
		e.nothing("q")
		e.advance(25 * time.Hour)
		e.equal("after the pause", sortIDs(e.takeIDs(10, "q")), sortIDs(made[2:]))
	})
	e.it("a group that was full when its limit was taken away starts all its tasks", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{GroupConcurrency: new(1)}))
		made := e.createInOne("q", same("a", 5)...)
		e.equal("retained", e.takeIDs(10, "q"), made[:1])
		e.nothing("q")
		e.update("q", queue.QueueMeta{FlowMeta: queue.FlowMeta{GroupConcurrency: new(0)}})
		var got []int64
		for range 5 { // a store may need several looks for tasks that waited
			got = append(got, e.takeIDs(10, "q")...)
		}
		e.equal("the others", sortIDs(got), sortIDs(made[1:]))
	})
}
