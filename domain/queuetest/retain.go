package queuetest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testRetain(e *env) {
	e.it("a retained task has its holder, its start, its attempt and a lease", func(e *env) {
		e.queue("mail", queue.QueueMeta{Lease: new(3 * time.Hour)})
		made := e.create("mail", queue.TaskMeta{Payload: []byte(`[1]`)})
		got := e.retain("worker ☃", 1, "mail")
		e.equal("retained", ids(got), []int64{made.ID})
		t := got[0]
		e.equal("status", t.Status, queue.StatusRetained)
		e.equal("worker", t.Worker, "worker ☃")
		e.equal("attempt", t.Attempt, 1)
		e.equal("retries", t.Retries, queue.DefaultRetries)
		e.equal("payload", string(t.Payload), `[1]`)
		e.near("started_at", t.StartedAt, made.CreatedAt, aWhile)
		if t.Lease == nil || t.Lease.Token <= 0 {
			e.Fatalf("lease is %+v", t.Lease)
		}
		e.equal("lease duration", t.Lease.Duration, 3*time.Hour)
		e.near("lease end", t.Lease.ExpiresAt, t.StartedAt.Add(3*time.Hour), time.Second)
		if seen := e.status(made.ID, queue.StatusRetained); seen.Lease != nil {
			e.Fatal("the lease is shown to others than the holder")
		}
	})
	e.it("a request's lease is used instead of the queue's", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.create("mail", queue.TaskMeta{})
		t := e.retainFor(7*time.Hour, "w", 1, "mail")[0]
		e.equal("lease duration", t.Lease.Duration, 7*time.Hour)
		e.near("lease end", t.Lease.ExpiresAt, t.StartedAt.Add(7*time.Hour), time.Second)
	})
	e.it("nothing there is an empty list", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.nothing("mail")
		e.nothing()
	})
	e.it("an unknown queue is not found, and nothing is taken from the others", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		t := e.create("mail", queue.TaskMeta{})
		_, err := e.s.RetainTasks(e.ctx(), queue.Retain{
			Namespace: e.ns, Queues: []string{"mail", "none"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 1}},
		})
		e.kind(err, queue.KindNotFound)
		e.subject(err, "queue none", "")
		e.status(t.ID, queue.StatusNew)
	})
	e.it("tasks leave by priority, smaller first, then in the order in which they became ready", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		byPriority := map[int16][]int64{}
		order := []int16{0, 5, -5, 0, 32767, -32768, 5, -5, 0}
		for _, p := range order {
			byPriority[p] = append(byPriority[p], e.create("mail", queue.TaskMeta{Priority: p}).ID)
		}
		want := slices.Concat(byPriority[-32768], byPriority[-5], byPriority[0], byPriority[5], byPriority[32767])
		var got []int64
		for range order {
			got = append(got, e.hold("mail").ID)
		}
		e.equal("order", got, want)
	})
	e.it("a batch is in the same order", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		late := e.create("mail", queue.TaskMeta{Priority: 1})
		first := e.createN("mail", 200)
		e.equal("order", ids(e.retain("w", 150, "mail")), first[:150])
		e.equal("order", ids(e.retain("w", 150, "mail")), append(first[150:], late.ID))
	})
	e.it("tasks that were created together leave in order by takes of any size, without those that were taken out", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		want := e.createN("mail", 200)
		for _, at := range []int{150, 64, 33, 32, 31, 5, 0} { // from the end, so that the other positions stay
			gone := want[at]
			if at%2 == 0 {
				e.ok(e.one(e.s.CancelTasks, gone))
				e.status(gone, queue.StatusCancelled)
			} else {
				e.ok(e.one(e.s.DeleteTasks, gone))
			}
			want = slices.Delete(want, at, at+1)
		}
		for _, id := range want {
			e.status(id, queue.StatusNew)
		}
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: int64(len(want)), queue.StatusCancelled: 4})
		var got []int64
		for _, limit := range []int{1, 2, 1, 40, 7, 1, 100, 100} {
			got = append(got, ids(e.retain("w", limit, "mail"))...)
		}
		e.equal("order", got, want)
		e.nothing("mail")
	})
	e.it("tasks that were created together expire together", func(e *env) {
		e.queue("mail", queue.QueueMeta{TTL: new(time.Hour)})
		all := e.createN("mail", 100)
		e.equal("retained", ids(e.retain("w", 10, "mail")), all[:10])
		e.pass(2 * time.Hour)
		e.nothing("mail")
		e.chores(queue.ChoreExpire)
		for _, id := range all[10:] {
			e.status(id, queue.StatusExpired)
		}
	})
	e.it("a delayed task queues behind those that were ready before it", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		second := e.create("mail", queue.TaskMeta{Delay: 2 * time.Hour})
		first := e.create("mail", queue.TaskMeta{Delay: time.Hour})
		atOnce := e.create("mail", queue.TaskMeta{})
		e.advance(3 * time.Hour)
		e.chores(queue.ChorePromote)
		last := e.create("mail", queue.TaskMeta{})
		e.equal("order", ids(e.retain("w", 9, "mail")), []int64{atOnce.ID, first.ID, second.ID, last.ID})
	})
	e.it("retain takes from the queues that it names only", func(e *env) {
		for _, q := range []string{"a", "b", "c"} {
			e.queue(q, queue.QueueMeta{})
			e.createN(q, 2)
		}
		got := map[string]int{}
		for _, t := range e.retain("w", 10, "a", "c") {
			got[t.Queue]++
		}
		e.equal("taken", got, map[string]int{"a": 2, "c": 2})
		e.equal("left", e.stats("b").Ready, int64(2))
	})
	e.it("without queues it takes from any of the namespace", func(e *env) {
		for _, q := range []string{"a", "b", "c"} {
			e.queue(q, queue.QueueMeta{})
			e.createN(q, 2)
		}
		e.equal("taken", len(e.retain("w", 10)), 6)
	})
	for _, named := range []bool{true, false} {
		e.it(map[bool]string{true: "of several queues", false: "of any queues"}[named]+" none starves another", func(e *env) {
			var names []string
			for _, q := range []string{"a", "b", "c", "d"} {
				e.queue(q, queue.QueueMeta{})
				e.createN(q, 100)
			}
			if named {
				names = []string{"a", "b", "c", "d"}
			}
			served := map[string]int{}
			for range 80 {
				served[e.retain("w", 1, names...)[0].Queue]++
			}
			for _, q := range []string{"a", "b", "c", "d"} {
				if served[q] < 10 {
					e.Fatalf("of 80 single retains: %v", served)
				}
			}
			for range 4 {
				for _, t := range e.retain("w", 20, names...) {
					served[t.Queue]++
				}
			}
			for _, q := range []string{"a", "b", "c", "d"} {
				if served[q] < 20 {
					e.Fatalf("of 80 single retains and 4 batches: %v", served)
				}
			}
		})
	}
	e.it("several requests at once are answered in order, each to its worker", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		made := e.createN("mail", 5)
		out, err := e.s.RetainTasks(e.ctx(), queue.Retain{Namespace: e.ns, Queues: []string{"mail"}, Requests: []queue.RetainShare{
			{Worker: "one", Limit: 2}, {Worker: "two", Limit: 1, Lease: 9 * time.Hour}, {Worker: "three", Limit: 10}, {Worker: "four", Limit: 1},
		}})
		e.ok(err)
		var got []int64
		for i, n := range []int{2, 1, 2, 0} {
			if len(out[i]) != n {
				e.Fatalf("request %d got %v", i, ids(out[i]))
			}
			for _, t := range out[i] {
				e.equal("worker", t.Worker, []string{"one", "two", "three"}[i])
			}
			got = append(got, ids(out[i])...)
		}
		slices.Sort(got)
		e.equal("all", got, made)
		e.equal("lease of two", out[1][0].Lease.Duration, 9*time.Hour)
	})
	e.it("every retain gives a larger token", func(e *env) {
		e.queue("mail", queue.QueueMeta{Retries: new(100), RetryDelay: new(time.Duration(0))})
		t := e.create("mail", queue.TaskMeta{})
		last := int64(0)
		for range 6 {
			held := e.hold("mail")
			e.equal("id", held.ID, t.ID)
			if held.Lease.Token <= last {
				e.Fatalf("token %d behind %d", held.Lease.Token, last)
			}
			last = held.Lease.Token
			e.release(held, queue.OutcomeFailure, `"x"`)
		}
	})
}

func testConcurrentRetain(e *env) {
	e.queue("a", queue.QueueMeta{})
	e.queue("b", queue.QueueMeta{})
	const total, workers = 600, 12
	e.createN("a", total/2)
	e.createN("b", total/2)
	e.Run("under concurrent retains no task is ever held twice, and none is forgotten", func(t *testing.T) {
		e := e.with(t)
		var mu sync.Mutex
		held := map[int64]int{}
		ctx := e.ctx()
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				queues := [][]string{{"a"}, {"b"}, {"a", "b"}, nil}[w%4]
				for idle := 0; idle < 3; {
					out, err := e.s.RetainTasks(ctx, queue.Retain{
						Namespace: e.ns, Queues: queues, Requests: []queue.RetainShare{{Worker: "w", Limit: 1 + w%5}},
					})
					if err != nil {
						e.Errorf("retain: %v", err)
						return
					}
					if len(out[0]) == 0 {
						idle++
						continue
					}
					idle = 0
					var rel []queue.Release
					mu.Lock()
					for _, task := range out[0] {
						held[task.ID]++
						rel = append(rel, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess})
					}
					mu.Unlock()
					done, err := e.s.ReleaseTasks(ctx, e.ns, rel)
					if err != nil {
						e.Errorf("release: %v", err)
						return
					}
					for _, d := range done {
						if d.Err != nil {
							e.Errorf("release: %v", d.Err)
						}
					}
				}
			})
		}
		wg.Wait()
		// Retain the tasks that the idle workers left. A store may search only now and then for tasks of a slow
		// transaction, so an empty answer does not prove that none is left.
		for over := time.Now().Add(time.Minute); len(held) < total && time.Now().Before(over); {
			rest := e.retain("last", total)
			for _, task := range rest {
				held[task.ID]++
				e.release(task, queue.OutcomeSuccess, "")
			}
			if len(rest) == 0 {
				time.Sleep(20 * time.Millisecond) // the pause of a worker that polls
			}
		}
		e.equal("tasks worked", len(held), total)
		for id, n := range held {
			if n != 1 {
				e.Fatalf("task %d was held %d times", id, n)
			}
		}
		for _, q := range []string{"a", "b"} {
			e.counts(q, map[queue.Status]int64{queue.StatusReleased: total / 2})
		}
	})
}
