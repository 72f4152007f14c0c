package worker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// wantEnd waits until r has ended by itself, and returns the virtual time that it took.
func wantEnd(t *testing.T, r *running) time.Duration {
	t.Helper()
	began := time.Now()
	select {
	case <-r.done:
	case <-time.After(time.Hour):
		t.Fatal("the worker does not end by itself")
	}
	if r.err != nil {
		t.Errorf("it ended with %v", r.err)
	}
	return time.Since(began)
}

func TestMaxTasks(t *testing.T) {
	for _, c := range []struct{ max, slots int }{{1, 1}, {1, 10}, {7, 3}, {250, 10}, {300, 10}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.trip = time.Millisecond
			f.add("mail", 250)
			f.add("other", 250)
			w := newWorker(f, worker.WithConcurrency(c.slots), worker.WithMaxTasks(c.max))
			w.Handle("mail", sleeper(10*time.Millisecond))
			w.Handle("other", sleeper(time.Millisecond), worker.Concurrency(2))
			wantEnd(t, start(t, w))
			if f.count() != c.max || f.holds() != 0 {
				t.Errorf("of at most %d tasks %d ended, %d are held", c.max, f.count(), f.holds())
			}
		})
	}

	t.Run("a task that is handed back does not count", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("mail", 5)
			refusals := 3
			w := newWorker(f, worker.WithConcurrency(1), worker.WithMaxTasks(2))
			w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) {
				if refusals--; refusals >= 0 {
					return nil, worker.NotStarted(errors.New("no command"))
				}
				return nil, nil
			})
			wantEnd(t, start(t, w))
			done := 0
			for _, r := range f.ended {
				if r.Outcome == queue.OutcomeSuccess {
					done++
				}
			}
			if done != 2 {
				t.Errorf("%d tasks were worked, want 2", done)
			}
		})
	})
}

func TestUntilEmpty(t *testing.T) {
	t.Run("the backlog is worked, then the worker ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.trip = time.Millisecond
			f.add("mail", 100)
			w := newWorker(f, worker.WithConcurrency(10), worker.WithUntilEmpty(0))
			w.Handle("mail", sleeper(time.Second))
			took := wantEnd(t, start(t, w))
			if f.count() != 100 || took < 10*time.Second || took > 11500*time.Millisecond {
				t.Errorf("%d of 100 ended in %v", f.count(), took)
			}
		})
	})

	t.Run("queues that are empty or not there end it at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.lacks("none", "nothing")
			w := newWorker(f, worker.WithUntilEmpty(0))
			w.Handle("mail", sleeper(0))
			w.Handle("none", sleeper(0))
			w.Handle("nothing", sleeper(0), worker.Concurrency(1))
			if took := wantEnd(t, start(t, w)); took > time.Second {
				t.Errorf("took %v", took)
			}
		})
	})

	t.Run("a handler that creates a task for another queue is followed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("a", 1)
			w := newWorker(f, worker.WithUntilEmpty(0))
			w.HandleFunc("a", func(context.Context, *queue.Task) (any, error) {
				time.Sleep(5 * time.Second)
				f.add("b", 1)
				return nil, nil
			})
			w.HandleFunc("b", func(context.Context, *queue.Task) (any, error) {
				f.add("c", 1)
				return nil, nil
			}, worker.Concurrency(1))
			w.Handle("c", sleeper(0), worker.Concurrency(1))
			wantEnd(t, start(t, w))
			if f.count() != 3 {
				t.Errorf("%d of 3 tasks ended", f.count())
			}
		})
	})

	t.Run("an idle worker waits for the time, and new tasks begin it anew", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			w := newWorker(f, worker.WithUntilEmpty(30*time.Second))
			w.Handle("mail", sleeper(0))
			r := start(t, w)
			pass(25 * time.Second)
			f.add("mail", 1)
			if took := wantEnd(t, r); f.count() != 1 || took < 30*time.Second || took > 32*time.Second {
				t.Errorf("%d ended, it took %v after the last task", f.count(), took)
			}
		})
	})

	t.Run("an idle pool asks no more often than without the option while another works", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("busy", 1000)
			w := newWorker(f, worker.WithConcurrency(1), worker.WithUntilEmpty(0))
			w.Handle("idle", sleeper(0), worker.Concurrency(1))
			w.Handle("busy", sleeper(10*time.Millisecond))
			wantEnd(t, start(t, w))
			if n := f.n().retains; f.count() != 1000 || n > 1500 {
				t.Errorf("%d ended with %d retains", f.count(), n)
			}
		})
	})

	t.Run("errors of the service and a pause of the worker's own do not end it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("mail", 2)
			f.failRetain = func(n int) error {
				if n < 5 {
					return &queue.Error{Kind: queue.KindUnavailable, Msg: "down"}
				}
				return nil
			}
			refusals := 2
			w := newWorker(f, worker.WithConcurrency(1), worker.WithUntilEmpty(0))
			w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) {
				if refusals--; refusals >= 0 {
					return nil, worker.NotStarted(errors.New("no command"))
				}
				return nil, nil
			})
			wantEnd(t, start(t, w))
			if len(f.ready) != 0 || f.holds() != 0 {
				t.Errorf("%d tasks are left, %d held", len(f.ready), f.holds())
			}
		})
	})

	t.Run("a service that fails after an empty answer leaves the queues unknown", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.failRetain = func(n int) error {
				if n > 3 && n < 12 {
					return &queue.Error{Kind: queue.KindUnavailable, Msg: "down"}
				}
				return nil
			}
			w := newWorker(f, worker.WithUntilEmpty(10*time.Second))
			w.Handle("mail", sleeper(0))
			r := start(t, w)
			for f.n().retains < 12 {
				pass(100 * time.Millisecond)
			}
			if took := wantEnd(t, r); took < 9*time.Second {
				t.Errorf("it ended %v after the service was back, want 10 s", took)
			}
		})
	})

	t.Run("a service that refuses the worker ends it at once, one that fails ends it after a minute", func(t *testing.T) {
		for kind, want := range map[queue.Kind]time.Duration{queue.KindUnauthenticated: 0, queue.KindDenied: 0, queue.KindUnavailable: time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.failRetain = func(int) error { return &queue.Error{Kind: kind, Msg: "no"} }
				w := newWorker(f, worker.WithUntilEmpty(0))
				w.Handle("mail", sleeper(0))
				r, began := start(t, w), time.Now()
				<-r.done
				if took := time.Since(began); queue.KindOf(r.err) != kind || took < want || took > want+10*time.Second {
					t.Errorf("%s: it ended with %v after %v, want %v", kind, r.err, took, want)
				}
			})
		}
	})

	t.Run("a time below 0 is refused", func(t *testing.T) {
		w := newWorker(newFake(), worker.WithUntilEmpty(-time.Second))
		w.Handle("mail", sleeper(0))
		if err := w.Run(t.Context()); !errors.Is(err, queue.ErrInvalid) {
			t.Error(err)
		}
	})
}
