package queuetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testQueues(e *env) {
	e.it("a queue is kept as it was made", func(e *env) {
		made := e.queue("q", queue.QueueMeta{
			TTL: new(time.Hour), Retries: new(5), RetryDelay: new(time.Minute), Backoff: new(queue.BackoffLinear),
			RetryMaxDelay: new(2 * time.Hour), Lease: new(time.Second), Concurrency: new(9), Retention: new(3 * time.Hour),
			Paused: new(true), Events: new(false),
		})
		want, err := queue.NewQueue(e.ns, queue.QueueMeta{
			Name: "q", TTL: new(time.Hour), Retries: new(5), RetryDelay: new(time.Minute), Backoff: new(queue.BackoffLinear),
			RetryMaxDelay: new(2 * time.Hour), Lease: new(time.Second), Concurrency: new(9), Retention: new(3 * time.Hour),
			Paused: new(true), Events: new(false),
		})
		e.ok(err)
		if made.CreatedAt.IsZero() || !made.UpdatedAt.Equal(made.CreatedAt) {
			e.Fatalf("created %v, updated %v", made.CreatedAt, made.UpdatedAt)
		}
		want.CreatedAt, want.UpdatedAt = made.CreatedAt, made.UpdatedAt
		e.equal("queue", *made, want)
		got, err := e.s.GetQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.equal("queue read back", got, made)
	})
	e.it("the largest policy is kept", func(e *env) {
		d := queue.MaxDuration
		made := e.queue(long(queue.MaxNameBytes), queue.QueueMeta{
			TTL: &d, Retries: new(queue.MaxRetries), RetryDelay: &d, RetryMaxDelay: &d, Lease: &d,
			Concurrency: new(queue.MaxConcurrency), Retention: &d,
		})
		got, err := e.s.GetQueue(e.ctx(), e.ns, made.Name)
		e.ok(err)
		e.equal("queue", got, made)
		e.create(made.Name, queue.TaskMeta{Delay: d})
		e.create(made.Name, queue.TaskMeta{})
		t := e.hold(made.Name)
		e.equal("lease", t.Lease.Duration, d)
		after, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure})
		e.ok(err)
		e.near("delayed_at", after.DelayedAt, t.StartedAt.Add(d), d/10+aWhile)
	})
	e.it("a name that is taken is refused and changes nothing", func(e *env) {
		made := e.queue("q", queue.QueueMeta{})
		q, err := queue.NewQueue(e.ns, queue.QueueMeta{Name: "q", Retries: new(99)})
		e.ok(err)
		_, err = e.s.CreateQueue(e.ctx(), q)
		e.kind(err, queue.KindAlreadyExists)
		e.subject(err, "queue q", "")
		got, err := e.s.GetQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.equal("queue", got, made)
	})
	e.it("an unknown queue is not found, and the error says to create it", func(e *env) {
		for name, f := range map[string]func() error{
			"get":    func() error { _, err := e.s.GetQueue(e.ctx(), e.ns, "none"); return err },
			"update": func() error { _, err := e.s.UpdateQueue(e.ctx(), e.ns, "none", queue.QueueMeta{}); return err },
			"delete": func() error { _, err := e.s.DeleteQueue(e.ctx(), e.ns, "none"); return err },
			"clean":  func() error { _, err := e.s.CleanQueue(e.ctx(), e.ns, "none", 0); return err },
			"stats":  func() error { _, err := e.s.QueueStats(e.ctx(), e.ns, "none"); return err },
			"create": func() error {
				_, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: true, Tasks: []queue.NewTask{e.newTask("none", queue.TaskMeta{})}})
				return err
			},
		} {
			err := f()
			e.kind(err, queue.KindNotFound)
			want := ""
			if name == "create" {
				want = "tasks[0]"
			}
			e.subject(err, "queue none", want)
		}
	})
	e.it("an update changes what it names and nothing else", func(e *env) {
		made := e.queue("q", queue.QueueMeta{TTL: new(time.Hour), Retries: new(5)})
		got := e.update("q", queue.QueueMeta{Lease: new(time.Hour)})
		want := *made
		want.Lease, want.Version, want.UpdatedAt = time.Hour, made.Version+1, got.UpdatedAt
		if got.UpdatedAt.Before(made.UpdatedAt) {
			e.Fatalf("updated %v, made %v", got.UpdatedAt, made.UpdatedAt)
		}
		e.equal("queue", *got, want)
		got = e.update("q", queue.QueueMeta{TTL: new(time.Duration(0)), Retries: new(0)})
		e.equal("ttl, retries, lease", []any{got.TTL, got.Retries, got.Lease}, []any{time.Duration(0), 0, time.Hour})
	})
	e.it("an update that breaks a limit changes nothing", func(e *env) {
		made := e.queue("q", queue.QueueMeta{})
		_, err := e.s.UpdateQueue(e.ctx(), e.ns, "q", queue.QueueMeta{Lease: new(time.Hour), Retries: new(queue.MaxRetries + 1)})
		e.kind(err, queue.KindInvalid)
		e.subject(err, "", "retries")
		got, err := e.s.GetQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.equal("queue", got, made)
	})
	e.it("an update for another version is refused", func(e *env) {
		made := e.queue("q", queue.QueueMeta{})
		next := e.update("q", queue.QueueMeta{IfVersion: made.Version, Retries: new(1)})
		_, err := e.s.UpdateQueue(e.ctx(), e.ns, "q", queue.QueueMeta{IfVersion: made.Version, Retries: new(2)})
		e.kind(err, queue.KindPrecondition)
		got, err := e.s.GetQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.equal("queue", got, next)
	})
	e.it("a list of queues is in the order of names, by pages", func(e *env) {
		var names []string
		for i := range 25 {
			names = append(names, fmt.Sprintf("q%02d", (i*7)%25))
			e.queue(names[i], queue.QueueMeta{})
		}
		slices.Sort(names)
		var got []string
		for offset := 0; offset < 30; offset += 10 {
			page, err := e.s.ListQueues(e.ctx(), e.ns, queue.Page{Offset: offset, Limit: 10})
			e.ok(err)
			e.equal("count", page.Count, int64(25))
			for _, q := range page.Queues {
				got = append(got, q.Name)
			}
		}
		e.equal("names", got, names)
	})
	e.it("an update does not reach what is held, but what is created after it", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(0)})
		t := e.create("q", queue.TaskMeta{})
		e.update("q", queue.QueueMeta{Retries: new(7), TTL: new(time.Hour)})
		e.equal("retries", e.get(t.ID).Retries, 0)
		e.equal("retries", e.create("q", queue.TaskMeta{}).Retries, 7)
	})
	e.it("clean deletes the finished tasks of the queue, and no others", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(0)})
		e.queue("other", queue.QueueMeta{})
		made := e.createN("q", 250)
		e.createN("other", 1)
		e.release(e.hold("other"), queue.OutcomeSuccess, "")
		for i, t := range e.retain("w", 240, "q") {
			if i < 230 {
				e.release(t, []queue.Outcome{queue.OutcomeSuccess, queue.OutcomeFailure}[i%2], "")
			}
		}
		n, err := e.s.CleanQueue(e.ctx(), e.ns, "q", 0)
		e.ok(err)
		e.equal("cleaned", n, queue.Cleaned{Count: 230})
		e.counts("q", map[queue.Status]int64{queue.StatusRetained: 10, queue.StatusNew: 10})
		e.counts("other", map[queue.Status]int64{queue.StatusReleased: 1})
		if e.find(made[0]) != nil {
			e.Fatal("a cleaned task is there")
		}
		n, err = e.s.CleanQueue(e.ctx(), e.ns, "q", 0)
		e.ok(err)
		e.equal("cleaned again", n, queue.Cleaned{})
	})
	e.it("clean and delete for another version of the queue change nothing", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.create("q", queue.TaskMeta{})
		e.release(e.hold("q"), queue.OutcomeSuccess, "")
		e.update("q", queue.QueueMeta{Retries: new(7)})

		_, cleaned := e.s.CleanQueue(e.ctx(), e.ns, "q", 0, 1)
		_, deleted := e.s.DeleteQueue(e.ctx(), e.ns, "q", queue.IfVersion(1))
		_, both := e.s.DeleteQueue(e.ctx(), e.ns, "q", queue.IfVersion(1), queue.IfVersion(2))
		for _, err := range []error{cleaned, deleted, both} {
			e.kind(err, queue.KindPrecondition)
			e.subject(err, "queue q", "version")
		}
		if !strings.Contains(deleted.Error(), "version 2") || !strings.Contains(deleted.Error(), "not 1") {
			e.Fatalf("it should say both versions: %v", deleted)
		}
		e.counts("q", map[queue.Status]int64{queue.StatusReleased: 1})

		n, err := e.s.CleanQueue(e.ctx(), e.ns, "q", 0, 2)
		e.ok(err)
		e.equal("cleaned", n, queue.Cleaned{Count: 1})
		was, err := e.s.DeleteQueue(e.ctx(), e.ns, "q", queue.IfVersion(0), queue.IfVersion(2))
		e.ok(err)
		e.equal("version", was.Version, int64(2))
		for _, call := range []func() error{
			func() error { _, err := e.s.CleanQueue(e.ctx(), e.ns, "q", 0, 2); return err },
			func() error { _, err := e.s.DeleteQueue(e.ctx(), e.ns, "q", queue.IfVersion(2)); return err },
		} {
			e.kind(call(), queue.KindNotFound)
		}
	})
}

func testDeleteQueue(e *env) {
	e.it("a deleted queue is gone at once, with its tasks, and its name is free", func(e *env) {
		made := e.queue("q", queue.QueueMeta{Retries: new(9)})
		e.queue("other", queue.QueueMeta{})
		keep := e.create("other", queue.TaskMeta{})
		old := e.createAll(e.newTask("q", queue.TaskMeta{Key: "k"}), e.newTask("q", queue.TaskMeta{}), e.newTask("q", queue.TaskMeta{Delay: time.Hour}))
		held := e.hold("q")
		e.release(e.hold("q"), queue.OutcomeSuccess, "")
		was, err := e.s.DeleteQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.equal("the queue as it was", was, made)
		check := func() {
			e.Helper()
			for _, t := range old {
				if e.find(t.ID) != nil {
					e.Fatalf("task %d can be seen", t.ID)
				}
			}
			_, err = e.tryRelease(queue.Release{ID: held.ID, Token: held.Lease.Token, Outcome: queue.OutcomeSuccess})
			e.kind(err, queue.KindNotFound)
			e.kind(e.beat(queue.Heartbeat{ID: held.ID, Token: held.Lease.Token}).Err, queue.KindNotFound)
			e.kind(e.one(e.s.RetryTasks, old[1].ID), queue.KindNotFound)
			e.kind(e.one(e.s.CancelTasks, old[0].ID), queue.KindNotFound)
			e.equal("listed", ids(e.list(queue.TaskFilter{}, queue.Page{}).Tasks), []int64{keep.ID})
			workers, err := e.s.ListWorkers(e.ctx(), e.ns)
			e.ok(err)
			e.equal("workers", len(workers), 0)
		}
		check()
		_, err = e.s.GetQueue(e.ctx(), e.ns, "q")
		e.kind(err, queue.KindNotFound)
		_, err = e.s.DeleteQueue(e.ctx(), e.ns, "q")
		e.kind(err, queue.KindNotFound)
		e.pass(2 * time.Hour)
		check()
		again := e.queue("q", queue.QueueMeta{})
		e.equal("retries", again.Retries, queue.DefaultRetries)
		e.counts("q", nil)
		e.nothing("q")
		t := e.create("q", queue.TaskMeta{Key: "k"})
		e.equal("replayed", t.Replayed, false)
		e.pass(10 * time.Hour)
		e.equal("retained", e.hold("q").ID, t.ID)
		e.equal("retained", e.hold("other").ID, keep.ID)
	})
	e.it("a queue that must be empty is deleted without unfinished tasks alone", func(e *env) {
		refused := func(unfinished string) {
			e.Helper()
			_, err := e.s.DeleteQueue(e.ctx(), e.ns, "q", queue.IfEmpty(true), queue.IfVersion(1))
			e.kind(err, queue.KindConflict)
			e.subject(err, "queue q", "if_empty")
			if !strings.Contains(err.Error(), "must have no unfinished tasks, got "+unfinished) {
				e.Fatalf("it should say how many tasks are unfinished: %v", err)
			}
		}
		e.queue("q", queue.QueueMeta{Retries: new(1), RetryDelay: new(time.Hour)})
		e.queue("other", queue.QueueMeta{})
		e.create("other", queue.TaskMeta{})
		task := e.create("q", queue.TaskMeta{})
		refused("1")
		late := e.create("q", queue.TaskMeta{Delay: time.Hour})
		refused("2")
		e.release(e.hold("q"), queue.OutcomeFailure, "")
		refused("2")
		e.ok(e.one(e.s.CancelTasks, task.ID))
		e.ok(e.one(e.s.CancelTasks, late.ID))
		e.create("q", queue.TaskMeta{})
		held := e.hold("q")
		refused("1")
		_, err := e.s.DeleteQueue(e.ctx(), e.ns, "q", queue.IfEmpty(true), queue.IfVersion(7))
		e.kind(err, queue.KindPrecondition)

		e.release(held, queue.OutcomeSuccess, "")
		_, err = e.s.DeleteQueue(e.ctx(), e.ns, "q", queue.IfEmpty(true))
		e.ok(err)
		_, err = e.s.DeleteQueue(e.ctx(), e.ns, "q", queue.IfEmpty(true))
		e.kind(err, queue.KindNotFound)
		_, err = e.s.DeleteQueue(e.ctx(), e.ns, "other", queue.IfEmpty(false))
		e.ok(err)
	})
	e.it("no create loses its task to the deletion of an empty queue beside it", func(e *env) {
		for range 40 {
			e.queue("q", queue.QueueMeta{})
			var created, deleted error
			var both sync.WaitGroup
			both.Go(func() {
				_, created = e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{e.newTask("q", queue.TaskMeta{})}, Atomic: true})
			})
			both.Go(func() { _, deleted = e.s.DeleteQueue(e.ctx(), e.ns, "q", queue.IfEmpty(true)) })
			both.Wait()

			if created != nil {
				e.kind(created, queue.KindNotFound)
				e.ok(deleted)
				continue
			}
			if deleted == nil {
				e.Fatal("the queue of a new task was deleted as an empty one")
			}
			e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
			_, err := e.s.DeleteQueue(e.ctx(), e.ns, "q")
			e.ok(err)
		}
	})
	e.fresh("the tasks of a deleted queue leave in bounded steps", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 2500)
		_, err := e.s.DeleteQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.queue("q", queue.QueueMeta{})
		t := e.create("q", queue.TaskMeta{})
		e.chores(queue.ChorePrune)
		m, err := e.s.Maintain(e.ctx(), queue.ChorePrune)
		e.ok(err)
		e.equal("more", m.More, false)
		e.status(t.ID, queue.StatusNew)
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
	})
}
