package queuetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func serveConsume(v *svc) {
	v.it("a retain takes one task by default, under a lease", func(v *svc) {
		v.queue("q", queue.QueueMeta{Lease: new(3 * time.Hour)})
		made := v.createN("q", 3)
		got, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "wörker"})
		v.ok(err)
		v.equal("ids", ids(got), made[:1])
		t := got[0]
		v.equal("status, worker, attempt", []any{t.Status, t.Worker, t.Attempt}, []any{queue.StatusRetained, "wörker", 1})
		v.equal("lease", t.Lease.Duration, 3*time.Hour)
		if t.Lease.Token <= 0 || t.Lease.ExpiresAt.Sub(t.StartedAt).Round(time.Second) != 3*time.Hour {
			v.Fatalf("lease is %+v, started %v", t.Lease, t.StartedAt)
		}
		if seen := v.get(t.ID); seen.Lease != nil || seen.Worker != "wörker" {
			v.Fatalf("others see %+v", seen)
		}
	})
	v.it("a retain takes by priority from the queues it names", func(v *svc) {
		for _, q := range []string{"a", "b", "c"} {
			v.queue(q, queue.QueueMeta{})
		}
		low := v.create("a", queue.TaskMeta{Priority: 5})
		high := v.create("a", queue.TaskMeta{Priority: -5})
		other := v.create("b", queue.TaskMeta{})
		v.create("c", queue.TaskMeta{})
		v.equal("first of a", v.hold("a").ID, high.ID)
		got := ids(v.retain(10, "b", "A"))
		slices.Sort(got)
		v.equal("the rest of a and b", got, []int64{low.ID, other.ID})
		v.equal("from any", len(v.retain(10)), 1)
		v.equal("nothing is a list", len(v.retain(10)), 0)
	})
	v.it("a retain takes about as many bytes as it asks for, and 3,000,000 when it does not say", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		for range 9 {
			v.create("q", queue.TaskMeta{Payload: large(600_000)})
		}
		for _, c := range []struct{ max, want int }{{1, 1}, {1_800_000, 2}, {0, 4}, {0, 2}} {
			got, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Limit: 100, MaxBytes: c.max})
			v.ok(err)
			v.equal("tasks", len(got), c.want)
		}
	})
	v.it("a task larger than its caller takes goes back at no cost of an attempt", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		huge := v.create("q", queue.TaskMeta{Payload: large(600_000)}).ID
		ask := queue.RetainRequest{Worker: "w", Limit: 10, MaxTaskBytes: 500_000}
		for _, wait := range []time.Duration{0, 0, time.Minute} {
			ask.Wait = wait
			_, err := v.s.RetainTasks(v.ctx(), ask)
			v.kind(err, queue.KindTooLarge)
			if text := err.Error(); !strings.Contains(text, fmt.Sprintf("task %d of queue q", huge)) || !strings.Contains(text, "raise the limit") {
				v.Errorf("the error is %q", text)
			}
		}
		small := v.create("q", queue.TaskMeta{}).ID
		got, err := v.s.RetainTasks(v.ctx(), ask)
		v.ok(err)
		v.equal("what fits", ids(got), []int64{small})
		other := v.retain(10)
		v.equal("for a caller that takes it", ids(other), []int64{huge})
		v.equal("attempt", other[0].Attempt, 1)
	})
	v.it("a retain with a request id gives the same tasks when it is repeated, and refuses other arguments", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 5)
		ask := queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Limit: 2, RequestID: "one"}
		first, err := v.s.RetainTasks(v.ctx(), ask)
		v.ok(err)
		v.equal("tasks", len(first), 2)
		waiting := ask
		waiting.Wait = time.Minute
		again, err := v.s.RetainTasks(v.ctx(), waiting)
		v.ok(err)
		v.equal("ids", ids(again), ids(first))
		v.equal("token", again[1].Lease.Token, first[1].Lease.Token)
		other := ask
		other.Limit = 3
		_, err = v.s.RetainTasks(v.ctx(), other)
		v.invalid(err, queue.KindInvalid, "request_id")
		other = ask
		other.Worker = "v"
		others, err := v.s.RetainTasks(v.ctx(), other)
		v.ok(err)
		v.equal("another worker's", len(others), 2)
		v.equal("the rest", len(v.retain(10, "q")), 1)
	})
	v.it("a retain with a request id waits", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		type answer struct {
			tasks []*queue.Task
			err   error
		}
		answers := make(chan answer, 2)
		for range 2 {
			go func() {
				tasks, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Wait: time.Minute, RequestID: "one"})
				answers <- answer{tasks, err}
			}()
		}
		made := v.createN("q", 2)
		for range 2 {
			a := <-answers
			v.ok(a.err)
			v.equal("ids", ids(a.tasks), made[:1])
		}
	})
	v.it("a request's lease is used", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 1)
		got, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Lease: 9 * time.Hour})
		v.ok(err)
		v.equal("lease", got[0].Lease.Duration, 9*time.Hour)
	})
	for o, want := range map[queue.Outcome]queue.Status{
		queue.OutcomeSuccess: queue.StatusReleased, queue.OutcomeFailure: queue.StatusRetry, queue.OutcomePermanent: queue.StatusFailed,
		queue.OutcomeHandBack: queue.StatusNew, queue.OutcomeSnooze: queue.StatusNew,
	} {
		v.it("a "+string(o)+" leaves the task "+string(want)+", also when it is repeated", func(v *svc) {
			v.queue("q", queue.QueueMeta{RetryDelay: new(time.Hour)})
			v.createN("q", 1)
			t := v.hold("q")
			first := v.release(t, o)
			v.equal("status", first.Status, want)
			again := v.release(t, o)
			v.equal("status", again.Status, want)
			v.equal("attempt, retries", []int{again.Attempt, again.Retries}, []int{first.Attempt, first.Retries})
			v.status(t.ID, want)
			if o == queue.OutcomeSnooze || o == queue.OutcomeFailure {
				v.equal("retained early", len(v.retain(1, "q")), 0)
				v.pass(2 * time.Hour)
				v.hold("q")
			}
		})
	}
	v.it("retry_in is used instead of the backoff", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 1)
		t := v.hold("q")
		after, err := v.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Delay: 50 * time.Hour})
		v.ok(err)
		if d := after.DelayedAt.Sub(t.StartedAt); d < 50*time.Hour || d > 50*time.Hour+aWhile {
			v.Fatalf("delayed by %v, want 50h", d)
		}
	})
	v.it("a batch of releases is answered in order, each by itself", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 3)
		held := v.retain(3, "q")
		out, err := v.s.ReleaseTasks(v.ctx(), []queue.Release{
			{ID: held[2].ID, Token: held[2].Lease.Token, Outcome: queue.OutcomePermanent, Result: []byte(`"no"`)},
			{ID: held[0].ID, Token: held[1].Lease.Token, Outcome: queue.OutcomeSuccess},
			{ID: 1 << 60, Token: 1, Outcome: queue.OutcomeSuccess},
			{ID: held[1].ID, Token: held[1].Lease.Token, Outcome: queue.OutcomeSuccess, Result: []byte(`{`)},
			{ID: held[0].ID, Outcome: queue.OutcomeSuccess},
			{ID: held[0].ID, Outcome: queue.OutcomeSuccess},
		})
		v.ok(err)
		v.equal("answers", len(out), 6)
		v.equal("status", out[0].Task.Status, queue.StatusFailed)
		v.kind(out[1].Err, queue.KindLeaseLost)
		v.kind(out[2].Err, queue.KindNotFound)
		v.kind(out[3].Err, queue.KindInvalid)
		v.equal("status", out[4].Task.Status, queue.StatusReleased)
		v.kind(out[5].Err, queue.KindConflict)
		v.status(held[1].ID, queue.StatusRetained)
	})
	v.it("a batch of heartbeats is answered in order, each by itself", func(v *svc) {
		v.queue("q", queue.QueueMeta{Lease: new(2 * time.Hour)})
		v.createN("q", 2)
		held := v.retain(2, "q")
		_, err := v.s.CancelTasks(v.ctx(), queue.Selection{IDs: []int64{held[1].ID}})
		v.ok(err)
		out, err := v.s.HeartbeatTasks(v.ctx(), []queue.Heartbeat{
			{ID: held[0].ID, Token: held[0].Lease.Token, Progress: []byte(`{"done": 0.50}`)},
			{ID: held[1].ID, Token: held[1].Lease.Token, Lease: 9 * time.Hour},
			{ID: held[0].ID, Token: held[0].Lease.Token + 1_000_000},
			{ID: 1 << 60, Token: 1},
			{ID: held[0].ID},
		})
		v.ok(err)
		v.equal("answers", len(out), 5)
		v.ok(out[0].Err)
		v.equal("token, duration, cancel", []any{out[0].Lease.Token, out[0].Lease.Duration, out[0].CancelRequested},
			[]any{held[0].Lease.Token, 2 * time.Hour, false})
		v.ok(out[1].Err)
		v.equal("duration, cancel", []any{out[1].Lease.Duration, out[1].CancelRequested}, []any{9 * time.Hour, true})
		v.kind(out[2].Err, queue.KindLeaseLost)
		v.kind(out[3].Err, queue.KindNotFound)
		v.kind(out[4].Err, queue.KindInvalid)
		v.equal("progress", string(v.get(held[0].ID).Progress), `{"done": 0.50}`)
	})
	v.it("a release without an outcome is a success", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 1)
		t := v.hold("q")

		after, err := v.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Result: []byte(`"done"`)})
		v.ok(err)
		v.equal("status, result", []any{after.Status, string(after.Result)}, []any{queue.StatusReleased, `"done"`})

		again, err := v.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess, Result: []byte(`"done"`)})
		v.ok(err)
		v.equal("status", again.Status, queue.StatusReleased)
	})
	v.it("a batch that is refused in every element fails as a whole, beside the answers", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 1)
		t := v.hold("q")

		released, err := v.s.ReleaseTasks(v.ctx(), []queue.Release{
			{ID: t.ID, Token: t.Lease.Token + 1_000_000}, {ID: 1 << 60, Token: 1}, {ID: t.ID, Token: t.Lease.Token, Outcome: "done"},
		})
		v.kind(err, queue.KindLeaseLost)
		v.equal("answers", len(released), 3)
		v.kind(released[1].Err, queue.KindNotFound)
		v.kind(released[2].Err, queue.KindInvalid)

		beats, err := v.s.HeartbeatTasks(v.ctx(), []queue.Heartbeat{
			{ID: 1 << 60, Token: 1}, {ID: t.ID, Token: t.Lease.Token + 1_000_000},
		})
		v.kind(err, queue.KindNotFound)
		v.equal("answers", len(beats), 2)
		v.kind(beats[1].Err, queue.KindLeaseLost)
	})
	v.it("a lease that runs out is taken back, and the late holder is refused", func(v *svc) {
		v.queue("q", queue.QueueMeta{Lease: new(time.Hour), RetryDelay: new(time.Minute)})
		v.createN("q", 1)
		late := v.hold("q")
		v.pass(2 * time.Hour)
		v.pass(2 * time.Minute)
		present := v.hold("q")
		v.equal("id, attempt", []any{present.ID, present.Attempt}, []any{late.ID, 2})
		_, err := v.tryRelease(queue.Release{ID: late.ID, Token: late.Lease.Token, Outcome: queue.OutcomeSuccess})
		v.kind(err, queue.KindLeaseLost)
		errs := v.get(late.ID).Errors
		v.equal("errors", len(errs), 1)
		v.equal("error", []any{errs[0].Attempt, errs[0].Worker, string(errs[0].Error)}, []any{1, "w", `{"error":"lease expired"}`})
	})
	v.it("no task is ever held twice by many callers", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		const total = 300
		v.createN("q", total)
		var mu sync.Mutex
		held := map[int64]int{}
		// One context for all workers: a service that gives no more tasks ends the test.
		ctx := v.ctx()
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for {
					got, err := v.s.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Limit: 1 + i%7})
					if err != nil {
						v.Errorf("retain: %v", err)
						return
					}
					mu.Lock()
					for _, t := range got {
						held[t.ID]++
					}
					done := len(held) == total
					mu.Unlock()
					for _, t := range got {
						out, err := v.s.ReleaseTasks(ctx, []queue.Release{{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess}})
						if err != nil || out[0].Err != nil {
							v.Errorf("release: %v %v", err, out)
							return
						}
					}
					if done {
						return
					}
				}
			})
		}
		wg.Wait()
		for id, n := range held {
			if n != 1 {
				v.Errorf("task %d was held %d times", id, n)
			}
		}
	})
}

func serveWait(v *svc) {
	v.it("a retain with a wait is answered when a task comes", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		for range 3 {
			got := make(chan []*queue.Task, 1)
			v.during(func(ctx context.Context) error {
				tasks, err := v.s.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Wait: 40 * time.Second})
				got <- tasks
				return err
			})
			t := v.create("q", queue.TaskMeta{})
			v.equal("retained", ids(receive(v, got)), []int64{t.ID})
		}
	})
	v.it("a retain from any queue hears of a queue that is made meanwhile", func(v *svc) {
		got := make(chan []*queue.Task, 1)
		v.during(func(ctx context.Context) error {
			tasks, err := v.s.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Wait: 40 * time.Second})
			got <- tasks
			return err
		})
		v.queue("q", queue.QueueMeta{})
		t := v.create("q", queue.TaskMeta{})
		v.equal("retained", ids(receive(v, got)), []int64{t.ID})
	})
	v.it("a wait that is over is an empty list", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		got, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Wait: 50 * time.Millisecond})
		v.ok(err)
		v.equal("retained", len(got), 0)
	})
	v.it("a wait ends with its context and takes nothing after that", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		end := v.during(func(ctx context.Context) error {
			_, err := v.s.RetainTasks(ctx, queue.RetainRequest{Worker: "gone", Queues: []string{"q"}, Wait: 10 * time.Minute})
			return err
		})
		v.kind(end(), queue.KindCanceled)
		t := v.create("q", queue.TaskMeta{})
		v.equal("retained", ids(v.retainUntil(t.ID)), []int64{t.ID})
	})
	v.it("each of many waiting callers gets one of as many tasks", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		const n = 20
		got := make(chan []*queue.Task, n)
		for range n {
			v.during(func(ctx context.Context) error {
				tasks, err := v.s.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Wait: 40 * time.Second})
				got <- tasks
				return err
			})
		}
		made := v.createN("q", n)
		var all []int64
		for range n {
			all = append(all, ids(receive(v, got))...)
		}
		slices.Sort(all)
		v.equal("retained", all, made)
	})
	v.it("a paused queue serves its waiting callers when it is resumed", func(v *svc) {
		v.queue("q", queue.QueueMeta{Paused: new(true)})
		t := v.create("q", queue.TaskMeta{})
		got := make(chan []*queue.Task, 1)
		v.during(func(ctx context.Context) error {
			tasks, err := v.s.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Wait: 40 * time.Second})
			got <- tasks
			return err
		})
		_, err := v.s.UpdateQueue(v.ctx(), "q", queue.QueueMeta{Paused: new(false)})
		v.ok(err)
		v.equal("retained", ids(receive(v, got)), []int64{t.ID})
	})
}

// retainUntil retains until it gets the task: a task on its way to a caller that left comes back by itself.
func (v *svc) retainUntil(id int64) []*queue.Task {
	v.Helper()
	for range 50 {
		got, err := v.s.RetainTasks(v.ctx(), queue.RetainRequest{Worker: "w", Wait: 200 * time.Millisecond})
		v.ok(err)
		if len(got) > 0 {
			return got
		}
	}
	v.Fatalf("task %d is kept from everybody: %+v", id, v.get(id))
	return nil
}
