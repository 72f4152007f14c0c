package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testHistory(e *env) {
	read := func(e *env, name string, q queue.HistoryQuery) []queue.HistoryPoint {
		e.Helper()
		q, err := q.Normalize()
		e.ok(err)
		h, err := e.s.QueueHistory(e.ctx(), e.ns, name, q)
		e.ok(err)
		e.equal("namespace, queue, step", []any{h.Namespace, h.Queue, h.Step}, []any{e.ns, name, q.Step})
		return h.Points
	}
	minute := queue.HistoryQuery{Step: queue.HistoryMinute}
	hour := queue.HistoryQuery{Step: queue.HistoryHour}

	e.it("the history has what happened in a queue, by minutes and hours", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(1), RetryDelay: new(time.Hour)})
		e.queue("idle", queue.QueueMeta{})
		e.pass(time.Minute)
		e.equal("points of a new queue", len(read(e, "q", minute)), 0)

		e.createN("q", 5)
		held := e.retain("w", 4, "q")
		e.release(held[0], queue.OutcomeSuccess, "")
		e.release(held[1], queue.OutcomePermanent, "")
		e.release(held[2], queue.OutcomeFailure, "")
		e.release(held[3], queue.OutcomeHandBack, "")
		e.chores(queue.ChoreFold)
		e.pass(time.Minute)
		at := e.now().Truncate(time.Minute).Add(-time.Minute)

		got := read(e, "q", minute)
		if len(got) == 2 { // the minute changed between two calls
			got[1].Add(got[0])
			got = got[1:]
		}
		e.equal("points", len(got), 1)
		p := got[0]
		e.equal("created, released, failed, retried, ready", []int64{p.Created, p.Released, p.Failed, p.Retried, p.Ready}, []int64{5, 1, 1, 1, 2})
		e.near("at", p.At, at, aWhile)
		e.equal("at is a whole minute", p.At, p.At.Truncate(time.Minute))
		if p.OldestReadyAge < time.Minute || p.OldestReadyAge > time.Minute+aWhile {
			e.Errorf("the oldest age is %v", p.OldestReadyAge)
		}
		e.equal("points of an idle queue", len(read(e, "idle", minute)), 0)

		var sum queue.HistoryPoint
		for _, p := range read(e, "q", hour) {
			e.equal("at is a whole hour", p.At, p.At.Truncate(time.Hour))
			sum.Add(p)
		}
		e.equal("the hours", []int64{sum.Created, sum.Released, sum.Failed, sum.Retried, sum.Ready}, []int64{5, 1, 1, 1, 2})
	})
	e.it("a queue with ready tasks has a point for each minute in which background work looked", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 3)
		for range 3 {
			e.pass(10 * time.Minute)
		}
		got := read(e, "q", minute)
		e.equal("points", len(got), 3)
		for i, p := range got {
			e.equal("ready", p.Ready, int64(3))
			if least := time.Duration(i+1) * 10 * time.Minute; p.OldestReadyAge < least || p.OldestReadyAge > least+aWhile {
				e.Errorf("point %d: the oldest age is %v", i, p.OldestReadyAge)
			}
		}
		e.equal("created", []int64{got[0].Created, got[1].Created, got[2].Created}, []int64{3, 0, 0})

		second := read(e, "q", queue.HistoryQuery{After: got[0].At, Before: got[2].At})
		e.equal("between", second, got[1:2])
		e.equal("before all", len(read(e, "q", queue.HistoryQuery{Before: got[0].At})), 0)
	})
	e.it("minutes are kept for a day, hours for 30 days", func(e *env) {
		e.queue("q", queue.QueueMeta{Retention: new(10_000 * time.Hour)})
		e.createN("q", 2)
		e.finish("q", 2, queue.OutcomeSuccess)
		e.pass(time.Minute)
		e.equal("minutes", len(read(e, "q", minute)), 1)
		e.pass(25 * time.Hour)
		e.equal("minutes after a day", len(read(e, "q", minute)), 0)
		points := read(e, "q", hour)
		e.equal("hours after a day", []int64{int64(len(points)), points[0].Created, points[0].Released}, []int64{1, 2, 2})
		e.pass(30 * 24 * time.Hour)
		e.equal("hours after a month", len(read(e, "q", hour)), 0)
		e.createN("q", 1)
		e.pass(time.Minute)
		got := read(e, "q", minute)
		e.equal("later points", []int64{int64(len(got)), got[0].Created}, []int64{1, 1})
	})
	e.it("the history of an unknown queue is not found, and a new queue of a name has none", func(e *env) {
		_, err := e.s.QueueHistory(e.ctx(), e.ns, "none", minute)
		e.kind(err, queue.KindNotFound)
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 1)
		e.pass(time.Minute)
		_, err = e.s.DeleteQueue(e.ctx(), e.ns, "q")
		e.ok(err)
		e.queue("q", queue.QueueMeta{})
		e.pass(time.Minute)
		e.equal("points", len(read(e, "q", minute)), 0)
	})
}

func serveHistory(v *svc) {
	v.it("the history of a queue is read by minutes and hours", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 3)
		v.release(v.hold("q"), queue.OutcomeSuccess)
		v.pass(2 * time.Minute)
		for _, step := range []queue.HistoryStep{"", queue.HistoryMinute, queue.HistoryHour} {
			h, err := v.s.QueueHistory(v.ctx(), " Q", queue.HistoryQuery{Step: step})
			v.ok(err)
			var sum queue.HistoryPoint
			for _, p := range h.Points {
				sum.Add(p)
				if p.At.IsZero() || p.At.Truncate(h.Step.Duration()) != p.At {
					v.Errorf("%q: a point at %v", step, p.At)
				}
			}
			v.equal("queue, namespace", []any{h.Queue, h.Namespace}, []any{"q", v.s.Namespace()})
			v.equal("created, released, ready", []int64{sum.Created, sum.Released, sum.Ready}, []int64{3, 1, 2})
			if sum.OldestReadyAge < 2*time.Minute {
				v.Errorf("the oldest age is %v", sum.OldestReadyAge)
			}
			h, err = v.s.QueueHistory(v.ctx(), "q", queue.HistoryQuery{Step: step, After: h.Points[len(h.Points)-1].At})
			v.ok(err)
			v.equal("points behind the last", len(h.Points), 0)
		}
		_, err := v.s.QueueHistory(v.ctx(), "none", queue.HistoryQuery{})
		v.kind(err, queue.KindNotFound)
		_, err = v.s.QueueHistory(v.ctx(), "q", queue.HistoryQuery{Step: "day"})
		v.invalid(err, queue.KindInvalid, "step")
	})
}
