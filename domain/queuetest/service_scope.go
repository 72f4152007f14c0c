package queuetest

import (
	"slices"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func serveScope(v *svc) {
	v.it("a service knows its namespace and gives itself for another", func(v *svc) {
		v.equal("namespace", v.root.Namespace(), queue.DefaultNamespace)
		v.equal("namespace", v.in("  Other ").Namespace(), "other")
		v.equal("namespace", v.root.Namespace(), queue.DefaultNamespace)
	})
	v.it("bad namespaces, and the system's own, are refused", func(v *svc) {
		for _, n := range []string{"", "1a", "a b", "ä", long(64), queue.SystemNamespace, "PgQueue"} {
			_, err := v.root.In(n)
			v.invalid(err, queue.KindInvalid, "namespace")
		}
	})
	v.it("namespaces are listed, the system's own too", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		names, err := v.root.ListNamespaces(v.ctx())
		v.ok(err)
		if !slices.IsSorted(names) || !slices.Contains(names, v.s.Namespace()) || !slices.Contains(names, queue.SystemNamespace) {
			v.Fatalf("namespaces are %v", names)
		}
	})
	v.it("queues, tasks, tickers, workers, counts and events of one namespace are invisible to another", func(v *svc) {
		other := *v
		other.s = v.in(v.s.Namespace() + "-other")
		v.queue("q", queue.QueueMeta{})
		other.queue("q", queue.QueueMeta{})
		v.create("q", queue.TaskMeta{})
		t := v.hold("q")
		_, err := other.s.GetTask(other.ctx(), t.ID)
		v.kind(err, queue.KindNotFound)
		_, err = other.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess})
		v.kind(err, queue.KindNotFound)
		_, err = other.tryRelease(queue.Release{ID: t.ID, Outcome: queue.OutcomeSuccess})
		v.kind(err, queue.KindNotFound)
		beats, err := other.s.HeartbeatTasks(other.ctx(), []queue.Heartbeat{{ID: t.ID, Token: t.Lease.Token}})
		v.kind(err, queue.KindNotFound)
		v.kind(beats[0].Err, queue.KindNotFound)
		b, err := other.s.CancelTasks(other.ctx(), queue.Selection{IDs: []int64{t.ID}})
		v.ok(err)
		v.kind(b.Errs[t.ID], queue.KindNotFound)
		_, err = other.s.AwaitTask(other.ctx(), t.ID, 0)
		v.kind(err, queue.KindNotFound)
		page, err := other.s.ListTasks(other.ctx(), queue.TaskQuery{})
		v.ok(err)
		v.equal("tasks listed", page.Count, int64(0))
		v.equal("retained", len(other.retain(10)), 0)
		workers, err := other.s.ListWorkers(other.ctx())
		v.ok(err)
		v.equal("workers", len(workers), 0)
		st, err := other.s.QueueStats(other.ctx(), "q")
		v.ok(err)
		v.equal("retained there", st.Counts[queue.StatusRetained], int64(0))
		_, err = v.s.CreateTicker(v.ctx(), queue.TickerMeta{Name: "t", Cron: new("@daily")})
		v.ok(err)
		_, err = other.s.GetTicker(other.ctx(), "t")
		v.kind(err, queue.KindNotFound)
		events, err := other.s.ListEvents(other.ctx(), queue.EventFilter{}, 100)
		v.ok(err)
		v.equal("events", len(events.Events), 0)
		v.status(t.ID, queue.StatusRetained)
	})
}
