package queuetest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// finish retains n tasks of q and ends them all with outcome o.
func (e *env) finish(q string, n int, o queue.Outcome) {
	e.Helper()
	var out []queue.Release
	for n > len(out) {
		held := e.retain("w", n-len(out), q)
		if len(held) == 0 {
			break
		}
		for _, t := range held {
			out = append(out, queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: o, Quiet: true})
		}
	}
	done, err := e.s.ReleaseTasks(e.ctx(), e.ns, out)
	e.ok(err)
	if len(done) != n {
		e.Fatalf("%d of %d tasks were released", len(done), n)
	}
}

func testSteps(e *env) {
	const many = 1300 // more than two steps
	type move = func(context.Context, string, queue.Selection) (queue.Bulk, error)
	for name, c := range map[string]struct {
		before queue.Outcome // outcome of all tasks; "" leaves them waiting
		move   func(queue.Store) move
	}{
		"a cancel": {"", func(s queue.Store) move { return s.CancelTasks }},
		"a retry":  {queue.OutcomePermanent, func(s queue.Store) move { return s.RetryTasks }},
		"a delete": {queue.OutcomeSuccess, func(s queue.Store) move { return s.DeleteTasks }},
	} {
		e.it(name+" answers when its time is over, and its cursor goes on", func(e *env) {
			e.queue("q", queue.QueueMeta{})
			made := e.createN("q", many)
			if c.before != "" {
				e.finish("q", many, c.before)
			}
			steps := func(s queue.Selection) (total queue.Bulk, n int) {
				s.Within = 1
				for {
					b, err := c.move(e.s)(e.ctx(), e.ns, s)
					e.ok(err)
					total.Add(b)
					if n++; b.Next == "" || n > many {
						return total, n
					}
					if b.Matched == many {
						e.Fatalf("a step of no time matched %d of %d", b.Matched, many)
					}
					s.Cursor = b.Next
				}
			}
			filter := &queue.TaskFilter{Queue: "q"}
			total, n := steps(queue.Selection{Filter: filter, DryRun: true})
			if total.Matched != many || total.Moved != 0 || n < 3 {
				e.Errorf("a dry run in %d steps: %+v", n, total)
			}
			total, n = steps(queue.Selection{IDs: made[:600]})
			if total.Matched != 600 || total.Moved != 600 || n < 2 {
				e.Errorf("600 ids in %d steps: %+v", n, total)
			}
			total, n = steps(queue.Selection{Filter: filter})
			if total.Matched != many-600 || total.Moved != many-600 || n < 2 {
				e.Errorf("the others in %d steps: %d, %d", n, total.Matched, total.Moved)
			}
		})
	}
	e.it("a step with a limit moves no more, and its cursor goes on", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 1100)
		e.finish("q", 1100, queue.OutcomePermanent)
		for name, s := range map[string]queue.Selection{
			"a filter": {Filter: &queue.TaskFilter{Queue: "q", Statuses: []queue.Status{queue.StatusFailed}}, Limit: 700},
			"ids":      {IDs: made, Limit: 700},
		} {
			s.DryRun = true
			first, err := e.s.RetryTasks(e.ctx(), e.ns, s)
			e.ok(err)
			if first.Matched != 700 || first.Moved != 0 || first.Next == "" {
				e.Errorf("%s: a dry run of 700: %+v", name, first)
			}
			s.Cursor = first.Next
			rest, err := e.s.RetryTasks(e.ctx(), e.ns, s)
			e.ok(err)
			e.equal(name+": the rest", []any{rest.Matched, rest.Next}, []any{int64(400), ""})
		}

		s := queue.Selection{Filter: &queue.TaskFilter{Queue: "q"}, Limit: 1}
		b, err := e.s.RetryTasks(e.ctx(), e.ns, s)
		e.ok(err)
		e.equal("moved", b.Moved, int64(1))
		e.equal("the oldest", e.get(made[0]).Status, queue.StatusNew)
		s.Cursor = b.Next
		_, err = e.s.RetryTasks(e.ctx(), e.ns, s)
		e.ok(err)
		e.equal("the next", []queue.Status{e.get(made[1]).Status, e.get(made[2]).Status}, []queue.Status{queue.StatusNew, queue.StatusFailed})
	})
	e.it("a selection by ids reports each id once over all steps", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 700)
		s := queue.Selection{IDs: append(slices.Clone(made), made[0], 1<<60, 1<<61), Within: 1}
		var total queue.Bulk
		for {
			b, err := e.s.CancelTasks(e.ctx(), e.ns, s)
			e.ok(err)
			total.Add(b)
			if s.Cursor = b.Next; s.Cursor == "" {
				break
			}
		}
		e.equal("matched, moved, errors", []int64{total.Matched, total.Moved, int64(len(total.Errs))}, []int64{700, 700, 2})
	})
	e.it("a cursor that no bulk operation gave is invalid", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		for _, c := range []string{"x", "b", "b-1", "bzzzzzzzzzzzzzzzzzz", "t1"} {
			_, err := e.s.DeleteTasks(e.ctx(), e.ns, queue.Selection{Filter: &queue.TaskFilter{Queue: "q"}, Cursor: c})
			e.kind(err, queue.KindInvalid)
			e.subject(err, "", "cursor")
		}
	})
	e.it("tasks that are retried together keep their order, over all steps", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		made := e.createN("q", 2000)
		e.finish("q", 2000, queue.OutcomePermanent)
		for cursor := ""; ; {
			b, err := e.s.RetryTasks(e.ctx(), e.ns, queue.Selection{Filter: &queue.TaskFilter{Queue: "q"}, Cursor: cursor, Within: time.Microsecond})
			e.ok(err)
			if cursor = b.Next; cursor == "" {
				break
			}
		}
		var got []int64
		for len(got) < len(made) {
			some := ids(e.retain("w", 300, "q"))
			if len(some) == 0 {
				break
			}
			got = append(got, some...)
		}
		e.equal("retained", got, made)
	})
	e.it("a clean answers when its time is over, and says that there is more", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 12_000)
		e.finish("q", 12_000, queue.OutcomeSuccess)
		total, n := int64(0), 0
		for {
			c, err := e.s.CleanQueue(e.ctx(), e.ns, "q", 1)
			e.ok(err)
			total += c.Count
			if n++; !c.More || n > 12_000 {
				break
			}
		}
		if total != 12_000 || n < 2 {
			e.Errorf("%d of 12,000 were cleaned in %d steps", total, n)
		}
	})
}

func testLargeTickers(e *env) {
	e.it("a page of tickers, and of ticks, ends early when its bytes are reached", func(e *env) {
		for _, payload := range []string{noise(900_000), `"` + strings.Repeat("x", 900_000) + `"`} {
			names := []string{"a", "b", "c", "d", "e"}
			for _, n := range names {
				k, err := queue.NewTicker(e.ns, queue.TickerMeta{Name: n, Period: new(time.Hour), Payload: json.RawMessage(payload)}, queue.DefaultMaxPayloadBytes)
				e.ok(err)
				_, err = e.s.CreateTicker(e.ctx(), k)
				e.ok(err)
			}
			var got []string
			for cursor := ""; ; {
				page, err := e.s.ListTickers(e.ctx(), e.ns, queue.Page{Cursor: cursor})
				e.ok(err)
				if n := len(page.Tickers); n == 0 || n > 3 {
					e.Fatalf("a page has %d tickers", n)
				}
				e.equal("count", page.Count, int64(len(names)))
				for _, k := range page.Tickers {
					got = append(got, k.Name)
				}
				if cursor = page.Next; cursor == "" {
					break
				}
			}
			e.equal("names", got, names)
			for range 5 {
				_, err := e.s.RunTicker(e.ctx(), e.ns, "a")
				e.ok(err)
			}
			ticks, err := e.s.ListTicks(e.ctx(), e.ns, "a", 100)
			e.ok(err)
			e.equal("ticks", len(ticks), 3)
			for _, n := range names {
				_, err := e.s.DeleteTicker(e.ctx(), e.ns, n)
				e.ok(err)
			}
		}
	})
}

func serveSteps(v *svc) {
	v.it("a bulk operation without a limit of time does all, one with a limit says where to go on", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 1300)
		filter := &queue.TaskFilter{Queue: "q"}
		b, err := v.s.CancelTasks(v.ctx(), queue.Selection{Filter: filter, Within: 1})
		v.ok(err)
		if b.Moved == 0 || b.Moved == 1300 || b.Next == "" {
			v.Fatalf("a step of no time: %+v", b)
		}
		rest, err := v.s.CancelTasks(v.ctx(), queue.Selection{Filter: filter, Cursor: b.Next})
		v.ok(err)
		v.equal("moved", b.Moved+rest.Moved, int64(1300))
		v.equal("next", rest.Next, "")
		b, err = v.s.RetryTasks(v.ctx(), queue.Selection{Filter: filter})
		v.ok(err)
		v.equal("retried", b.Moved, int64(1300))
		_, err = v.s.DeleteTasks(v.ctx(), queue.Selection{Filter: filter, Cursor: "x"})
		v.invalid(err, queue.KindInvalid, "cursor")
		_, err = v.s.DeleteTasks(v.ctx(), queue.Selection{Filter: filter, Within: -1})
		v.invalid(err, queue.KindInvalid, "within")
		b, err = v.s.DeleteTasks(v.ctx(), queue.Selection{Filter: filter, Limit: 300})
		v.ok(err)
		v.equal("deleted", []any{b.Moved, b.Next != ""}, []any{int64(300), true})
		for _, limit := range []int{-1, queue.MaxSelection + 1} {
			_, err = v.s.DeleteTasks(v.ctx(), queue.Selection{Filter: filter, Limit: limit})
			v.invalid(err, queue.KindInvalid, "limit")
		}
		b, err = v.s.DeleteTasks(v.ctx(), queue.Selection{Filter: filter})
		v.ok(err)
		v.equal("deleted", b.Moved, int64(1000))
	})
	v.it("a step of a clean says whether there may be more", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 2)
		v.release(v.hold("q"), queue.OutcomeSuccess)
		c, err := v.s.CleanQueueWithin(v.ctx(), "q", time.Second)
		v.ok(err)
		v.equal("cleaned", c, queue.Cleaned{Count: 1})
		_, err = v.s.CleanQueueWithin(v.ctx(), "q", -1)
		v.invalid(err, queue.KindInvalid, "within")
		_, err = v.s.CleanQueueWithin(v.ctx(), "none", time.Second)
		v.kind(err, queue.KindNotFound)
	})
	v.it("a list of tasks with the oldest first goes on behind its cursor", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		made := v.createN("q", 12)
		var got []int64
		for cursor := ""; ; {
			page, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{OldestFirst: true, Page: queue.Page{Limit: 5, Cursor: cursor}})
			v.ok(err)
			got = append(got, ids(page.Tasks)...)
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		v.equal("ids", got, made)

		v.create("q", queue.TaskMeta{Payload: json.RawMessage(`{"to":"ann"}`)})
		page, err := v.s.ListTasks(v.ctx(), queue.TaskQuery{Brief: true})
		v.ok(err)
		v.equal("brief tasks", []any{len(page.Tasks), strings.Contains(string(page.Tasks[0].Payload), "ann"), page.Tasks[0].Queue}, []any{len(made) + 1, false, "q"})
	})
	v.it("lists of queues and of tickers go on behind their cursors", func(v *svc) {
		names := []string{"a", "b", "c", "d", "e"}
		for _, n := range names {
			v.queue(n, queue.QueueMeta{})
			v.ticker(queue.TickerMeta{Name: n, Period: new(time.Hour)})
		}
		walk := func(list func(p queue.Page) ([]string, string, error)) (all []string) {
			for cursor := ""; ; {
				some, next, err := list(queue.Page{Limit: 2, Cursor: cursor})
				v.ok(err)
				all = append(all, some...)
				if cursor = next; cursor == "" {
					return all
				}
			}
		}
		v.equal("queues", walk(func(p queue.Page) (some []string, next string, err error) {
			page, err := v.s.ListQueues(v.ctx(), p)
			for _, q := range page.Queues {
				some = append(some, q.Name)
			}
			return some, page.Next, err
		}), names)
		v.equal("tickers", walk(func(p queue.Page) (some []string, next string, err error) {
			page, err := v.s.ListTickers(v.ctx(), p)
			for _, k := range page.Tickers {
				some = append(some, k.Name)
			}
			return some, page.Next, err
		}), names)
	})
}
