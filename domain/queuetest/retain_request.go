package queuetest

import (
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// testRetainRequests checks that a caller can repeat a retain with a request id.
func testRetainRequests(e *env) {
	ask := func(e *env, id, arguments string, limit int) ([]*queue.Task, error) {
		e.Helper()
		out, err := e.s.RetainTasks(e.ctx(), queue.Retain{Namespace: e.ns, Queues: []string{"mail"}, Requests: []queue.RetainShare{
			{Worker: "w", Limit: limit, RequestID: id, Arguments: arguments},
		}})
		if err != nil {
			return nil, err
		}
		return out[0], nil
	}
	must := func(e *env, id string, limit int) []*queue.Task {
		e.Helper()
		got, err := ask(e, id, "args", limit)
		e.ok(err)
		return got
	}
	lose := func(e *env, id string) {
		e.Helper()
		u, ok := queue.StoreAs[queue.UndeliveredRequests](e.s)
		if !ok {
			e.Fatal("the store has no UndeliveredRequests")
		}
		e.ok(u.UndeliveredRequest(e.ctx(), e.ns, "w", id))
	}
	tokens := func(ts []*queue.Task) (out []int64) {
		for _, t := range ts {
			out = append(out, t.Lease.Token)
		}
		return out
	}
	start := func(e *env, lease time.Duration, n int) {
		e.Helper()
		e.queue("mail", queue.QueueMeta{Retries: new(4), Lease: new(lease), RetryDelay: new(time.Duration(0))})
		e.createN("mail", n)
	}

	e.it("a request repeated gives the same tasks, tokens and leases, and others get others", func(e *env) {
		start(e, time.Hour, 6)
		first := must(e, "one", 2)
		e.equal("tasks", len(first), 2)
		again := must(e, "one", 2)
		e.equal("ids", ids(again), ids(first))
		e.equal("tokens", tokens(again), tokens(first))
		for i, t := range again {
			e.equal("payload", string(t.Payload), string(first[i].Payload))
			e.equal("worker, attempt and retries", []any{t.Worker, t.Attempt, t.Retries}, []any{"w", 1, 4})
			e.equal("lease", *t.Lease, *first[i].Lease)
		}
		e.equal("another request", len(must(e, "two", 2)), 2)
		e.equal("without an id", len(e.retain("w", 10, "mail")), 2)
		e.equal("once more", ids(must(e, "one", 2)), ids(first))
	})
	e.it("a repeat gives what is still held", func(e *env) {
		start(e, time.Hour, 3)
		first := must(e, "one", 3)
		e.release(first[1], queue.OutcomeSuccess, "")
		e.equal("ids", ids(must(e, "one", 3)), []int64{first[0].ID, first[2].ID})
	})
	e.it("other arguments under an id are refused and change nothing", func(e *env) {
		start(e, time.Hour, 3)
		must(e, "one", 1)
		_, err := ask(e, "one", "others", 2)
		e.kind(err, queue.KindInvalid)
		e.equal("waiting", len(e.retain("v", 10, "mail")), 2)
	})
	e.it("a request that found nothing is not remembered", func(e *env) {
		start(e, time.Hour, 0)
		e.equal("nothing", len(must(e, "one", 1)), 0)
		made := e.createN("mail", 1)
		e.equal("then", ids(must(e, "one", 1)), made)
	})
	e.it("a task that was not delivered stays for the repeat, which keeps it", func(e *env) {
		start(e, time.Hour, 1)
		first := must(e, "one", 1)
		lose(e, "one")
		e.chores(queue.ChoreRescue)
		e.equal("not yet", len(e.retain("v", 1, "mail")), 0)
		e.equal("repeated", ids(must(e, "one", 1)), ids(first))
		e.advance(queue.RequestTime + time.Second)
		e.chores(queue.ChoreRescue)
		e.equal("delivered", len(e.retain("v", 1, "mail")), 0)
		e.release(first[0], queue.OutcomeSuccess, "")
	})
	e.it("a task that was never delivered goes back after 30 s at no cost of an attempt", func(e *env) {
		start(e, time.Hour, 2)
		first := must(e, "one", 2)
		must(e, "one", 2)
		lose(e, "one")
		lose(e, "one")
		e.chores(queue.ChoreRescue) // now the worker is idle
		e.advance(queue.RequestTime + time.Second)
		e.chores(queue.ChoreRescue)
		back := e.retain("v", 2, "mail")
		e.equal("ids", ids(back), ids(first))
		for _, t := range back {
			e.equal("attempt and retries", []int{t.Attempt, t.Retries}, []int{1, 4})
		}
	})
	e.it("a task that was never delivered goes back before its id is used anew", func(e *env) {
		start(e, time.Hour, 2)
		first := must(e, "one", 1)
		lose(e, "one")
		e.advance(queue.RequestTime + time.Second)
		next, err := ask(e, "one", "others", 2)
		e.ok(err)
		e.equal("tasks", len(next), 2)
		for _, t := range next {
			e.equal("attempt and retries", []int{t.Attempt, t.Retries}, []int{1, 4})
		}
		_, err = e.tryRelease(queue.Release{ID: first[0].ID, Token: first[0].Lease.Token, Outcome: queue.OutcomeSuccess})
		e.kind(err, queue.KindLeaseLost)
		again, err := ask(e, "one", "others", 2)
		e.ok(err)
		e.equal("repeated", ids(again), ids(next))
	})
	e.it("a short lease ends a request", func(e *env) {
		start(e, 5*time.Second, 1)
		first := must(e, "one", 1)
		lose(e, "one")
		e.advance(4 * time.Second)
		e.equal("before", ids(must(e, "one", 1)), ids(first))
		e.advance(2 * time.Second)
		e.equal("after", len(must(e, "one", 1)), 0)
	})
	e.it("after its time an id is free", func(e *env) {
		start(e, time.Hour, 2)
		first := must(e, "one", 1)
		e.advance(queue.RequestTime + time.Second)
		next, err := ask(e, "one", "others", 1)
		e.ok(err)
		if len(next) != 1 || next[0].ID == first[0].ID {
			e.Fatalf("got %v after %v", ids(next), ids(first))
		}
	})
	e.it("repeats at the same time retain once", func(e *env) {
		start(e, time.Hour, 20)
		var wg sync.WaitGroup
		outs := make([][]*queue.Task, 8)
		for i := range outs {
			wg.Go(func() { outs[i], _ = ask(e, "one", "args", 2) })
		}
		wg.Wait()
		for _, out := range outs {
			e.equal("ids", ids(out), ids(outs[0]))
		}
		e.equal("left", len(e.retain("v", 20, "mail")), 18)
	})
}
