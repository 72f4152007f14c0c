package queuetest

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// kinds returns the kinds of the events of a task.
func kinds(events []queue.Event, id int64) []queue.EventKind {
	var out []queue.EventKind
	for _, ev := range events {
		if ev.TaskID == id {
			out = append(out, ev.Kind)
		}
	}
	return out
}

func testEvents(e *env) {
	e.it("the events of a task come in the order of its life", func(e *env) {
		e.queue("q", queue.QueueMeta{Retries: new(1), RetryDelay: new(time.Duration(0)), Lease: new(time.Hour)})
		a := e.create("q", queue.TaskMeta{})
		e.release(e.hold("q"), queue.OutcomeHandBack, "")
		t := e.hold("q")
		e.ok(e.beat(queue.Heartbeat{ID: t.ID, Token: t.Lease.Token, Progress: []byte(`1`)}).Err)
		e.release(t, queue.OutcomeFailure, "")
		e.hold("q")
		e.advance(2 * time.Hour)
		e.chores(queue.ChoreRescue)
		e.ok(e.one(e.s.RetryTasks, a.ID))
		e.release(e.hold("q"), queue.OutcomeSuccess, "")
		want := []queue.EventKind{
			queue.EventCreated, queue.EventRetained, queue.EventReturned, queue.EventRetained, queue.EventProgress, queue.EventRetry,
			queue.EventRetained, queue.EventFailed, queue.EventRevived, queue.EventRetained, queue.EventReleased,
		}
		got := e.events(queue.EventFilter{}, len(want))
		e.equal("kinds", kinds(got, a.ID), want)
		for i, ev := range got {
			if ev.Cursor == "" || ev.Namespace != e.ns || ev.Queue != "q" || ev.At.IsZero() {
				e.Fatalf("event %d is %+v", i, ev)
			}
			if ev.Kind == queue.EventRetained || ev.Kind == queue.EventReleased {
				e.equal("worker", ev.Worker, "w")
			}
		}
	})
	e.it("the other ends have events too", func(e *env) {
		e.queue("q", queue.QueueMeta{TTL: new(time.Hour), Retention: new(100 * time.Hour)})
		gone, waiting, asked := e.create("q", queue.TaskMeta{Delay: 50 * time.Hour}), e.create("q", queue.TaskMeta{Priority: 1}), e.create("q", queue.TaskMeta{})
		t := e.hold("q")
		e.equal("held", t.ID, asked.ID)
		e.ok(e.one(e.s.CancelTasks, asked.ID))
		e.ok(e.one(e.s.CancelTasks, gone.ID))
		e.release(t, queue.OutcomeSuccess, "")
		e.advance(2 * time.Hour)
		e.chores(queue.ChoreExpire)
		got := e.events(queue.EventFilter{}, 7)
		e.equal("cancelled while waiting", kinds(got, gone.ID), []queue.EventKind{queue.EventCreated, queue.EventCancelled})
		e.equal("expired", kinds(got, waiting.ID), []queue.EventKind{queue.EventCreated, queue.EventExpired})
		e.equal("cancelled while held", kinds(got, asked.ID), []queue.EventKind{queue.EventCreated, queue.EventRetained, queue.EventCancelled})
	})
	e.it("a refused call and a repeat make no event", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.create("q", queue.TaskMeta{Key: "k"})
		e.create("q", queue.TaskMeta{Key: "k"})
		t := e.hold("q")
		e.release(t, queue.OutcomeSuccess, "")
		e.release(t, queue.OutcomeSuccess, "")
		_, err := e.tryRelease(queue.Release{ID: t.ID, Token: t.Lease.Token + 9, Outcome: queue.OutcomeSuccess})
		e.kind(err, queue.KindLeaseLost)
		e.kind(e.one(e.s.CancelTasks, t.ID), queue.KindConflict)
		last := e.create("q", queue.TaskMeta{})
		got := e.events(queue.EventFilter{}, 4)
		e.equal("kinds", kinds(got, t.ID), []queue.EventKind{queue.EventCreated, queue.EventRetained, queue.EventReleased})
		e.equal("all", len(got), 4)
		e.equal("last", got[3].TaskID, last.ID)
	})
	e.it("the feed is filtered by queue, task, kind, status and worker", func(e *env) {
		e.queue("a", queue.QueueMeta{})
		e.queue("b", queue.QueueMeta{})
		inA := e.createN("a", 2)
		inB := e.createN("b", 1)
		t := e.retain("ann", 1, "a")[0]
		e.release(t, queue.OutcomeSuccess, "")
		e.retain("bob", 1, "a")
		all := e.events(queue.EventFilter{}, 6)
		e.equal("all", len(all), 6)
		for name, c := range map[string]struct {
			f queue.EventFilter
			n int
		}{
			"queue":         {queue.EventFilter{Queue: "b"}, 1},
			"task":          {queue.EventFilter{TaskID: inA[0]}, 3},
			"unknown task":  {queue.EventFilter{TaskID: 1 << 60}, 0},
			"kind":          {queue.EventFilter{Kinds: []queue.EventKind{queue.EventCreated}}, 3},
			"kinds":         {queue.EventFilter{Kinds: []queue.EventKind{queue.EventReleased, queue.EventRetained}}, 3},
			"status":        {queue.EventFilter{Statuses: []queue.Status{queue.StatusReleased}}, 1},
			"worker":        {queue.EventFilter{Worker: "bob"}, 1},
			"task and kind": {queue.EventFilter{TaskID: inB[0], Kinds: []queue.EventKind{queue.EventReleased}}, 0},
		} {
			got := e.events(c.f, c.n)
			if len(got) != c.n {
				e.Errorf("%s: %v, want %d", name, got, c.n)
			}
			for _, ev := range got {
				if !c.f.Matches(ev) {
					e.Errorf("%s: %v does not match", name, ev)
				}
			}
		}
	})
	e.it("the feed resumes behind any event without a gap or a repeat", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 30)
		all := e.events(queue.EventFilter{}, 30)
		for i, ev := range all {
			got := e.events(queue.EventFilter{After: ev.Cursor}, len(all)-1-i)
			if len(got) != len(all)-1-i || len(got) > 0 && got[0].TaskID != all[i+1].TaskID {
				e.Fatalf("behind event %d there are %v", i, got)
			}
		}
		var walked []queue.Event
		f := queue.EventFilter{}
		for {
			page, err := e.s.ListEvents(e.ctx(), e.ns, f, 7)
			e.ok(err)
			if len(page.Events) > 7 {
				e.Fatalf("%d events of at most 7", len(page.Events))
			}
			walked = append(walked, page.Events...)
			f.After = page.Next
			if !page.More {
				break
			}
		}
		for _, events := range [][]queue.Event{walked, all} {
			for i := range events {
				events[i].Cursor = "" // a cursor may cover other events that happened meanwhile
			}
		}
		e.equal("walked by pages", walked, all)
	})
	e.it("a cursor is short, so that it fits into a header of a request", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 30)
		e.events(queue.EventFilter{}, 30)
		last, err := e.s.LastEvent(e.ctx(), e.ns)
		e.ok(err)
		page, err := e.s.ListEvents(e.ctx(), e.ns, queue.EventFilter{}, 10)
		e.ok(err)
		cursors := []string{last, page.Next}
		for _, ev := range page.Events {
			cursors = append(cursors, ev.Cursor)
		}
		for _, c := range cursors {
			if len(c) == 0 || len(c) > queue.MaxEventCursor {
				e.Errorf("the cursor %q has %d bytes, want 1 to %d", c, len(c), queue.MaxEventCursor)
			}
		}
	})
	e.it("what happens later is behind the last event", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 3)
		e.events(queue.EventFilter{}, 3)
		cursor, err := e.s.LastEvent(e.ctx(), e.ns)
		e.ok(err)
		e.equal("behind the last", len(e.events(queue.EventFilter{After: cursor}, 0)), 0)
		t := e.create("q", queue.TaskMeta{})
		got := e.events(queue.EventFilter{After: cursor}, 1)
		e.equal("task", kinds(got, t.ID), []queue.EventKind{queue.EventCreated})
		e.equal("all", len(got), 1)
	})
	e.it("a queue may keep its events out of the feed", func(e *env) {
		e.queue("silent", queue.QueueMeta{Events: new(false)})
		e.queue("loud", queue.QueueMeta{})
		e.createN("silent", 5)
		e.createN("loud", 1)
		e.equal("events", len(e.events(queue.EventFilter{}, 1)), 1)
		e.equal("events", len(e.events(queue.EventFilter{Queue: "silent"}, 0)), 0)
		e.update("silent", queue.QueueMeta{Events: new(true)})
		e.createN("silent", 2)
		e.equal("events", len(e.events(queue.EventFilter{Queue: "silent"}, 2)), 2)
	})
	e.it("a bad cursor is invalid", func(e *env) {
		for _, c := range []string{"x", "🦆", long(5000)} {
			_, err := e.s.ListEvents(e.ctx(), e.ns, queue.EventFilter{After: c}, 1)
			e.kind(err, queue.KindInvalid)
			e.subject(err, "", "cursor")
		}
	})
}

func testBoundedEvents(e *env) {
	e.it("a cursor that is older than what is kept has expired, and the feed starts again without it", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		e.createN("q", 10)
		first := e.events(queue.EventFilter{}, 10)[0].Cursor
		switch {
		case e.h.Features.MaxEvents > 0:
			for made := 0; made < e.h.Features.MaxEvents; made += 1000 {
				e.createN("q", 1000)
			}
		case e.h.Features.EventsAge > 0:
			e.advance(e.h.Features.EventsAge + time.Hour)
			e.createN("q", 10)
			e.chores(queue.ChorePrune)
			e.advance(e.h.Features.EventsAge + time.Hour)
			e.createN("q", 10)
			e.chores(queue.ChorePrune)
		default:
			e.Fatal("the harness declares no bound of the feed; every feed has one")
		}
		_, err := e.s.ListEvents(e.ctx(), e.ns, queue.EventFilter{After: first}, 1)
		// The feed may keep events as long as any transaction of the database is open, so this retries for 30 s.
		for range 300 {
			if err != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
			e.chores(queue.ChorePrune)
			_, err = e.s.ListEvents(e.ctx(), e.ns, queue.EventFilter{After: first}, 1)
		}
		e.kind(err, queue.KindCursorExpired)
		page, err := e.s.ListEvents(e.ctx(), e.ns, queue.EventFilter{}, 5)
		e.ok(err)
		e.equal("events from the oldest kept", len(page.Events), 5)
		t := e.create("q", queue.TaskMeta{})
		last, err := e.s.LastEvent(e.ctx(), e.ns)
		e.ok(err)
		e.ok(e.one(e.s.CancelTasks, t.ID))
		e.equal("behind the last", kinds(e.events(queue.EventFilter{After: last, Kinds: []queue.EventKind{queue.EventCancelled}}, 1), t.ID),
			[]queue.EventKind{queue.EventCancelled})
	})
}
