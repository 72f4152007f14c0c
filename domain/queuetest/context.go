package queuetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func testContext(e *env) {
	e.it("a call with an ended context changes nothing and says why", func(e *env) {
		e.queue("q", queue.QueueMeta{})
		t := e.create("q", queue.TaskMeta{})
		canceled, cancel := context.WithCancel(e.ctx())
		cancel()
		late, cancel := context.WithDeadline(e.ctx(), time.Unix(1, 0))
		defer cancel()
		for ctx, want := range map[context.Context]queue.Kind{canceled: queue.KindCanceled, late: queue.KindDeadline} {
			e.unchanged(t.ID, func() {
				for name, err := range map[string]error{
					"create": second(e.s.CreateTasks(ctx, queue.Create{Namespace: e.ns, Tasks: []queue.NewTask{e.newTask("q", queue.TaskMeta{})}})),
					"retain": second(e.s.RetainTasks(ctx, queue.Retain{Namespace: e.ns, Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})),
					"get":    second(e.s.GetTasks(ctx, e.ns, []int64{t.ID}, false)),
					"list":   second(e.s.ListTasks(ctx, e.ns, queue.TaskQuery{})),
					"cancel": second(e.s.CancelTasks(ctx, e.ns, queue.Selection{IDs: []int64{t.ID}})),
					"delete": second(e.s.DeleteTasks(ctx, e.ns, queue.Selection{IDs: []int64{t.ID}})),
					"queue":  second(e.s.DeleteQueue(ctx, e.ns, "q")),
					"clean":  second(e.s.CleanQueue(ctx, e.ns, "q", 0)),
					"chore":  second(e.s.Maintain(ctx, queue.ChorePrune)),
					"ping":   e.s.Ping(ctx),
				} {
					if queue.KindOf(err) != want {
						e.Errorf("%s: %v, want %s", name, err, want)
					}
				}
			})
			e.counts("q", map[queue.Status]int64{queue.StatusNew: 1})
		}
		e.ok(e.s.Ping(e.ctx()))
	})
	e.it("an unknown chore is invalid", func(e *env) {
		_, err := e.s.Maintain(e.ctx(), queue.Chore("sing"))
		e.kind(err, queue.KindInvalid)
	})
	e.it("a chore without work says so", func(e *env) {
		for _, c := range queue.Chores() {
			e.chores(c)
			m, err := e.s.Maintain(e.ctx(), c)
			e.ok(err)
			if m.More {
				e.Errorf("%s says that there is more, for ever", c)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

func testPowers(e *env) {
	e.Run("a store has the powers that it declares, and no others", func(t *testing.T) {
		if _, is := queue.StoreAs[queue.Listener](e.s); is != e.h.Features.Listener {
			t.Errorf("is a Listener: %v, declared: %v", is, e.h.Features.Listener)
		}
		if _, is := queue.StoreAs[queue.StatsLister](e.s); is != e.h.Features.StatsLister {
			t.Errorf("is a StatsLister: %v, declared: %v", is, e.h.Features.StatsLister)
		}
		if _, is := queue.StoreAs[queue.Diagnoser](e.s); is != e.h.Features.Diagnoser {
			t.Errorf("is a Diagnoser: %v, declared: %v", is, e.h.Features.Diagnoser)
		}
	})
	if l, is := queue.StoreAs[queue.StatsLister](e.s); is {
		e.it("the stats of all namespaces are those of each, in their order", func(e *env) {
			spaces := []string{e.ns + "-a", e.ns + "-b"}
			var want []*queue.QueueStats
			for i, ns := range spaces {
				e.ns = ns
				e.queue("y", queue.QueueMeta{})
				e.queue("x", queue.QueueMeta{Paused: new(true)})
				e.createN("y", i+1)
				each, err := e.s.QueueStats(e.ctx(), ns, "")
				e.ok(err)
				want = append(want, each...)
			}
			all, err := l.AllQueueStats(e.ctx())
			e.ok(err)
			var got []*queue.QueueStats
			for _, st := range all {
				if slices.Contains(spaces, st.Namespace) {
					got = append(got, st)
				}
			}
			e.equal("number", len(got), 4)
			for i := range got {
				e.equal("namespace, queue, paused, counts", []any{got[i].Namespace, got[i].Queue, got[i].Paused, got[i].Counts},
					[]any{want[i].Namespace, want[i].Queue, want[i].Paused, want[i].Counts})
			}
		})
	}
	if d, is := queue.StoreAs[queue.Diagnoser](e.s); is {
		e.it("a diagnosis grades what it found and advises where it is bad", func(e *env) {
			findings, err := d.Diagnose(e.ctx())
			e.ok(err)
			if len(findings) == 0 {
				e.Fatal("nothing was looked at")
			}
			var names []string
			for _, f := range findings {
				if f.Name == "" || f.Value == "" || slices.Contains(names, f.Name) ||
					!slices.Contains([]queue.Level{queue.LevelOK, queue.LevelWarn, queue.LevelFail}, f.Level) ||
					f.Level != queue.LevelOK && f.Advice == "" {
					e.Errorf("finding %+v", f)
				}
				names = append(names, f.Name)
			}
		})
	}
	if _, is := queue.StoreAs[queue.Listener](e.s); is {
		e.it("a listener hears of tasks that another process made ready, until its context ends", func(e *env) {
			peer := e.s
			if e.h.Peer != nil {
				peer = e.h.Peer(e.T, e.s)
			}
			l, _ := queue.StoreAs[queue.Listener](peer)
			e.listens(l)
		})
	}
}

func (e *env) listens(l queue.Listener) {
	e.queue("q", queue.QueueMeta{})
	ctx, cancel := context.WithCancel(e.ctx())
	defer cancel()
	heard := make(chan struct{}, 1)
	var ended error
	var wg sync.WaitGroup
	wg.Go(func() {
		ended = l.Listen(ctx, func(w queue.Wake) {
			if w.Namespace == "" || w.Namespace == e.ns && (w.Queue == "" || w.Queue == "q") {
				select {
				case heard <- struct{}{}:
				default:
				}
			}
		})
	})
	// A listener that is only starting may miss a hint: create until it hears one.
	for range 3 {
		for ok := false; !ok; {
			e.create("q", queue.TaskMeta{})
			select {
			case <-heard:
				ok = true
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				e.Fatal("nothing was heard")
			}
		}
		e.retain("w", 1000, "q")
	}
	cancel()
	wg.Wait()
	if !errors.Is(ended, context.Canceled) && queue.KindOf(ended) != queue.KindCanceled {
		e.Fatalf("Listen ended with %v", ended)
	}
}
