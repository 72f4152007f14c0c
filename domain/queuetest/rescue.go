package queuetest

import (
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testRescue(e *env) {
	e.it("a lease that runs out is a failure with the error lease expired", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(time.Hour), Retries: new(1), RetryDelay: new(10 * time.Hour)})
		e.create("q", queue.TaskMeta{})
		t := e.hold("q")
		e.advance(59 * time.Minute)
		e.chores(queue.ChoreRescue)
		e.status(t.ID, queue.StatusRetained)
		e.advance(time.Hour)
		before := e.now()
		e.chores(queue.ChoreRescue)
		got := e.status(t.ID, queue.StatusRetry)
		e.equal("attempt, retries, worker", []any{got.Attempt, got.Retries, got.Worker}, []any{1, 0, "w"})
		e.near("delayed_at", got.DelayedAt, before.Add(10*time.Hour), time.Hour+aWhile)
		e.equal("result", string(got.Result), `{"error":"lease expired"}`)
		e.equal("errors", len(got.Errors), 1)
		e.equal("error", []any{got.Errors[0].Attempt, got.Errors[0].Worker, string(got.Errors[0].Error)},
			[]any{1, "w", `{"error":"lease expired"}`})
		e.advance(12 * time.Hour)
		again := e.hold("q")
		e.equal("id, attempt", []any{again.ID, again.Attempt}, []any{t.ID, 2})
		e.advance(2 * time.Hour)
		e.chores(queue.ChoreRescue)
		e.equal("errors", len(e.status(t.ID, queue.StatusFailed).Errors), 2)
	})
	e.it("a rescued task refuses its late holder and is finished by another", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(time.Hour), RetryDelay: new(time.Duration(0))})
		e.create("q", queue.TaskMeta{})
		late := e.hold("q")
		e.advance(2 * time.Hour)
		e.chores(queue.ChoreRescue)
		second := e.hold("q")
		e.unchanged(late.ID, func() {
			for _, o := range outcomes() {
				_, err := e.tryRelease(releaseOf(late.ID, late.Lease.Token, o))
				e.kind(err, queue.KindLeaseLost)
			}
			e.kind(e.beat(queue.Heartbeat{ID: late.ID, Token: late.Lease.Token}).Err, queue.KindLeaseLost)
		})
		e.release(second, queue.OutcomeSuccess, "")
		e.status(late.ID, queue.StatusReleased)
	})
	e.fresh("a rescue says what became of the tasks, and what it woke", func(e *env) {
		e.queue("some", queue.QueueMeta{Lease: new(time.Hour), RetryDelay: new(time.Duration(0))})
		e.queue("none", queue.QueueMeta{Lease: new(time.Hour), Retries: new(0)})
		e.createN("some", 5)
		e.createN("none", 3)
		e.equal("held", len(e.retain("w", 100)), 8)
		e.advance(3 * time.Hour)
		m := e.chores(queue.ChoreRescue)
		e.equal("moved", m.Moved, 8)
		e.equal("moves", m.Moves, map[queue.Status]int{queue.StatusRetry: 5, queue.StatusFailed: 3})
		e.tallies(m.Tallies, queue.Tally{Queue: "some", Was: queue.StatusRetained, Is: queue.StatusRetry, N: 5},
			queue.Tally{Queue: "none", Was: queue.StatusRetained, Is: queue.StatusFailed, N: 3})
		if m.Lag < time.Hour || m.Lag > 3*time.Hour {
			e.Fatalf("lag is %v", m.Lag)
		}
		woken := slices.Concat(m.Woken, e.chores(queue.ChorePromote).Woken)
		if !slices.ContainsFunc(woken, func(w queue.Wake) bool {
			return w == queue.Wake{} || w.Namespace == e.ns && (w.Queue == "" || w.Queue == "some")
		}) {
			e.Fatalf("woken are %v", woken)
		}
		e.equal("moved again", e.chores(queue.ChoreRescue).Moved, 0)
		e.equal("held", len(e.retain("w", 100)), 5)
	})
	e.fresh("an expiry says what it ended, also what a retain has passed by", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(time.Hour), RetryDelay: new(time.Duration(0)), Retention: new(100 * time.Hour)})
		e.createN("q", 3)
		e.release(e.hold("q"), queue.OutcomeFailure, "")
		e.advance(2 * time.Hour)
		e.nothing("q")
		m := e.chores(queue.ChoreExpire)
		e.tallies(m.Tallies, queue.Tally{Queue: "q", Was: queue.StatusNew, Is: queue.StatusExpired, N: 2},
			queue.Tally{Queue: "q", Was: queue.StatusRetry, Is: queue.StatusExpired, N: 1})
	})
	e.fresh("a promote makes everything due ready, and wakes its queues", func(e *env) {
		e.queue("a", queue.QueueMeta{})
		e.queue("b", queue.QueueMeta{})
		var batch []queue.NewTask
		for range 1500 {
			batch = append(batch, e.newTask("a", queue.TaskMeta{Delay: time.Hour}))
		}
		batch = append(batch, e.newTask("b", queue.TaskMeta{Delay: 50 * time.Hour}))
		e.createAll(batch...)
		e.equal("moved early", e.chores(queue.ChorePromote).Moved, 0)
		e.advance(2 * time.Hour)
		m := e.chores(queue.ChorePromote)
		e.equal("moved", m.Moved, 1500)
		for _, w := range m.Woken {
			if w.Queue == "b" {
				e.Fatalf("woken are %v", m.Woken)
			}
		}
		st := e.stats("a")
		e.equal("ready, delayed", []int64{st.Ready, st.Delayed}, []int64{1500, 0})
		e.equal("held", len(e.retain("w", 2000, "a", "b")), 1500)
	})
}

// tallies checks the counts by queue of the tasks that a step moved, in any order.
func (e *env) tallies(got queue.Tallies, want ...queue.Tally) {
	e.Helper()
	for i := range want {
		want[i].Namespace = e.ns
	}
	if len(got) != len(want) {
		e.Fatalf("tallies are %+v, want %+v", got, want)
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			e.Fatalf("tallies are %+v, want %+v", got, want)
		}
	}
}
