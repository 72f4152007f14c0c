package queuetest

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func serveProduce(v *svc) {
	v.it("a task is created and read back as it is", func(v *svc) {
		v.queue("mail", queue.QueueMeta{TTL: new(10 * time.Hour), Retries: new(7)})
		t := v.create(" Mail ", queue.TaskMeta{
			Payload: []byte(`{"to": "a@b.c"}`), Priority: -7, Key: "k", Headers: map[string]string{"traceparent": "00-ab", "Ünï": "ö"},
		})
		v.equal("queue, status, attempt, retries, priority, key",
			[]any{t.Queue, t.Status, t.Attempt, t.Retries, t.Priority, t.Key},
			[]any{"mail", queue.StatusNew, 0, 7, int16(-7), "k"})
		v.equal("namespace", t.Namespace, v.s.Namespace())
		v.equal("payload", string(t.Payload), `{"to": "a@b.c"}`)
		v.equal("headers", t.Headers, map[string]string{"traceparent": "00-ab", "Ünï": "ö"})
		if t.ID <= 0 || t.CreatedAt.IsZero() || !t.StartedAt.IsZero() || !t.FinishedAt.IsZero() || !t.DelayedAt.IsZero() || t.Lease != nil {
			v.Fatalf("task is %+v", t)
		}
		sameTime(v, "dies_at", t.DiesAt, t.CreatedAt.Add(10*time.Hour))
		got := v.get(t.ID)
		sameTime(v, "created_at", got.CreatedAt, t.CreatedAt)
		v.equal("payload", string(got.Payload), string(t.Payload))
		v.equal("headers", got.Headers, t.Headers)
		v.equal("queue, status, retries, priority, key", []any{got.Queue, got.Status, got.Retries, got.Priority, got.Key},
			[]any{"mail", queue.StatusNew, 7, int16(-7), "k"})
	})
	v.it("every field that a producer gives stays with the task", func(v *svc) {
		v.queue("mail", queue.QueueMeta{})
		meta := filledMeta()
		t := v.create("mail", meta)
		checkFields(v, "the answer of the create", t, meta)
		checkFields(v, "a get", v.get(t.ID), meta)

		page, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{})
		v.ok(err)
		checkFields(v, "a list", page.Tasks[0], meta)
		checkFields(v, "a retain", v.retain(1, "mail")[0], meta)

		batch, err := v.s.CreateTasks(v.ctx(), []queue.NewTask{{Queue: "mail", TaskMeta: meta}})
		v.ok(err)
		checkFields(v, "a batch", batch[0], meta)
	})
	v.it("the same key gives the task that is there, replayed", func(v *svc) {
		v.queue("mail", queue.QueueMeta{})
		first := v.create("mail", queue.TaskMeta{Key: "k", Payload: []byte(`1`)})
		again := v.create("mail", queue.TaskMeta{Key: "k", Payload: []byte(`1`)})
		v.equal("id, replayed", []any{again.ID, again.Replayed}, []any{first.ID, true})
		v.equal("replayed", first.Replayed, false)
		_, err := v.s.CreateTask(v.ctx(), "mail", queue.TaskMeta{Key: "k", Payload: []byte(`2`)})
		v.kind(err, queue.KindKeyReused)
	})
	v.it("a batch is created in its order, all or none", func(v *svc) {
		v.queue("a", queue.QueueMeta{})
		v.queue("b", queue.QueueMeta{})
		batch := []queue.NewTask{
			{Queue: "a", TaskMeta: queue.TaskMeta{Payload: []byte(`0`)}},
			{Queue: "B", TaskMeta: queue.TaskMeta{Payload: []byte(`1`), Delay: time.Hour}},
			{Queue: "a", TaskMeta: queue.TaskMeta{Payload: []byte(`2`), Key: "k"}},
		}
		made, err := v.s.CreateTasks(v.ctx(), batch)
		v.ok(err)
		for i, t := range made {
			v.equal("payload", string(t.Payload), strconv.Itoa(i))
		}
		v.equal("queues", []string{made[0].Queue, made[1].Queue}, []string{"a", "b"})
		sameTime(v, "delayed_at", made[1].DelayedAt, made[1].CreatedAt.Add(time.Hour))
		made, err = v.s.CreateTasks(v.ctx(), batch[2:])
		v.ok(err)
		v.equal("replayed", made[0].Replayed, true)
		before, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{})
		v.ok(err)
		_, err = v.s.CreateTasks(v.ctx(), []queue.NewTask{{Queue: "a"}, {Queue: "none"}})
		v.kind(err, queue.KindNotFound)
		_, err = v.s.CreateTasks(v.ctx(), []queue.NewTask{{Queue: "a"}, {Queue: "a", TaskMeta: queue.TaskMeta{Payload: []byte(`{`)}}})
		v.invalid(err, queue.KindInvalid, "tasks[1].payload")
		_, err = v.s.CreateTasks(v.ctx(), []queue.NewTask{{Queue: "a"}, {Queue: "a", TaskMeta: queue.TaskMeta{Key: "k", Payload: []byte(`3`)}}})
		v.kind(err, queue.KindKeyReused)
		after, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{})
		v.ok(err)
		v.equal("tasks after refused batches", after.Count, before.Count)
	})
	v.it("the largest batch is created, one more is refused", func(v *svc) {
		v.queue("q", queue.QueueMeta{Events: new(false)})
		v.createN("q", queue.MaxBatch)
		_, err := v.s.CreateTasks(v.ctx(), make([]queue.NewTask, queue.MaxBatch+1))
		if k := queue.KindOf(err); k != queue.KindInvalid && k != queue.KindTooLarge {
			v.Fatalf("a batch that is too large is answered by %v", err)
		}
	})
	v.it("single creates of many callers at once are each answered with their own", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		var wg sync.WaitGroup
		var seen sync.Map
		var refused atomic.Int64
		for i := range 32 {
			wg.Go(func() {
				for j := range 4 {
					payload := fmt.Sprintf(`"%d-%d"`, i, j)
					t, err := v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{Payload: []byte(payload)})
					if err != nil {
						v.Errorf("create: %v", err)
						return
					}
					if _, twice := seen.LoadOrStore(t.ID, true); twice || string(t.Payload) != payload {
						v.Errorf("task %d has payload %s, want %s", t.ID, t.Payload, payload)
					}
				}
				if _, err := v.s.CreateTask(v.ctx(), "none", queue.TaskMeta{}); queue.KindOf(err) == queue.KindNotFound {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		v.equal("creates in an unknown queue that were refused", refused.Load(), int64(32))
		page, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{})
		v.ok(err)
		v.equal("tasks", page.Count, int64(128))
	})
}

func serveJSON(v *svc) {
	v.queue("q", queue.QueueMeta{})
	for name, text := range exactJSON() {
		v.it("payload and result keep "+name, func(v *svc) {
			v.queue("q", queue.QueueMeta{})
			t := v.create("q", queue.TaskMeta{Payload: []byte(text)})
			v.equal("payload created", string(t.Payload), text)
			held := v.hold("q")
			v.equal("payload retained", string(held.Payload), text)
			after, err := v.tryRelease(queue.Release{ID: t.ID, Token: held.Lease.Token, Outcome: queue.OutcomePermanent, Result: []byte(text)})
			v.ok(err)
			v.equal("result released", string(after.Result), text)
			got := v.get(t.ID)
			v.equal("payload and result", []string{string(got.Payload), string(got.Result)}, []string{text, text})
			v.equal("errors", len(got.Errors), 1)
			v.equal("error", string(got.Errors[0].Error), text)
			page, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{})
			v.ok(err)
			v.equal("payload listed", string(page.Tasks[0].Payload), text)
		})
	}
	v.it("a result that is absent stays absent, null is null", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 2)
		for i, result := range []string{"", "null"} {
			t := v.hold("q")
			after, err := v.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess, Result: []byte(result)})
			v.ok(err)
			v.equal("result", string(after.Result), []string{"", "null"}[i])
			v.equal("result", string(v.get(t.ID).Result), []string{"", "null"}[i])
		}
	})
}
