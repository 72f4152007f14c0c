package queuetest

import (
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// flowMeta has a value in each field of a flow.
func flowMeta() queue.FlowMeta {
	return queue.FlowMeta{
		Fair: new(true), RateLimit: new(7), RatePeriod: new(time.Minute), RateBurst: new(3), GroupConcurrency: new(1), GroupRateLimit: new(5),
		GroupRatePeriod: new(time.Hour), GroupRateBurst: new(2), Order: new(queue.OrderFIFO), FIFOBatch: new(4),
		GroupOnFailure: new(queue.GroupBlock), MaxWaiting: new(9),
	}
}

func serveGroups(v *svc) {
	v.it("a queue keeps every setting of its flow", func(v *svc) {
		v.queue("plain", queue.QueueMeta{})
		q, err := v.s.GetQueue(v.ctx(), "plain")
		v.ok(err)
		v.equal("the flow without settings", q.Flow, queue.Flow{
			RatePeriod: time.Second, GroupRatePeriod: time.Second, Order: queue.OrderNone, FIFOBatch: 1, GroupOnFailure: queue.GroupSkip,
		})
		want := queue.Flow{
			Fair: true, RateLimit: 7, RatePeriod: time.Minute, RateBurst: 3, GroupConcurrency: 1, GroupRateLimit: 5, GroupRatePeriod: time.Hour,
			GroupRateBurst: 2, Order: queue.OrderFIFO, FIFOBatch: 4, GroupOnFailure: queue.GroupBlock, MaxWaiting: 9,
		}
		made := v.queue("q", queue.QueueMeta{FlowMeta: flowMeta()})
		v.equal("the answer of the create", made.Flow, want)
		q, err = v.s.GetQueue(v.ctx(), "q")
		v.ok(err)
		v.equal("the flow", q.Flow, want)
		q, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FlowMeta: queue.FlowMeta{MaxWaiting: new(0)}})
		v.ok(err)
		want.MaxWaiting = 0
		v.equal("the flow after an update", q.Flow, want)
	})
	v.it("a setting of a flow that contradicts another is refused", func(v *svc) {
		v.queue("q", queue.QueueMeta{FlowMeta: queue.FlowMeta{GroupConcurrency: new(5)}})
		_, err := v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO)}})
		v.invalid(err, queue.KindInvalid, "group_concurrency")
		_, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{FlowMeta: queue.FlowMeta{RateLimit: new(-1)}})
		v.invalid(err, queue.KindInvalid, "rate_limit")
	})
	v.it("a group keeps its settings, and 0 takes a limit away", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		g, err := v.s.UpdateGroup(v.ctx(), "q", "tenant/7 é", queue.GroupMeta{
			Weight: new(4), Concurrency: new(3), RateLimit: new(100), RatePeriod: new(time.Minute), RateBurst: new(10), PausedUntil: &until,
		})
		v.ok(err)
		want := queue.GroupPolicy{Weight: 4, Concurrency: 3, RateLimit: 100, RatePeriod: time.Minute, RateBurst: 10, PausedUntil: until}
		v.equal("name", g.Name, "tenant/7 é")
		v.equal("policy", g.GroupPolicy, want)
		page, err := v.s.ListGroups(v.ctx(), "q", queue.GroupQuery{})
		v.ok(err)
		v.equal("groups", len(page.Groups), 1)
		v.equal("policy", page.Groups[0].GroupPolicy, want)

		g, err = v.s.UpdateGroup(v.ctx(), "q", "tenant/7 é", queue.GroupMeta{Concurrency: new(0), PausedUntil: new(time.Time{})})
		v.ok(err)
		want.Concurrency, want.PausedUntil = 0, time.Time{}
		v.equal("policy", g.GroupPolicy, want)
	})
	v.it("a limit of a group holds, and a task starts when its place is free", func(v *svc) {
		v.queue("q", queue.QueueMeta{FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}})
		for range 2 {
			_, err := v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{Group: "a"})
			v.ok(err)
		}
		first, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Limit: 5})
		v.ok(err)
		v.equal("first", len(first), 1)
		v.equal("group", first[0].Group, "a")

		got := make(chan []*queue.Task, 1)
		go func() {
			tasks, _ := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Limit: 5, Wait: 20 * time.Second})
			got <- tasks
		}()
		_, err = v.s.ReleaseTasks(v.ctx(), []queue.Release{{ID: first[0].ID, Token: first[0].Lease.Token}})
		v.ok(err)
		v.equal("second", len(<-got), 1)
	})
	v.it("the leases of a batch of a FIFO queue say that its tasks run in order, also when the retain is repeated", func(v *svc) {
		v.queue("q", queue.QueueMeta{FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO), FIFOBatch: new(2)}})
		v.queue("single", queue.QueueMeta{FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO)}})
		var made []queue.NewTask
		for _, name := range []string{"q", "q", "q", "single"} {
			made = append(made, queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Group: "a"}})
		}
		_, err := v.s.CreateTasks(v.ctx(), made)
		v.ok(err)
		for name, n := range map[string]int{"q": 2, "single": 1} {
			for range 2 {
				tasks, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{name}, Limit: 5, RequestID: "of " + name})
				v.ok(err)
				v.equal("retained", len(tasks), n)
				for _, t := range tasks {
					v.equal("in order, of queue "+name, t.Lease.InOrder, n > 1)
				}
			}
		}
	})
	v.it("a waiting retain gets a task as soon as the rate allows", func(v *svc) {
		v.queue("q", queue.QueueMeta{FlowMeta: queue.FlowMeta{RateLimit: new(2), RateBurst: new(1)}})
		_, err := v.s.CreateTasks(v.ctx(), []queue.NewTask{{Queue: "q"}, {Queue: "q"}})
		v.ok(err)
		for range 2 {
			tasks, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Limit: 5, Wait: 20 * time.Second})
			v.ok(err)
			v.equal("retained", len(tasks), 1)
		}
	})
	v.it("a release holds up the queue, and resume ends it", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		_, err := v.s.CreateTasks(v.ctx(), []queue.NewTask{{Queue: "q"}, {Queue: "q"}})
		v.ok(err)
		tasks, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}})
		v.ok(err)
		_, err = v.s.ReleaseTasks(v.ctx(), []queue.Release{{
			ID: tasks[0].ID, Token: tasks[0].Lease.Token, Outcome: queue.OutcomeSnooze, Delay: time.Hour, Scope: queue.ScopeQueue,
		}})
		v.ok(err)
		q, err := v.s.GetQueue(v.ctx(), "q")
		v.ok(err)
		if left := time.Until(q.PausedUntil); left < 50*time.Minute || left > 70*time.Minute {
			v.Fatalf("the queue is paused for %v", left)
		}
		none, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}})
		v.ok(err)
		v.equal("retained", len(none), 0)
		why, err := v.s.ExplainQueue(v.ctx(), "q")
		v.ok(err)
		v.equal("reason", why.Reasons[0].Code, queue.ReasonPausedUntil)
		_, err = v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{Paused: new(false)})
		v.ok(err)
		one, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}})
		v.ok(err)
		v.equal("retained", len(one), 1)
	})
	v.it("a blocked group goes on when it is unblocked, and what explains it names the failed task", func(v *svc) {
		v.queue("q", queue.QueueMeta{FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO), GroupOnFailure: new(queue.GroupBlock)}})
		made, err := v.s.CreateTasks(v.ctx(), []queue.NewTask{
			{Queue: "q", TaskMeta: queue.TaskMeta{Group: "a"}}, {Queue: "q", TaskMeta: queue.TaskMeta{Group: "a"}},
		})
		v.ok(err)
		tasks, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Limit: 5})
		v.ok(err)
		v.equal("first", len(tasks), 1)
		_, err = v.s.ReleaseTasks(v.ctx(), []queue.Release{{ID: tasks[0].ID, Token: tasks[0].Lease.Token, Outcome: queue.OutcomePermanent}})
		v.ok(err)
		why, err := v.s.ExplainTask(v.ctx(), made[1].ID)
		v.ok(err)
		v.equal("reason", why.Reasons[0].Code, queue.ReasonGroupBlocked)
		if !strings.Contains(why.Reasons[0].Text, "failed") {
			v.Fatalf("the reason reads %q", why.Reasons[0].Text)
		}
		_, err = v.s.UnblockGroup(v.ctx(), "q", "a")
		v.ok(err)
		tasks, err = v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Limit: 5})
		v.ok(err)
		v.equal("second", tasks[0].ID, made[1].ID)
	})
	v.it("creates beyond max_waiting are refused", func(v *svc) {
		v.queue("q", queue.QueueMeta{FlowMeta: queue.FlowMeta{MaxWaiting: new(1)}})
		_, err := v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{})
		v.ok(err)
		_, err = v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{})
		v.invalid(err, queue.KindExhausted, "max_waiting")
		_, err = v.s.CreateTasks(v.ctx(), []queue.NewTask{{Queue: "q"}})
		v.invalid(err, queue.KindExhausted, "tasks[0].max_waiting")
	})
	v.it("bad input of groups names its field", func(v *svc) {
		v.queue("q", queue.QueueMeta{FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO)}})
		_, err := v.s.UpdateGroup(v.ctx(), "q", "", queue.GroupMeta{Weight: new(2)})
		v.invalid(err, queue.KindInvalid, "group")
		_, err = v.s.UpdateGroup(v.ctx(), "q", strings.Repeat("g", 256), queue.GroupMeta{Weight: new(2)})
		v.invalid(err, queue.KindInvalid, "group")
		_, err = v.s.UpdateGroup(v.ctx(), "q", "a", queue.GroupMeta{Weight: new(0)})
		v.invalid(err, queue.KindInvalid, "weight")
		_, err = v.s.UpdateGroup(v.ctx(), "q", "a", queue.GroupMeta{Concurrency: new(2)})
		v.invalid(err, queue.KindInvalid, "concurrency")
		_, err = v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{Group: strings.Repeat("g", 256)})
		v.invalid(err, queue.KindInvalid, "group")
		_, err = v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{Priority: 1})
		v.invalid(err, queue.KindInvalid, "priority")
		_, err = v.s.ListGroups(v.ctx(), "none", queue.GroupQuery{})
		v.kind(err, queue.KindNotFound)
		_, err = v.s.ReleaseTasks(v.ctx(), []queue.Release{{ID: 1, Token: 1, Outcome: queue.OutcomeFailure, Scope: queue.ScopeGroup}})
		v.invalid(err, queue.KindInvalid, "scope")
	})
}
