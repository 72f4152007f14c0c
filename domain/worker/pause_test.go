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

var errNoFiles = errors.New("too many open files")

// back makes the fake return handed-back tasks, as a store does.
func back(f *fake) {
	f.failOne = func(r queue.Release) error {
		if r.Outcome == queue.OutcomeHandBack {
			t := *f.held[r.ID]
			t.Status, t.Attempt, t.Lease = queue.StatusNew, t.Attempt-1, nil
			f.ready = append(f.ready, &t)
		}
		return nil
	}
}

func TestRests(t *testing.T) {
	t.Run("tasks that cannot be started go back, the worker rests longer and longer, and goes on by itself", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			back(f)
			f.add("mail", 200)
			var calls atomic.Int64
			var broken atomic.Bool
			broken.Store(true)
			w := newWorker(f, worker.WithConcurrency(10))
			w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) {
				if broken.Load() {
					calls.Add(1)
					return nil, worker.NotStarted(errNoFiles)
				}
				return nil, nil
			})
			r := start(t, w)
			pass(10 * time.Minute)
			// The first round is all slots; then one task a pause: some 6 until pauses last a minute, then one a minute.
			if n := calls.Load(); n < 10 || n > 30 {
				t.Errorf("%d handlers were called in 10 minutes", n)
			}
			if got := w.PausedQueues(); len(got) != 1 || got[0].Queue != "mail" || !got[0].Own || !errors.Is(got[0].Err, errNoFiles) {
				t.Errorf("resting: %+v", got)
			}
			for id, rel := range f.ended {
				if rel.Outcome != queue.OutcomeHandBack || rel.Result != nil {
					t.Errorf("task %d ended as %+v", id, rel)
				}
			}
			if f.holds() != 0 {
				t.Errorf("%d are held meanwhile", f.holds())
			}
			broken.Store(false)
			pass(2 * time.Minute)
			for id, rel := range f.ended {
				if rel.Outcome != queue.OutcomeSuccess {
					t.Errorf("task %d ended as %s after the trouble", id, rel.Outcome)
				}
			}
			if len(f.ended) != 200 || len(w.PausedQueues()) != 0 {
				t.Errorf("%d ended, resting: %+v", len(f.ended), w.PausedQueues())
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	})

	t.Run("systemic failures in a row spend one attempt a rest instead of the whole backlog", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("hooks", 200)
			var calls atomic.Int64
			w := newWorker(f, worker.WithConcurrency(4))
			w.HandleFunc("hooks", func(context.Context, *queue.Task) (any, error) {
				calls.Add(1)
				return nil, worker.Systemic(worker.RetryIn(errors.New("answered 404"), time.Hour))
			})
			start(t, w)
			pass(10 * time.Minute)
			if n := calls.Load(); n < worker.FailuresToPause || n > 30 {
				t.Errorf("%d of 200 tasks failed in 10 minutes", n)
			}
			if got := w.PausedQueues(); len(got) != 1 || got[0].Own {
				t.Errorf("resting: %+v", got)
			}
			for id, rel := range f.ended {
				if rel.Outcome == queue.OutcomeFailure && rel.Delay != time.Hour {
					t.Errorf("task %d ended as %+v", id, rel)
				}
			}
		})
	})

	t.Run("an end of another kind between systemic failures keeps the worker at it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for name, other := range map[string]error{"success": nil, "failure": errors.New("x"), "snooze": worker.Snooze(time.Hour)} {
				f := newFake()
				f.add("hooks", 200)
				var n atomic.Int64
				w := newWorker(f, worker.WithConcurrency(1))
				w.HandleFunc("hooks", func(context.Context, *queue.Task) (any, error) {
					if n.Add(1)%worker.FailuresToPause == 0 {
						return nil, other
					}
					return nil, worker.Systemic(errors.New("answered 404"))
				})
				r := start(t, w)
				pass(10 * time.Second)
				if n.Load() != 200 || len(w.PausedQueues()) != 0 {
					t.Errorf("%s: %d of 200 tasks were worked", name, n.Load())
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			}
		})
	})

	t.Run("other queues of the same slots are worked meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			back(f)
			f.add("bad", 50)
			f.add("good", 500)
			var good atomic.Int64
			w := newWorker(f, worker.WithConcurrency(4))
			w.HandleFunc("bad", func(context.Context, *queue.Task) (any, error) { return nil, worker.NotStarted(errNoFiles) })
			w.HandleFunc("good", func(ctx context.Context, _ *queue.Task) (any, error) {
				good.Add(1)
				return sleeper(10*time.Millisecond)(ctx, nil)
			})
			r := start(t, w)
			pass(10 * time.Second)
			if good.Load() != 500 {
				t.Errorf("%d of 500 were worked", good.Load())
			}
			began := time.Now()
			if err := r.stop(); err != nil || time.Since(began) > 3*time.Second || f.holds() != 0 {
				t.Errorf("stopped after %v: %v, %d held", time.Since(began), err, f.holds())
			}
		})
	})

	t.Run("a first task that runs on ends the rest", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			back(f)
			f.add("mail", 20)
			var running atomic.Int64
			var broken atomic.Bool
			broken.Store(true)
			w := newWorker(f, worker.WithConcurrency(4))
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				if broken.Load() {
					return nil, worker.NotStarted(errNoFiles)
				}
				running.Add(1)
				return sleeper(time.Hour)(ctx, nil)
			})
			start(t, w)
			pass(100 * time.Millisecond)
			broken.Store(false)
			pass(20 * time.Second)
			if running.Load() != 4 || len(w.PausedQueues()) != 0 {
				t.Errorf("%d run, resting: %+v", running.Load(), w.PausedQueues())
			}
		})
	})

	t.Run("a stop ends a pause at once, and its interruption does not count as a fault", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("mail", 1)
			w := newWorker(f, worker.WithDrain(time.Second))
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				<-ctx.Done()
				return nil, worker.Systemic(context.Cause(ctx))
			})
			r := start(t, w)
			pass(time.Second)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if got := f.end(t, 1).Outcome; got != queue.OutcomeHandBack {
				t.Errorf("ended as %s", got)
			}
		})
	})
}
