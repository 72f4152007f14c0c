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

		f, err := e.s.ListFailures(e.ctx(), e.ns, "q")
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
		_, err = e.s.ListFailures(e.ctx(), e.ns, "none")
		e.kind(err, queue.KindNotFound)
	})
}

func serveFailures(v *svc) {
	v.it("failed tasks are grouped", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		empty, err := v.s.ListFailures(v.ctx(), "q")
		v.ok(err)
		v.equal("groups", []any{len(empty.Groups), empty.Examined, empty.Count}, []any{0, int64(0), int64(0)})

		v.create("q", queue.TaskMeta{})
		held := v.hold("q")
		after, err := v.tryRelease(queue.Release{
			ID: held.ID, Token: held.Lease.Token, Outcome: queue.OutcomePermanent, Result: json.RawMessage(`{"code":503,"error":"busy since 12:00:00"}`),
		})
		v.ok(err)
		f, err := v.s.ListFailures(v.ctx(), " Q")
		v.ok(err)
		g := f.Groups[0]
		v.equal("group", []any{f.Queue, f.Namespace, f.Version, f.Examined, f.More, f.Count, g.Kind, g.Message, g.Count, g.IDs, g.Sample.Task, string(g.Sample.Error)},
			[]any{"q", v.s.Namespace(), queue.FingerprintVersion, int64(1), false, int64(1), "503", "busy since <time>", int64(1), []int64{held.ID}, held.ID, `{"code":503,"error":"busy since 12:00:00"}`})
		v.equal("fingerprint", g.ID, queue.FingerprintOf(after.Result).ID)
		for _, at := range []time.Time{g.FirstAt, g.LastAt, g.Sample.At} {
			sameTime(v, "time", at, after.FinishedAt)
		}
		_, err = v.s.ListFailures(v.ctx(), "none")
		v.kind(err, queue.KindNotFound)
	})
}
