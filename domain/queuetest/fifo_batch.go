package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// fifoBatch are the settings of a FIFO queue with batches of n tasks. Its leases outlast every test.
func fifoBatch(n int) queue.QueueMeta {
	m := fifo()
	m.FIFOBatch = new(n)
	return flowOf(m)
}

// takeShares serves requests of workers w0, w1 and so on in one call, and checks that no two of them got tasks of one group, and
// that each got tasks of a group in the order of their ids.
func (e *env) takeShares(name string, shares ...queue.RetainShare) [][]*queue.Task {
	e.Helper()
	for i := range shares {
		shares[i].Worker = fmt.Sprint("w", i)
	}
	out, err := e.s.RetainTasks(e.ctx(), queue.Retain{Namespace: e.ns, Queues: []string{name}, Requests: shares})
	e.ok(err)
	e.inOneHand(out)
	return out
}

// inOneHand checks that no group is in the answers of two requests, and that it is in order in its answer.
func (e *env) inOneHand(out [][]*queue.Task) {
	e.Helper()
	hands, last := map[string]int{}, map[string]int64{}
	for i, tasks := range out {
		for _, t := range tasks {
			if hand, known := hands[t.Group]; known && hand != i {
				e.Fatalf("requests %d and %d got tasks of group %q", hand, i, t.Group)
			}
			if t.ID < last[t.Group] {
				e.Fatalf("task %d of group %q comes behind task %d", t.ID, t.Group, last[t.Group])
			}
			hands[t.Group], last[t.Group] = i, t.ID
		}
	}
}

// idsOfGroup returns the ids of the tasks of one group in the answers.
func idsOfGroup(out [][]*queue.Task, group string) (got []int64) {
	for _, t := range slices.Concat(out...) {
		if t.Group == group {
			got = append(got, t.ID)
		}
	}
	return got
}

// drainShares serves such requests, and ends what they get with success, until no task is left. It returns the ids of each group in
// the order of their starts.
func (e *env) drainShares(name string, total int, shares ...queue.RetainShare) map[string][]int64 {
	e.Helper()
	order, n := map[string][]int64{}, 0
	for calls := 0; n < total; calls++ {
		if calls > 4*total {
			e.Fatalf("%d of %d tasks started in %d calls", n, total, calls)
		}
		for _, t := range slices.Concat(e.takeShares(name, shares...)...) {
			order[t.Group] = append(order[t.Group], t.ID)
			e.release(t, queue.OutcomeSuccess, "")
			n++
		}
	}
	e.nothing(name)
	e.equal("waiting for a group", e.stats(name).GroupWaiting, int64(0))
	return order
}

// testFIFOBatches checks that a batch of a group is in one hand, and says so.
func testFIFOBatches(e *env) {
	e.it("a batch of a group goes to one of the requests of a call, in order", func(e *env) {
		e.queue("q", fifoBatch(4))
		var names []string
		for range 5 {
			names = append(names, "a", "b", "c")
		}
		made := e.createInOne("q", names...)
		out := e.takeShares("q", queue.RetainShare{Limit: 3}, queue.RetainShare{Limit: 2}, queue.RetainShare{Limit: 3})
		e.equal("of the first group", idsOfGroup(out, "a"), []int64{made[0], made[3], made[6]})
		if len(idsOfGroup(out, "b")) == 0 {
			e.Fatal("the second request got no other group")
		}
		for _, g := range []string{"a", "b", "c"} {
			e.equal("tasks in hand of group "+g, e.group("q", g).Retained, int64(len(idsOfGroup(out, g))))
		}
		for _, t := range slices.Concat(out...) {
			e.release(t, queue.OutcomeSuccess, "")
		}

		n := len(slices.Concat(out...))
		rest := e.drainShares("q", len(made)-n, queue.RetainShare{Limit: 3}, queue.RetainShare{Limit: 2}, queue.RetainShare{Limit: 3})
		for i, g := range []string{"a", "b", "c"} {
			got := append(idsOfGroup(out, g), rest[g]...)
			e.equal("order of group "+g, got, []int64{made[i], made[i+3], made[i+6], made[i+9], made[i+12]})
		}
	})
	e.it("a group with more tasks than a request takes does not keep the requests behind from other groups", func(e *env) {
		e.queue("q", fifoBatch(8))
		e.createInOne("q", append(append(same("a", 8), same("b", 8)...), same("c", 8)...)...)
		out := e.takeShares("q", queue.RetainShare{Limit: 1}, queue.RetainShare{Limit: 1}, queue.RetainShare{Limit: 1})
		for i, tasks := range out {
			e.equal(fmt.Sprint("tasks of request ", i), len(tasks), 1)
		}
	})
	e.it("tasks of a group beyond the bytes of its request wait for it, and no later one is taken", func(e *env) {
		e.queue("q", fifoBatch(8))
		var a, b []int64
		for _, n := range []int{1_000, 1_000, 90_000, 1_000, 1_000} {
			a = append(a, e.create("q", queue.TaskMeta{Group: "a", Payload: large(n)}).ID)
			b = append(b, e.create("q", queue.TaskMeta{Group: "b", Payload: large(1_000)}).ID)
		}
		small := queue.RetainShare{Limit: 100, MaxBytes: 50_000}
		out := e.takeShares("q", small)
		e.equal("of the first group", idsOfGroup(out, "a"), a[:2])
		e.equal("in hand", e.group("q", "a").Retained, int64(2))
		for _, id := range a[2:] {
			e.status(id, queue.StatusNew)
		}
		for _, t := range out[0] {
			e.release(t, queue.OutcomeSuccess, "")
		}

		got := append(idsOfGroup(out, "b"), []int64{}...)
		rest := e.drainShares("q", len(a)+len(b)-len(out[0]), small, small)
		e.equal("order of group a", rest["a"], a[2:])
		e.equal("order of group b", append(got, rest["b"]...), b)
	})
	e.it("a group with a middle beyond the bytes of its request is in no other hand, and other groups are", func(e *env) {
		e.queue("q", fifoBatch(8))
		var a []int64
		for _, n := range []int{1_000, 1_000, 90_000, 1_000} {
			a = append(a, e.create("q", queue.TaskMeta{Group: "a", Payload: large(n)}).ID)
		}
		b := e.createIn("q", "b", "b")
		small := queue.RetainShare{Limit: 100, MaxBytes: 50_000}
		out := e.takeShares("q", small, small, small)
		e.equal("of the first request", ids(out[0]), a[:2])
		if len(out) < 2 || len(out[1]) == 0 {
			out = append(out, e.takeShares("q", small, small)...)
		}
		e.equal("of another group", idsOfGroup(out, "b"), b)
		e.equal("waiting for a group", e.stats("q").GroupWaiting, int64(2))
		e.nothing("q")
		e.end(a[0], queue.OutcomeSuccess)
		e.nothing("q")
		e.end(a[1], queue.OutcomeSuccess)
		e.equal("the rest", e.takeIDs(10, "q"), a[2:])
	})
	e.it("tasks that a call left behind hold no place of their group", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour), FlowMeta: fifoBatch(3).FlowMeta})
		first := e.create("q", queue.TaskMeta{Group: "a"}).ID
		e.equal("the first", e.takeIDs(10, "q"), []int64{first})
		e.end(first, queue.OutcomePermanent)
		second := e.create("q", queue.TaskMeta{Group: "a", Payload: large(1_000)}).ID
		third := e.create("q", queue.TaskMeta{Group: "a", Payload: large(90_000)}).ID
		e.equal("the second", ids(e.takeShares("q", queue.RetainShare{Limit: 9, MaxBytes: 50_000})[0]), []int64{second})
		e.bulk(e.s.RetryTasks, queue.Selection{IDs: []int64{first}})
		e.end(second, queue.OutcomeSuccess)
		e.equal("then", e.takeIDs(1, "q"), []int64{first})
		e.end(first, queue.OutcomeSuccess)
		e.equal("the last", e.takeIDs(1, "q"), []int64{third})
	})
	e.it("a task that keeps its place starts before an earlier one that is retried, and never beside it", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour), Lease: new(100 * time.Hour), FlowMeta: fifoBatch(2).FlowMeta})
		made := e.createIn("q", "a", "b", "a")
		e.equal("first", sortIDs(e.takeIDs(10, "q")), made)
		e.end(made[0], queue.OutcomePermanent)
		e.end(made[1], queue.OutcomeHandBack)
		e.end(made[2], queue.OutcomeFailure)
		e.bulk(e.s.RetryTasks, queue.Selection{IDs: []int64{made[0]}})
		e.pass(2 * time.Hour)
		got := e.retain("w", 2, "q")
		if len(idsOfGroup([][]*queue.Task{got}, "a")) == 0 {
			e.end(made[1], queue.OutcomeSuccess)
			got = e.retain("w", 1, "q")
		}
		if a := idsOfGroup([][]*queue.Task{got}, "a"); !slices.Contains(a, made[2]) {
			e.Fatalf("tasks %v started, and task %d kept its place", a, made[2])
		}
		for _, t := range e.retain("other", 5, "q") {
			if t.Group == "a" {
				e.Fatalf("task %d of the group started too", t.ID)
			}
		}
	})
	e.it("a create for several waiting requests gives a group to one of them", func(e *env) {
		e.queue("q", fifoBatch(8))
		var tasks []queue.NewTask
		for _, g := range []string{"a", "b", "a", "b", "a", "b"} {
			tasks = append(tasks, e.newTask("q", queue.TaskMeta{Group: g}))
		}
		_, outs, err := e.s.CreateAndRetain(e.ctx(), queue.Create{Namespace: e.ns, Tasks: tasks}, queue.Retain{
			Namespace: e.ns, Queues: []string{"q"}, Requests: []queue.RetainShare{
				{Worker: "w0", Limit: 2}, {Worker: "w1", Limit: 2, MaxBytes: 50_000}, {Worker: "w2", Limit: 2},
			},
		})
		e.ok(err)
		e.inOneHand(outs)
		for _, t := range slices.Concat(outs...) {
			e.release(t, queue.OutcomeSuccess, "")
		}
		e.drainShares("q", len(tasks)-len(slices.Concat(outs...)), queue.RetainShare{Limit: 2}, queue.RetainShare{Limit: 1})
	})
	e.it("a lease says that a task runs in the order of its answer, in queues with batches alone", func(e *env) {
		e.queue("batches", fifoBatch(3))
		e.queue("single", fifoBatch(1))
		e.queue("plain", queue.QueueMeta{FlowMeta: queue.FlowMeta{FIFOBatch: new(3)}})
		for name, want := range map[string]bool{"batches": true, "single": false, "plain": false} {
			e.createIn(name, "a", "a")
			request := queue.RetainShare{Worker: "w", Limit: 2, RequestID: "of " + name, Arguments: "args"}
			for range 2 { // the second call repeats the first
				out, err := e.s.RetainTasks(e.ctx(), queue.Retain{Namespace: e.ns, Queues: []string{name}, Requests: []queue.RetainShare{request}})
				e.ok(err)
				if len(out[0]) == 0 {
					e.Fatalf("no task of queue %s", name)
				}
				for _, t := range out[0] {
					e.equal("in order, of queue "+name, t.Lease.InOrder, want)
				}
			}
		}
	})
}
