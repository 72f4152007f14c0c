package queuetest

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testFailures(e *env) {
	e.it("the failed tasks of a queue are grouped by their last errors, the largest group first", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Duration(0)), Retention: new(100 * time.Hour)})
		e.queue("other", queue.QueueMeta{})
		fail := func(name, result string) *queue.Task {
			e.create(name, queue.TaskMeta{})
			return e.release(e.hold(name), queue.OutcomePermanent, result)
		}
		fail("other", `{"error":"elsewhere"}`)
		gone := fail("q", `{"error":"past retention"}`)
		e.advance(101 * time.Hour)

		one := fail("q", `{"error":"user 1 is unknown"}`)
		plain := fail("q", "")
		e.advance(time.Hour)
		two := fail("q", `{"error":"user 22 is unknown"}`)

		// A task that failed before and waits, one that succeeded, and one that ended by an earlier error in another way.
		e.create("q", queue.TaskMeta{})
		e.release(e.hold("q"), queue.OutcomeFailure, `{"error":"first"}`)
		last := e.release(e.hold("q"), queue.OutcomePermanent, `{"type":"Late","message":"user 333 is unknown"}`)
		e.create("q", queue.TaskMeta{})
		e.release(e.hold("q"), queue.OutcomeSuccess, `{"error":"no failure"}`)

		f, err := e.s.ListFailures(e.ctx(), e.ns, "q", queue.FailureQuery{})
		e.ok(err)
		e.equal("queue, version, examined, more, count", []any{f.Namespace, f.Queue, f.Version, f.Examined, f.More, f.Count},
			[]any{e.ns, "q", queue.FingerprintVersion, int64(4), false, int64(3)})
		g := f.Groups[0]
		e.equal("message, count, ids, sample", []any{g.Message, g.Count, g.IDs, g.Sample.Task, string(g.Sample.Error)},
			[]any{"user <n> is unknown", int64(2), []int64{two.ID, one.ID}, two.ID, `{"error":"user 22 is unknown"}`})
		e.near("first", g.FirstAt, one.FinishedAt, time.Second)
		e.near("last", g.LastAt, two.FinishedAt, time.Second)
		e.equal("kind, ids", []any{f.Groups[1].Kind, f.Groups[1].IDs}, []any{"Late", []int64{last.ID}})
		e.equal("without an error", []any{f.Groups[2].Message, f.Groups[2].IDs}, []any{"", []int64{plain.ID}})
		for _, g := range f.Groups {
			if slices.Contains(g.IDs, gone.ID) {
				e.Errorf("task %d past retention is shown", gone.ID)
			}
		}
		_, err = e.s.ListFailures(e.ctx(), e.ns, "none", queue.FailureQuery{})
		e.kind(err, queue.KindNotFound)
	})

	e.it("the failed tasks of a time are grouped alone", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Duration(0)), Retention: new(100 * time.Hour)})
		var tasks []*queue.Task
		for range 3 {
			e.create("q", queue.TaskMeta{})
			tasks = append(tasks, e.release(e.hold("q"), queue.OutcomePermanent, `{"error":"late"}`))
			e.advance(time.Hour)
		}
		// A task that was created first and failed last belongs to the time of its end.
		old := e.create("q", queue.TaskMeta{})
		e.advance(time.Hour)
		e.release(e.hold("q"), queue.OutcomePermanent, `{"error":"late"}`)
		e.advance(time.Second)

		first, second, third := tasks[0].FinishedAt, tasks[1].FinishedAt, tasks[2].FinishedAt
		for _, c := range []struct {
			query queue.FailureQuery
			ids   []int64
		}{
			{queue.FailureQuery{}, []int64{old.ID, tasks[2].ID, tasks[1].ID, tasks[0].ID}},
			{queue.FailureQuery{After: first, Before: third}, []int64{tasks[1].ID}},
			{queue.FailureQuery{After: second}, []int64{old.ID, tasks[2].ID}},
			{queue.FailureQuery{Before: second}, []int64{tasks[0].ID}},
			{queue.FailureQuery{Before: first}, nil},
			{queue.FailureQuery{After: third, Before: first}, nil},
		} {
			f, err := e.s.ListFailures(e.ctx(), e.ns, "q", c.query)
			e.ok(err)
			var ids []int64
			for _, g := range f.Groups {
				ids = append(ids, g.IDs...)
			}
			e.equal("ids and number", []any{ids, f.Examined, f.More}, []any{c.ids, int64(len(c.ids)), false})
		}
	})
}

func testErrorKinds(e *env) {
	e.it("the kind and the fingerprint of a failure stay with its attempt, and group it", func(e *env) {
		e.queue("q", queue.QueueMeta{RetryDelay: new(time.Duration(0))})
		id := e.create("q", queue.TaskMeta{}).ID
		t := e.hold("q")
		_, err := e.tryRelease(queue.Release{
			ID: id, Token: t.Lease.Token, Outcome: queue.OutcomeFailure, Result: json.RawMessage(`{"type":"Late"}`), ErrorKind: "busy", Fingerprint: "mine",
		})
		e.ok(err)
		e.release(e.hold("q"), queue.OutcomeFailure, `{"type":"Late"}`)
		t = e.hold("q")
		_, err = e.tryRelease(queue.Release{ID: id, Token: t.Lease.Token, Outcome: queue.OutcomePermanent, Result: json.RawMessage(`{"type":"Late"}`), ErrorKind: "gone"})
		e.ok(err)

		var got []string
		for _, failed := range e.get(id).Errors {
			got = append(got, failed.Kind+"/"+failed.Fingerprint)
		}
		e.equal("kinds and fingerprints", got, []string{"busy/mine", "/", "gone/"})
		f, err := e.s.ListFailures(e.ctx(), e.ns, "q", queue.FailureQuery{})
		e.ok(err)
		e.equal("group", []any{len(f.Groups), f.Groups[0].Kind, f.Groups[0].ID}, []any{1, "gone", queue.FingerprintOfKind("gone", []byte(`{"type":"Late"}`)).ID})
	})

	e.it("a lost lease has an error kind of its own", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(time.Second), Retries: new(0)})
		id := e.create("q", queue.TaskMeta{}).ID
		e.hold("q")
		e.pass(2 * time.Second)
		e.status(id, queue.StatusFailed)
		e.equal("kind", e.get(id).Errors[0].Kind, queue.ErrorKindLeaseLost)
	})
}

func serveFailures(v *svc) {
	v.it("the kind and the fingerprint of a failure stay with its attempt, and group it", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		id := v.create("q", queue.TaskMeta{}).ID
		held := v.hold("q")
		_, err := v.tryRelease(queue.Release{ID: id, Token: held.Lease.Token, Outcome: queue.OutcomePermanent, ErrorKind: "busy", Fingerprint: "mine"})
		v.ok(err)
		failed := v.get(id).Errors
		v.equal("kind and fingerprint", []any{len(failed), failed[0].Kind, failed[0].Fingerprint}, []any{1, "busy", "mine"})
		f, err := v.s.ListFailures(v.ctx(), "q", queue.FailureQuery{})
		v.ok(err)
		named, err := queue.FingerprintOf(nil).WithName("mine")
		v.ok(err)
		v.equal("group", []any{f.Groups[0].Kind, f.Groups[0].ID}, []any{"busy", named.ID})
	})

	v.it("failed tasks are grouped", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		empty, err := v.s.ListFailures(v.ctx(), "q", queue.FailureQuery{})
		v.ok(err)
		v.equal("groups", []any{len(empty.Groups), empty.Examined, empty.Count}, []any{0, int64(0), int64(0)})

		v.create("q", queue.TaskMeta{})
		held := v.hold("q")
		after, err := v.tryRelease(queue.Release{
			ID: held.ID, Token: held.Lease.Token, Outcome: queue.OutcomePermanent, Result: json.RawMessage(`{"code":503,"error":"busy since 12:00:00"}`),
		})
		v.ok(err)
		f, err := v.s.ListFailures(v.ctx(), " Q", queue.FailureQuery{})
		v.ok(err)
		g := f.Groups[0]
		v.equal("group", []any{f.Queue, f.Namespace, f.Version, f.Examined, f.More, f.Count, g.Kind, g.Message, g.Count, g.IDs, g.Sample.Task, string(g.Sample.Error)},
			[]any{"q", v.s.Namespace(), queue.FingerprintVersion, int64(1), false, int64(1), "503", "busy since <time>", int64(1), []int64{held.ID}, held.ID, `{"code":503,"error":"busy since 12:00:00"}`})
		v.equal("fingerprint", g.ID, queue.FingerprintOf(after.Result).ID)
		for _, at := range []time.Time{g.FirstAt, g.LastAt, g.Sample.At} {
			sameTime(v, "time", at, after.FinishedAt)
		}
		_, err = v.s.ListFailures(v.ctx(), "none", queue.FailureQuery{})
		v.kind(err, queue.KindNotFound)

		for _, c := range []struct {
			query queue.FailureQuery
			n     int64
		}{
			{queue.FailureQuery{After: after.FinishedAt.Add(-time.Second), Before: after.FinishedAt.Add(time.Second)}, 1},
			{queue.FailureQuery{After: after.FinishedAt.Add(time.Second)}, 0},
			{queue.FailureQuery{Before: after.FinishedAt.Add(-time.Second)}, 0},
		} {
			f, err := v.s.ListFailures(v.ctx(), "q", c.query)
			v.ok(err)
			v.equal("failed tasks of a time", f.Examined, c.n)
		}
		_, err = v.s.ListFailures(v.ctx(), "q", queue.FailureQuery{After: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)})
		v.kind(err, queue.KindInvalid)
	})
}
