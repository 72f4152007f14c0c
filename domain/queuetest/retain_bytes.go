package queuetest

import (
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// large returns a payload of n bytes.
func large(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }

// testRetainBytes checks that a retain bounds the bytes that it reads.
func testRetainBytes(e *env) {
	sized := func(e *env, name string, sizes ...int) (made []int64) {
		e.Helper()
		e.queue(name, queue.QueueMeta{Retries: new(7), RetryDelay: new(time.Duration(0)), TTL: new(time.Hour)})
		for _, n := range sizes {
			made = append(made, e.create(name, queue.TaskMeta{Payload: large(n)}).ID)
		}
		return made
	}
	take := func(e *env, name string, shares ...queue.RetainShare) [][]*queue.Task {
		e.Helper()
		for i := range shares {
			shares[i].Worker = "w"
		}
		out, err := e.s.RetainTasks(e.ctx(), queue.Retain{Namespace: e.ns, Queues: []string{name}, Requests: shares})
		e.ok(err)
		return out
	}
	same := func(n, size int) []int { return slices.Repeat([]int{size}, n) }

	e.it("a retain takes what fits into its bytes, and the rest stays available in its order", func(e *env) {
		made := sized(e, "mail", same(9, 100_000)...)
		for range 4 {
			got := take(e, "mail", queue.RetainShare{Limit: 100, MaxBytes: 250_000})[0]
			n := min(2, len(made))
			e.equal("retained", ids(got), made[:n])
			for _, t := range got {
				e.equal("attempt", t.Attempt, 1)
				e.equal("retries", t.Retries, 7)
				e.equal("payload", len(t.Payload), 100_000)
			}
			for _, id := range made[n:] {
				e.status(id, queue.StatusNew)
			}
			made = made[n:]
		}
		e.equal("the last one", ids(take(e, "mail", queue.RetainShare{Limit: 100, MaxBytes: 250_000})[0]), made)
	})
	e.it("the first task always fits", func(e *env) {
		made := sized(e, "mail", same(3, 100_000)...)
		for _, id := range made {
			e.equal("retained", ids(take(e, "mail", queue.RetainShare{Limit: 10, MaxBytes: 1})[0]), []int64{id})
		}
	})
	e.it("a task that does not fit is not passed by a smaller one", func(e *env) {
		made := sized(e, "mail", 1_000, 1_000, 100_000, 1_000)
		e.equal("retained", ids(take(e, "mail", queue.RetainShare{Limit: 10, MaxBytes: 50_000})[0]), made[:2])
		e.equal("then", ids(take(e, "mail", queue.RetainShare{Limit: 10, MaxBytes: 50_000})[0]), made[2:3])
		e.equal("then", ids(take(e, "mail", queue.RetainShare{Limit: 10, MaxBytes: 50_000})[0]), made[3:])
	})
	e.it("each of several requests at once has its own bytes", func(e *env) {
		made := sized(e, "mail", same(9, 100_000)...)
		out := take(e, "mail",
			queue.RetainShare{Limit: 10, MaxBytes: 250_000}, queue.RetainShare{Limit: 1, MaxBytes: 1},
			queue.RetainShare{Limit: 2, MaxBytes: 1_000_000}, queue.RetainShare{Limit: 10, MaxBytes: 350_000})
		for i, want := range [][]int64{made[:2], made[2:3], made[3:5], made[5:8]} {
			e.equal("retained", ids(out[i]), want)
		}
		e.equal("the rest", ids(take(e, "mail", queue.RetainShare{Limit: 10})[0]), made[8:])
	})
	// drain serves n requests like share with Store calls of all that are left. It returns the retained tasks in order.
	drain := func(e *env, name string, n int, share queue.RetainShare) (tasks []*queue.Task) {
		e.Helper()
		for n > 0 {
			out := take(e, name, slices.Repeat([]queue.RetainShare{share}, n)...)
			if len(out) == 0 || len(out) > n {
				e.Fatalf("%d of %d requests are answered", len(out), n)
			}

			bytes := 0
			for i, got := range out {
				if len(got) == 0 && len(out) < n {
					e.Fatalf("request %d of %d answered ones got nothing", i, len(out))
				}
				if len(got) > 0 && bytes >= queue.MaxRetainBytes {
					e.Fatalf("request %d begins behind %d bytes", i, bytes)
				}
				bytes += queue.TaskBytes(got)
				tasks = append(tasks, got...)
			}
			n -= len(out)
		}
		return tasks
	}
	const mega = 1_000_000
	e.it("a call of many requests begins none behind 8 MiB, and each gets what it would get alone", func(e *env) {
		made := sized(e, "mail", same(20, mega)...)
		got := drain(e, "mail", 10, queue.RetainShare{Limit: 1, MaxBytes: queue.DefaultRetainBytes})
		got = append(got, drain(e, "mail", 5, queue.RetainShare{Limit: 10, MaxBytes: 5 * mega})...) // now the size is known
		e.equal("retained", ids(got), made)
		for _, t := range got {
			e.equal("payload", len(t.Payload), mega)
			e.equal("attempt", t.Attempt, 1)
		}
	})
	e.it("many requests for tasks that are larger than those before get them whole", func(e *env) {
		sized(e, "mail", same(20, 100)...)
		e.equal("small", len(drain(e, "mail", 20, queue.RetainShare{Limit: 1, MaxBytes: queue.DefaultRetainBytes})), 20)
		for range 10 {
			e.create("mail", queue.TaskMeta{Payload: large(mega)})
		}
		seen := map[int64]bool{}
		for tries := 0; len(seen) < 10 && tries < 10; tries++ {
			for _, t := range drain(e, "mail", 10, queue.RetainShare{Limit: 1, MaxBytes: queue.DefaultRetainBytes}) {
				e.equal("payload", len(t.Payload), mega)
				e.equal("attempt", t.Attempt, 1)
				seen[t.ID] = true
			}
		}
		e.equal("retained", len(seen), 10)
	})
	e.it("a create for many waiting requests begins none behind 8 MiB", func(e *env) {
		made := sized(e, "mail", same(10, mega)...)
		shares := slices.Repeat([]queue.RetainShare{{Worker: "w", Limit: 1, MaxBytes: queue.DefaultRetainBytes}}, 10)
		_, outs, err := e.s.CreateAndRetain(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{e.newTask("mail", queue.TaskMeta{})}},
			queue.Retain{Namespace: e.ns, Queues: []string{"mail"}, Requests: shares})
		e.ok(err)
		e.equal("retained", ids(slices.Concat(outs...)), made[:9])
	})
	e.it("results and progress count, and a task that failed keeps what it had", func(e *env) {
		sized(e, "mail", same(4, 100)...)
		for _, t := range take(e, "mail", queue.RetainShare{Limit: 4})[0] {
			_, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Result: large(100_000)})
			e.ok(err)
		}
		e.chores(queue.ChorePromote)
		for range 2 {
			got := take(e, "mail", queue.RetainShare{Limit: 4, MaxBytes: 250_000})[0]
			e.equal("retained", len(got), 2)
			for _, t := range got {
				e.equal("attempt", t.Attempt, 2)
				e.equal("retries", t.Retries, 6)
				e.equal("result", len(t.Result), 100_000)
			}
		}
	})
	e.it("a backlog of small tasks fits, and large ones behind it are bounded all the same", func(e *env) {
		e.queue("mail", queue.QueueMeta{Retries: new(7)})
		small := e.createN("mail", 300)
		for range 3 {
			e.equal("small ones", ids(take(e, "mail", queue.RetainShare{Limit: 100, MaxBytes: 250_000})[0]), small[:100])
			small = small[100:]
		}
		var made []int64
		for range 5 {
			made = append(made, e.create("mail", queue.TaskMeta{Payload: large(100_000)}).ID)
		}
		for len(made) > 0 {
			got := ids(take(e, "mail", queue.RetainShare{Limit: 100, MaxBytes: 250_000})[0])
			n := min(2, len(made))
			e.equal("large ones", len(got), n)
			for _, id := range got {
				i := slices.Index(made, id)
				if i < 0 {
					e.Fatalf("task %d came twice", id)
				}
				made = slices.Delete(made, i, i+1)
			}
		}
	})
	e.it("priorities and several queues keep their order and their share", func(e *env) {
		sized(e, "a", same(4, 100_000)...)
		sized(e, "b", same(4, 100_000)...)
		seen := map[int64]bool{}
		for range 4 {
			out, err := e.s.RetainTasks(e.ctx(), queue.Retain{
				Namespace: e.ns, Queues: []string{"a", "b"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 8, MaxBytes: 250_000}},
			})
			e.ok(err)
			e.equal("retained", len(out[0]), 2)
			for _, t := range out[0] {
				seen[t.ID] = true
			}
		}
		e.equal("all", len(seen), 8)
	})
	e.it("a task that does not fit expires as before", func(e *env) {
		made := sized(e, "mail", same(3, 100_000)...)
		e.equal("retained", len(take(e, "mail", queue.RetainShare{Limit: 3, MaxBytes: 150_000})[0]), 1)
		e.advance(2 * time.Hour)
		e.chores(queue.ChoreExpire)
		e.status(made[1], queue.StatusExpired)
		e.status(made[2], queue.StatusExpired)
	})
}
