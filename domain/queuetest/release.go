package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testRelease(e *env) {
	e.it("a success ends the task released, with its result", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.create("mail", queue.TaskMeta{})
		t := e.hold("mail")
		after := e.release(t, queue.OutcomeSuccess, `{"sent":true}`)
		e.equal("status", after.Status, queue.StatusReleased)
		e.equal("result", string(after.Result), `{"sent":true}`)
		e.equal("worker", after.Worker, "w")
		e.equal("attempt", after.Attempt, 1)
		e.near("finished_at", after.FinishedAt, t.StartedAt, aWhile)
		if after.Lease != nil {
			e.Fatal("a released task still has a lease")
		}
		got := e.status(t.ID, queue.StatusReleased)
		got.Errors = nil
		e.equal("the task read back", got, after)
		e.nothing("mail")
	})
	e.it("a success without a result has none, also after a failure with one", func(e *env) {
		e.queue("mail", queue.QueueMeta{RetryDelay: new(time.Duration(0))})
		e.create("mail", queue.TaskMeta{})
		e.equal("result", string(e.release(e.hold("mail"), queue.OutcomeFailure, `"bad"`).Result), `"bad"`)
		if after := e.release(e.hold("mail"), queue.OutcomeSuccess, ""); after.Result != nil {
			e.Fatalf("the result is %s", after.Result)
		}
	})
	e.it("a stale token releases nothing", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.createN("mail", 2)
		two := e.retain("w", 2, "mail")
		for _, o := range outcomes() {
			for _, token := range []int64{two[0].Lease.Token + 1_000_000, two[1].Lease.Token} {
				e.unchanged(two[0].ID, func() {
					_, err := e.tryRelease(releaseOf(two[0].ID, token, o))
					e.kind(err, queue.KindLeaseLost)
				})
			}
		}
	})
	e.it("the token of an earlier hold releases nothing", func(e *env) {
		e.queue("mail", queue.QueueMeta{RetryDelay: new(time.Duration(0))})
		e.create("mail", queue.TaskMeta{})
		first := e.hold("mail")
		e.release(first, queue.OutcomeFailure, `1`)
		second := e.hold("mail")
		e.unchanged(second.ID, func() {
			for _, o := range outcomes() {
				_, err := e.tryRelease(releaseOf(first.ID, first.Lease.Token, o))
				e.kind(err, queue.KindLeaseLost)
			}
		})
		e.release(second, queue.OutcomeSuccess, "")
	})
	for _, o := range outcomes() {
		e.it("a repeat of an accepted "+string(o)+" is a no-op that answers the same", func(e *env) {
			e.queue("mail", queue.QueueMeta{RetryDelay: new(time.Hour)})
			e.create("mail", queue.TaskMeta{})
			t := e.hold("mail")
			r := releaseOf(t.ID, t.Lease.Token, o)
			first, err := e.s.ReleaseTasks(e.ctx(), e.ns, []queue.Release{r})
			e.ok(err)
			e.ok(first[0].Err)
			e.equal("replayed", first[0].Replayed, false)
			e.unchanged(t.ID, func() {
				for range 3 {
					again, err := e.s.ReleaseTasks(e.ctx(), e.ns, []queue.Release{r})
					e.ok(err)
					e.ok(again[0].Err)
					e.equal("the answer", again[0].Task, first[0].Task)
					e.equal("replayed", again[0].Replayed, true)
				}
			})
			if n := len(e.get(t.ID).Errors); n > 1 {
				e.Fatalf("%d errors of one attempt", n)
			}
		})
	}
	e.it("a quiet release is as good as another", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.create("mail", queue.TaskMeta{})
		t := e.hold("mail")
		for range 2 {
			out, err := e.s.ReleaseTasks(e.ctx(), e.ns, []queue.Release{
				{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess, Result: []byte(`1`), Quiet: true},
			})
			e.ok(err)
			e.ok(out[0].Err)
			e.equal("result", string(e.status(t.ID, queue.StatusReleased).Result), "1")
		}
	})
	for _, outcome := range []queue.Outcome{queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomeHandBack, queue.OutcomeSnooze} {
		e.it("an answer to releases carries the content of tasks up to a bound for each call: "+string(outcome), func(e *env) {
			e.queue("mail", queue.QueueMeta{Lease: new(time.Hour)})
			var releases []queue.Release
			for i := range 7 {
				e.create("mail", queue.TaskMeta{Payload: []byte(noise(queue.MaxPageBytes/4 + 1000))})
				t := e.hold("mail")
				r := releaseOf(t.ID, t.Lease.Token, outcome)
				r.Call = 1 + i/5
				releases = append(releases, r)
			}
			for range 2 { // the second time as a repeat
				out, err := e.s.ReleaseTasks(e.ctx(), e.ns, releases)
				e.ok(err)
				carried := map[int]int{}
				for i, r := range out {
					e.ok(r.Err)
					e.equal("task", r.Task.ID, releases[i].ID)
					if len(r.Task.Payload) > 0 {
						carried[releases[i].Call]++
					}
				}
				e.equal("tasks with a payload by call", carried, map[int]int{1: 3, 2: 2})
			}
		})
	}
	// A store may read the tasks of one retain as a range of ids. This test has tasks in between with another kind of release.
	e.it("releases of tasks of one retain get the tasks of their own calls", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		large := noise(queue.MaxPageBytes / 4)
		for i := range 40 {
			meta := queue.TaskMeta{Key: fmt.Sprint("key ", i), Payload: fmt.Appendf(nil, `{"n":%d}`, i)}
			if i == 20 {
				meta.Payload = []byte(large)
			}
			e.create("mail", meta)
		}

		held := e.retain("w", 40, "mail")
		e.equal("tasks", len(held), 40)
		var releases []queue.Release
		for i, t := range held {
			r := releaseOf(t.ID, t.Lease.Token, queue.OutcomeSuccess)
			switch i % 5 {
			case 3:
				r.Quiet = true
			case 4:
				continue
			default:
				r.Call = 1 + i%2
			}
			releases = append(releases, r)
		}
		out, err := e.s.ReleaseTasks(e.ctx(), e.ns, releases)
		e.ok(err)

		for i, r := range out {
			e.ok(r.Err)
			e.status(releases[i].ID, queue.StatusReleased)
			if releases[i].Quiet {
				e.equal("a quiet release without content", r.Task == nil || len(r.Task.Payload) == 0 && r.Task.Key == "", true)
				continue
			}
			at := slices.IndexFunc(held, func(t *queue.Task) bool { return t.ID == releases[i].ID })
			e.equal("payload", string(r.Task.Payload), string(held[at].Payload))
		}
		for i, t := range held {
			if i%5 == 4 {
				e.status(t.ID, queue.StatusRetained)
			}
		}
	})
	for _, outcome := range []queue.Outcome{queue.OutcomeHandBack, queue.OutcomeSnooze} {
		for _, cancelled := range []bool{false, true} {
			e.it(fmt.Sprintf("a quiet release that costs no attempt keeps the last result: %s, cancelled %v", outcome, cancelled), func(e *env) {
				e.queue("mail", queue.QueueMeta{RetryDelay: new(time.Duration(0))})
				id := e.create("mail", queue.TaskMeta{}).ID
				e.release(e.hold("mail"), queue.OutcomeFailure, `"no"`)
				t := e.hold("mail")
				if cancelled {
					_, err := e.s.CancelTasks(e.ctx(), e.ns, queue.Selection{IDs: []int64{id}})
					e.ok(err)
				}
				r := releaseOf(t.ID, t.Lease.Token, outcome)
				r.Quiet = true
				_, err := e.s.ReleaseTasks(e.ctx(), e.ns, []queue.Release{r})
				e.ok(err)
				e.equal("result", string(e.get(id).Result), `"no"`)
			})
		}
	}
	e.it("a release does not count as a repeat when the task was retained again since", func(e *env) {
		e.queue("mail", queue.QueueMeta{Lease: new(time.Hour), RetryDelay: new(time.Duration(0))})
		e.create("mail", queue.TaskMeta{})
		first := e.hold("mail")
		e.release(first, queue.OutcomeFailure, "")
		second := e.hold("mail")
		e.advance(2 * time.Hour)
		e.chores(queue.ChoreRescue)
		e.unchanged(first.ID, func() {
			for _, t := range []*queue.Task{first, second} {
				_, err := e.tryRelease(releaseOf(t.ID, t.Lease.Token, queue.OutcomeSuccess))
				e.kind(err, queue.KindLeaseLost)
			}
		})
	})
	e.it("a release without a token is accepted while the task is retained", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		t := e.create("mail", queue.TaskMeta{})
		e.unchanged(t.ID, func() {
			_, err := e.tryRelease(queue.Release{ID: t.ID, Outcome: queue.OutcomeSuccess})
			e.kind(err, queue.KindConflict)
			e.subject(err, e.taskSubject(t.ID), "")
		})
		e.hold("mail")
		after, err := e.tryRelease(queue.Release{ID: t.ID, Outcome: queue.OutcomeSuccess})
		e.ok(err)
		e.equal("status", after.Status, queue.StatusReleased)
		e.unchanged(t.ID, func() {
			_, err := e.tryRelease(queue.Release{ID: t.ID, Outcome: queue.OutcomeSuccess})
			e.kind(err, queue.KindConflict)
		})
	})
	e.it("a release of a task that is not there is not found", func(e *env) {
		for _, token := range []int64{0, 5} {
			_, err := e.tryRelease(queue.Release{ID: 1 << 60, Token: token, Outcome: queue.OutcomeSuccess})
			e.kind(err, queue.KindNotFound)
		}
	})
	e.it("a batch of releases is answered in order, each by itself", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.queue("sms", queue.QueueMeta{Retries: new(0)})
		e.createN("mail", 3)
		e.createN("sms", 1)
		held := append(e.retain("w", 3, "mail"), e.retain("w", 1, "sms")...)
		out, err := e.s.ReleaseTasks(e.ctx(), e.ns, []queue.Release{
			{ID: held[3].ID, Token: held[3].Lease.Token, Outcome: queue.OutcomeFailure, Result: []byte(`"e"`)},
			{ID: held[0].ID, Token: held[0].Lease.Token, Outcome: queue.OutcomeSuccess},
			{ID: 1 << 60, Token: 1, Outcome: queue.OutcomeSuccess},
			{ID: held[1].ID, Token: held[2].Lease.Token, Outcome: queue.OutcomeSuccess},
			{ID: held[2].ID, Token: held[2].Lease.Token, Outcome: queue.OutcomeHandBack},
		})
		e.ok(err)
		e.equal("status", out[0].Task.Status, queue.StatusFailed)
		e.equal("status", out[1].Task.Status, queue.StatusReleased)
		e.kind(out[2].Err, queue.KindNotFound)
		e.kind(out[3].Err, queue.KindLeaseLost)
		e.equal("status", out[4].Task.Status, queue.StatusNew)
		e.status(held[1].ID, queue.StatusRetained)
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 1, queue.StatusRetained: 1, queue.StatusReleased: 1})
		e.counts("sms", map[queue.Status]int64{queue.StatusFailed: 1})
	})
	e.it("a hand back costs no attempt and no retry, and the task is there at once", func(e *env) {
		e.queue("mail", queue.QueueMeta{Retries: new(2), RetryDelay: new(time.Duration(0))})
		t := e.create("mail", queue.TaskMeta{})
		after := e.release(e.hold("mail"), queue.OutcomeHandBack, "")
		e.equal("status, attempt, retries", []any{after.Status, after.Attempt, after.Retries}, []any{queue.StatusNew, 0, 2})
		e.release(e.hold("mail"), queue.OutcomeFailure, `1`)
		after = e.release(e.hold("mail"), queue.OutcomeHandBack, "")
		e.equal("status, attempt, retries", []any{after.Status, after.Attempt, after.Retries}, []any{queue.StatusRetry, 1, 1})
		held := e.hold("mail")
		e.equal("id, attempt", []any{held.ID, held.Attempt}, []any{t.ID, 2})
		e.equal("result", string(held.Result), `1`)
	})
	e.it("a snooze costs no attempt and no retry, and the task is there after its delay", func(e *env) {
		e.queue("mail", queue.QueueMeta{Retries: new(2)})
		e.create("mail", queue.TaskMeta{})
		t := e.hold("mail")
		after, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSnooze, Delay: 5 * time.Hour})
		e.ok(err)
		e.equal("status, attempt, retries", []any{after.Status, after.Attempt, after.Retries}, []any{queue.StatusNew, 0, 2})
		e.near("delayed_at", after.DelayedAt, t.StartedAt.Add(5*time.Hour), aWhile)
		e.advance(4 * time.Hour)
		e.nothing("mail")
		e.advance(2 * time.Hour)
		e.equal("attempt", e.hold("mail").Attempt, 1)
	})
}

func outcomes() []queue.Outcome {
	return []queue.Outcome{
		queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomePermanent, queue.OutcomeHandBack, queue.OutcomeSnooze,
	}
}

// releaseOf returns a valid release with outcome o.
func releaseOf(id, token int64, o queue.Outcome) queue.Release {
	r := queue.Release{ID: id, Token: token, Outcome: o}
	switch o {
	case queue.OutcomeSnooze:
		r.Delay = time.Hour
	case queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomePermanent:
		r.Result = []byte(`{"by":"` + string(o) + `"}`)
	case queue.OutcomeHandBack:
	}
	return r
}
