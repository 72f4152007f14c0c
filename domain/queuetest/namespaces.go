package queuetest

import (
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testNamespaces(e *env) {
	e.it("a namespace sees nothing of another", func(a *env) {
		b := *a
		b.ns = a.ns + "-b"
		a.queue("q", queue.QueueMeta{Retries: new(1)})
		b.queue("q", queue.QueueMeta{Retries: new(2)})
		inA, inB := a.createN("q", 3), b.createN("q", 1)
		a.counts("q", map[queue.Status]int64{queue.StatusNew: 3})
		b.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
		a.equal("from any", ids(b.retain("w", 10)), inB)
		held := a.hold("q")
		a.equal("held", held.ID, inA[0])
		a.unchanged(held.ID, func() {
			if b.find(held.ID) != nil {
				a.Fatal("a task is seen from another namespace")
			}
			for _, token := range []int64{0, held.Lease.Token} {
				_, err := b.tryRelease(queue.Release{ID: held.ID, Token: token, Outcome: queue.OutcomeSuccess})
				a.kind(err, queue.KindNotFound)
			}
			a.kind(b.beat(queue.Heartbeat{ID: held.ID, Token: held.Lease.Token}).Err, queue.KindNotFound)
			for _, f := range []bulkFunc{b.s.CancelTasks, b.s.RetryTasks, b.s.DeleteTasks} {
				a.kind(b.one(f, held.ID), queue.KindNotFound)
			}
		})
		a.unchanged(inA[1], func() {
			b.bulk(b.s.CancelTasks, queue.Selection{Filter: &queue.TaskFilter{Queue: "q"}})
			b.bulk(b.s.DeleteTasks, queue.Selection{Filter: &queue.TaskFilter{Statuses: queue.Statuses()}})
			n, err := b.s.CleanQueue(b.ctx(), b.ns, "q", 0)
			a.ok(err)
			a.equal("cleaned", n.Count, int64(0))
		})
		a.equal("listed", b.list(queue.TaskFilter{}, queue.Page{}).Count, int64(1))
		workers, err := b.s.ListWorkers(b.ctx(), b.ns)
		a.ok(err)
		a.equal("workers", []any{len(workers), workers[0].Held}, []any{1, int64(1)})
		got := b.events(queue.EventFilter{}, 2)
		for _, ev := range got {
			a.equal("event of", ev.Namespace, b.ns)
		}
		page, err := b.s.ListQueues(b.ctx(), b.ns, queue.Page{})
		a.ok(err)
		a.equal("queues, retries", []any{page.Count, page.Queues[0].Retries}, []any{int64(1), 2})
		_, err = b.s.DeleteQueue(b.ctx(), b.ns, "q")
		a.ok(err)
		a.counts("q", map[queue.Status]int64{queue.StatusNew: 2, queue.StatusRetained: 1})
	})
	e.it("concurrency and pause are those of the namespace's own queue", func(a *env) {
		b := *a
		b.ns = a.ns + "-b"
		a.queue("q", queue.QueueMeta{Concurrency: new(1)})
		b.queue("q", queue.QueueMeta{})
		a.createN("q", 2)
		b.createN("q", 2)
		a.equal("held", len(a.retain("w", 9)), 1)
		a.update("q", queue.QueueMeta{Paused: new(true)})
		b.equal("held", len(b.retain("w", 9)), 2)
	})
	e.it("tickers are those of their namespace", func(a *env) {
		b := *a
		b.ns = a.ns + "-b"
		a.ticker("t", queue.TickerMeta{Period: new(time.Hour)})
		_, err := b.s.GetTicker(b.ctx(), b.ns, "t")
		a.kind(err, queue.KindNotFound)
		b.ticker("t", queue.TickerMeta{Period: new(2 * time.Hour)})
		a.advance(time.Hour + time.Minute)
		a.equal("ticks of b", len(b.take(10, time.Hour)), 0)
		got := a.take(10, time.Hour)
		a.equal("ticks of a", len(got), 1)
		a.ok(b.s.SettleTicks(b.ctx(), b.ns, []int64{got[0].ID}, false))
		a.equal("ticks of a that b gave back", len(a.take(10, time.Hour)), 0)
	})
	e.fresh("namespaces are those with a queue or a ticker, and the system's", func(e *env) {
		list := func() []string {
			e.Helper()
			names, err := e.s.ListNamespaces(e.ctx())
			e.ok(err)
			return names
		}
		if empty := list(); !slices.Contains(empty, queue.SystemNamespace) {
			e.Fatalf("namespaces are %v", empty)
		}
		e.ns = "zebra"
		e.queue("q", queue.QueueMeta{})
		e.ns = "ant"
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour)})
		e.equal("namespaces", list(), []string{"ant", queue.SystemNamespace, "zebra"})
		_, err := e.s.DeleteTicker(e.ctx(), "ant", "t")
		e.ok(err)
		_, err = e.s.DeleteQueue(e.ctx(), "zebra", "q")
		e.ok(err)
		e.equal("namespaces", list(), []string{queue.SystemNamespace})
	})
}
