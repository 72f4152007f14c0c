package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// until is a handler that waits for the end of its context, and records the cause and the time.
type until struct {
	ctx   context.Context
	cause error
	at    time.Time
	ended atomic.Bool // the other fields may be read
}

func (u *until) Work(ctx context.Context, _ *queue.Task) (any, error) {
	<-ctx.Done()
	u.ctx, u.cause, u.at = ctx, context.Cause(ctx), time.Now()
	u.ended.Store(true)
	return "what I have", nil
}

func TestContext(t *testing.T) {
	t.Run("ends at dies_at by the database's clock, and the outcome is recorded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, u := newFake(), &until{}
			id := f.add("mail", 1, func(task *queue.Task) { task.DiesAt = time.Now().Add(7 * time.Second) })
			w := newWorker(f)
			w.Handle("mail", u)
			start(t, w)
			began := time.Now()
			pass(8 * time.Second)
			if !errors.Is(u.cause, worker.ErrDeadline) || !errors.Is(u.cause, context.DeadlineExceeded) {
				t.Errorf("cause %v", u.cause)
			}
			if u.at.Sub(began) != 7*time.Second || !errors.Is(u.ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("after %v with %v", u.at.Sub(began), u.ctx.Err())
			}
			if d, ok := u.ctx.Deadline(); !ok || !d.Equal(u.at) {
				t.Errorf("deadline %v, ended %v", d, u.at)
			}
			if r := f.end(t, id); r.Outcome != queue.OutcomeSuccess {
				t.Errorf("recorded %s", r.Outcome)
			}
		})
	})

	t.Run("ends when a cancel was requested, and the outcome is recorded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, u := newFake(), &until{}
			id := f.add("mail", 1)
			w := newWorker(f)
			w.Handle("mail", u)
			start(t, w)
			synctest.Wait()
			f.cancel(id)
			pass(worker.DefaultHeartbeat)
			synctest.Wait()
			if !errors.Is(u.cause, worker.ErrCancelRequested) {
				t.Errorf("cause %v", u.cause)
			}
			f.end(t, id)
		})
	})

	t.Run("ends when a heartbeat finds the lease lost, and nothing is released", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, u, o := newFake(), &until{}, &collect{}
			id := f.add("mail", 1)
			w := newWorker(f, worker.WithObserver(o))
			w.Handle("mail", u)
			start(t, w)
			synctest.Wait()
			f.lose(id)
			pass(worker.DefaultHeartbeat)
			synctest.Wait()
			if !errors.Is(u.cause, worker.ErrLeaseLost) || !errors.Is(u.cause, queue.ErrLeaseLost) {
				t.Errorf("cause %v", u.cause)
			}
			if f.n().releases != 0 || o.lost != 1 {
				t.Errorf("%d releases, %d losses reported", f.n().releases, o.lost)
			}
		})
	})

	t.Run("ends when no heartbeat got through by the end of the lease by our own clock", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, u := newFake(), &until{}
			f.lease = 30 * time.Second
			f.failBeat = func(int) error { return queue.ErrUnavailable }
			f.add("mail", 1)
			w := newWorker(f)
			w.Handle("mail", u)
			start(t, w)
			began := time.Now()
			pass(29 * time.Second)
			if u.ended.Load() {
				t.Fatal("ended early")
			}
			pass(2 * time.Second)
			if !errors.Is(u.cause, worker.ErrLeaseLost) || u.at.Sub(began) != 30*time.Second {
				t.Errorf("%v after %v", u.cause, u.at.Sub(began))
			}
		})
	})

	t.Run("has ended once the handler has returned", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("mail", 1)
			var kept context.Context
			w := newWorker(f)
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) { kept = ctx; return nil, nil })
			start(t, w)
			synctest.Wait()
			if kept.Err() == nil {
				t.Error("it goes on")
			}
		})
	})

	t.Run("a context made from it ends with it, with its cause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("mail", 1, func(task *queue.Task) { task.DiesAt = time.Now().Add(time.Second) })
			var cause error
			w := newWorker(f)
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				ctx, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				<-ctx.Done()
				cause = context.Cause(ctx)
				return nil, nil
			})
			start(t, w)
			pass(2 * time.Second)
			if !errors.Is(cause, worker.ErrDeadline) {
				t.Error(cause)
			}
		})
	})
}

func TestHeartbeats(t *testing.T) {
	t.Run("everything held goes in one call at a third of the lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.lease = 9 * time.Second
			f.add("mail", 50)
			w := newWorker(f, worker.WithConcurrency(50))
			w.Handle("mail", sleeper(31*time.Second))
			start(t, w)
			pass(32 * time.Second)
			if f.n().beats != 10 || f.count() != 50 {
				t.Errorf("%d heartbeats in 31 s, %d of 50 ended", f.n().beats, f.count())
			}
		})
	})

	t.Run("a lease of which waiting may have used up a part is made sure of before the handler starts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.lease = 2 * time.Second
			started := 0
			w := newWorker(f)
			w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) {
				if f.n().beats == 0 {
					t.Error("started on an unsure lease")
				}
				started++
				return nil, nil
			})
			start(t, w)
			pass(15 * time.Second)
			f.add("mail", 1)
			synctest.Wait()
			if started != 1 {
				t.Error("not started")
			}
			beats := f.n().beats
			pass(15 * time.Second) // after it no wait is longer than a quarter of the lease
			f.add("mail", 1)
			synctest.Wait()
			if started != 2 || f.n().beats != beats {
				t.Errorf("started %d; %d more heartbeats", started, f.n().beats-beats)
			}
		})
	})

	t.Run("a failing heartbeat is tried again in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.lease = 9 * time.Second
			f.failBeat = func(n int) error {
				if n%4 != 0 {
					return queue.ErrUnavailable
				}
				return nil
			}
			id := f.add("mail", 1)
			w := newWorker(f)
			w.Handle("mail", sleeper(time.Minute))
			start(t, w)
			pass(61 * time.Second)
			if r := f.end(t, id); r.Outcome != queue.OutcomeSuccess {
				t.Errorf("ended %s %s", r.Outcome, r.Result)
			}
		})
	})
}

func TestCancelByHandler(t *testing.T) {
	t.Run("does not cancel a task that is another worker's by now", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			id := f.add("mail", 1)
			w := newWorker(f)
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				<-ctx.Done()
				return nil, worker.Cancel(errors.New("not needed"))
			})
			start(t, w)
			synctest.Wait()
			f.lose(id)
			pass(worker.DefaultHeartbeat + time.Second)
			if f.cancels[id] {
				t.Error("cancelled")
			}
		})
	})
}

func TestReleases(t *testing.T) {
	t.Run("are repeated after unavailable and indeterminate until they are through", func(t *testing.T) {
		for _, kind := range []error{queue.ErrUnavailable, queue.ErrIndeterminate, errors.New("odd")} {
			f := newFake()
			f.failRelease = func(n int, _ []queue.Release) error {
				if n <= 5 {
					return kind
				}
				return nil
			}
			if rel := runOne(t, f, sleeper(0)); rel.Outcome != queue.OutcomeSuccess || f.n().releases != 6 {
				t.Errorf("%v: %s after %d calls", kind, rel.Outcome, f.n().releases)
			}
		}
	})

	t.Run("are given up when the lease is over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.failRelease = func(int, []queue.Release) error { return queue.ErrUnavailable }
			f.failBeat = func(int) error { return queue.ErrUnavailable }
			f.add("mail", 1)
			w := newWorker(f)
			w.Handle("mail", sleeper(0))
			start(t, w)
			pass(59 * time.Second)
			calls := f.n().releases
			pass(5 * time.Second)
			after := f.n().releases
			pass(time.Minute)
			if calls < 20 || f.n().releases != after {
				t.Errorf("%d calls in the lease, %d after it", calls, f.n().releases-after)
			}
		})
	})

	t.Run("of a task that another transaction has locked wait, alone, as do its heartbeats", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			locked := true
			f.failOne = func(r queue.Release) error {
				if locked && r.ID == 7 {
					return queue.Locked(7)
				}
				return nil
			}
			f.add("mail", 20)
			w := newWorker(f, worker.WithConcurrency(20))
			w.Handle("mail", sleeper(time.Millisecond))
			start(t, w)
			pass(5 * time.Second)
			if n := f.count(); n != 19 {
				t.Errorf("%d tasks ended while one was locked, want 19", n)
			}
			f.mu.Lock()
			locked = false
			f.mu.Unlock()
			pass(time.Second)
			if n := f.count(); n != 20 {
				t.Errorf("%d tasks ended, want 20", n)
			}
		})
	})

	t.Run("a heartbeat beside them reports no lost lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, o := newFake(), &collect{}
			id := f.add("mail", 1)
			// The service ends the task, but its answer is lost: heartbeats beside the repeats get lease_lost.
			f.failRelease = func(n int, _ []queue.Release) error {
				if f.lost[id] = n < 8; f.lost[id] {
					return queue.ErrIndeterminate
				}
				return nil
			}
			f.lease = 3 * time.Second
			w := newWorker(f, worker.WithObserver(o))
			w.Handle("mail", sleeper(time.Second))
			start(t, w)
			pass(time.Minute)
			if rel := f.end(t, id); rel.Outcome != queue.OutcomeSuccess || f.n().releases < 8 || f.n().beats < 2 {
				t.Errorf("ended %s after %d releases beside %d heartbeats", rel.Outcome, f.n().releases, f.n().beats)
			}
			if o.lost != 0 {
				t.Errorf("%d lost leases are reported", o.lost)
			}
		})
	})

	t.Run("one that breaks the service harms itself alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.failRelease = func(_ int, rs []queue.Release) error {
				for _, r := range rs {
					if r.ID == 7 {
						return &queue.Error{Kind: queue.KindInternal}
					}
				}
				return nil
			}
			f.add("mail", 20)
			w := newWorker(f, worker.WithConcurrency(20))
			w.Handle("mail", sleeper(time.Millisecond))
			start(t, w)
			pass(5 * time.Second)
			if n := f.count(); n != 19 {
				t.Errorf("%d tasks ended beside one that cannot, want 19", n)
			}
		})
	})

	t.Run("a result that the service refuses is replaced, and the others of its batch are recorded as they are", func(t *testing.T) {
		for name, fail := range map[string]func(*fake){
			"as an answer": func(f *fake) {
				f.failOne = func(r queue.Release) error {
					if strings.Contains(string(r.Result), "evil") {
						return queue.Invalid("result", "odd")
					}
					return nil
				}
			},
			"as a whole": func(f *fake) {
				f.failRelease = func(_ int, rs []queue.Release) error {
					for _, r := range rs {
						if strings.Contains(string(r.Result), "evil") {
							return &queue.Error{Kind: queue.KindTooLarge}
						}
					}
					return nil
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake()
					fail(f)
					f.add("mail", 20)
					w := newWorker(f, worker.WithConcurrency(20))
					w.HandleFunc("mail", func(_ context.Context, task *queue.Task) (any, error) {
						time.Sleep(time.Millisecond)
						if task.ID == 7 {
							return "evil", nil
						}
						return "good", nil
					})
					start(t, w)
					time.Sleep(time.Second)
					for id := int64(1); id <= 20; id++ {
						want := `"good"`
						if id == 7 {
							want = `{"error":"the result was refused`
						}
						if r := f.end(t, id); r.Outcome != queue.OutcomeSuccess || !strings.HasPrefix(string(r.Result), want) {
							t.Errorf("task %d: %s %s", id, r.Outcome, r.Result)
						}
					}
				})
			})
		}
	})

	t.Run("gather while one is under way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.trip = 5 * time.Millisecond
			f.add("mail", 400)
			w := newWorker(f, worker.WithConcurrency(400))
			w.HandleFunc("mail", func(_ context.Context, task *queue.Task) (any, error) {
				time.Sleep(time.Duration(task.ID) * 10 * time.Microsecond)
				return nil, nil
			})
			start(t, w)
			pass(time.Second)
			if f.count() != 400 || f.n().releases > 4 {
				t.Errorf("%d ended in %d calls", f.count(), f.n().releases)
			}
		})
	})
}

func TestRetainErrors(t *testing.T) {
	t.Run("are logged once, backed off from, and forgotten", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.failRetain = func(n int) error {
				if n <= 20 {
					return queue.ErrUnavailable
				}
				return nil
			}
			id := f.add("mail", 1)
			var log strings.Builder
			w := worker.New(f, worker.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			w.Handle("mail", sleeper(0))
			r := start(t, w)
			pass(2 * time.Minute)
			f.end(t, id)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if n := strings.Count(log.String(), "\n"); n != 2 {
				t.Errorf("%d lines:\n%s", n, log.String())
			}
		})
	})
}

func TestAbsentQueues(t *testing.T) {
	t.Run("do not keep the others from being worked, and are worked when they are made", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.lacks("a", "b")
			var log strings.Builder
			w := worker.New(f, worker.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			for _, name := range []string{"a", "b", "mail"} {
				w.Handle(name, sleeper(0))
			}
			f.add("mail", 3)
			start(t, w)
			pass(time.Second)
			if f.count() != 3 {
				t.Errorf("%d of 3 tasks ended beside two queues that are not there", f.count())
			}
			for range 20 {
				f.add("mail", 1)
				pass(time.Second)
			}
			if f.count() != 23 {
				t.Errorf("%d of 23 tasks ended", f.count())
			}
			f.lacks("b")
			f.add("a", 1)
			pass(10 * time.Second)
			if f.count() != 24 {
				t.Error("a queue that was made is not worked")
			}
			f.lacks("mail") // deleted while a retain waits for it
			f.add("b", 1)
			pass(10 * time.Second)
			f.lacks("a", "b", "mail")
			pass(time.Minute)
			f.lacks()
			f.add("mail", 1)
			pass(10 * time.Second)
			if f.count() != 26 {
				t.Errorf("%d of 26 tasks ended", f.count())
			}
			if n := strings.Count(log.String(), "queue=a"); n > 4 {
				t.Errorf("%d lines about one queue:\n%s", n, log.String())
			}
			if n := f.n().retains; n > 200 {
				t.Errorf("%d retains in two minutes", n)
			}
		})
	})
}

func TestProgress(t *testing.T) {
	type doc struct {
		Progress any
		Log      []struct {
			At   time.Time
			Line string
		}
		LogDropped int `json:"log_dropped"`
	}
	decode := func(t *testing.T, s string) (d doc) {
		t.Helper()
		if err := queue.CheckJSON("progress", []byte(s), queue.MaxProgressBytes); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(s), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}

	t.Run("is gathered and sent at most once a second, the last value counts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			id := f.add("mail", 1)
			w := newWorker(f)
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				for i := range 50 {
					if err := worker.Progress(ctx, i); err != nil {
						t.Error(err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				return nil, nil
			})
			start(t, w)
			pass(10 * time.Second)
			sent := f.progress[id]
			if len(sent) < 4 || len(sent) > 6 {
				t.Errorf("%d reports in 5 s: %v", len(sent), sent)
			}
			if last := decode(t, sent[len(sent)-1]); last.Progress != float64(49) {
				t.Errorf("last is %v", last.Progress)
			}
		})
	})

	t.Run("the log of a quick handler is there before its task ends", func(t *testing.T) {
		f := newFake()
		rel := runOne(t, f, worker.HandlerFunc(func(ctx context.Context, _ *queue.Task) (any, error) {
			worker.Logf(ctx, "sent to %s\xff", "a@b.c")
			return nil, nil
		}))
		d := decode(t, f.progress[rel.ID][0])
		if len(d.Log) != 1 || d.Log[0].Line != "sent to a@b.c\uFFFD" || d.Log[0].At.IsZero() || d.Progress != nil {
			t.Errorf("%+v", d)
		}
	})

	t.Run("flush sends at once", func(t *testing.T) {
		f := newFake()
		runOne(t, f, worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
			if err := errors.Join(worker.Progress(ctx, "half"), worker.Flush(ctx)); err != nil {
				t.Error(err)
			}
			if len(f.progress[task.ID]) != 1 {
				t.Error("not there")
			}
			return nil, nil
		}))
	})

	t.Run("what many flush at once goes in few calls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.beatTrip = 5 * time.Millisecond
			f.add("mail", 100)
			var most atomic.Int64
			w := newWorker(f, worker.WithConcurrency(100))
			w.HandleFunc("mail", func(ctx context.Context, task *queue.Task) (any, error) {
				for i := range 3 {
					began := time.Now()
					if err := errors.Join(worker.Progress(ctx, i), worker.Flush(ctx)); err != nil {
						t.Error(err)
					}
					most.Store(max(most.Load(), int64(time.Since(began))))
				}
				return nil, nil
			})
			start(t, w)
			pass(time.Second)
			if took := time.Duration(most.Load()); f.count() != 100 || f.n().beats > 8 || took > 10*time.Millisecond {
				t.Errorf("%d ended, %d calls, a flush took up to %v", f.count(), f.n().beats, took)
			}
			for id, sent := range f.progress {
				if len(sent) != 3 {
					t.Fatalf("task %d reported %v", id, sent)
				}
			}
		})
	})

	t.Run("a flush says why the service does not have it, and does not outlast its context", func(t *testing.T) {
		for name, c := range map[string]struct {
			fault func(f *fake, id int64)
			ctx   time.Duration
			want  error
		}{
			"the service is gone":    {func(f *fake, _ int64) { f.failBeat = func(int) error { return queue.ErrUnavailable } }, 0, queue.ErrUnavailable},
			"the lease is lost":      {func(f *fake, id int64) { f.lost[id] = true }, 0, queue.ErrLeaseLost},
			"the service hangs":      {func(f *fake, _ int64) { f.beatTrip = time.Minute }, time.Second, context.DeadlineExceeded},
			"no caller waits":        {func(f *fake, _ int64) { f.beatTrip = time.Millisecond }, -1, context.DeadlineExceeded},
			"it does not take those": {func(f *fake, _ int64) { f.failBeat = func(int) error { return queue.Invalid("progress", "odd") } }, 0, queue.ErrInvalid},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake()
					c.fault(f, f.add("mail", 1))
					var err error
					var took time.Duration
					w := newWorker(f)
					w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
						if c.ctx != 0 {
							var cancel context.CancelFunc
							ctx, cancel = context.WithTimeout(ctx, c.ctx)
							defer cancel()
						}
						began := time.Now()
						_ = worker.Progress(ctx, 1)
						err, took = worker.Flush(ctx), time.Since(began)
						return nil, nil
					})
					start(t, w)
					pass(5 * time.Second)
					if !errors.Is(err, c.want) || took > time.Second {
						t.Errorf("%v after %v", err, took)
					}
				})
			})
		}
	})

	t.Run("log lines are a ring and the document stays within its limit", func(t *testing.T) {
		f := newFake()
		rel := runOne(t, f, worker.HandlerFunc(func(ctx context.Context, _ *queue.Task) (any, error) {
			big := strings.Repeat("v", worker.MaxProgressValueBytes-2)
			if err := worker.Progress(ctx, big); err != nil {
				t.Error(err)
			}
			if err := worker.Progress(ctx, big+"v"); !errors.Is(err, queue.ErrTooLarge) {
				t.Errorf("one byte more: %v", err)
			}
			for i := range 500 {
				worker.Logf(ctx, "line %d %s", i, strings.Repeat("<", 2*worker.MaxLogLineBytes))
			}
			for i := range 120 {
				worker.Logf(ctx, "short %d", i)
			}
			return nil, nil
		}))
		sent := f.progress[rel.ID]
		d := decode(t, sent[len(sent)-1])
		if n := len(d.Log); n != worker.MaxLogLines || d.Log[n-1].Line != "short 119" || d.LogDropped != 620-n {
			t.Errorf("%d lines, last %q, dropped %d", n, d.Log[n-1].Line, d.LogDropped)
		}
	})

	t.Run("of many tasks goes in one call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("mail", 30)
			w := newWorker(f, worker.WithConcurrency(30))
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				_ = worker.Progress(ctx, 1)
				time.Sleep(2 * time.Second)
				return nil, nil
			})
			start(t, w)
			pass(1500 * time.Millisecond)
			if f.n().beats != 1 || len(f.progress) != 30 {
				t.Errorf("%d calls for %d tasks", f.n().beats, len(f.progress))
			}
		})
	})
}

func ExampleProgress() {
	h := worker.HandlerFunc(func(ctx context.Context, _ *queue.Task) (any, error) {
		for i := range 3 {
			worker.Logf(ctx, "page %d is printed", i+1)
			if err := worker.Progress(ctx, map[string]int{"done": i + 1, "of": 3}); err != nil {
				return nil, err
			}
		}
		return "printed", nil
	})
	rel := worker.Work(context.Background(), h, &queue.Task{ID: 1})
	fmt.Println(rel.Outcome, string(rel.Result))
	// Output: success "printed"
}
