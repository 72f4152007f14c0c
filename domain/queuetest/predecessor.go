package queuetest

import (
	"errors"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// testPredecessor checks the store against the defects of the predecessor in section 10 of the contract, as far as a
// store can show them. The name of each sub-test is the defect.
func testPredecessor(e *env) {
	e.it("a crashed worker's task was never tried again and then deleted", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(time.Hour), RetryDelay: new(time.Minute)})
		t := e.create("q", queue.TaskMeta{})
		e.hold("q") // and crash
		for range 5 {
			e.pass(30 * time.Minute)
		}
		again := e.hold("q")
		e.equal("id, attempt", []any{again.ID, again.Attempt}, []any{t.ID, 2})
		e.equal("status", e.release(again, queue.OutcomeSuccess, "").Status, queue.StatusReleased)
	})
	e.it("release took no token, so a late worker ended another's task", func(e *env) {
		e.queue("q", queue.QueueMeta{Lease: new(time.Hour), RetryDelay: new(time.Duration(0))})
		e.create("q", queue.TaskMeta{})
		late := e.hold("q")
		e.pass(2 * time.Hour)
		present := e.hold("q")
		e.unchanged(present.ID, func() {
			_, err := e.tryRelease(queue.Release{ID: late.ID, Token: late.Lease.Token, Outcome: queue.OutcomeSuccess})
			e.kind(err, queue.KindLeaseLost)
		})
	})
	e.it("a queue without ttl was never served", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		t := e.create("q", queue.TaskMeta{})
		e.pass(time.Hour)
		e.equal("retained", e.hold("q").ID, t.ID)
	})
	e.it("a queue with retries=0 was never served", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(0), TTL: new(time.Hour)})
		t := e.create("q", queue.TaskMeta{})
		e.equal("retained", e.hold("q").ID, t.ID)
	})
	e.it("a running task past its ttl was deleted", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(time.Hour), Lease: new(100 * time.Hour)})
		e.create("q", queue.TaskMeta{})
		t := e.hold("q")
		e.pass(50 * time.Hour)
		e.equal("status", e.release(t, queue.OutcomeSuccess, `1`).Status, queue.StatusReleased)
		e.equal("result", string(e.status(t.ID, queue.StatusReleased).Result), `1`)
	})
	e.it("counts leaked between namespaces with equal queue names", func(a *env) {
		b := *a
		b.ns = a.ns + "-b"
		a.queue("q", queue.QueueMeta{})
		b.queue("q", queue.QueueMeta{})
		a.createN("q", 5)
		b.createN("q", 2)
		a.hold("q")
		a.chores(queue.ChoreFold)
		a.counts("q", map[queue.Status]int64{queue.StatusNew: 4, queue.StatusRetained: 1})
		b.counts("q", map[queue.Status]int64{queue.StatusNew: 2})
	})
	e.it("get and release ignored the namespace", func(a *env) {
		b := *a
		b.ns = a.ns + "-b"
		a.queue("q", queue.QueueMeta{})
		b.queue("q", queue.QueueMeta{})
		a.create("q", queue.TaskMeta{})
		t := a.hold("q")
		a.unchanged(t.ID, func() {
			if b.find(t.ID) != nil {
				a.Fatal("get ignores the namespace")
			}
			_, err := b.tryRelease(queue.Release{ID: t.ID, Outcome: queue.OutcomeSuccess})
			a.kind(err, queue.KindNotFound)
		})
	})
	e.it("listing by status failed with a 500", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 3)
		e.hold("q")
		page := e.list(queue.TaskFilter{Queue: "q", Statuses: []queue.Status{queue.StatusNew}}, queue.Page{})
		e.equal("ids", ids(page.Tasks), []int64{made[2], made[1]})
	})
	e.it("cleanup removed at most 100 tasks a queue an hour, in one namespace only, regardless of age", func(a *env) {
		b := *a
		b.ns = a.ns + "-b"
		for _, e := range []*env{a, &b} {
			e.queue("q", queue.QueueMeta{Retention: new(10 * time.Hour)})
			e.createN("q", 350)
			for _, t := range e.retain("w", 350, "q") {
				e.release(t, queue.OutcomeSuccess, "")
			}
		}
		a.pass(9 * time.Hour)
		a.counts("q", map[queue.Status]int64{queue.StatusReleased: 350})
		young := b.create("q", queue.TaskMeta{})
		b.release(b.hold("q"), queue.OutcomeSuccess, "")
		a.pass(2 * time.Hour)
		a.counts("q", nil)
		b.counts("q", map[queue.Status]int64{queue.StatusReleased: 1})
		b.status(young.ID, queue.StatusReleased)
	})
	e.it("a tick was lost when the process died before its task was made; ticks drifted", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.ticker("t", queue.TickerMeta{Period: new(10 * time.Hour), Queue: new("q")})
		for i := range 4 {
			e.advance(10*time.Hour + 7*time.Minute) // every check of tickers comes late
			e.chores(queue.ChoreTick)
			tick := e.ticks("t")[0]
			if want := made.Anchor.Add(time.Duration(i+1) * 10 * time.Hour); !tick.At.Equal(want) {
				e.Fatalf("nominal time is %v, want %v", tick.At, want)
			}
			e.status(tick.TaskID, queue.StatusNew) // the tick and its task come in one step
		}
		e.counts("q", map[queue.Status]int64{queue.StatusNew: 4})
	})
	e.it("a disabled ticker fired once", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.ticker("t", queue.TickerMeta{Period: new(time.Hour), Queue: new("q")})
		e.advance(59 * time.Minute)
		e.updateTicker("t", queue.TickerMeta{Paused: new(true)})
		e.pass(10 * time.Hour)
		e.equal("ticks", len(e.ticks("t")), 0)
		e.counts("q", nil)
	})
	e.it("an error's text was stored as {}", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.create("q", queue.TaskMeta{})
		text, err := queue.Marshal(errors.New("no such address"))
		e.ok(err)
		t := e.hold("q")
		after := e.release(t, queue.OutcomeFailure, string(text))
		e.equal("result", string(after.Result), `{"error":"no such address"}`)
		e.equal("error", string(e.get(t.ID).Errors[0].Error), `{"error":"no such address"}`)
	})
}
