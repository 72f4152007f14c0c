package queuetest

import (
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func serveTasks(v *svc) {
	v.it("a list is filtered, newest first, by offset or by cursor", func(v *svc) {
		v.queue("a", queue.QueueMeta{})
		v.queue("b", queue.QueueMeta{})
		inA, inB := v.createN("a", 12), v.createN("b", 2)
		inB = append(inB, v.create("b", queue.TaskMeta{Key: "k", Payload: []byte(`{"to": "ann"}`)}).ID)
		held := v.hold("a")
		v.queue("c", queue.QueueMeta{})
		v.create("c", queue.TaskMeta{})
		v.release(v.hold("c"), queue.OutcomePermanent)
		slices.Reverse(inA)
		page, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "A"}, Page: queue.Page{Limit: 5, Offset: 2}})
		v.ok(err)
		v.equal("ids", ids(page.Tasks), inA[2:7])
		v.equal("count", page.Count, int64(12))
		var walked []int64
		for cursor := ""; ; {
			page, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "a"}, Page: queue.Page{Limit: 5, Cursor: cursor}})
			v.ok(err)
			walked = append(walked, ids(page.Tasks)...)
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		v.equal("walked", walked, inA)
		for name, c := range map[string]struct {
			f queue.TaskFilter
			n int
		}{
			"statuses": {queue.TaskFilter{Statuses: []queue.Status{queue.StatusRetained, queue.StatusExpired}}, 1},
			"worker":   {queue.TaskFilter{Queue: "a", Worker: "w"}, 1},
			"both":     {queue.TaskFilter{Queue: "b", Statuses: []queue.Status{queue.StatusNew}}, 3},
			"after":    {queue.TaskFilter{CreatedAfter: held.CreatedAt.Add(-time.Hour)}, 16},
			"before":   {queue.TaskFilter{CreatedBefore: held.CreatedAt.Add(-time.Hour)}, 0},
			"key":      {queue.TaskFilter{Key: "k"}, 1},
			"text":     {queue.TaskFilter{Queue: "b", Text: `"ann"`}, 1},
			"finished": {queue.TaskFilter{FinishedAfter: held.CreatedAt.Add(-time.Hour)}, 1},
			"earlier":  {queue.TaskFilter{FinishedBefore: held.CreatedAt.Add(-time.Hour)}, 0},
		} {
			page, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{TaskFilter: c.f})
			v.ok(err)
			if page.Count != int64(c.n) || len(page.Tasks) != c.n {
				v.Errorf("%s: %d, %v, want %d", name, page.Count, ids(page.Tasks), c.n)
			}
		}
		v.equal("in b", len(inB), 3)
	})
	v.it("a text of a filter is bounded, and needs a queue", func(v *svc) {
		for _, f := range []queue.TaskFilter{
			{Text: "ann"}, {Queue: "q", Text: long(queue.MaxFilterTextBytes + 1)}, {Queue: "q", Text: "a\x00b"},
		} {
			_, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{TaskFilter: f})
			v.invalid(err, queue.KindInvalid, "text")
			_, err = v.s.CancelTasks(v.ctx(), queue.Selection{Filter: &f})
			v.invalid(err, queue.KindInvalid, "text")
		}
		_, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{TaskFilter: queue.TaskFilter{Key: long(queue.MaxKeyBytes + 1)}})
		v.invalid(err, queue.KindInvalid, "key")
		_, err = v.s.ListTasks(v.ctx(), queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "q", Text: long(queue.MaxFilterTextBytes)}})
		v.ok(err)
	})
	v.it("tasks are cancelled, retried and deleted by ids, and each refusal is reported", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		made := v.createN("q", 3)
		held := v.hold("q")
		b, err := v.s.CancelTasks(v.ctx(), queue.Selection{IDs: append(slices.Clone(made), 1<<60)})
		v.ok(err)
		v.equal("matched, moved, errors", []int64{b.Matched, b.Moved, int64(len(b.Errs))}, []int64{3, 3, 1})
		v.kind(b.Errs[1<<60], queue.KindNotFound)
		v.equal("asked", v.get(held.ID).CancelRequested, true)
		v.status(made[1], queue.StatusCancelled)
		b, err = v.s.RetryTasks(v.ctx(), queue.Selection{IDs: []int64{made[0], made[1]}})
		v.ok(err)
		v.equal("moved", b.Moved, int64(1))
		v.kind(b.Errs[made[0]], queue.KindConflict)
		v.status(made[1], queue.StatusNew)
		b, err = v.s.DeleteTasks(v.ctx(), queue.Selection{IDs: []int64{made[0], made[2]}})
		v.ok(err)
		v.equal("moved", b.Moved, int64(1))
		v.kind(b.Errs[made[0]], queue.KindConflict)
		_, err = v.s.GetTask(v.ctx(), made[2])
		v.kind(err, queue.KindNotFound)
		v.equal("status", v.release(held, queue.OutcomeSuccess).Status, queue.StatusCancelled)
	})
	v.it("tasks are moved by filter, after a dry run that counts", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 7)
		sel := queue.Selection{Filter: &queue.TaskFilter{Queue: "q", Statuses: []queue.Status{queue.StatusNew}}, DryRun: true}
		b, err := v.s.CancelTasks(v.ctx(), sel)
		v.ok(err)
		v.equal("matched, moved", []int64{b.Matched, b.Moved}, []int64{7, 0})
		sel.DryRun = false
		b, err = v.s.CancelTasks(v.ctx(), sel)
		v.ok(err)
		v.equal("matched, moved", []int64{b.Matched, b.Moved}, []int64{7, 7})
		cancelled := queue.Selection{Filter: &queue.TaskFilter{Statuses: []queue.Status{queue.StatusCancelled}}}
		b, err = v.s.RetryTasks(v.ctx(), cancelled)
		v.ok(err)
		v.equal("moved", b.Moved, int64(7))
		b, err = v.s.DeleteTasks(v.ctx(), queue.Selection{Filter: &queue.TaskFilter{Queue: "q"}})
		v.ok(err)
		v.equal("moved", b.Moved, int64(7))
	})
}

func serveAwait(v *svc) {
	v.it("await returns the task as soon as it is finished", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		for _, o := range []queue.Outcome{queue.OutcomeSuccess, queue.OutcomePermanent} {
			made := v.create("q", queue.TaskMeta{})
			got := make(chan *queue.Task, 1)
			v.during(func(ctx context.Context) error {
				t, err := v.s.AwaitTask(ctx, made.ID, 40*time.Second)
				got <- t
				return err
			})
			t := v.hold("q")
			after := v.release(t, o)
			ended := receive(v, got)
			if ended == nil {
				v.Fatal("await failed")
			}
			v.equal("id, status, result", []any{ended.ID, ended.Status, string(ended.Result)}, []any{made.ID, after.Status, string(after.Result)})
		}
	})
	v.it("await returns the task as it is when the wait is over", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		t := v.create("q", queue.TaskMeta{})
		for _, wait := range []time.Duration{0, 20 * time.Millisecond} {
			got, err := v.s.AwaitTask(v.ctx(), t.ID, wait)
			v.ok(err)
			v.equal("status", got.Status, queue.StatusNew)
		}
	})
	v.it("await of what is finished answers at once", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.create("q", queue.TaskMeta{})
		t := v.release(v.hold("q"), queue.OutcomeSuccess)
		got, err := v.s.AwaitTask(v.ctx(), t.ID, queue.MaxWait)
		v.ok(err)
		v.equal("status", got.Status, queue.StatusReleased)
	})
	v.it("await of what is not there is not found", func(v *svc) {
		for _, wait := range []time.Duration{0, queue.MaxWait} {
			_, err := v.s.AwaitTask(v.ctx(), 1<<60, wait)
			v.kind(err, queue.KindNotFound)
		}
	})
	v.it("await ends with its context", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		t := v.create("q", queue.TaskMeta{})
		end := v.during(func(ctx context.Context) error {
			_, err := v.s.AwaitTask(ctx, t.ID, queue.MaxWait)
			return err
		})
		v.kind(end(), queue.KindCanceled)
	})
}
