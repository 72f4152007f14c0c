package queuetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// flowOf returns the settings of a queue with a flow. No lease runs out while the tests move the clock.
func flowOf(m queue.FlowMeta) queue.QueueMeta {
	return queue.QueueMeta{Lease: new(1000 * time.Hour), FlowMeta: m}
}

// fifo are the settings of a FIFO queue.
func fifo() queue.FlowMeta { return queue.FlowMeta{Order: new(queue.OrderFIFO)} }

// createIn creates one task for each group and returns their ids, by one call each.
func (e *env) createIn(name string, groups ...string) []int64 {
	e.Helper()
	made := make([]int64, len(groups))
	for i, g := range groups {
		made[i] = e.create(name, queue.TaskMeta{Group: g}).ID
	}
	return made
}

// createInOne creates one task for each group in one call.
func (e *env) createInOne(name string, groups ...string) []int64 {
	e.Helper()
	tasks := make([]queue.NewTask, len(groups))
	for i, g := range groups {
		tasks[i] = e.newTask(name, queue.TaskMeta{Group: g})
	}
	return ids(e.createAll(tasks...))
}

// sortIDs returns ids in ascending order.
func sortIDs(ids []int64) []int64 { return slices.Sorted(slices.Values(ids)) }

// same returns n times g.
func same(g string, n int) []string {
	groups := make([]string, n)
	for i := range groups {
		groups[i] = g
	}
	return groups
}

// takeIDs retains up to limit tasks and returns their ids.
func (e *env) takeIDs(limit int, queues ...string) []int64 {
	e.Helper()
	return ids(e.retain("w", limit, queues...))
}

// end ends the lease of the present hold of a task.
func (e *env) end(id int64, o queue.Outcome) {
	e.Helper()
	r := queue.Release{ID: id, Outcome: o}
	if o == queue.OutcomeSnooze {
		r.Delay = time.Hour
	}
	_, err := e.tryRelease(r)
	e.ok(err)
}

func (e *env) group(name, group string) *queue.Group {
	e.Helper()
	page, err := e.s.ListGroups(e.ctx(), e.ns, name, queue.GroupQuery{Name: group, Limit: 1})
	e.ok(err)
	if len(page.Groups) != 1 {
		e.Fatalf("%d groups of one name", len(page.Groups))
	}
	return page.Groups[0]
}

func (e *env) setGroup(name, group string, m queue.GroupMeta) *queue.Group {
	e.Helper()
	g, err := e.s.UpdateGroup(e.ctx(), e.ns, name, group, m)
	e.ok(err)
	return g
}

func testFair(e *env) {
	e.it("groups of a fair queue start in turns, also with unequal backlogs", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{Fair: new(true)}))
		e.createInOne("q", same("loud", 400)...)
		quiet := e.createInOne("q", same("quiet", 20)...)
		got := e.takeIDs(100, "q")
		for _, id := range quiet {
			if !slices.Contains(got, id) {
				e.Fatalf("task %d of the quiet group did not start among the first %d", id, len(got))
			}
		}
	})
	e.it("a group that comes late gets its share from then on", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{Fair: new(true)}))
		e.createInOne("q", same("loud", 400)...)
		e.equal("first", len(e.takeIDs(200, "q")), 200)
		late := e.createInOne("q", same("late", 10)...)
		got := e.takeIDs(60, "q")
		for _, id := range late {
			if !slices.Contains(got, id) {
				e.Fatalf("task %d of the late group did not start among the next %d", id, len(got))
			}
		}
	})
	e.it("priorities come before groups, and within a group the turn decides", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{Fair: new(true)}))
		e.createInOne("q", same("a", 3)...)
		urgent := e.create("q", queue.TaskMeta{Group: "a", Priority: -1}).ID
		got := e.takeIDs(1, "q")
		e.equal("first", got, []int64{urgent})
	})
	e.it("a group with twice the weight starts twice as many tasks", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{Fair: new(true)}))
		e.setGroup("q", "heavy", queue.GroupMeta{Weight: new(2)})
		heavy := e.createInOne("q", same("heavy", 600)...)
		e.createInOne("q", same("light", 600)...)
		n := 0
		for range 12 {
			for _, id := range e.takeIDs(50, "q") {
				if slices.Contains(heavy, id) {
					n++
				}
			}
		}
		if n < 370 || n > 430 {
			e.Fatalf("the group of weight 2 started %d of 600 tasks, want about 400", n)
		}
	})
	e.it("tasks without a group share a fair queue as one group", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{Fair: new(true)}))
		e.createInOne("q", same("loud", 300)...)
		plain := e.createN("q", 5)
		got := e.takeIDs(80, "q")
		for _, id := range plain {
			if !slices.Contains(got, id) {
				e.Fatalf("task %d without a group did not start among the first %d", id, len(got))
			}
		}
	})
	e.it("all tasks of a queue are there when it becomes fair, and when it is no longer", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createInOne("q", append(same("a", 5), same("b", 5)...)...)
		e.update("q", flowOf(queue.FlowMeta{Fair: new(true)}))
		made = append(made, e.createInOne("q", append(same("a", 5), same("b", 5)...)...)...)
		got := e.takeIDs(7, "q")
		e.update("q", flowOf(queue.FlowMeta{Fair: new(false)}))
		made = append(made, e.createIn("q", "a", "")...)
		got = append(got, e.takeIDs(100, "q")...)
		e.equal("retained", sortIDs(got), sortIDs(made))
	})
}

func testRate(e *env) {
	e.it("no more tasks start than the rate and its burst allow", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{RateLimit: new(10), RatePeriod: new(time.Hour), RateBurst: new(3)}))
		e.createN("q", 30)
		e.equal("burst", len(e.takeIDs(10, "q")), 3)
		e.nothing("q")
		e.advance(6 * time.Minute)
		e.equal("after a tenth of the period", len(e.takeIDs(10, "q")), 1)
		e.advance(18 * time.Minute)
		e.equal("after three more", len(e.takeIDs(10, "q")), 3)
		e.advance(100 * time.Hour)
		e.equal("an idle time gives no more than the burst", len(e.takeIDs(10, "q")), 3)
	})
	e.it("the rate counts starts over all requests of a call, and hand-backs give none back", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{RateLimit: new(10), RatePeriod: new(time.Hour), RateBurst: new(3)}))
		e.createN("q", 30)
		out, err := e.s.RetainTasks(e.ctx(), queue.Retain{Namespace: e.ns, Queues: []string{"q"}, Requests: []queue.RetainShare{
			{Worker: "a", Limit: 2}, {Worker: "b", Limit: 2},
		}})
		e.ok(err)
		e.equal("retained", len(out[0])+len(out[1]), 3)
		e.release(out[0][0], queue.OutcomeHandBack, "")
		e.nothing("q")
	})
	e.it("a retain says when the rate lets the next task start", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{RateLimit: new(10), RatePeriod: new(time.Hour), RateBurst: new(1)}))
		e.createN("q", 3)
		hints := map[string]time.Duration{}
		retain := queue.Retain{
			Namespace: e.ns, Queues: []string{"q"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 2}},
			WakeIn: func(name string, in time.Duration) { hints[name] = in },
		}
		for _, want := range []int{1, 0} {
			clear(hints)
			out, err := e.s.RetainTasks(e.ctx(), retain)
			e.ok(err)
			e.equal("retained", len(out[0]), want)
			if in := hints["q"]; in <= 5*time.Minute || in > 6*time.Minute {
				e.Fatalf("the next start is reported in %v, want about 6m", in)
			}
		}
	})
	e.it("a queue at its rate does not keep others from being served", func(e *env) {
		e.queue("slow", flowOf(queue.FlowMeta{RateLimit: new(1), RatePeriod: new(time.Hour)}))
		e.queue("free", queue.QueueMeta{})
		e.createN("slow", 5)
		e.createN("free", 5)
		e.equal("held", len(e.takeIDs(100)), 6)
	})
	e.it("a new rate holds from the next retain on", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{RateLimit: new(1), RatePeriod: new(time.Hour)}))
		e.createN("q", 9)
		e.equal("held", len(e.takeIDs(9, "q")), 1)
		e.update("q", flowOf(queue.FlowMeta{RateLimit: new(0)}))
		e.equal("held", len(e.takeIDs(9, "q")), 8)
	})
	e.it("a release holds up its queue for a delay, and resume ends that", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 3)
		t := e.hold("q")
		after, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSnooze, Delay: time.Hour, Scope: queue.ScopeQueue})
		e.ok(err)
		e.equal("status", after.Status, queue.StatusNew)
		e.nothing("q")
		q, err := e.s.GetQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.near("paused until", q.PausedUntil, after.DelayedAt, aWhile)
		e.update("q", queue.QueueMeta{Paused: new(false)})
		e.equal("after resume", len(e.takeIDs(5, "q")), 2)
	})
	e.it("a shorter delay of a queue does not end a longer one", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 3)
		a, b := e.hold("q"), e.hold("q")
		for _, r := range []queue.Release{
			{ID: a.ID, Token: a.Lease.Token, Outcome: queue.OutcomeFailure, Delay: 2 * time.Hour, Scope: queue.ScopeQueue},
			{ID: b.ID, Token: b.Lease.Token, Outcome: queue.OutcomeSnooze, Delay: time.Hour, Scope: queue.ScopeQueue},
		} {
			_, err := e.tryRelease(r)
			e.ok(err)
		}
		e.advance(90 * time.Minute)
		e.nothing("q")
		e.advance(31 * time.Minute)
		e.equal("after the longer one", len(e.takeIDs(5, "q")), 3)
	})
}

func testGroups(e *env) {
	e.it("at most the concurrency of a group is retained, and other groups go on", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{GroupConcurrency: new(2)}))
		a := e.createInOne("q", same("a", 5)...)
		b := e.createInOne("q", same("b", 1)...)
		plain := e.createN("q", 2)
		got := e.takeIDs(10, "q")
		e.equal("retained", sortIDs(got), sortIDs(append(append(a[:2:2], b...), plain...)))
		e.nothing("q")
		e.equal("waiting for the group", e.stats("q").GroupWaiting, int64(3))
		e.equal("ready", e.stats("q").Ready, int64(0))

		e.end(a[0], queue.OutcomeSuccess)
		e.equal("after a success", e.takeIDs(10, "q"), a[2:3])
		e.end(a[1], queue.OutcomeFailure)
		e.equal("after a failure", e.takeIDs(10, "q"), a[3:4])
		e.end(a[2], queue.OutcomeSnooze)
		e.equal("after a snooze", e.takeIDs(10, "q"), a[4:5])
		e.nothing("q")
		e.equal("waiting for the group", e.stats("q").GroupWaiting, int64(0))
	})
	e.it("a handed back task of a full group comes back", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{GroupConcurrency: new(1)}))
		made := e.createInOne("q", same("a", 3)...)
		e.equal("retained", e.takeIDs(10, "q"), made[:1])
		e.end(made[0], queue.OutcomeHandBack)
		var got []int64
		for range made {
			one := e.takeIDs(10, "q")
			e.equal("one at a time", len(one), 1)
			got = append(got, one...)
			e.end(one[0], queue.OutcomeSuccess)
		}
		e.equal("retained", sortIDs(got), sortIDs(made))
	})
	e.it("the place of a lapsed lease is free after its rescue", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(time.Hour), RetryDelay: new(100 * time.Hour), FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}})
		made := e.createInOne("q", same("a", 2)...)
		e.equal("retained", e.takeIDs(10, "q"), made[:1])
		e.advance(2 * time.Hour)
		e.nothing("q")
		e.chores(queue.ChoreRescue)
		e.equal("retained", e.takeIDs(10, "q"), made[1:])
	})
	e.it("tasks that wait for their group expire, are cancelled and deleted as others", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(time.Hour), Lease: new(100 * time.Hour), FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}})
		made := e.createInOne("q", same("a", 6)...)
		e.equal("retained", e.takeIDs(10, "q"), made[:1])
		e.nothing("q")
		e.bulk(e.s.CancelTasks, queue.Selection{IDs: []int64{made[1]}})
		e.status(made[1], queue.StatusCancelled)
		e.bulk(e.s.DeleteTasks, queue.Selection{IDs: []int64{made[2]}})
		if e.find(made[2]) != nil {
			e.Fatal("a deleted task is there")
		}
		e.equal("waiting for the group", e.stats("q").GroupWaiting, int64(3))
		e.end(made[0], queue.OutcomeSuccess)
		e.equal("retained", e.takeIDs(10, "q"), made[3:4])
		e.advance(2 * time.Hour)
		e.chores(queue.ChoreExpire)
		e.status(made[4], queue.StatusExpired)
		e.status(made[5], queue.StatusExpired)
		e.equal("waiting for the group", e.stats("q").GroupWaiting, int64(0))
		e.end(made[3], queue.OutcomeSuccess)
		e.nothing("q")
	})
	e.it("a raised limit starts tasks that waited, and a lowered one holds from then on", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{GroupConcurrency: new(1)}))
		made := e.createInOne("q", same("a", 9)...)
		e.equal("held", e.takeIDs(10, "q"), made[:1])
		e.nothing("q")
		e.update("q", flowOf(queue.FlowMeta{GroupConcurrency: new(3)}))
		e.chores(queue.ChorePromote)
		e.equal("raised", len(e.takeIDs(10, "q")), 2)
		e.update("q", flowOf(queue.FlowMeta{GroupConcurrency: new(2)}))
		e.chores(queue.ChorePromote)
		e.nothing("q")
		e.end(made[0], queue.OutcomeSuccess)
		e.nothing("q")
		e.update("q", flowOf(queue.FlowMeta{GroupConcurrency: new(0)}))
		e.chores(queue.ChorePromote)
		e.equal("without a limit", len(e.takeIDs(10, "q")), 6)
		e.equal("waiting for the group", e.stats("q").GroupWaiting, int64(0))
	})
	e.it("a limit that is new counts the tasks in hand", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createInOne("q", same("a", 4)...)
		e.equal("held", len(e.takeIDs(2, "q")), 2)
		e.update("q", flowOf(queue.FlowMeta{GroupConcurrency: new(2)}))
		e.nothing("q")
		e.end(made[0], queue.OutcomeSuccess)
		e.equal("after one ended", e.takeIDs(10, "q"), made[2:3])
	})
	e.it("a limit of a group that is new counts its tasks in hand", func(e *env) {
		for name, prepare := range map[string]func(q string){
			"first":   func(string) {},
			"another": func(q string) { e.setGroup(q, "b", queue.GroupMeta{Concurrency: new(1)}) },
			"paused": func(q string) {
				e.setGroup(q, "a", queue.GroupMeta{PausedUntil: new(e.get(e.create(q, queue.TaskMeta{Group: "x"}).ID).CreatedAt.Add(-time.Hour))})
			},
		} {
			e.queue(name, queue.QueueMeta{})
			prepare(name)
			made := e.createInOne(name, same("a", 4)...)
			for held := 0; held < 2; {
				for _, id := range e.takeIDs(1, name) {
					if slices.Contains(made, id) {
						held++
					}
				}
			}
			g := e.setGroup(name, "a", queue.GroupMeta{Concurrency: new(2)})
			e.equal(name+": tasks in hand", g.Retained, int64(2))
			e.nothing(name)
			e.end(made[0], queue.OutcomeSuccess)
			e.equal(name+": after one ended", e.takeIDs(10, name), made[2:3])
		}
	})
	e.it("a new limit of a queue counts the tasks in hand beside a group with settings", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.setGroup("q", "b", queue.GroupMeta{Concurrency: new(1)})
		made := e.createInOne("q", same("a", 4)...)
		e.equal("held", len(e.takeIDs(2, "q")), 2)
		e.update("q", flowOf(queue.FlowMeta{GroupConcurrency: new(2)}))
		e.nothing("q")
		e.end(made[0], queue.OutcomeSuccess)
		e.equal("after one ended", e.takeIDs(10, "q"), made[2:3])
	})
	e.it("the rate of a group holds up that group alone", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{GroupRateLimit: new(1), GroupRatePeriod: new(time.Hour)}))
		a := e.createInOne("q", same("a", 3)...)
		b := e.createInOne("q", same("b", 2)...)
		e.equal("first", sortIDs(e.takeIDs(10, "q")), sortIDs([]int64{a[0], b[0]}))
		e.nothing("q")
		e.pass(61 * time.Minute)
		e.equal("second", sortIDs(e.takeIDs(10, "q")), sortIDs([]int64{a[1], b[1]}))
		e.pass(61 * time.Minute)
		e.equal("third", e.takeIDs(10, "q"), a[2:])
	})
	e.it("a group has limits of its own", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{GroupConcurrency: new(1)}))
		e.setGroup("q", "big", queue.GroupMeta{Concurrency: new(3)})
		big := e.createInOne("q", same("big", 5)...)
		small := e.createInOne("q", same("small", 5)...)
		e.equal("retained", sortIDs(e.takeIDs(10, "q")), sortIDs([]int64{big[0], big[1], big[2], small[0]}))
		g := e.setGroup("q", "big", queue.GroupMeta{Concurrency: new(0)})
		e.equal("policy", g.Concurrency, 0)
		e.nothing("q")
	})
	e.it("a group of a queue without limits can be limited", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.setGroup("q", "a", queue.GroupMeta{Concurrency: new(1)})
		a := e.createInOne("q", same("a", 3)...)
		b := e.createInOne("q", same("b", 3)...)
		e.equal("retained", sortIDs(e.takeIDs(10, "q")), sortIDs(append(a[:1:1], b...)))
		e.end(a[0], queue.OutcomeSuccess)
		e.equal("then", e.takeIDs(10, "q"), a[1:2])
		q, err := e.s.GetQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.equal("group policies", q.GroupPolicies, 1)
	})
	e.it("a paused group waits until its time, or until it is resumed", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{}))
		a := e.createInOne("q", same("a", 2)...)
		b := e.createInOne("q", same("b", 1)...)
		now := e.get(a[0]).CreatedAt
		g := e.setGroup("q", "a", queue.GroupMeta{PausedUntil: new(now.Add(time.Hour))})
		e.near("paused until", g.PausedUntil, now.Add(time.Hour), time.Second)
		e.equal("retained", e.takeIDs(10, "q"), b)
		e.pass(61 * time.Minute)
		e.equal("after the time", e.takeIDs(1, "q"), a[:1])
		e.setGroup("q", "a", queue.GroupMeta{PausedUntil: new(now.Add(9 * time.Hour))})
		e.nothing("q")
		e.setGroup("q", "a", queue.GroupMeta{PausedUntil: new(time.Time{})})
		e.equal("resumed", e.takeIDs(10, "q"), a[1:])
	})
	e.it("a release holds up its group for a delay", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{}))
		a := e.createInOne("q", same("a", 3)...)
		b := e.createInOne("q", same("b", 2)...)
		t := e.retain("w", 1, "q")[0]
		e.equal("held", t.ID, a[0])
		_, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Delay: time.Hour, Scope: queue.ScopeGroup})
		e.ok(err)
		e.equal("retained", e.takeIDs(10, "q"), b)
		e.pass(61 * time.Minute)
		e.equal("after the delay", sortIDs(e.takeIDs(10, "q")), sortIDs(a))
	})
	e.it("releases of one call that pause one group pause it for the longest delay", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		a := e.createInOne("q", same("a", 3)...)
		var releases []queue.Release
		for i, t := range e.retain("w", 2, "q") {
			delay := time.Duration(2-i) * time.Hour
			releases = append(releases, queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Delay: delay, Scope: queue.ScopeGroup})
		}
		out, err := e.s.ReleaseTasks(e.ctx(), e.ns, releases)
		e.ok(err)
		for _, r := range out {
			e.ok(r.Err)
		}
		e.pass(61 * time.Minute)
		e.nothing("q")
		e.pass(61 * time.Minute)
		e.equal("after the longest delay", sortIDs(e.takeIDs(10, "q")), sortIDs(a))
	})
	e.it("a queue forgets the pauses of its groups when they are over", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.setGroup("q", "limited", queue.GroupMeta{Concurrency: new(1)})
		made := e.createInOne("q", same("a", 2)...)
		t := e.retain("w", 1, "q")[0]
		_, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Delay: time.Hour, Scope: queue.ScopeGroup})
		e.ok(err)
		e.setGroup("q", "b", queue.GroupMeta{PausedUntil: new(e.get(made[0]).CreatedAt.Add(time.Hour))})
		e.setGroup("q", "limited", queue.GroupMeta{PausedUntil: new(e.get(made[0]).CreatedAt.Add(time.Hour))})
		policies := func(want int) {
			e.Helper()
			q, err := e.s.GetQueue(e.ctx(), e.ns, "q")
			e.ok(err)
			e.equal("group policies", q.GroupPolicies, want)
		}
		policies(3)
		e.pass(61 * time.Minute)
		e.chores(queue.ChorePrune)
		policies(1)
		e.setGroup("q", "limited", queue.GroupMeta{Concurrency: new(0), PausedUntil: new(time.Time{})})
		policies(0)
		e.equal("retained", sortIDs(e.takeIDs(10, "q")), made)
	})
	e.it("groups are listed with their settings and what waits for them", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{GroupConcurrency: new(1)}))
		e.createInOne("q", append(same("b", 3), same("a", 1)...)...)
		e.takeIDs(10, "q")
		e.nothing("q")
		e.setGroup("q", "c", queue.GroupMeta{Weight: new(5)})
		var names []string
		for q := (queue.GroupQuery{Limit: 2}); ; {
			page, err := e.s.ListGroups(e.ctx(), e.ns, "q", q)
			e.ok(err)
			for _, g := range page.Groups {
				names = append(names, fmt.Sprintf("%s %d %d %d", g.Name, g.Weight, g.Retained, g.Waiting))
			}
			if q.Cursor = page.Next; page.Next == "" {
				break
			}
		}
		e.equal("groups", slices.Sorted(slices.Values(names)), []string{"a 0 1 0", "b 0 1 2", "c 5 0 0"})
		_, err := e.s.ListGroups(e.ctx(), e.ns, "none", queue.GroupQuery{Limit: 1})
		e.kind(err, queue.KindNotFound)
		_, err = e.s.UpdateGroup(e.ctx(), e.ns, "none", "a", queue.GroupMeta{})
		e.kind(err, queue.KindNotFound)
		_, err = e.s.UnblockGroup(e.ctx(), e.ns, "none", "a")
		e.kind(err, queue.KindNotFound)
	})
	e.it("what explains a wait names the limit of the group", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{GroupConcurrency: new(1)}))
		made := e.createInOne("q", same("a", 2)...)
		e.takeIDs(10, "q")
		e.nothing("q")
		task := e.get(made[1])
		f, err := e.s.ReadFacts(e.ctx(), e.ns, "q", task)
		e.ok(err)
		if f.Group == nil || f.Group.Retained != 1 {
			e.Fatalf("the facts have the group %+v", f.Group)
		}
	})
	e.Run("the limit of a group holds under concurrent retains and releases", func(t *testing.T) {
		e := e.with(t)
		const limit, total, groups = 2, 240, 6
		e.queue("busy", flowOf(queue.FlowMeta{GroupConcurrency: new(limit)}))
		var names []string
		for i := range total {
			names = append(names, fmt.Sprint("g", i%groups))
		}
		e.createInOne("busy", names...)
		e.workGroups("busy", total, limit)
		e.counts("busy", map[queue.Status]int64{queue.StatusReleased: total})
		e.equal("waiting for a group", e.stats("busy").GroupWaiting, int64(0))
	})
}

// workGroups works a queue empty with several workers, and checks that no group has more than limit tasks in hand.
func (e *env) workGroups(name string, total, limit int) {
	e.Helper()
	var mu sync.Mutex
	held, done := map[string]int{}, 0
	ctx := e.ctx()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for {
				mu.Lock()
				ended := done >= total || e.Failed()
				mu.Unlock()
				if ended {
					return
				}
				out, err := e.s.RetainTasks(ctx, queue.Retain{
					Namespace: e.ns, Queues: []string{name}, Requests: []queue.RetainShare{{Worker: fmt.Sprint("w", w), Limit: 1 + w%4}},
				})
				if err != nil {
					e.Errorf("retain: %v", err)
					return
				}

				var rel []queue.Release
				mu.Lock()
				for _, task := range out[0] {
					if held[task.Group]++; held[task.Group] > limit {
						e.Errorf("%d tasks of group %s are held, at most %d", held[task.Group], task.Group, limit)
					}
					o := queue.OutcomeSuccess
					if w == 0 && task.ID%5 == 0 {
						o = queue.OutcomeHandBack
					}
					rel = append(rel, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: o})
				}
				// Subtract before the release: every counted task is held for sure.
				for i, task := range out[0] {
					held[task.Group]--
					if rel[i].Outcome == queue.OutcomeSuccess {
						done++
					}
				}
				mu.Unlock()
				if len(rel) == 0 {
					continue
				}
				if _, err := e.s.ReleaseTasks(ctx, e.ns, rel); err != nil {
					e.Errorf("release: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func testFIFO(e *env) {
	e.it("tasks of a group run one after the other, in the order of their creates", func(e *env) {
		e.queue("q", flowOf(fifo()))
		a := e.createInOne("q", same("a", 3)...)
		b := e.createIn("q", "b", "b")
		a = append(a, e.createIn("q", "a")...)
		e.equal("first", sortIDs(e.takeIDs(10, "q")), sortIDs([]int64{a[0], b[0]}))
		e.nothing("q")
		e.end(a[0], queue.OutcomeSuccess)
		e.equal("second of a", e.takeIDs(10, "q"), a[1:2])
		e.end(b[0], queue.OutcomeSuccess)
		e.end(a[1], queue.OutcomePermanent)
		e.equal("then", sortIDs(e.takeIDs(10, "q")), sortIDs([]int64{a[2], b[1]}))
		e.end(a[2], queue.OutcomeSuccess)
		e.equal("last of a", e.takeIDs(10, "q"), a[3:])
		e.end(a[3], queue.OutcomeSuccess)
		e.end(b[1], queue.OutcomeSuccess)
		e.nothing("q")
		e.equal("waiting for a group", e.stats("q").GroupWaiting, int64(0))
	})
	e.it("a retry, a snooze and a hand-back keep their place", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour), FlowMeta: fifo()})
		made := e.createInOne("q", same("a", 3)...)
		e.equal("first", e.takeIDs(10, "q"), made[:1])
		e.end(made[0], queue.OutcomeFailure)
		e.nothing("q")
		e.pass(2 * time.Hour)
		e.equal("the retry", e.takeIDs(10, "q"), made[:1])
		e.end(made[0], queue.OutcomeSnooze)
		e.nothing("q")
		e.pass(2 * time.Hour)
		e.equal("after the snooze", e.takeIDs(10, "q"), made[:1])
		e.end(made[0], queue.OutcomeHandBack)
		e.equal("after the hand-back", e.takeIDs(10, "q"), made[:1])
		e.end(made[0], queue.OutcomeSuccess)
		e.equal("the second", e.takeIDs(10, "q"), made[1:2])
	})
	e.it("groups that come back together all start, also when the next retain takes fewer tasks", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour), FlowMeta: fifo()})
		made := e.createIn("q", "a", "b", "c", "d", "a")
		e.equal("first", sortIDs(e.takeIDs(10, "q")), made[:4])
		e.end(made[0], queue.OutcomeHandBack)
		e.end(made[1], queue.OutcomeHandBack)
		e.end(made[2], queue.OutcomeSnooze)
		e.end(made[3], queue.OutcomeFailure)
		e.pass(2 * time.Hour)
		got := e.takeIDs(1, "q")
		e.equal("one", len(got), 1)
		e.equal("all", sortIDs(append(got, e.takeIDs(10, "q")...)), made[:4])
	})
	e.it("tasks without a group of a FIFO queue run one after the other", func(e *env) {
		e.queue("q", flowOf(fifo()))
		made := e.createN("q", 2)
		e.equal("first", e.takeIDs(10, "q"), made[:1])
		e.nothing("q")
		e.end(made[0], queue.OutcomeSuccess)
		e.equal("second", e.takeIDs(10, "q"), made[1:])
	})
	e.it("a cancelled, expired or deleted first task lets the next one start", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(10 * time.Hour), RetryDelay: new(time.Hour), FlowMeta: fifo()})
		made := e.createInOne("q", same("a", 4)...)
		e.equal("first", e.takeIDs(10, "q"), made[:1])
		e.end(made[0], queue.OutcomeFailure)
		e.bulk(e.s.CancelTasks, queue.Selection{IDs: []int64{made[0]}})
		e.equal("after the cancel", e.takeIDs(10, "q"), made[1:2])
		e.end(made[1], queue.OutcomeFailure)
		e.bulk(e.s.DeleteTasks, queue.Selection{IDs: []int64{made[1]}})
		e.equal("after the delete", e.takeIDs(10, "q"), made[2:3])
		e.end(made[2], queue.OutcomeSnooze)
		late := e.create("q", queue.TaskMeta{Group: "b"})
		e.advance(11 * time.Hour)
		e.chores(queue.ChoreExpire)
		e.status(made[2], queue.StatusExpired)
		e.status(late.ID, queue.StatusExpired)
		last := e.createIn("q", "a")
		e.equal("after the expiry", e.takeIDs(10, "q"), last)
	})
	e.it("one retain takes a batch of a group, and the group waits for all of it", func(e *env) {
		m := fifo()
		m.FIFOBatch = new(3)
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour), FlowMeta: m})
		made := e.createInOne("q", same("a", 5)...)
		e.equal("the batch", e.takeIDs(10, "q"), made[:3])
		e.end(made[0], queue.OutcomeSuccess)
		e.nothing("q")
		e.end(made[1], queue.OutcomeFailure)
		e.end(made[2], queue.OutcomeHandBack)
		e.nothing("q")
		e.pass(2 * time.Hour)
		e.equal("the batch again", e.takeIDs(10, "q"), made[1:4])
		for _, id := range made[1:4] {
			e.end(id, queue.OutcomeSuccess)
		}
		e.equal("the last", e.takeIDs(10, "q"), made[4:])
	})
	e.it("a failure blocks the group where the queue says so, until it is retried or unblocked", func(e *env) {
		m := fifo()
		m.GroupOnFailure = new(queue.GroupBlock)
		e.queue("q", flowOf(m))
		made := e.createInOne("q", same("a", 3)...)
		other := e.createIn("q", "b")
		e.equal("first", sortIDs(e.takeIDs(10, "q")), sortIDs([]int64{made[0], other[0]}))
		e.end(made[0], queue.OutcomePermanent)
		e.nothing("q")
		e.equal("blocked by", e.group("q", "a").Blocked, made[0])
		e.bulk(e.s.RetryTasks, queue.Selection{IDs: []int64{made[0]}})
		e.equal("the retried task comes first", e.takeIDs(10, "q"), made[:1])
		e.end(made[0], queue.OutcomePermanent)
		e.nothing("q")
		g, err := e.s.UnblockGroup(e.ctx(), e.ns, "q", "a")
		e.ok(err)
		e.equal("blocked by", g.Blocked, int64(0))
		e.equal("after the unblock", e.takeIDs(10, "q"), made[1:2])
		e.end(made[1], queue.OutcomePermanent)
		e.nothing("q")
		e.bulk(e.s.DeleteTasks, queue.Selection{IDs: []int64{made[1]}})
		e.equal("after the delete", e.takeIDs(10, "q"), made[2:])
	})
	e.it("a FIFO queue has no priorities", func(e *env) {
		e.queue("q", flowOf(fifo()))
		made, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{
			e.newTask("q", queue.TaskMeta{Priority: 1}), e.newTask("q", queue.TaskMeta{}),
		}})
		e.ok(err)
		e.kind(made[0].Err, queue.KindInvalid)
		e.ok(made[1].Err)
		_, err = e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: true, Tasks: []queue.NewTask{e.newTask("q", queue.TaskMeta{Priority: 1})}})
		e.kind(err, queue.KindInvalid)
	})
	e.it("a delayed task joins its group when it is due", func(e *env) {
		e.queue("q", flowOf(fifo()))
		late := e.create("q", queue.TaskMeta{Group: "a", Delay: time.Hour}).ID
		made := e.createIn("q", "a", "a")
		e.equal("first", e.takeIDs(10, "q"), made[:1])
		e.pass(2 * time.Hour)
		e.nothing("q")
		e.end(made[0], queue.OutcomeSuccess)
		e.equal("the earlier create", e.takeIDs(10, "q"), []int64{late})
		e.end(late, queue.OutcomeSuccess)
		e.equal("the last", e.takeIDs(10, "q"), made[1:])
	})
	e.it("a create hands a task of a FIFO queue to a waiting retain", func(e *env) {
		e.queue("q", flowOf(fifo()))
		made, outs, err := e.s.CreateAndRetain(e.ctx(),
			queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{e.newTask("q", queue.TaskMeta{Group: "a"}), e.newTask("q", queue.TaskMeta{Group: "a"})}},
			queue.Retain{Namespace: e.ns, Queues: []string{"q"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 2}}})
		e.ok(err)
		e.equal("retained", ids(outs[0]), []int64{made[0].Task.ID})
		e.nothing("q")
	})
	e.it("the order holds when a queue becomes FIFO", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createInOne("q", same("a", 4)...)
		e.equal("before", e.takeIDs(1, "q"), made[:1])
		e.update("q", flowOf(fifo()))
		e.chores(queue.ChorePromote)
		e.nothing("q")
		e.end(made[0], queue.OutcomeSuccess)
		e.equal("after", e.takeIDs(10, "q"), made[1:2])
		e.update("q", flowOf(queue.FlowMeta{Order: new(queue.OrderNone)}))
		e.chores(queue.ChorePromote)
		e.equal("without an order", sortIDs(e.takeIDs(10, "q")), made[2:])
	})
	e.Run("one task of a group runs at a time under concurrent retains and releases", func(t *testing.T) {
		e := e.with(t)
		const total, groups = 200, 5
		e.queue("ordered", flowOf(fifo()))
		var names []string
		for i := range total {
			names = append(names, fmt.Sprint("g", i%groups))
		}
		e.createInOne("ordered", names[:total/2]...)
		e.createInOne("ordered", names[total/2:]...)
		e.workGroups("ordered", total, 1)
		e.counts("ordered", map[queue.Status]int64{queue.StatusReleased: total})
		e.equal("waiting for a group", e.stats("ordered").GroupWaiting, int64(0))
	})
}

func testMaxWaiting(e *env) {
	e.it("creates beyond the limit of waiting tasks are refused, and retained tasks do not count", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{MaxWaiting: new(3)}))
		e.createN("q", 3)
		out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{e.newTask("q", queue.TaskMeta{})}})
		e.ok(err)
		e.kind(out[0].Err, queue.KindExhausted)
		_, err = e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: true, Tasks: []queue.NewTask{e.newTask("q", queue.TaskMeta{})}})
		e.kind(err, queue.KindExhausted)
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 3})
	})
	e.it("a batch that exceeds the limit creates nothing, or the first ones where each is answered by itself", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{MaxWaiting: new(3)}))
		tasks := make([]queue.NewTask, 5)
		for i := range tasks {
			tasks[i] = e.newTask("q", queue.TaskMeta{})
		}
		_, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: tasks, Atomic: true})
		e.kind(err, queue.KindExhausted)
		e.counts("q", map[queue.Status]int64{})

		e.queue("single", flowOf(queue.FlowMeta{MaxWaiting: new(3)}))
		for i := range tasks {
			tasks[i].Queue = "single"
		}
		out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: tasks})
		e.ok(err)
		for i, c := range out {
			if i < 3 {
				e.ok(c.Err)
				continue
			}
			e.kind(c.Err, queue.KindExhausted)
		}
	})
	e.it("a repeat of a key is answered in a full queue and takes no place, and a refused task leaves its key free", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{MaxWaiting: new(3)}))
		keyed := func(key string) queue.NewTask { return e.newTask("q", queue.TaskMeta{Key: key}) }
		plain := e.newTask("q", queue.TaskMeta{})
		first := e.createAll(keyed("k"), plain)[0]
		e.equal("all of one call", len(e.createAll(keyed("k"), keyed("k"), plain, keyed("k"))), 4)

		for _, atomic := range []bool{true, false} {
			out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Atomic: atomic, Tasks: []queue.NewTask{keyed("k")}})
			e.ok(err)
			e.ok(out[0].Err)
			e.equal("the task of the key", []any{out[0].Task.ID, out[0].Task.Replayed}, []any{first.ID, true})
		}
		replace := e.newTask("q", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{OnConflict: queue.ConflictReplace}})
		out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{replace, keyed("k"), keyed("other"), plain, keyed("other")}})
		e.ok(err)
		for i, c := range out {
			if i == 1 {
				e.equal("the task that was not replaced", []any{c.Err, c.Task.ID}, []any{nil, first.ID})
				continue
			}
			e.kind(c.Err, queue.KindExhausted)
		}
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 3})

		// Of one call, the repeat comes first and an innocent task gets the last place.
		e.queue("shared", flowOf(queue.FlowMeta{MaxWaiting: new(3)}))
		tasks := []queue.NewTask{keyed("k"), plain, keyed("k"), keyed("other"), plain, keyed("k"), keyed("late")}
		for i := range tasks {
			tasks[i].Queue = "shared"
		}
		e.createAll(tasks[:2]...)
		out, err = e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: tasks[2:]})
		e.ok(err)
		for i, replayed := range []bool{true, false} {
			e.ok(out[i].Err)
			e.equal("replayed", out[i].Task.Replayed, replayed)
		}
		e.kind(out[2].Err, queue.KindExhausted)
		e.ok(out[3].Err)
		e.kind(out[4].Err, queue.KindExhausted)
		e.counts("shared", map[queue.Status]int64{queue.StatusNew: 3})

		// The key of a refused task is free.
		free := queue.Create{Namespace: e.ns, Unlimited: true, Tasks: tasks[6:]}
		out, err = e.s.CreateTasks(e.ctx(), free)
		e.ok(err)
		e.ok(out[0].Err)
		e.equal("replayed", out[0].Task.Replayed, false)
	})
	e.it("retries and tasks of tickers come beyond the limit", func(e *env) {
		e.queue("q", flowOf(queue.FlowMeta{MaxWaiting: new(1)}))
		e.createN("q", 1)
		out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Unlimited: true, Tasks: []queue.NewTask{e.newTask("q", queue.TaskMeta{})}})
		e.ok(err)
		e.ok(out[0].Err)
		t := e.hold("q")
		e.release(t, queue.OutcomeHandBack, "")
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 2})
	})
}
