package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// sleeper returns a handler that sleeps d of virtual time, and ends early with its context.
func sleeper(d time.Duration) worker.HandlerFunc {
	return func(ctx context.Context, _ *queue.Task) (any, error) {
		select {
		case <-time.After(d):
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func TestThroughput(t *testing.T) {
	t.Run("1,000 tasks of 50 ms at concurrency 100 take within 10 % of the ideal time", func(t *testing.T) {
		for _, trip := range []time.Duration{0, 2 * time.Millisecond, 5 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.trip = trip
				f.add("mail", 1000)
				w := newWorker(f, worker.WithConcurrency(100))
				w.Handle("mail", sleeper(50*time.Millisecond))
				began := time.Now()
				r := start(t, w)
				for f.count() < 1000 {
					time.Sleep(time.Millisecond)
				}
				took := time.Since(began)
				if ideal := 500 * time.Millisecond; took > ideal*11/10 {
					t.Errorf("took %v with calls of %v, ideal is %v", took, trip, ideal)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		}
	})

	t.Run("no more handlers run at once than there are slots, and all slots are used", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("mail", 200)
			f.add("slow", 50)
			var now, most, slow, mostSlow atomic.Int64
			w := newWorker(f, worker.WithConcurrency(10))
			count := func(now, most *atomic.Int64) worker.HandlerFunc {
				return func(context.Context, *queue.Task) (any, error) {
					most.Store(max(most.Load(), now.Add(1)))
					time.Sleep(10 * time.Millisecond)
					now.Add(-1)
					return nil, nil
				}
			}
			w.Handle("mail", count(&now, &most))
			w.Handle("slow", count(&slow, &mostSlow), worker.Concurrency(3))
			start(t, w)
			pass(time.Second)
			if most.Load() != 10 || mostSlow.Load() != 3 {
				t.Errorf("at most %d and %d at once; 10 and 3 slots", most.Load(), mostSlow.Load())
			}
			if f.count() != 250 {
				t.Errorf("%d of 250 ended", f.count())
			}
		})
	})

	t.Run("a freed slot is refilled while the others are still busy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			long := f.add("mail", 1)
			f.add("mail", 9)
			w := newWorker(f, worker.WithConcurrency(2))
			w.HandleFunc("mail", func(ctx context.Context, task *queue.Task) (any, error) {
				if task.ID == long {
					<-ctx.Done()
				}
				return nil, nil
			})
			start(t, w)
			pass(time.Second)
			if f.count() != 9 {
				t.Errorf("%d of the 9 short tasks ended beside the long one", f.count())
			}
		})
	})

	t.Run("a worker of long tasks holds no more than it has slots", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.trip = 2 * time.Millisecond
			f.add("mail", 1000)
			w := newWorker(f, worker.WithConcurrency(10))
			w.Handle("mail", sleeper(10*time.Second))
			start(t, w)
			for range 6 {
				time.Sleep(9 * time.Second) // all handlers run
				if n := f.holds(); n != 10 {
					t.Errorf("holds %d tasks with 10 slots", n)
				}
			}
		})
	})

	t.Run("tasks retained ahead that cannot start are handed back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.trip = 2 * time.Millisecond
			f.add("mail", 5000)
			var slow atomic.Bool
			w := newWorker(f, worker.WithConcurrency(4))
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				if slow.Load() {
					<-ctx.Done()
				}
				time.Sleep(100 * time.Microsecond)
				return nil, nil
			})
			start(t, w)
			pass(20 * time.Millisecond)
			if f.n().maxHeld <= 4 {
				t.Fatalf("held %d: nothing was retained ahead of fast handlers", f.n().maxHeld)
			}
			slow.Store(true)
			pass(3 * time.Second)
			if n := f.holds(); n != 4 {
				t.Errorf("holds %d tasks, 4 of them running", n)
			}
			pass(time.Minute)
			if n := f.holds(); n != 4 {
				t.Errorf("holds %d tasks a minute later, 4 of them running", n)
			}
		})
	})

	t.Run("large payloads are not piled up ahead of fast handlers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.trip = 2 * time.Millisecond
			large := make([]byte, 1<<20)
			f.add("mail", 1000, func(task *queue.Task) { task.Payload = large })
			w := newWorker(f, worker.WithConcurrency(4))
			w.Handle("mail", sleeper(time.Millisecond))
			start(t, w)
			pass(time.Minute)
			// Tasks that end during the two trips of a release are held beside those.
			if n := f.n().maxHeld; n <= 4 || n > 4+64+16 {
				t.Errorf("held %d at once: 4 slots, and up to 64 MiB of 1 MiB each ahead", n)
			}
			if f.count() != 1000 {
				t.Errorf("%d of 1000 ended", f.count())
			}
		})
	})

	t.Run("an idle worker waits at the service and starts a task the moment it is there", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			var at time.Time
			w := newWorker(f)
			w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) { at = time.Now(); return nil, nil })
			start(t, w)
			pass(time.Minute + time.Millisecond)
			if f.n().retains > 32 {
				t.Errorf("%d retains in an idle minute", f.n().retains)
			}
			made := time.Now()
			f.add("mail", 1)
			synctest.Wait()
			if !at.Equal(made) {
				t.Errorf("started %v after it was there", at.Sub(made))
			}
		})
	})
}

func (f *fake) lose(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost[id] = true
}

func (f *fake) cancel(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancels[id] = true
}

// runOne works one task with h until it ends, and returns its release.
func runOne(t *testing.T, f *fake, h worker.Handler, opts ...worker.Option) (rel queue.Release) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		id := f.add("mail", 1)
		f.wake = make(chan struct{}) // of this bubble
		w := newWorker(f, opts...)
		w.Handle("mail", h)
		r := start(t, w)
		for f.count() == 0 {
			pass(time.Millisecond)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		rel = f.end(t, id)
	})
	return rel
}

type odd struct{}

func (odd) MarshalJSON() ([]byte, error) { panic("no JSON today") }

type coded struct{ code int }

func (c coded) Error() string                { return "coded" }
func (c coded) MarshalJSON() ([]byte, error) { return json.Marshal(map[string]int{"code": c.code}) }

func TestOutcomes(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name    string
		value   any
		err     error
		outcome queue.Outcome
		result  string
		delay   time.Duration
	}{
		{"nil is done without a result", nil, nil, queue.OutcomeSuccess, "", 0},
		{"a value is the result", map[string]int{"n": 1}, nil, queue.OutcomeSuccess, `{"n":1}`, 0},
		{"raw JSON is kept exactly", json.RawMessage(`{"b":1.50,"a":12345678901234567890}`), nil, queue.OutcomeSuccess, `{"b":1.50,"a":12345678901234567890}`, 0},
		{"bytes that are not JSON become text", []byte("plain"), nil, queue.OutcomeSuccess, `{"text":"plain"}`, 0},
		{"bytes that are not UTF-8 become text", []byte("a\xffb"), nil, queue.OutcomeSuccess, `{"text":"a�b"}`, 0},
		{"a result that cannot be JSON says so", make(chan int), nil, queue.OutcomeSuccess, `{"error":"the result payload: must be a value that JSON can hold, got chan int; change its type: json: unsupported type: chan int"}`, 0},
		{"an error is a failure with its text", nil, boom, queue.OutcomeFailure, `{"error":"boom"}`, 0},
		{"an error with a JSON form is kept as that", nil, coded{7}, queue.OutcomeFailure, `{"code":7}`, 0},
		{"permanent fails for good", nil, worker.Permanent(boom), queue.OutcomePermanent, `{"error":"boom"}`, 0},
		{"retry in has its delay", nil, worker.RetryIn(boom, time.Minute), queue.OutcomeFailure, `{"error":"boom"}`, time.Minute},
		{"snooze takes no result", nil, worker.Snooze(time.Hour), queue.OutcomeSnooze, "", time.Hour},
		{"a snooze of nothing is a short one", nil, worker.Snooze(-1), queue.OutcomeSnooze, "", time.Microsecond},
		{"a wrapped outcome holds", nil, errors.Join(errors.New("x"), worker.Permanent(boom)), queue.OutcomePermanent, `{"error":"x\nboom"}`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			rel := runOne(t, newFake(), worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) {
				return c.value, c.err
			}))
			if rel.Outcome != c.outcome || string(rel.Result) != c.result || rel.Delay != c.delay {
				t.Errorf("got %s %s %v", rel.Outcome, rel.Result, rel.Delay)
			}
		})
	}

	t.Run("cancel asks the service to cancel, then ends the hold", func(t *testing.T) {
		f := newFake()
		rel := runOne(t, f, worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) {
			return nil, worker.Cancel(boom)
		}))
		if !f.cancels[rel.ID] || rel.Outcome != queue.OutcomePermanent || string(rel.Result) != `{"error":"boom"}` {
			t.Errorf("cancelled %v, released %s %s", f.cancels[rel.ID], rel.Outcome, rel.Result)
		}
	})

	t.Run("a panic is a failure with its bounded stack", func(t *testing.T) {
		rel := runOne(t, newFake(), worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) {
			panic(strings.Repeat("very bad ", 1000))
		}))
		var doc struct{ Error, Stack string }
		if err := json.Unmarshal(rel.Result, &doc); err != nil || rel.Outcome != queue.OutcomeFailure {
			t.Fatal(err, rel.Outcome)
		}
		if !strings.HasPrefix(doc.Error, "panic: very bad") || !strings.Contains(doc.Stack, "run_test.go") {
			t.Errorf("got %.80s and stack %.200s", doc.Error, doc.Stack)
		}
		if len(rel.Result) > queue.MaxErrorBytes {
			t.Errorf("%d bytes kept", len(rel.Result))
		}
	})

	t.Run("a panic while the result is made JSON is a failure too", func(t *testing.T) {
		rel := runOne(t, newFake(), worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) { return odd{}, nil }))
		if rel.Outcome != queue.OutcomeFailure || !strings.Contains(string(rel.Result), "no JSON today") {
			t.Errorf("got %s %.100s", rel.Outcome, rel.Result)
		}
	})

	t.Run("a handler that ends its goroutine fails, and its slot lives on", func(t *testing.T) {
		f := newFake()
		f.add("mail", 5)
		rel := runOne(t, f, worker.HandlerFunc(func(_ context.Context, task *queue.Task) (any, error) {
			runtime.Goexit()
			return nil, nil
		}), worker.WithConcurrency(1))
		if rel.Outcome != queue.OutcomeFailure || f.count() != 6 {
			t.Errorf("got %s, %d of 6 ended", rel.Outcome, f.count())
		}
	})

	t.Run("a result over the limit is replaced by its beginning", func(t *testing.T) {
		rel := runOne(t, newFake(), worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) {
			return strings.Repeat("x", 3000), nil
		}), worker.WithMaxResultBytes(2000))
		if rel.Outcome != queue.OutcomeSuccess || !strings.HasPrefix(string(rel.Result), `{"truncated":"\"xxx`) || len(rel.Result) > 2000 {
			t.Errorf("got %s %.100s", rel.Outcome, rel.Result)
		}
	})
}

func TestTyped(t *testing.T) {
	type in struct{ N int }
	h := worker.Typed(func(ctx context.Context, p in) (map[string]int64, error) {
		return map[string]int64{"n": int64(p.N), "id": worker.TaskFrom(ctx).ID}, nil
	})
	t.Run("the payload is decoded, the result encoded, the task at hand", func(t *testing.T) {
		rel := worker.Work(t.Context(), h, &queue.Task{ID: 9, Payload: json.RawMessage(`{"n":4}`)})
		if rel.Outcome != queue.OutcomeSuccess || string(rel.Result) != `{"id":9,"n":4}` {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	})
	t.Run("a payload that does not decode fails for good", func(t *testing.T) {
		rel := worker.Work(t.Context(), h, &queue.Task{ID: 9, Payload: json.RawMessage(`{"n":"four"}`)})
		if rel.Outcome != queue.OutcomePermanent {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	})
	t.Run("an empty struct makes no result", func(t *testing.T) {
		h := worker.Typed(func(context.Context, in) (struct{}, error) { return struct{}{}, nil })
		if rel := worker.Work(t.Context(), h, &queue.Task{ID: 9, Payload: queue.EmptyJSON}); rel.Result != nil {
			t.Errorf("got %s", rel.Result)
		}
	})
	t.Run("outside a handler there is no task", func(t *testing.T) {
		if worker.TaskFrom(t.Context()) != nil || !errors.Is(worker.Progress(t.Context(), 1), worker.ErrNoTask) {
			t.Error("found one")
		}
	})
}

func TestMiddleware(t *testing.T) {
	t.Run("the first one used is the outermost, and context values reach the handler", func(t *testing.T) {
		var order []string
		type key struct{}
		wrap := func(name string) func(worker.Handler) worker.Handler {
			return func(h worker.Handler) worker.Handler {
				return worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
					order = append(order, name)
					return h.Work(context.WithValue(ctx, key{}, name), task)
				})
			}
		}
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.add("mail", 1)
			w := newWorker(f)
			w.Use(wrap("outer"), wrap("inner"))
			w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
				order = append(order, "handler", ctx.Value(key{}).(string))
				if worker.TaskFrom(ctx) == nil {
					t.Error("the task is lost behind middleware")
				}
				return nil, nil
			})
			start(t, w)
			synctest.Wait()
		})
		if got := strings.Join(order, " "); got != "outer inner handler inner" {
			t.Error(got)
		}
	})
}

func TestRegistration(t *testing.T) {
	nop := func(context.Context, *queue.Task) (any, error) { return nil, nil }
	for name, set := range map[string]func(*worker.Worker){
		"nothing registered":       func(*worker.Worker) {},
		"a bad queue name":         func(w *worker.Worker) { w.HandleFunc("9x", nop) },
		"a second handler":         func(w *worker.Worker) { w.HandleFunc("a", nop); w.HandleFunc(" A", nop) },
		"a nil handler":            func(w *worker.Worker) { w.Handle("a", nil) },
		"negative slots":           func(w *worker.Worker) { w.HandleFunc("a", nop, worker.Concurrency(-1)) },
		"ticks of a plain service": func(w *worker.Worker) { w.HandleTicks(func(context.Context, queue.Tick) error { return nil }) },
	} {
		t.Run(name+" is an error of Run", func(t *testing.T) {
			w := newWorker(newFake())
			set(w)
			if err := w.Run(t.Context()); err == nil {
				t.Error("ran")
			}
		})
	}
	t.Run("a worker does not run twice at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorker(newFake())
			w.HandleFunc("a", nop)
			r := start(t, w)
			synctest.Wait()
			if err := w.Run(t.Context()); err == nil {
				t.Error("ran twice")
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			r = start(t, w)
			if err := r.stop(); err != nil {
				t.Error("second run:", err)
			}
		})
	})
}

// collect records the calls of an observer.
type collect struct {
	worker.NoObserver
	mu       sync.Mutex
	started  int
	finished []worker.Finished
	released int
	lost     int
	held     []worker.Held
}

func (c *collect) TaskStarted(h worker.Held, _ time.Duration) {
	c.mu.Lock()
	c.started++
	c.held = append(c.held, h)
	c.mu.Unlock()
}

func (c *collect) TaskFinished(h worker.Held, f worker.Finished) {
	c.mu.Lock()
	c.held = append(c.held, h)
	c.finished = append(c.finished, f)
	c.mu.Unlock()
}

func (c *collect) Released(n int, _ time.Duration, err error) {
	c.mu.Lock()
	if err == nil {
		c.released += n
	}
	c.mu.Unlock()
}
func (c *collect) LeaseLost(worker.Held) { c.mu.Lock(); c.lost++; c.mu.Unlock() }

func TestObserver(t *testing.T) {
	t.Run("an observer sees starts, ends, panics and releases", func(t *testing.T) {
		o := &collect{}
		runOne(t, newFake(), worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) {
			time.Sleep(time.Second)
			panic("x")
		}), worker.WithObserver(o))
		if o.started != 1 || len(o.finished) != 1 || o.released != 1 {
			t.Fatalf("%+v", o)
		}
		if _, ok := errors.AsType[*worker.PanicError](o.finished[0].Err); !ok || o.finished[0].Took != time.Second {
			t.Errorf("%+v", o.finished[0])
		}
	})
}

func TestProfileLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.add("mail", 1)
		f.add("hooks", 1)
		labels := make(chan string, 4)
		w := newWorker(f, worker.WithConcurrency(1))
		for _, name := range []string{"mail", "hooks"} {
			w.HandleFunc(name, func(ctx context.Context, _ *queue.Task) (any, error) {
				label, _ := pprof.Label(ctx, "pgqueue.queue")
				labels <- name + " " + label
				var profile strings.Builder
				if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
					return nil, err
				}
				labels <- fmt.Sprint(strings.Contains(profile.String(), fmt.Sprintf("labels: {%q:%q}", "pgqueue.queue", name)))
				return nil, nil
			})
		}
		r := start(t, w)
		pass(time.Second)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		close(labels)
		got := slices.Collect(func(yield func(string) bool) {
			for l := range labels {
				if !yield(l) {
					return
				}
			}
		})
		if want := []string{"mail mail", "true", "hooks hooks", "true"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
