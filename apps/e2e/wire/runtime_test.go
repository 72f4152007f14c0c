package wire_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// TestRuntime runs the worker runtime over every way to the same tasks. A handler reports and receives the same, in
// process and remote.
func TestRuntime(t *testing.T) {
	needsDatabase(t)
	for name, open := range map[string]func(t *testing.T, m *manager.Manager, s *run.Server) queue.Service{
		"in process": func(_ *testing.T, m *manager.Manager, _ *run.Server) queue.Service { return m },
		"rest":       func(t *testing.T, _ *manager.Manager, s *run.Server) queue.Service { t.Helper(); return rest(t, s) },
		"connect":    func(t *testing.T, _ *manager.Manager, s *run.Server) queue.Service { t.Helper(); return connect(t, s) },
		"stream": func(t *testing.T, _ *manager.Manager, s *run.Server) queue.Service {
			t.Helper()
			st := connectclient.NewStream(connect(t, s))
			t.Cleanup(st.Close)
			return st
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := postgrestest.Open(t)
			m, err := manager.New(store, manager.WithLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			h := &handlers{T: t, m: m, causes: map[string]error{}, begun: make(chan string, 100)}
			h.test(open(t, m, start(t, store)), name == "in process")
		})
	}
}

// handlers are the handlers of a run; the task selects one.
type handlers struct {
	*testing.T
	m     *manager.Manager
	begun chan string // names of handlers that wait for the end of their context

	stopped bool // set when the worker has ended

	mu     sync.Mutex
	causes map[string]error
}

type (
	order   struct{ Case string }
	receipt struct {
		Case    string `json:"case"`
		Attempt int    `json:"attempt"`
	}
)

func (h *handlers) work(ctx context.Context, o order) (receipt, error) {
	task := worker.TaskFrom(ctx)
	done := receipt{o.Case, task.Attempt}
	switch o.Case {
	case "fail":
		if task.Attempt == 1 {
			return done, errors.New("not at first")
		}
	case "panic":
		if task.Attempt == 1 {
			panic("oh")
		}
	case "for good":
		return done, worker.Permanent(errors.New("never"))
	case "later":
		return done, worker.RetryIn(errors.New("not now"), time.Hour)
	case "snooze":
		return done, worker.Snooze(time.Hour)
	case "cancel":
		return done, worker.Cancel(errors.New("no longer needed"))
	case "progress":
		if err := worker.Progress(ctx, map[string]int{"percent": 50}); err != nil {
			return done, err
		}
		worker.Logf(ctx, "half of %s", o.Case)
	case "cancelled", "expires", "drained":
		h.begun <- o.Case
		<-ctx.Done()
		h.mu.Lock()
		h.causes[o.Case] = context.Cause(ctx)
		h.mu.Unlock()
		return done, errors.New("stopped")
	}
	return done, nil
}

func (h *handlers) test(svc queue.Service, inProcess bool) {
	ctx := h.Context()
	for _, meta := range []queue.QueueMeta{
		{Name: "work", RetryDelay: new(time.Duration), Retries: new(2)},
		{Name: "short", TTL: new(2 * time.Second)},
	} {
		if _, err := svc.CreateQueue(ctx, meta); err != nil {
			h.Fatal(err)
		}
	}
	if _, err := svc.CreateTicker(ctx, queue.TickerMeta{Name: "hourly", Period: new(time.Hour)}); err != nil {
		h.Fatal(err)
	}
	opts := []worker.Option{
		worker.WithName("w1"), worker.WithHeartbeat(100 * time.Millisecond), worker.WithDrain(50 * time.Millisecond),
		worker.WithWait(100 * time.Millisecond), worker.WithLogger(slog.New(slog.DiscardHandler)),
	}
	if inProcess {
		opts = append(opts, worker.WithInProcess())
	}
	var wrapped sync.Map
	ticks := make(chan queue.Tick, 1)
	w := worker.New(svc, opts...)
	w.Use(func(next worker.Handler) worker.Handler {
		return worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
			wrapped.Store(task.ID, true)
			return next.Work(ctx, task)
		})
	})
	w.Handle("work", worker.Typed(h.work))
	w.Handle("short", worker.Typed(h.work), worker.Concurrency(1))
	w.HandleTicker("hourly", func(_ context.Context, tick queue.Tick) error { ticks <- tick; return nil })
	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- w.Run(running) }()
	defer func() {
		stop()
		if err := <-ran; err != nil {
			h.Error(err)
		}
	}()

	ids := map[string]int64{}
	create := func(name, what string) {
		payload, err := json.Marshal(order{what})
		if err != nil {
			h.Fatal(err)
		}
		task, err := svc.CreateTask(ctx, name, queue.TaskMeta{Payload: payload})
		if err != nil {
			h.Fatal(err)
		}
		ids[what] = task.ID
	}
	for _, what := range []string{"done", "fail", "panic", "for good", "later", "snooze", "cancel", "progress"} {
		create("work", what)
	}
	create("short", "expires")
	h.until("expires")
	create("work", "cancelled")
	h.until("cancelled")
	if _, err := svc.CancelTasks(ctx, queue.Selection{IDs: []int64{ids["cancelled"]}}); err != nil {
		h.Fatal(err)
	}
	if _, err := svc.RunTicker(ctx, "hourly"); err != nil {
		h.Fatal(err)
	}
	if tick := <-ticks; tick.Ticker != "hourly" || !tick.Manual {
		h.Errorf("tick %+v", tick)
	}

	for _, want := range []struct {
		what     string
		status   queue.Status
		attempt  int
		retries  int
		result   string
		failures string // failures of earlier attempts
	}{
		{"done", queue.StatusReleased, 1, 2, `{"case":"done","attempt":1}`, ""},
		{"fail", queue.StatusReleased, 2, 1, `{"case":"fail","attempt":2}`, "not at first"},
		{"panic", queue.StatusReleased, 2, 1, `{"case":"panic","attempt":2}`, "runtime_test.go"},
		{"for good", queue.StatusFailed, 1, 2, `{"error":"never"}`, ""},
		{"later", queue.StatusRetry, 1, 1, `{"error":"not now"}`, "not now"},
		{"snooze", queue.StatusNew, 0, 2, ``, ""},
		{"cancel", queue.StatusCancelled, 1, 2, `{"error":"no longer needed"}`, ""},
		{"progress", queue.StatusReleased, 1, 2, `{"case":"progress","attempt":1}`, ""},
		{"cancelled", queue.StatusCancelled, 1, 2, `{"error":"stopped"}`, ""},
	} {
		task := h.settled(ids[want.what], want.status)
		if task.Attempt != want.attempt || task.Retries != want.retries || string(task.Result) != want.result {
			h.Errorf("%s: attempt %d, %d retries left, result %s", want.what, task.Attempt, task.Retries, task.Result)
		}
		if want.failures != "" && (len(task.Errors) != 1 || !strings.Contains(string(task.Errors[0].Error), want.failures)) {
			h.Errorf("%s: errors %+v", want.what, task.Errors)
		}
		if hour := task.DelayedAt.Sub(task.CreatedAt); (want.what == "later" || want.what == "snooze") && (hour < 59*time.Minute || hour > 61*time.Minute) {
			h.Errorf("%s: delayed until %v after its create", want.what, hour)
		}
		if _, ok := wrapped.Load(task.ID); !ok {
			h.Errorf("%s: not by way of the middleware", want.what)
		}
		if want.what == "progress" {
			h.reported(svc, task)
		}
	}
	// The ttl passes while the task is held: its context ends, and the store records its outcome.
	if task := h.settled(ids["expires"], queue.StatusRetry, queue.StatusExpired); len(task.Errors) == 0 && len(task.Result) == 0 {
		h.Errorf("expires: %+v", task)
	}

	create("work", "drained")
	h.until("drained")
	stop()
	if err := <-ran; err != nil {
		h.Error(err)
	}
	ran <- nil
	h.stopped = true
	if task := h.settled(ids["drained"], queue.StatusNew); task.Attempt != 0 || task.Retries != 2 {
		h.Errorf("drained: attempt %d, %d retries left", task.Attempt, task.Retries)
	}
	for what, cause := range map[string]error{
		"cancelled": worker.ErrCancelRequested, "expires": worker.ErrDeadline, "drained": worker.ErrDraining,
	} {
		if !errors.Is(h.causes[what], cause) {
			h.Errorf("%s: its context ended because %v", what, h.causes[what])
		}
	}
}

// until waits for the handler of a task to begin.
func (h *handlers) until(what string) {
	h.Helper()
	select {
	case got := <-h.begun:
		if got != what {
			h.Fatalf("%s began, not %s", got, what)
		}
	case <-time.After(30 * time.Second):
		h.Fatalf("%s does not begin", what)
	}
}

// settled waits until a task has one of these statuses. While a worker works, a new task must have been delayed.
func (h *handlers) settled(id int64, statuses ...queue.Status) *queue.Task {
	h.Helper()
	for over := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		task, err := h.m.GetTask(h.Context(), id)
		if err != nil {
			h.Fatal(err)
		}
		if slices.Contains(statuses, task.Status) && (task.Status != queue.StatusNew || !task.DelayedAt.IsZero() || h.stopped) {
			return task
		}
		if time.Now().After(over) {
			h.Fatalf("task %d is %s at attempt %d: %s", id, task.Status, task.Attempt, task.Result)
		}
	}
}

// reported finds the handler's reports on the task and in the feed.
func (h *handlers) reported(svc queue.Service, task *queue.Task) {
	h.Helper()
	var doc struct {
		Progress struct{ Percent int }
		Log      []struct{ Line string }
	}
	if err := json.Unmarshal(task.Progress, &doc); err != nil || doc.Progress.Percent != 50 || len(doc.Log) != 1 || doc.Log[0].Line != "half of progress" {
		h.Errorf("progress %s (%v)", task.Progress, err)
	}
	page, err := svc.ListEvents(h.Context(), queue.EventFilter{TaskID: task.ID}, 100)
	if err != nil {
		h.Fatal(err)
	}
	for _, e := range page.Events {
		if e.Kind == queue.EventProgress {
			return
		}
	}
	h.Errorf("no event of progress among %+v", page.Events)
}
