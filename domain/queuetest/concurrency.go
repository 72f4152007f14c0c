package queuetest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testConcurrency(e *env) {
	e.it("at most the concurrency of a queue is retained, over all workers", func(e *env) {
		e.queue("q", queue.QueueMeta{Concurrency: new(3)})
		e.createN("q", 10)
		first := e.retain("a", 2, "q")
		e.equal("first", len(first), 2)
		second := e.retain("b", 5, "q")
		e.equal("second", len(second), 1)
		e.nothing("q")
		e.nothing()
		e.release(first[0], queue.OutcomeSuccess, "")
		e.equal("after a success", len(e.retain("c", 5, "q")), 1)
		e.release(first[1], queue.OutcomeFailure, "")
		e.equal("after a failure", len(e.retain("c", 5, "q")), 1)
		e.release(second[0], queue.OutcomeHandBack, "")
		e.equal("after a hand back", len(e.retain("c", 5, "q")), 1)
		e.nothing("q")
	})
	e.it("a queue at its limit does not keep others from being served", func(e *env) {
		e.queue("full", queue.QueueMeta{Concurrency: new(1)})
		e.queue("free", queue.QueueMeta{})
		e.createN("full", 5)
		e.createN("free", 5)
		e.equal("held", len(e.retain("w", 100)), 6)
	})
	e.it("a task of an expired lease counts until it is rescued", func(e *env) {
		e.queue("q", queue.QueueMeta{Concurrency: new(1), Lease: new(time.Hour), RetryDelay: new(100 * time.Hour)})
		e.createN("q", 2)
		e.hold("q")
		e.advance(2 * time.Hour)
		e.nothing("q")
		e.chores(queue.ChoreRescue)
		e.hold("q")
	})
	e.it("an update of the limit holds from the next retain on", func(e *env) {
		e.queue("q", queue.QueueMeta{Concurrency: new(1)})
		e.createN("q", 9)
		e.equal("held", len(e.retain("w", 9, "q")), 1)
		e.update("q", queue.QueueMeta{Concurrency: new(3)})
		e.equal("held", len(e.retain("w", 9, "q")), 2)
		e.update("q", queue.QueueMeta{Concurrency: new(2)})
		e.nothing("q")
		e.update("q", queue.QueueMeta{Concurrency: new(0)})
		e.equal("held", len(e.retain("w", 9, "q")), 6)
	})
	e.Run("the limit holds under concurrent retains and releases", func(t *testing.T) {
		e := e.with(t)
		const limit, total = 4, 200
		e.queue("q", queue.QueueMeta{Concurrency: new(limit)})
		e.createN("q", total)
		var held, done atomic.Int64
		// One context for all workers: a store that gives no more tasks ends the test.
		ctx := e.ctx()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for done.Load() < total && !e.Failed() {
					out, err := e.s.RetainTasks(ctx, queue.Retain{
						Namespace: e.ns, Queues: []string{"q"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 3}},
					})
					if err != nil {
						e.Errorf("retain: %v", err)
						return
					}
					n := int64(len(out[0]))
					if now := held.Add(n); now > limit {
						e.Errorf("%d tasks are held, at most %d", now, limit)
					}
					var rel []queue.Release
					for _, task := range out[0] {
						rel = append(rel, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess})
					}
					// Subtract before the release: every counted task is held for sure.
					held.Add(-n)
					if n == 0 {
						continue
					}
					if _, err := e.s.ReleaseTasks(ctx, e.ns, rel); err != nil {
						e.Errorf("release: %v", err)
						return
					}
					done.Add(n)
				}
			})
		}
		wg.Wait()
		e.counts("q", map[queue.Status]int64{queue.StatusReleased: total})
	})
}

func testPause(e *env) {
	e.it("nothing is retained from a paused queue, and everything after it is resumed", func(e *env) {
		e.queue("q", queue.QueueMeta{Paused: new(true)})
		e.queue("other", queue.QueueMeta{})
		made := e.createN("q", 3)
		e.createN("other", 1)
		e.nothing("q")
		e.equal("paused", e.stats("q").Paused, true)
		e.equal("concurrency", e.stats("q").Concurrency, 0)
		e.equal("from any", len(e.retain("w", 10)), 1)
		e.update("q", queue.QueueMeta{Paused: new(false), Concurrency: new(3)})
		e.equal("concurrency", e.stats("q").Concurrency, 3)
		e.equal("paused", e.stats("q").Paused, false)
		e.equal("retained", ids(e.retain("w", 10)), made)
	})
	e.it("the holder of a task finishes it when its queue is paused", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 2)
		t := e.hold("q")
		e.update("q", queue.QueueMeta{Paused: new(true)})
		e.ok(e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token}).Err)
		e.equal("status", e.release(t, queue.OutcomeSuccess, "").Status, queue.StatusReleased)
		e.nothing("q")
	})
}
