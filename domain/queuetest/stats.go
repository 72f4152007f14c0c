package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testStats(e *env) {
	e.it("counts by status are right after every step, folded or not", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(1), RetryDelay: new(10 * time.Hour), TTL: new(100 * time.Hour), Retention: new(1000 * time.Hour)})
		check := func(want map[queue.Status]int64, ready, delayed int64) {
			e.Helper()
			for range 2 {
				e.counts("q", want)
				st := e.stats("q")
				e.equal("ready, delayed", []int64{st.Ready, st.Delayed}, []int64{ready, delayed})
				e.chores(queue.ChoreFold)
			}
		}
		check(nil, 0, 0)
		e.createN("q", 6)
		check(map[queue.Status]int64{queue.StatusNew: 6}, 6, 0)
		e.create("q", queue.TaskMeta{Delay: 5 * time.Hour})
		check(map[queue.Status]int64{queue.StatusNew: 7}, 6, 1)
		held := e.retain("w", 4, "q")
		check(map[queue.Status]int64{queue.StatusNew: 3, queue.StatusRetained: 4}, 2, 1)
		e.release(held[0], queue.OutcomeSuccess, "")
		e.release(held[1], queue.OutcomeFailure, "")
		e.release(held[2], queue.OutcomePermanent, "")
		e.release(held[3], queue.OutcomeHandBack, "")
		check(map[queue.Status]int64{queue.StatusNew: 4, queue.StatusRetry: 1, queue.StatusReleased: 1, queue.StatusFailed: 1}, 3, 2)
		e.advance(6 * time.Hour)
		e.chores(queue.ChorePromote)
		check(map[queue.Status]int64{queue.StatusNew: 4, queue.StatusRetry: 1, queue.StatusReleased: 1, queue.StatusFailed: 1}, 4, 1)
		e.ok(e.one(e.s.CancelTasks, held[1].ID))
		check(map[queue.Status]int64{queue.StatusNew: 4, queue.StatusCancelled: 1, queue.StatusReleased: 1, queue.StatusFailed: 1}, 4, 0)
		e.ok(e.one(e.s.RetryTasks, held[2].ID))
		check(map[queue.Status]int64{queue.StatusNew: 5, queue.StatusCancelled: 1, queue.StatusReleased: 1}, 5, 0)
		e.ok(e.one(e.s.DeleteTasks, held[1].ID))
		check(map[queue.Status]int64{queue.StatusNew: 5, queue.StatusReleased: 1}, 5, 0)
		e.advance(200 * time.Hour)
		e.chores(queue.ChoreExpire)
		check(map[queue.Status]int64{queue.StatusExpired: 5, queue.StatusReleased: 1}, 0, 0)
		e.advance(2000 * time.Hour)
		e.chores(queue.ChorePrune)
		check(nil, 0, 0)
	})
	e.it("stats have the pause that ends by itself, and the starts by the rate limit", func(e *env) {
		e.queue("q", queue.QueueMeta{FlowMeta: queue.FlowMeta{RateLimit: new(30), RatePeriod: new(time.Minute)}})
		e.equal("starts a second", e.stats("q").StartsPerSecond, 0.5)
		e.create("q", queue.TaskMeta{})
		held := e.hold("q")
		_, err := e.tryRelease(queue.Release{
			ID: held.ID, Token: held.Lease.Token, Outcome: queue.OutcomeSnooze, Delay: time.Hour, Scope: queue.ScopeQueue,
		})
		e.ok(err)
		if e.stats("q").PausedUntil.IsZero() {
			e.Fatal("the queue has no pause")
		}
		e.advance(2 * time.Hour)
		e.equal("after the pause", e.stats("q").PausedUntil, time.Time{})
	})
	e.it("the oldest ready age is that of the task that is ready the longest", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.equal("age of nothing", e.stats("q").OldestReadyAge, time.Duration(0))
		e.create("q", queue.TaskMeta{Delay: 1000 * time.Hour})
		e.equal("age of what is delayed", e.stats("q").OldestReadyAge, time.Duration(0))
		e.create("q", queue.TaskMeta{Priority: 9})
		e.advance(10 * time.Hour)
		e.create("q", queue.TaskMeta{})
		e.advance(time.Hour)
		if age := e.stats("q").OldestReadyAge; age < 11*time.Hour || age > 11*time.Hour+aWhile {
			e.Fatalf("age is %v, want 11h", age)
		}
		e.equal("held", len(e.retain("w", 9, "q")), 2)
		e.equal("age of nothing", e.stats("q").OldestReadyAge, time.Duration(0))
	})
	e.it("rates are those of the last minute", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 120)
		for _, t := range e.retain("w", 60, "q") {
			e.release(t, queue.OutcomeSuccess, "")
		}
		e.chores(queue.ChoreFold)
		st := e.stats("q")
		if st.CreatedPerSecond < 1 || st.CreatedPerSecond > 200 || st.FinishedPerSecond < 0.5 || st.FinishedPerSecond > 100 {
			e.Fatalf("rates are %v created and %v finished", st.CreatedPerSecond, st.FinishedPerSecond)
		}
		e.advance(time.Hour)
		st = e.stats("q")
		e.equal("rates", []float64{st.CreatedPerSecond, st.FinishedPerSecond}, []float64{0, 0})
	})
	e.it("the stats of all queues are in the order of names", func(e *env) {
		for _, q := range []string{"c", "a", "b"} {
			e.queue(q, queue.QueueMeta{})
		}
		e.createN("b", 3)
		all, err := e.s.QueueStats(e.ctx(), e.ns, "")
		e.ok(err)
		var names []string
		for _, st := range all {
			names = append(names, st.Queue)
			e.equal("namespace", st.Namespace, e.ns)
		}
		e.equal("names", names, []string{"a", "b", "c"})
		e.equal("new in b", all[1].Counts[queue.StatusNew], int64(3))
	})
}
