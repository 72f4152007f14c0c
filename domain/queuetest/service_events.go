package queuetest

import (
	"context"
	"errors"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// listEvents returns at least n events behind f.After.
func (v *svc) listEvents(f queue.EventFilter, n int) []queue.Event {
	v.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var all []queue.Event
		from := f
		for {
			page, err := v.s.ListEvents(v.ctx(), from, 100)
			v.ok(err)
			all = append(all, page.Events...)
			from.After = page.Next
			if !page.More {
				break
			}
		}
		if len(all) >= n {
			return all
		}
		if time.Now().After(deadline) {
			v.Fatalf("%d events, want %d", len(all), n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func serveEvents(v *svc) {
	v.it("a task's life is in the feed, in its order", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		t := v.create("q", queue.TaskMeta{})
		v.release(v.hold("q"), queue.OutcomeSuccess)
		got := v.listEvents(queue.EventFilter{}, 3)
		v.equal("kinds", kinds(got, t.ID), []queue.EventKind{queue.EventCreated, queue.EventRetained, queue.EventReleased})
		for _, e := range got {
			if e.Cursor == "" || e.Namespace != v.s.Namespace() || e.Queue != "q" || e.At.IsZero() {
				v.Fatalf("event is %+v", e)
			}
		}
		v.equal("worker", got[1].Worker, "w")
	})
	v.it("the feed is filtered and resumes behind a cursor", func(v *svc) {
		v.queue("a", queue.QueueMeta{})
		v.queue("b", queue.QueueMeta{})
		v.createN("a", 5)
		inB := v.createN("b", 5)
		v.release(v.hold("b"), queue.OutcomePermanent)
		all := v.listEvents(queue.EventFilter{}, 12)
		for i, e := range all {
			if got := v.listEvents(queue.EventFilter{After: e.Cursor}, len(all)-i-1); len(got) != len(all)-i-1 {
				v.Fatalf("%d events behind event %d of %d", len(got), i, len(all))
			}
		}
		for _, c := range []struct {
			f queue.EventFilter
			n int
		}{
			{queue.EventFilter{Queue: "A"}, 5},
			{queue.EventFilter{TaskID: inB[0]}, 3},
			{queue.EventFilter{Kinds: []queue.EventKind{queue.EventFailed, queue.EventRetained}}, 2},
			{queue.EventFilter{Statuses: []queue.Status{queue.StatusFailed}}, 1},
			{queue.EventFilter{Worker: "w", Kinds: []queue.EventKind{queue.EventRetained}}, 1},
		} {
			v.equal("events", len(v.listEvents(c.f, c.n)), c.n)
		}
		page, err := v.s.ListEvents(v.ctx(), queue.EventFilter{}, 3)
		v.ok(err)
		v.equal("a page, more", []any{len(page.Events), page.More}, []any{3, true})
	})
	v.it("a bad filter or cursor is refused", func(v *svc) {
		for _, c := range []struct {
			field string
			f     queue.EventFilter
		}{
			{"kind", queue.EventFilter{Kinds: []queue.EventKind{"sung"}}},
			{"status", queue.EventFilter{Statuses: []queue.Status{"sung"}}},
			{"queue", queue.EventFilter{Queue: "1"}},
			{"cursor", queue.EventFilter{After: "🦆"}},
		} {
			_, err := v.s.ListEvents(v.ctx(), c.f, 10)
			v.invalid(err, queue.KindInvalid, c.field)
			err = v.s.SubscribeEvents(v.ctx(), c.f, func(queue.Event) error { return nil })
			v.invalid(err, queue.KindInvalid, c.field)
		}
	})
}

func serveSubscriptions(v *svc) {
	v.it("a subscription from a cursor gets everything behind it once, in the feed's order, as it happens", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 20)
		all := v.listEvents(queue.EventFilter{}, 20)
		got := make(chan queue.Event, 100)
		end := v.during(func(ctx context.Context) error {
			return v.s.SubscribeEvents(ctx, queue.EventFilter{After: all[9].Cursor}, func(e queue.Event) error {
				got <- e
				return nil
			})
		})
		for i := 10; i < 20; i++ {
			v.equal("task", receive(v, got).TaskID, all[i].TaskID)
		}
		for range 5 {
			t := v.create("q", queue.TaskMeta{})
			e := receive(v, got)
			v.equal("task, kind", []any{e.TaskID, e.Kind}, []any{t.ID, queue.EventCreated})
		}
		v.endsCanceled(end())
	})
	v.it("a subscription without a cursor starts now", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		old := v.createN("q", 3)
		v.listEvents(queue.EventFilter{}, 3)
		got := make(chan queue.Event, 1000)
		v.during(func(ctx context.Context) error {
			return v.s.SubscribeEvents(ctx, queue.EventFilter{}, func(e queue.Event) error {
				got <- e
				return nil
			})
		})
		// The subscription may start a little after its request.
		for {
			v.create("q", queue.TaskMeta{})
			select {
			case e := <-got:
				if e.TaskID <= old[2] {
					v.Fatalf("an event of before the subscription: %+v", e)
				}
				return
			case <-time.After(20 * time.Millisecond):
			case <-v.ctx().Done():
				v.Fatal("nothing came")
			}
		}
	})
	v.it("a subscription gets what its filter matches", func(v *svc) {
		v.queue("a", queue.QueueMeta{})
		v.queue("b", queue.QueueMeta{})
		first := v.create("a", queue.TaskMeta{})
		cursor := v.listEvents(queue.EventFilter{}, 1)[0].Cursor
		got := make(chan queue.Event, 100)
		v.during(func(ctx context.Context) error {
			f := queue.EventFilter{After: cursor, Queue: "b", Statuses: []queue.Status{queue.StatusReleased}}
			return v.s.SubscribeEvents(ctx, f, func(e queue.Event) error {
				got <- e
				return nil
			})
		})
		v.release(v.hold("a"), queue.OutcomeSuccess)
		t := v.create("b", queue.TaskMeta{})
		v.release(v.hold("b"), queue.OutcomeSuccess)
		e := receive(v, got)
		v.equal("task, kind", []any{e.TaskID, e.Kind}, []any{t.ID, queue.EventReleased})
		if e.TaskID == first.ID || len(got) > 0 {
			v.Fatalf("more than what matches came: %+v", e)
		}
	})
	v.it("a subscription ends with its handler's error", func(v *svc) {
		v.queue("q", queue.QueueMeta{})
		v.createN("q", 5)
		cursor := v.listEvents(queue.EventFilter{}, 5)[1].Cursor
		enough, n := errors.New("enough"), 0
		err := v.s.SubscribeEvents(v.ctx(), queue.EventFilter{After: cursor}, func(queue.Event) error {
			if n++; n == 2 {
				return enough
			}
			return nil
		})
		v.equal("calls", n, 2)
		if !errors.Is(err, enough) {
			v.Fatalf("it ended with %v", err)
		}
	})
}
