package worker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

func TestStop(t *testing.T) {
	t.Run("running handlers get the drain time, unstarted tasks go back at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.trip = 2 * time.Millisecond
			f.add("mail", 500)
			var slow atomic.Bool
			var running atomic.Int64
			w := newWorker(f, worker.WithConcurrency(4))
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				d := 100 * time.Microsecond
				if slow.Load() {
					running.Add(1)
					d = 10 * time.Second
				}
				return sleeper(d)(ctx, nil)
			})
			r := start(t, w)
			pass(10 * time.Millisecond)
			slow.Store(true)
			for running.Load() < 4 {
				time.Sleep(100 * time.Microsecond)
			}
			began := time.Now()
			r.cancel()
			pass(50 * time.Millisecond)
			if n := f.holds(); n != 4 {
				t.Errorf("%d held just after the stop, 4 run", n)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 11*time.Second {
				t.Errorf("took %v", took)
			}
			back := 0
			for id, rel := range f.ended {
				switch rel.Outcome {
				case queue.OutcomeHandBack:
					back++
				case queue.OutcomeSuccess:
				default:
					t.Errorf("task %d ended %s", id, rel.Outcome)
				}
			}
			if back == 0 || f.holds() != 0 {
				t.Errorf("%d handed back, %d left held", back, f.holds())
			}
		})
	})

	t.Run("an unfinished task after the drain is interrupted and handed back at no cost of an attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, u := newFake(), &until{}
			f.lease = 6 * time.Second
			ignorant, obedient, done := f.add("mail", 1), f.add("mail", 1), f.add("mail", 1)
			over := make(chan struct{})
			w := newWorker(f, worker.WithDrain(20*time.Second), worker.WithGrace(2*time.Second))
			w.HandleFunc("mail", func(ctx context.Context, task *queue.Task) (any, error) {
				switch task.ID {
				case ignorant:
					<-over
				case obedient:
					<-ctx.Done()
					return nil, errors.New("killed by the stop")
				default:
					return u.Work(ctx, task)
				}
				return nil, nil
			})
			r := start(t, w)
			pass(time.Second)
			began := time.Now()
			err := r.stop()
			if !errors.Is(err, worker.ErrHandlersLeft) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took != 22*time.Second {
				t.Errorf("took %v", took)
			}
			if !errors.Is(u.cause, worker.ErrDraining) || f.n().beats < 10 {
				t.Errorf("cause %v; %d heartbeats in the drain", u.cause, f.n().beats)
			}
			for id, want := range map[int64]queue.Outcome{
				ignorant: queue.OutcomeHandBack, obedient: queue.OutcomeHandBack, done: queue.OutcomeSuccess,
			} {
				if rel := f.end(t, id); rel.Outcome != want {
					t.Errorf("task %d ended %s, not %s", id, rel.Outcome, want)
				}
			}
			close(over)
			synctest.Wait()
			if f.ends != 3 {
				t.Errorf("%d ends of 3 tasks", f.ends)
			}
		})
	})

	t.Run("a second stop cuts the drain short", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, u := newFake(), &until{}
			f.add("mail", 1)
			w := newWorker(f)
			w.Handle("mail", u)
			r := start(t, w)
			pass(time.Second)
			began := time.Now()
			r.cancel()
			pass(time.Second)
			w.StopNow()
			w.StopNow()
			if err := r.stop(); err != nil || time.Since(began) != time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
	})

	t.Run("a retain under way at the stop is waited for, and its tasks go back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.trip = 3 * time.Second
			f.add("mail", 100)
			w := newWorker(f, worker.WithConcurrency(4))
			started := 0
			w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) { started++; return nil, nil })
			r := start(t, w)
			pass(time.Second)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if started != 0 || f.holds() != 0 || len(f.ended) != 4 {
				t.Errorf("%d started, %d left held, %d ended", started, f.holds(), len(f.ended))
			}
		})
	})

	t.Run("a retain that waits at the service is not cut short by a stop, only a while after a second one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			w := newWorker(f, worker.WithWait(30*time.Second))
			w.Handle("mail", sleeper(0))
			r := start(t, w)
			pass(time.Second)
			r.cancel()
			pass(500 * time.Millisecond)
			id := f.add("mail", 1)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if rel := f.end(t, id); rel.Outcome != queue.OutcomeHandBack {
				t.Errorf("ended %s", rel.Outcome)
			}
			r = start(t, w)
			f.mu.Lock()
			f.ready = nil
			f.mu.Unlock()
			pass(time.Second)
			began := time.Now()
			r.cancel()
			synctest.Wait()
			w.StopNow()
			pass(time.Second)
			id = f.add("mail", 1)
			if err := r.stop(); err != nil || time.Since(began) != time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			if rel := f.end(t, id); rel.Outcome != queue.OutcomeHandBack {
				t.Errorf("ended %s", rel.Outcome)
			}
			r = start(t, w)
			pass(time.Second)
			began = time.Now()
			r.cancel()
			synctest.Wait()
			w.StopNow()
			if err := r.stop(); err != nil || time.Since(began) != worker.DefaultWait {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
	})

	t.Run("a stop with the service gone ends in bounded time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.failRelease = func(int, []queue.Release) error { return queue.ErrUnavailable }
			f.add("mail", 10)
			w := newWorker(f)
			w.Handle("mail", sleeper(0))
			r := start(t, w)
			pass(time.Second)
			began := time.Now()
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("took %v", took)
			}
		})
	})

	t.Run("the values of Run's context reach handlers, its end does not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			type key struct{}
			f := newFake()
			f.add("mail", 1)
			ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
			w := newWorker(f)
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				time.Sleep(time.Second)
				if ctx.Value(key{}) != "v" || ctx.Err() != nil {
					t.Errorf("%v %v", ctx.Value(key{}), ctx.Err())
				}
				return nil, nil
			})
			time.AfterFunc(500*time.Millisecond, cancel)
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
			f.end(t, 1)
		})
	})
}

// ticker passes one tick after the other to a loop, until each was taken.
type ticker struct {
	*fake
	ticks  []queue.Tick
	taken  []queue.Tick
	fails  int
	errors []error
}

func (k *ticker) RunTickerLoop(ctx context.Context, handle func(context.Context, queue.Tick) error) error {
	if k.fails > 0 {
		k.fails--
		return queue.ErrUnavailable
	}
	for len(k.ticks) > 0 && ctx.Err() == nil {
		if err := handle(ctx, k.ticks[0]); err != nil {
			k.errors = append(k.errors, err)
			continue
		}
		k.taken, k.ticks = append(k.taken, k.ticks[0]), k.ticks[1:]
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestTicks(t *testing.T) {
	t.Run("go to the handler of their ticker, else to that of all; failures and panics give them back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := &ticker{fake: newFake(), fails: 2, ticks: []queue.Tick{{Ticker: "hourly"}, {Ticker: "other"}, {Ticker: "hourly"}}}
			var got []string
			w := newWorker(k)
			w.HandleTicker("hourly", func(_ context.Context, tick queue.Tick) error {
				got = append(got, "H")
				switch len(got) {
				case 1:
					return errors.New("not now")
				case 2:
					panic("oh")
				}
				return nil
			})
			w.HandleTicks(func(context.Context, queue.Tick) error { got = append(got, "*"); return nil })
			r := start(t, w)
			pass(time.Second)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if len(k.taken) != 3 || len(k.errors) != 2 || len(got) != 5 || got[3] != "*" {
				t.Errorf("taken %v, errors %v, calls %v", k.taken, k.errors, got)
			}
		})
	})

	t.Run("a tick's handler gets the drain time, then its context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := &ticker{fake: newFake(), ticks: []queue.Tick{{Ticker: "hourly"}}}
			var cause error
			w := newWorker(k, worker.WithDrain(5*time.Second))
			w.HandleTicker("hourly", func(ctx context.Context, _ queue.Tick) error {
				<-ctx.Done()
				cause = context.Cause(ctx)
				return nil
			})
			r := start(t, w)
			pass(time.Second)
			began := time.Now()
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if !errors.Is(cause, worker.ErrDraining) || time.Since(began) != 5*time.Second {
				t.Errorf("%v after %v", cause, time.Since(began))
			}
		})
	})
}
