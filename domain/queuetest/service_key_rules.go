package queuetest

import (
	"context"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func serveKeyRules(v *svc) {
	v.it("a create rejects, returns or replaces the task of its key", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		first := v.create("q", queue.TaskMeta{Key: "k", Payload: []byte(`1`)})
		_, err := v.s.CreateTask(v.ctx(), "q", queue.TaskMeta{Key: "k", Payload: []byte(`1`), KeyRule: queue.KeyRule{OnConflict: queue.ConflictReject}})
		v.invalid(err, queue.KindAlreadyExists, "key")
		again := v.create("q", queue.TaskMeta{Key: "k", Payload: []byte(`1`), KeyRule: queue.KeyRule{OnConflict: queue.ConflictReturn}})
		v.equal("id, replayed", []any{again.ID, again.Replayed}, []any{first.ID, true})

		awaited := make(chan *queue.Task, 1)
		end := v.during(func(_ context.Context) error {
			t, err := v.s.AwaitTask(v.ctx(), first.ID, 20*time.Second)
			awaited <- t
			return err
		})
		by := v.create("q", queue.TaskMeta{Key: "k", Payload: []byte(`2`), KeyRule: queue.KeyRule{OnConflict: queue.ConflictReplace}})
		v.equal("the status of the replaced task", (<-awaited).Status, queue.StatusCancelled)
		v.ok(end())
		if errs := v.get(first.ID).Errors; len(errs) != 1 || !strings.Contains(string(errs[0].Error), "superseded") {
			v.Fatalf("the errors of the replaced task are %v", errs)
		}
		v.equal("payload", string(v.hold("q").Payload), `2`)
		v.status(by.ID, queue.StatusRetained)
	})
	v.it("a key is free at the start, or at the end, of its task", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		meta := func(until queue.UniqueUntil) queue.TaskMeta {
			return queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{OnConflict: queue.ConflictReject, UniqueUntil: until}}
		}
		v.create("q", meta(queue.UniqueUntilStarted))
		held := v.hold("q")
		_, err := v.s.CreateTask(v.ctx(), "q", meta(queue.UniqueUntilFinished))
		v.invalid(err, queue.KindAlreadyExists, "key")
		v.release(held, queue.OutcomeSuccess)
		_, err = v.s.CreateTask(v.ctx(), "q", meta(queue.UniqueUntilPruned))
		v.invalid(err, queue.KindAlreadyExists, "key")
		v.create("q", meta(queue.UniqueUntilFinished))
		v.hold("q")
		v.create("q", meta(queue.UniqueUntilStarted))
	})
	v.it("a debounced task starts after the last create with its key, and at debounce_max", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		rule := queue.KeyRule{Debounce: time.Hour, DebounceMax: 90 * time.Minute}
		first := v.create("q", queue.TaskMeta{Key: "k", Payload: []byte(`1`), KeyRule: rule})
		sameTime(v, "start", first.DelayedAt, first.CreatedAt.Add(time.Hour))
		v.pass(40 * time.Minute)
		last := v.create("q", queue.TaskMeta{Key: "k", Payload: []byte(`2`), KeyRule: rule})
		sameTime(v, "start", last.DelayedAt, first.CreatedAt.Add(90*time.Minute))
		v.status(first.ID, queue.StatusCancelled)
		v.pass(time.Hour)
		v.equal("payload", string(v.hold("q").Payload), `2`)
	})
	v.it("a rule for a key that contradicts itself is refused with the field at fault", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		for _, c := range []struct {
			field string
			meta  queue.TaskMeta
		}{
			{"on_conflict", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{OnConflict: "ignore"}}},
			{"unique_until", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{UniqueUntil: "later"}}},
			{"key", queue.TaskMeta{KeyRule: queue.KeyRule{OnConflict: queue.ConflictReject}}},
			{"key", queue.TaskMeta{KeyRule: queue.KeyRule{Debounce: time.Second}}},
			{"debounce", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{Debounce: -1}}},
			{"debounce", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{Debounce: queue.MaxDuration + 1}}},
			{"debounce", queue.TaskMeta{Key: "k", Delay: time.Minute, KeyRule: queue.KeyRule{Debounce: time.Second}}},
			{"debounce", queue.TaskMeta{Key: "k", DelayedAt: time.Now(), KeyRule: queue.KeyRule{Debounce: time.Second}}},
			{"debounce_max", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{DebounceMax: time.Second}}},
			{"debounce_max", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{Debounce: time.Minute, DebounceMax: time.Second}}},
			{"on_conflict", queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{Debounce: time.Second, OnConflict: queue.ConflictReject}}},
		} {
			_, err := v.s.CreateTask(v.ctx(), "q", c.meta)
			v.invalid(err, queue.KindInvalid, c.field)
		}

		replace := queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Key: "k", KeyRule: queue.KeyRule{OnConflict: queue.ConflictReplace}}}
		_, err := v.s.CreateTasks(v.ctx(), []queue.NewTask{replace, replace})
		v.invalid(err, queue.KindInvalid, "tasks[1].key")
		s, err := v.s.QueueStats(v.ctx(), "q")
		v.ok(err)
		v.equal("tasks", s.Counts[queue.StatusNew], int64(0))
	})
}
