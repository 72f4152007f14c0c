package queuetest

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// failWith releases t as failed with an error of a kind.
func (e *env) failWith(t *queue.Task, kind string) *queue.Task {
	e.Helper()
	after, err := e.tryRelease(queue.Release{
		ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Result: json.RawMessage(`{"error":"no"}`), ErrorKind: kind,
	})
	e.ok(err)
	return after
}

func testNonRetryable(e *env) {
	e.it("an error of a kind that the queue does not retry ends the task, whatever retries are left", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Duration(0)), FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: new([]string{"gone", "bad"})}})
		e.create("q", queue.TaskMeta{})
		e.equal("other kind", e.failWith(e.hold("q"), "busy").Status, queue.StatusRetry)
		e.equal("no kind", e.failWith(e.hold("q"), "").Status, queue.StatusRetry)
		after := e.failWith(e.hold("q"), "gone")
		e.equal("status, retries", []any{after.Status, after.Retries}, []any{queue.StatusFailed, 1})

		e.update("q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: new([]string{})}})
		e.create("q", queue.TaskMeta{})
		e.equal("after the list is taken away", e.failWith(e.hold("q"), "gone").Status, queue.StatusRetry)
	})
}

func serveFailurePolicy(v *svc) {
	v.it("the failure policy of a queue is kept, changed and taken away", func(v *svc) {
		check := func(q *queue.Queue, err error, want queue.FailurePolicy) {
			v.Helper()
			v.ok(err)
			v.equal("policy", q.FailurePolicy, want)
			q, err = v.s.GetQueue(v.ctx(), "q")
			v.ok(err)
			v.equal("policy of a read", q.FailurePolicy, want)
		}
		q, err := v.s.CreateQueue(v.ctx(), queue.QueueMeta{Name: "q", FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: new([]string{"b", "a", "b"})}})
		check(q, err, queue.FailurePolicy{NonRetryable: []string{"a", "b"}})
		q, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{Retries: new(1)})
		check(q, err, queue.FailurePolicy{NonRetryable: []string{"a", "b"}})
		q, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: new([]string{})}})
		check(q, err, queue.FailurePolicy{})
		q, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{MaxLeaseLosses: new(3)}})
		check(q, err, queue.FailurePolicy{MaxLeaseLosses: 3})
		q, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{MaxLeaseLosses: new(0)}})
		check(q, err, queue.FailurePolicy{})
		v.queue("dead", queue.QueueMeta{})
		q, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{DeadLetter: new(" DEAD")}})
		check(q, err, queue.FailurePolicy{DeadLetter: "dead"})
		v.create("q", queue.TaskMeta{Payload: []byte(`{"n":1e400}`)})
		v.release(v.hold("q"), queue.OutcomePermanent)
		v.equal("payload of the dead letter", string(v.hold("dead").Payload), `{"n":1e400}`)
		_, err = v.s.DeleteQueue(v.ctx(), "dead")
		v.invalid(err, queue.KindConflict, "dead_letter")
		_, err = v.s.UpdateQueue(v.ctx(), "dead", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{DeadLetter: new("q")}})
		v.invalid(err, queue.KindInvalid, "dead_letter")
		q, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{DeadLetter: new("")}})
		check(q, err, queue.FailurePolicy{})
	})

	v.it("a failure policy out of bounds is refused", func(v *svc) {
		kinds := func(n int) *[]string {
			var list []string
			for i := range n {
				list = append(list, strconv.Itoa(i))
			}
			return &list
		}
		v.queue("q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: kinds(queue.MaxNonRetryable)}})
		for _, bad := range []*[]string{kinds(queue.MaxNonRetryable + 1), {""}, {queue.ErrorKindQuarantined}, {long(queue.MaxErrorKindBytes + 1)}} {
			_, err := v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{NonRetryable: bad}})
			v.invalid(err, queue.KindInvalid, "non_retryable")
		}
		for _, bad := range []int{-1, queue.MaxLeaseLossesLimit + 1} {
			_, err := v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FailurePolicyMeta: queue.FailurePolicyMeta{MaxLeaseLosses: &bad}})
			v.kind(err, queue.KindInvalid)
		}
	})
}

func testLeaseLosses(e *env) {
	lossy := func(most int) queue.QueueMeta {
		return queue.QueueMeta{
			Lease: new(time.Second), Retries: new(1), RetryDelay: new(time.Duration(0)), FailurePolicyMeta: queue.FailurePolicyMeta{MaxLeaseLosses: new(most)},
		}
	}
	lose := func(e *env, id int64) {
		e.Helper()
		e.pass(2 * time.Second)
		e.chores(queue.ChorePromote)
	}

	e.it("a lost lease costs no retry, and the last one that the queue allows quarantines the task", func(e *env) {
		e.queue("q", lossy(3))
		id := e.create("q", queue.TaskMeta{}).ID
		for n := range 3 {
			e.hold("q")
			lose(e, id)
			t := e.get(id)
			want := []any{queue.StatusRetry, 1, n + 1, queue.ErrorKindLeaseLost}
			if n == 2 {
				want = []any{queue.StatusFailed, 1, 3, queue.ErrorKindQuarantined}
			}
			e.equal("status, retries, attempt, kind", []any{t.Status, t.Retries, t.Attempt, t.Errors[n].Kind}, want)
		}
		f, err := e.s.ListFailures(e.ctx(), e.ns, "q", queue.FailureQuery{})
		e.ok(err)
		e.equal("group", []any{len(f.Groups), f.Groups[0].Kind, f.Groups[0].IDs}, []any{1, queue.ErrorKindQuarantined, []int64{id}})
		var kinds []queue.EventKind
		for _, event := range e.events(queue.EventFilter{Queue: "q"}, 7) {
			kinds = append(kinds, event.Kind)
		}
		e.equal("events", kinds[len(kinds)-3:], []queue.EventKind{queue.EventRetry, queue.EventRetained, queue.EventQuarantined})

		e.ok(e.one(e.s.RetryTasks, id))
		e.hold("q")
		lose(e, id)
		e.status(id, queue.StatusRetry)
	})

	e.it("each report of a worker begins the count of lost leases anew", func(e *env) {
		e.queue("q", lossy(2))
		for _, report := range []func(t *queue.Task){
			func(t *queue.Task) { e.failWith(t, "") },
			func(t *queue.Task) { e.release(t, queue.OutcomeHandBack, "") },
			func(t *queue.Task) {
				_, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSnooze, Delay: time.Second})
				e.ok(err)
				e.pass(2 * time.Second)
			},
		} {
			id := e.create("q", queue.TaskMeta{}).ID
			e.hold("q")
			lose(e, id)
			report(e.hold("q"))
			e.hold("q")
			lose(e, id)
			e.status(id, queue.StatusRetry)
			e.hold("q")
			lose(e, id)
			e.status(id, queue.StatusFailed)
		}
	})

	e.it("without max_lease_losses a lost lease costs a retry", func(e *env) {
		e.queue("q", lossy(0))
		id := e.create("q", queue.TaskMeta{}).ID
		e.hold("q")
		lose(e, id)
		t := e.get(id)
		e.equal("status, retries, kind", []any{t.Status, t.Retries, t.Errors[0].Kind}, []any{queue.StatusRetry, 0, queue.ErrorKindLeaseLost})
		e.hold("q")
		lose(e, id)
		e.status(id, queue.StatusFailed)
		e.equal("kind", e.get(id).Errors[1].Kind, queue.ErrorKindLeaseLost)
	})

	e.it("a task with a requested cancellation or past its ttl ends so when its lease is lost, not quarantined", func(e *env) {
		e.queue("q", lossy(1))
		id := e.create("q", queue.TaskMeta{}).ID
		e.hold("q")
		e.ok(e.one(e.s.CancelTasks, id))
		lose(e, id)
		e.status(id, queue.StatusCancelled)

		meta := lossy(1)
		meta.TTL = new(1500 * time.Millisecond)
		e.queue("late", meta)
		id = e.create("late", queue.TaskMeta{}).ID
		e.hold("late")
		lose(e, id)
		e.status(id, queue.StatusExpired)
	})
}

func testSuspects(e *env) {
	meta := queue.QueueMeta{
		Lease: new(time.Second), RetryDelay: new(time.Duration(0)), FailurePolicyMeta: queue.FailurePolicyMeta{MaxLeaseLosses: new(3)},
	}
	ids := func(tasks []*queue.Task) []int64 {
		var all []int64
		for _, t := range tasks {
			all = append(all, t.ID)
		}
		slices.Sort(all)
		return all
	}
	lose := func(e *env, name string, n int) []int64 {
		e.Helper()
		lost := ids(e.retain("lost", n, name))
		e.pass(2 * time.Second)
		e.chores(queue.ChorePromote)
		return lost
	}
	count := func(tasks []*queue.Task, among []int64) (n int) {
		for _, t := range tasks {
			if slices.Contains(among, t.ID) {
				n++
			}
		}
		return n
	}

	flows := map[string]queue.FlowMeta{
		"": {}, " of a fair queue": {Fair: new(true)}, " of a queue with group limits": {GroupConcurrency: new(50)}, " of a queue with a rate": {RateLimit: new(1000000)},
	}
	for what, flow := range flows {
		e.it("a worker gets one of the tasks"+what+" that lost their leases at a time, and the others beside it", func(e *env) {
			meta := meta
			meta.FlowMeta = flow
			e.queue("q", meta)
			task := queue.TaskMeta{Group: "g"}
			for range 5 {
				e.create("q", task)
			}
			lost := lose(e, "q", 5)
			for range 10 {
				e.create("q", task)
			}

			first := e.retainFor(time.Hour, "w1", 100, "q")
			e.equal("tasks, suspects", []int{len(first), count(first, lost)}, []int{11, 1})
			e.equal("more for the worker", len(e.retainFor(time.Hour, "w1", 100, "q")), 0)
			other := e.retainFor(time.Hour, "w2", 100, "q")
			e.equal("for another worker", []int{len(other), count(other, lost)}, []int{1, 1})

			for _, t := range first {
				e.release(t, queue.OutcomeSuccess, "")
			}
			e.pass(time.Second) // a look at a group may have been put off
			e.chores(queue.ChorePromote)
			next := e.retainFor(time.Hour, "w1", 100, "q")
			e.equal("after the end of the first", []int{len(next), count(next, lost)}, []int{1, 1})
		})
	}

	e.it("a worker that holds a suspect of one queue gets none of another", func(e *env) {
		e.queue("a", meta)
		e.queue("b", meta)
		e.createN("a", 2)
		e.createN("b", 2)
		lose(e, "a", 2)
		lose(e, "b", 2)
		e.equal("tasks", len(e.retainFor(time.Hour, "w1", 100, "a")), 1)
		e.equal("of the other queue", len(e.retainFor(time.Hour, "w1", 100, "b")), 0)
		e.equal("for another worker", len(e.retainFor(time.Hour, "w2", 100, "b")), 1)
	})

	e.it("requests of several workers in one call get one suspect each at most", func(e *env) {
		e.queue("q", meta)
		e.createN("q", 4)
		lose(e, "q", 4)
		e.createN("q", 4)
		held := map[string]int{}
		for range 3 {
			out, err := e.s.RetainTasks(e.ctx(), queue.Retain{Namespace: e.ns, Queues: []string{"q"}, Requests: []queue.RetainShare{
				{Worker: "w1", Limit: 3, Lease: time.Hour}, {Worker: "w2", Limit: 3, Lease: time.Hour},
			}})
			e.ok(err)
			for _, tasks := range out {
				for _, t := range tasks {
					if t.Attempt > 1 {
						held[t.Worker]++
					}
				}
			}
		}
		e.equal("suspects", held, map[string]int{"w1": 1, "w2": 1})
		e.equal("tasks for a third worker", len(e.retain("w3", 100, "q")), 1)
	})

	e.it("the tasks of a FIFO group that lost their leases go one after the other, in their order", func(e *env) {
		meta := meta
		meta.FlowMeta = queue.FlowMeta{Order: new(queue.OrderFIFO), FIFOBatch: new(5)}
		e.queue("q", meta)
		for range 4 {
			e.create("q", queue.TaskMeta{Group: "g"})
		}
		lost := lose(e, "q", 3)
		var got []int64
		for range 20 {
			for _, t := range e.retainFor(time.Hour, "w1", 100, "q") {
				got = append(got, t.ID)
				e.release(t, queue.OutcomeSuccess, "")
			}
			e.pass(time.Second)
			e.chores(queue.ChorePromote)
		}
		e.equal("tasks", len(got), 4)
		e.equal("order", got[:3], lost)
		e.equal("sorted", slices.IsSorted(got), true)
	})
}

func testDeadLetters(e *env) {
	deadTo := func(name string) queue.QueueMeta {
		return queue.QueueMeta{
			Lease: new(time.Second), Retries: new(0), RetryDelay: new(time.Duration(0)), FailurePolicyMeta: queue.FailurePolicyMeta{DeadLetter: &name},
		}
	}
	refused := func(e *env, err error, kind queue.Kind) {
		e.Helper()
		e.kind(err, kind)
		if failed, ok := errors.AsType[*queue.Error](err); !ok || failed.Field != "dead_letter" {
			e.Fatalf("%v is not about dead_letter", err)
		}
	}

	e.it("a task that fails for good leaves one task in the dead letter queue, with its payload, its headers and its origin", func(e *env) {
		e.queue("dead", queue.QueueMeta{})
		meta := deadTo("dead")
		meta.Retries, meta.NonRetryable, meta.MaxLeaseLosses = new(1), new([]string{"gone"}), new(1)
		e.queue("q", meta)
		const payload = `{"b" : 1e400,  "a":"\u0000"}`
		for _, c := range []struct {
			kind string
			fail func(t *queue.Task)
		}{
			{"bad", func(t *queue.Task) {
				_, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomePermanent, ErrorKind: "bad", Quiet: true})
				e.ok(err)
				again, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomePermanent, ErrorKind: "bad"})
				e.ok(err)
				e.equal("repeat", again.Status, queue.StatusFailed)
			}},
			{"gone", func(t *queue.Task) { e.failWith(t, "gone") }},
			{"", func(t *queue.Task) {
				e.failWith(t, "busy")
				e.failWith(e.hold("q"), "")
			}},
			{queue.ErrorKindQuarantined, func(*queue.Task) { e.pass(2 * time.Second) }},
		} {
			task := e.create("q", queue.TaskMeta{Payload: []byte(payload), Key: "k" + c.kind, Group: "g", Priority: 3, Headers: map[string]string{"h": "v"}})
			c.fail(e.hold("q"))
			e.status(task.ID, queue.StatusFailed)

			letters := e.retain("reader", 9, "dead")
			e.equal("letters", len(letters), 1)
			got := letters[0]
			want := map[string]string{
				"h": "v", queue.HeaderDeadLetterQueue: "q", queue.HeaderDeadLetterTask: strconv.FormatInt(task.ID, 10),
				queue.HeaderDeadLetterAttempts: strconv.Itoa(e.get(task.ID).Attempt),
			}
			if c.kind != "" {
				want[queue.HeaderDeadLetterErrorKind] = c.kind
			}
			e.equal("headers", got.Headers, want)
			e.equal("payload, key, group, priority", []any{string(got.Payload), got.Key, got.Group, got.Priority}, []any{payload, "", "g", int16(0)})
			e.release(got, queue.OutcomeSuccess, "")
		}
		e.counts("dead", map[queue.Status]int64{queue.StatusReleased: 4})
	})

	e.it("tasks that end in another way, and failures that are retried, leave no dead letter", func(e *env) {
		e.queue("dead", queue.QueueMeta{})
		meta := deadTo("dead")
		meta.Retries, meta.TTL = new(5), new(time.Hour)
		e.queue("q", meta)
		e.create("q", queue.TaskMeta{})
		e.failWith(e.hold("q"), "")
		e.release(e.hold("q"), queue.OutcomeSuccess, "")
		id := e.create("q", queue.TaskMeta{}).ID
		held := e.hold("q")
		e.ok(e.one(e.s.CancelTasks, id))
		e.release(held, queue.OutcomePermanent, "")
		e.status(id, queue.StatusCancelled)
		id = e.create("q", queue.TaskMeta{}).ID
		e.pass(2 * time.Hour)
		e.status(id, queue.StatusExpired)
		e.counts("dead", map[queue.Status]int64{})
	})

	e.it("many tasks that fail in one call, and rescues of many, leave a dead letter each", func(e *env) {
		e.queue("dead", queue.QueueMeta{FlowMeta: queue.FlowMeta{MaxWaiting: new(1)}})
		e.queue("q", deadTo("dead"))
		e.createN("q", 40)
		releases := make([]queue.Release, 0, 20)
		for _, t := range e.retain("w", 20, "q") {
			releases = append(releases, queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Quiet: true})
		}
		_, err := e.s.ReleaseTasks(e.ctx(), e.ns, releases)
		e.ok(err)
		e.retain("w", 20, "q")
		e.pass(2 * time.Second)
		e.counts("dead", map[queue.Status]int64{queue.StatusNew: 40})
		e.equal("letters", len(e.retain("reader", 100, "dead")), 40)
	})

	e.it("a dead letter queue that is not there or leads back is refused, and one in use is not deleted", func(e *env) {
		q, err := queue.NewQueue(e.ns, queue.QueueMeta{Name: "a", FailurePolicyMeta: queue.FailurePolicyMeta{DeadLetter: new("b")}})
		e.ok(err)
		_, err = e.s.CreateQueue(e.ctx(), q)
		refused(e, err, queue.KindInvalid)
		q.DeadLetter = "a"
		_, err = e.s.CreateQueue(e.ctx(), q)
		refused(e, err, queue.KindInvalid)

		for _, name := range []string{"a", "b", "c"} {
			e.queue(name, queue.QueueMeta{})
		}
		e.update("a", deadTo("b"))
		e.update("b", deadTo("c"))
		for _, to := range []string{"a", "b", "c", "none"} {
			_, err := e.s.UpdateQueue(e.ctx(), e.ns, "c", deadTo(to))
			refused(e, err, queue.KindInvalid)
		}
		_, err = e.s.DeleteQueue(e.ctx(), e.ns, "c")
		refused(e, err, queue.KindConflict)
		e.update("b", deadTo(""))
		_, err = e.s.DeleteQueue(e.ctx(), e.ns, "c")
		e.ok(err)
	})

	e.it("a dead letter that fails leaves one in the next queue", func(e *env) {
		e.queue("c", queue.QueueMeta{})
		e.queue("b", deadTo("c"))
		e.queue("a", deadTo("b"))
		e.create("a", queue.TaskMeta{Headers: map[string]string{"h": "v"}})
		e.failWith(e.hold("a"), "one")
		e.failWith(e.hold("b"), "two")
		last := e.hold("c")
		e.equal("headers", []string{last.Headers["h"], last.Headers[queue.HeaderDeadLetterQueue], last.Headers[queue.HeaderDeadLetterErrorKind]}, []string{"v", "b", "two"})
	})
}
