package queuetest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// testTwice compares every batch call that may name a task twice with single calls. Elements act in their order, each
// answer shows the state after its element, and nothing else changes.
func testTwice(e *env) {
	e.it("a heartbeat that names a task twice puts it under one lease, the last", func(e *env) {
		e.queue("mail", queue.QueueMeta{Lease: new(5 * time.Hour)})
		e.createN("mail", 3)
		held := e.retain("w", 3, "mail")
		t := held[0]
		out := e.beats(
			queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Lease: 50 * time.Hour},
			queue.Heartbeat{ID: held[1].ID, Token: held[1].Lease.Token},
			queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Lease: 2 * time.Hour},
		)
		for _, b := range out {
			e.ok(b.Err)
		}
		e.equal("first", out[0].Lease.Duration, 50*time.Hour)
		e.equal("last", out[2].Lease.Duration, 2*time.Hour)
		e.counts("mail", map[queue.Status]int64{queue.StatusRetained: 3})
		e.advance(3 * time.Hour)
		e.chores(queue.ChoreRescue)
		e.status(t.ID, queue.StatusRetry)
		e.kind(e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token}).Err, queue.KindLeaseLost)
		_, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess})
		e.kind(err, queue.KindLeaseLost)
		e.release(held[1], queue.OutcomeSuccess, "")
		e.release(held[2], queue.OutcomeSuccess, "")
		e.counts("mail", map[queue.Status]int64{queue.StatusRetry: 1, queue.StatusReleased: 2})
	})
	e.it("a heartbeat that reports progress of a task twice keeps the last", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.createN("mail", 2)
		two := e.retain("w", 2, "mail")
		for _, b := range e.beats(
			queue.Heartbeat{ID: two[0].ID, Token: two[0].Lease.Token, Progress: []byte(`1`)},
			queue.Heartbeat{ID: two[1].ID, Token: two[1].Lease.Token, Progress: []byte(`"other"`)},
			queue.Heartbeat{ID: two[0].ID, Token: two[0].Lease.Token, Progress: []byte(`2`)},
			queue.Heartbeat{ID: two[0].ID, Token: two[0].Lease.Token},
		) {
			e.ok(b.Err)
		}
		e.equal("progress", string(e.get(two[0].ID).Progress), `2`)
		e.equal("progress of the other", string(e.get(two[1].ID).Progress), `"other"`)
	})

	for _, c := range []struct {
		call string
		// act acts on a held task twice: in one call, or in two calls with apart. It returns the answers.
		act func(e *env, t *queue.Task, apart bool) string
	}{
		{"release, both successes", releasesTwice(queue.OutcomeSuccess, queue.OutcomeSuccess)},
		{"release, both failures", releasesTwice(queue.OutcomeFailure, queue.OutcomeFailure)},
		{"release, a success and a failure", releasesTwice(queue.OutcomeSuccess, queue.OutcomeFailure)},
		{"release, a failure and a success", releasesTwice(queue.OutcomeFailure, queue.OutcomeSuccess)},
		{"release and hand back", releasesTwice(queue.OutcomeSuccess, queue.OutcomeHandBack)},
		{"hand back and release", releasesTwice(queue.OutcomeHandBack, queue.OutcomeSuccess)},
		{"hand back and snooze", releasesTwice(queue.OutcomeHandBack, queue.OutcomeSnooze)},
		{"snooze and hand back", releasesTwice(queue.OutcomeSnooze, queue.OutcomeHandBack)},
		{"permanent failure twice", releasesTwice(queue.OutcomePermanent, queue.OutcomePermanent)},
		{"heartbeat", func(e *env, t *queue.Task, apart bool) string {
			return twice(e, apart, e.beats, queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Lease: 9 * time.Hour, Progress: []byte(`1`)},
				queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Progress: []byte(`2`)}, func(b queue.Beat) string {
					return fmt.Sprint(b.Lease.Duration, b.Lease.ExpiresAt.Sub(t.StartedAt).Round(time.Hour), b.CancelRequested, queue.KindOf(b.Err))
				})
		}},
		{"cancel of a held task", bulkTwice(queue.Store.CancelTasks)},
		{"delete of a held task", bulkTwice(queue.Store.DeleteTasks)},
		{"retry of a held task", bulkTwice(queue.Store.RetryTasks)},
		{"cancel of a waiting task", waitingTwice(queue.Store.CancelTasks)},
		{"delete of a waiting task", waitingTwice(queue.Store.DeleteTasks)},
		{"retry of a finished task", func(e *env, t *queue.Task, apart bool) string {
			e.release(t, queue.OutcomePermanent, "")
			return bulkTwice(queue.Store.RetryTasks)(e, t, apart)
		}},
		{"look at a task", func(e *env, t *queue.Task, _ bool) string {
			found, err := e.s.GetTasks(e.ctx(), e.ns, []int64{t.ID, t.ID}, false)
			e.ok(err)
			return strconv.Itoa(len(found)) // the existing tasks, in no order and once each
		}},
	} {
		e.it("a call that names a task twice acts as two calls: "+c.call, func(e *env) {
			var told [2]string
			for i, apart := range []bool{false, true} {
				name := []string{"together", "apart"}[i]
				e.queue(name, queue.QueueMeta{Retries: new(3), Lease: new(5 * time.Hour)})
				e.createN(name, 3) // neighbours in one lease row
				held := e.retain("w", 3, name)
				answers := c.act(e, held[1], apart)
				after := "gone"
				if found, err := e.s.GetTasks(e.ctx(), e.ns, []int64{held[1].ID}, true); err == nil && len(found) == 1 {
					t := found[0]
					after = fmt.Sprintf("%s attempt %d retries %d errors %d result %s progress %s cancel %v", t.Status, t.Attempt, t.Retries,
						len(t.Errors), t.Result, t.Progress, t.CancelRequested)
				}
				e.status(held[0].ID, queue.StatusRetained)
				e.status(held[2].ID, queue.StatusRetained)
				told[i] = answers + "\nthen " + after + "\nand " + fmt.Sprint(e.stats(name).Counts)
			}
			e.equal("in one call", told[0], told[1])
		})
	}

	e.it("a create that names a key twice makes one task", func(e *env) {
		e.queue("mail", queue.QueueMeta{})
		e.queue("news", queue.QueueMeta{})
		mail := func(key, payload string) queue.NewTask {
			return queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Key: key, Payload: []byte(payload)}}
		}
		other := mail("k", `3`)
		other.Queue = "news"
		out, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{
			mail("k", `1`), mail("k", `1`), mail("k", `2`), other, mail("", `1`), mail("k", ` 1 `),
		}})
		e.ok(err)
		first := out[0].Task
		e.equal("first", first.Replayed, false)
		for _, i := range []int{1, 5} {
			e.ok(out[i].Err)
			e.equal("replayed", out[i].Task.Replayed, true)
			e.equal("id", out[i].Task.ID, first.ID)
		}
		e.kind(out[2].Err, queue.KindKeyReused)
		e.equal("of another queue", out[3].Task.Replayed, false)
		e.equal("without a key", out[4].Task.Replayed, false)
		e.counts("mail", map[queue.Status]int64{queue.StatusNew: 2})
	})
}

func (e *env) beats(beats ...queue.Heartbeat) []queue.Beat {
	e.Helper()
	out, err := e.s.HeartbeatTasks(e.ctx(), e.ns, beats)
	e.ok(err)
	e.equal("answers", len(out), len(beats))
	return out
}

// twice makes one call with two elements, or two calls with one element each, and returns the answers as text.
func twice[In, Out any](e *env, apart bool, call func(...In) []Out, one, two In, tell func(Out) string) string {
	e.Helper()
	var outs []Out
	if apart {
		outs = append(call(one), call(two)...)
	} else {
		outs = call(one, two)
	}
	var told []string
	for _, o := range outs {
		told = append(told, tell(o))
	}
	return strings.Join(told, "\n")
}

func releasesTwice(one, two queue.Outcome) func(*env, *queue.Task, bool) string {
	return func(e *env, t *queue.Task, apart bool) string {
		e.Helper()
		call := func(rs ...queue.Release) []queue.Released {
			out, err := e.s.ReleaseTasks(e.ctx(), e.ns, rs)
			e.ok(err)
			return out
		}
		return twice(e, apart, call, releaseOf(t.ID, t.Lease.Token, one), releaseOf(t.ID, t.Lease.Token, two), func(r queue.Released) string {
			if r.Err != nil {
				return fmt.Sprint(queue.KindOf(r.Err))
			}
			return fmt.Sprint(r.Task.Status, r.Task.Attempt, r.Task.Retries, r.Replayed)
		})
	}
}

// bulkTwice names a task twice in a selection. A selection is a set of tasks: the second mention changes nothing.
func bulkTwice(f func(queue.Store, context.Context, string, queue.Selection) (queue.Bulk, error)) func(*env, *queue.Task, bool) string {
	return func(e *env, t *queue.Task, apart bool) string {
		e.Helper()
		ids := []int64{t.ID, t.ID}
		if apart {
			ids = ids[:1]
		}
		b, err := f(e.s, e.ctx(), e.ns, queue.Selection{IDs: ids})
		e.ok(err)
		return fmt.Sprint(b.Matched, b.Moved, len(b.Errs), queue.KindOf(b.Errs[t.ID]))
	}
}

func waitingTwice(f func(queue.Store, context.Context, string, queue.Selection) (queue.Bulk, error)) func(*env, *queue.Task, bool) string {
	return func(e *env, t *queue.Task, apart bool) string {
		e.Helper()
		e.release(t, queue.OutcomeHandBack, "")
		return bulkTwice(f)(e, t, apart)
	}
}
