package queuetest

import (
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func serveQueues(v *svc) {
	v.it("a queue has the contract's defaults", func(v *svc) {
		q := v.queue(" Mail ", queue.QueueMeta{})
		v.equal("queue", []any{q.Name, q.Namespace, q.TTL, q.Retries, q.RetryDelay, q.Backoff, q.RetryMaxDelay, q.Lease, q.Concurrency, q.Retention, q.Paused, q.Events},
			[]any{"mail", v.s.Namespace(), time.Duration(0), 3, 2 * time.Minute, queue.BackoffExponential, 24 * time.Hour, 5 * time.Minute, 0, time.Duration(0), false, true})
		if q.Version != 1 || q.CreatedAt.IsZero() {
			v.Fatalf("queue is %+v", q)
		}
	})
	v.it("a queue keeps every field that is set", func(v *svc) {
		v.queue("q", queue.QueueMeta{
			TTL: new(time.Hour), Retries: new(0), RetryDelay: new(time.Duration(0)), Backoff: new(queue.BackoffLinear),
			RetryMaxDelay: new(3 * time.Nanosecond * 1000), Lease: new(queue.MinLease), Concurrency: new(5), Retention: new(2 * time.Hour),
			Paused: new(true), Events: new(false),
		})
		q, err := v.s.GetQueue(v.ctx(), "Q")
		v.ok(err)
		v.equal("queue", []any{q.Name, q.TTL, q.Retries, q.RetryDelay, q.Backoff, q.RetryMaxDelay, q.Lease, q.Concurrency, q.Retention, q.Paused, q.Events},
			[]any{"q", time.Hour, 0, time.Duration(0), queue.BackoffLinear, 3 * time.Microsecond, queue.MinLease, 5, 2 * time.Hour, true, false})
	})
	v.it("create refuses a name that is taken, register updates it", func(v *svc) {
		v.queue("q", queue.QueueMeta{Retries: new(1), TTL: new(time.Hour)})
		_, err := v.s.CreateQueue(v.ctx(), queue.QueueMeta{Name: "q"})
		v.kind(err, queue.KindAlreadyExists)
		q, err := v.s.RegisterQueue(v.ctx(), queue.QueueMeta{Name: "q", Retries: new(9)})
		v.ok(err)
		v.equal("retries, ttl", []any{q.Retries, q.TTL}, []any{9, time.Hour})
		q, err = v.s.RegisterQueue(v.ctx(), queue.QueueMeta{Name: "fresh", Retries: new(4)})
		v.ok(err)
		v.equal("retries, version", []any{q.Retries, q.Version}, []any{4, int64(1)})
	})
	v.it("an update changes what it names, for the version it names", func(v *svc) {
		made := v.queue("q", queue.QueueMeta{Retries: new(1), TTL: new(time.Hour)})
		q, err := v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{TTL: new(time.Duration(0)), IfVersion: made.Version})
		v.ok(err)
		v.equal("ttl, retries", []any{q.TTL, q.Retries}, []any{time.Duration(0), 1})
		_, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{Retries: new(7), IfVersion: made.Version})
		v.kind(err, queue.KindPrecondition)
		_, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{Retries: new(-1)})
		v.invalid(err, queue.KindInvalid, "retries")
		q, err = v.s.GetQueue(v.ctx(), "q")
		v.ok(err)
		v.equal("retries", q.Retries, 1)
	})
	v.it("queues are listed by name, by pages", func(v *svc) {
		for _, n := range []string{"c", "a", "b"} {
			v.queue(n, queue.QueueMeta{})
		}
		page, err := v.s.ListQueues(v.ctx(), queue.Page{Limit: 2, Offset: 1})
		v.ok(err)
		v.equal("count, names", []any{page.Count, page.Queues[0].Name, page.Queues[1].Name}, []any{int64(3), "b", "c"})
	})
	v.it("a deleted queue is gone with its tasks, and its name is free", func(v *svc) {
		v.queue("q", queue.QueueMeta{Retries: new(8)})
		t := v.create("q", queue.TaskMeta{})
		was, err := v.s.DeleteQueue(v.ctx(), "q")
		v.ok(err)
		v.equal("retries", was.Retries, 8)
		_, err = v.s.GetTask(v.ctx(), t.ID)
		v.kind(err, queue.KindNotFound)
		_, err = v.s.DeleteQueue(v.ctx(), "q")
		v.kind(err, queue.KindNotFound)
		v.queue("q", queue.QueueMeta{})
		v.equal("retained", len(v.retain(10)), 0)
	})
	v.it("a queue that must be empty is deleted without unfinished tasks alone", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		t := v.create("q", queue.TaskMeta{})
		_, err := v.s.DeleteQueue(v.ctx(), "q", queue.IfEmpty(true))
		v.invalid(err, queue.KindConflict, "if_empty")
		v.status(t.ID, queue.StatusNew)
		v.release(v.hold("q"), queue.OutcomeSuccess)
		_, err = v.s.DeleteQueue(v.ctx(), "q", queue.IfEmpty(true), queue.IfVersion(1))
		v.ok(err)
	})
	v.it("clean deletes finished tasks now", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		made := v.createN("q", 4)
		for _, t := range v.retain(3, "q") {
			v.release(t, queue.OutcomeSuccess)
		}
		n, err := v.s.CleanQueue(v.ctx(), "q")
		v.ok(err)
		v.equal("cleaned", n, int64(3))
		v.status(made[3], queue.StatusNew)
	})
	v.it("clean and delete are for the version they name", func(v *svc) {
		made := v.queue("q", queue.QueueMeta{})
		v.create("q", queue.TaskMeta{})
		v.release(v.hold("q"), queue.OutcomeSuccess)
		q, err := v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{Retries: new(7)})
		v.ok(err)
		old, now := queue.IfVersion(made.Version), queue.IfVersion(q.Version)

		_, err = v.s.CleanQueue(v.ctx(), "q", old)
		v.invalid(err, queue.KindPrecondition, "version")
		_, err = v.s.CleanQueueWithin(v.ctx(), "q", time.Second, old)
		v.invalid(err, queue.KindPrecondition, "version")
		_, err = v.s.DeleteQueue(v.ctx(), "q", old)
		v.invalid(err, queue.KindPrecondition, "version")
		if !strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), "not 1") {
			v.Fatalf("it should say both versions: %v", err)
		}

		n, err := v.s.CleanQueue(v.ctx(), "q", now)
		v.ok(err)
		v.equal("cleaned", n, int64(1))
		_, err = v.s.DeleteQueue(v.ctx(), "q", now)
		v.ok(err)
		_, err = v.s.DeleteQueue(v.ctx(), "q", now)
		v.kind(err, queue.KindNotFound)
	})
}

func serveStats(v *svc) {
	v.it("stats count by status, and report the ready tasks", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.queue("empty", queue.QueueMeta{Paused: new(true)})
		v.createN("q", 5)
		v.create("q", queue.TaskMeta{Delay: time.Hour})
		v.release(v.hold("q"), queue.OutcomeSuccess)
		v.hold("q")
		st, err := v.s.QueueStats(v.ctx(), "Q")
		v.ok(err)
		want := map[queue.Status]int64{}
		for _, s := range queue.Statuses() {
			want[s] = 0
		}
		want[queue.StatusNew], want[queue.StatusRetained], want[queue.StatusReleased] = 4, 1, 1
		v.equal("counts", st.Counts, want)
		v.equal("ready, delayed, queue, namespace", []any{st.Ready, st.Delayed, st.Queue, st.Namespace}, []any{int64(3), int64(1), "q", v.s.Namespace()})
		if st.CreatedPerSecond <= 0 || st.FinishedPerSecond <= 0 {
			v.Fatalf("rates are %v and %v", st.CreatedPerSecond, st.FinishedPerSecond)
		}
		v.h.Advance(v.T, v.root, 10*time.Hour)
		st, err = v.s.QueueStats(v.ctx(), "q")
		v.ok(err)
		if st.OldestReadyAge < 10*time.Hour || st.OldestReadyAge > 10*time.Hour+aWhile {
			v.Fatalf("oldest ready age is %v, want 10h", st.OldestReadyAge)
		}
		all, err := v.s.ListQueueStatuses(v.ctx())
		v.ok(err)
		v.equal("queues", []any{len(all), all[0].Queue, all[0].Paused, all[1].Queue}, []any{2, "empty", true, "q"})
		_, err = v.s.QueueStats(v.ctx(), "none")
		v.kind(err, queue.KindNotFound)
	})
	v.it("workers are listed with their tasks and times", func(v *svc) {
		v.queue("a", queue.QueueMeta{})
		v.queue("b", queue.QueueMeta{})
		v.createN("a", 1)
		v.createN("b", 2)
		first := v.hold("b")
		v.retain(10)
		workers, err := v.s.ListWorkers(v.ctx())
		v.ok(err)
		v.equal("workers", len(workers), 1)
		w := workers[0]
		v.equal("name, held, queues", []any{w.Name, w.Held, w.Queues}, []any{"w", int64(3), []string{"a", "b"}})
		sameTime(v, "since", w.Since, first.StartedAt)
		sameTime(v, "expires", w.ExpiresAt, first.Lease.ExpiresAt)
	})
}
