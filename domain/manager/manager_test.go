package manager

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// spans records the calls of a Tracer.
type spans struct {
	mu  sync.Mutex
	got []string
}

func (s *spans) Start(ctx context.Context, call queue.Call) (context.Context, any, error) {
	if call.Namespace == "forbidden" {
		return ctx, nil, queue.ErrDenied
	}
	return ctx, s, nil
}

func (s *spans) End(_ context.Context, call queue.Call, state any, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, strings.TrimSpace(call.Namespace+": "+call.Op.String()+" "+string(queue.KindOf(err))))
	if state != s {
		return queue.ErrInternal
	}
	return nil
}

func TestInput(t *testing.T) {
	ptr := func(d time.Duration) *time.Duration { return &d }
	for name, test := range map[string]struct {
		call func(context.Context, *Manager) error
		want string
	}{
		"a queue's name": {
			func(ctx context.Context, m *Manager) error { _, err := m.GetQueue(ctx, "1a"); return err },
			`get queue: queue: must be a letter first, then letters, digits, '_' and '-', got "1a"`,
		},
		"a task's payload": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: []byte(`{`)})
				return err
			},
			"create task: payload: must be one JSON value, got unexpected end of JSON input; correct it",
		},
		"the place of a task in a batch": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.CreateTasks(ctx, []queue.NewTask{{Queue: "mail"}, {Queue: "mail", TaskMeta: queue.TaskMeta{Delay: -1}}})
				return err
			},
			"create tasks: tasks[1].delay: must be a duration from 0s to 10 years, got -1ns",
		},
		"the size of a batch": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.CreateTasks(ctx, make([]queue.NewTask, queue.MaxBatch+1))
				return err
			},
			"create tasks: tasks: must be at most 10000 in one call, got 10001",
		},
		"the size of a release": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.ReleaseTasks(ctx, make([]queue.Release, queue.MaxBatch+1))
				return err
			},
			"release tasks: releases: must be at most 10000 in one call, got 10001",
		},
		"the size of a heartbeat": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.HeartbeatTasks(ctx, make([]queue.Heartbeat, queue.MaxBatch+1))
				return err
			},
			"heartbeat tasks: heartbeats: must be at most 10000 in one call, got 10001",
		},
		"a retain's worker": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.RetainTasks(ctx, queue.RetainRequest{})
				return err
			},
			"retain tasks: worker: must be the name of a worker, got none",
		},
		"a task's id": {
			func(ctx context.Context, m *Manager) error { _, err := m.GetTask(ctx, 0); return err },
			"get task: id: must be above 0, got 0",
		},
		"an awaited task's id": {
			func(ctx context.Context, m *Manager) error { _, err := m.AwaitTask(ctx, -1, 0); return err },
			"await task: id: must be above 0, got -1",
		},
		"how long to wait": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.AwaitTask(ctx, 1, queue.MaxWait+1)
				return err
			},
			"await task: wait: must be from 0s to 10m0s, got 10m0.000000001s",
		},
		"a page": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.ListQueues(ctx, queue.Page{Limit: queue.MaxPage + 1})
				return err
			},
			"list queues: limit: must be a number from 1 to 1000, got 1001",
		},
		"a queue's policy": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.UpdateQueue(ctx, "mail", queue.QueueMeta{TTL: ptr(math.MaxInt64)})
				return err
			},
			"update queue: ttl: must be a duration from 0s to 10 years, got 2562047h47m16.854775807s",
		},
		"a new name for a queue": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.UpdateQueue(ctx, "mail", queue.QueueMeta{Name: "post"})
				return err
			},
			"update queue: queue: must be mail or empty, got \"post\"; a queue cannot be renamed",
		},
		"a new name for a ticker": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.UpdateTicker(ctx, "hourly", queue.TickerMeta{Name: "daily"})
				return err
			},
			"update ticker: ticker: must be hourly or empty, got \"daily\"; a ticker cannot be renamed",
		},
		"a ticker's reserved name": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.RegisterTicker(ctx, queue.TickerMeta{Name: "next"})
				return err
			},
			`register ticker: ticker: must not be a reserved name, got "next"; choose another`,
		},
		"a preview's length": {
			func(ctx context.Context, m *Manager) error { _, err := m.PreviewTicker(ctx, "hourly", 0); return err },
			"preview ticker: n: must be a number from 1 to 1000, got 0",
		},
		"an empty selection": {
			func(ctx context.Context, m *Manager) error {
				_, err := m.DeleteTasks(ctx, queue.Selection{})
				return err
			},
			"delete tasks: ids: must be ids or a filter, got none",
		},
		"the system's namespace": {
			func(ctx context.Context, m *Manager) error { _, err := m.In(" PGQueue "); return err },
			`choose namespace: namespace: must not be the system's own namespace, got "pgqueue"; choose another`,
		},
	} {
		bubble(t, "refused with its field: "+name, func(t *testing.T, f *fake, m *Manager) {
			err := test.call(t.Context(), m)
			kind(t, err, queue.KindInvalid)
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
			if len(f.calls) != 0 {
				t.Errorf("the store was called: %v", f.calls)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	bubble(t, "a foreign error becomes the domain's, with its cause", func(t *testing.T, f *fake, m *Manager) {
		cause := errors.New("disk on fire")
		f.refuse(func(context.Context, string, any) error { return cause })
		_, err := m.GetTask(t.Context(), 1)
		kind(t, err, queue.KindInternal)
		if !errors.Is(err, cause) || err.Error() != "get task: disk on fire" {
			t.Error(err)
		}
	})
	bubble(t, "a call with an ended context returns its error", func(t *testing.T, f *fake, m *Manager) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := m.CreateTask(ctx, "mail", queue.TaskMeta{})
		kind(t, err, queue.KindCanceled)
		if !errors.Is(err, context.Canceled) || len(f.calls) != 0 {
			t.Error(err, f.calls)
		}
	})
	bubble(t, "a store that does not answer is not the caller's deadline", func(t *testing.T, f *fake, m *Manager) {
		release := f.block("get")
		defer release()
		_, err := m.GetTask(t.Context(), 1)
		kind(t, err, queue.KindUnavailable)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = m.GetTask(ctx, 1)
		kind(t, err, queue.KindDeadline)
	})
	traced := &spans{}
	bubble(t, "every operation is traced once, with its error", func(t *testing.T, f *fake, m *Manager) {
		none(t, []error{create(m, "mail")})
		_, _ = m.NextTask(t.Context(), "")
		_, _ = m.ReleaseTask(t.Context(), 1, true, nil, nil)
		other, _ := m.In("other")
		_, _ = other.GetTask(t.Context(), 1)
		forbidden, _ := m.In("forbidden")
		_, err := forbidden.GetTask(t.Context(), 1)
		kind(t, err, queue.KindDenied)
		want := "default: create task|default: next task|default: release task|other: get task not_found"
		if got := strings.Join(traced.got, "|"); got != want {
			t.Errorf("got %s", got)
		}
	}, WithTracer(traced))
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Option{
		"namespace":       WithNamespace("pgqueue"),
		"workers":         WithWorkers(0),
		"worker name":     WithWorkerName(""),
		"logger":          WithLogger(nil),
		"payload":         WithMaxPayloadBytes(1),
		"poll interval":   WithPollInterval(time.Millisecond),
		"call timeout":    WithCallTimeout(time.Hour),
		"gather batch":    WithBatching(Batching{MaxBatch: -1}),
		"gather calls":    WithBatching(Batching{MaxCalls: 65}),
		"gather waiting":  WithBatching(Batching{MaxWaiting: -1}),
		"gather delay":    WithBatching(Batching{MaxDelay: time.Minute}),
		"event buffer":    WithEventBuffer(0),
		"worker too long": WithWorkerName(strings.Repeat("x", queue.MaxWorkerBytes+1)),
	} {
		t.Run("out of range is refused: "+name, func(t *testing.T) {
			_, err := New(newFake(), o)
			kind(t, err, queue.KindInvalid)
		})
	}
	t.Run("a store is required", func(t *testing.T) {
		_, err := New(nil)
		kind(t, err, queue.KindInvalid)
	})
	t.Run("the default worker name is one", func(t *testing.T) {
		if err := queue.CheckWorker(defaultWorkerName()); err != nil {
			t.Error(err)
		}
	})
}

func TestPredecessorsCalls(t *testing.T) {
	bubble(t, "no task is nil and no error", func(t *testing.T, f *fake, m *Manager) {
		task, err := m.NextTask(t.Context(), "w", "mail")
		if task != nil || err != nil {
			t.Fatal(task, err)
		}
	})
	bubble(t, "a task is retained for the manager's own name unless another is given", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 2)
		a, err := m.NextTask(t.Context(), "")
		b, err2 := m.NextTask(t.Context(), "you", "sms", "mail")
		none(t, []error{err, err2})
		if a.Worker != "me" || b.Worker != "you" {
			t.Error(a.Worker, b.Worker)
		}
	}, WithWorkerName("me"))
	bubble(t, "a release carries the token of the last NextTask, else none", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 2)
		var tokens []int64
		f.refuse(func(_ context.Context, _ string, arg any) error {
			if rs, ok := arg.([]queue.Release); ok {
				tokens = append(tokens, rs[0].Token)
			}
			return nil
		})
		task, err := m.NextTask(t.Context(), "w")
		none(t, []error{err})
		if _, err := m.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w"}); err != nil {
			t.Fatal(err)
		}
		var status queue.Status
		_, err = m.ReleaseTask(t.Context(), 1, true, nil, &status)
		_, err2 := m.ReleaseTask(t.Context(), 2, false, errors.New("odd \xff bytes"), &status)
		none(t, []error{err, err2})
		if len(tokens) != 2 || tokens[0] != task.Lease.Token || tokens[1] != 0 || status != queue.StatusFailed {
			t.Error(tokens, status)
		}
		if got := string(f.tasks[2].Result); got != `{"error":"odd \ufffd bytes"}` && got != "{\"error\":\"odd \uFFFD bytes\"}" {
			t.Error(got)
		}
		if len(m.tokens.tokens) != 0 {
			t.Error("the token is remembered for ever")
		}
	})
	bubble(t, "a late release with a lost token is refused", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		_, err := m.NextTask(t.Context(), "w")
		none(t, []error{err})
		f.mu.Lock()
		f.tasks[1].Lease.Token += 7 // rescued, and retained by another process
		f.mu.Unlock()
		_, err = m.ReleaseTask(t.Context(), 1, true, nil, nil)
		kind(t, err, queue.KindLeaseLost)
	})
	bubble(t, "a release on a context that has ended is carried out", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := m.NextTask(ctx, "w")
		none(t, []error{err})
		cancel()
		if task, err := m.ReleaseTask(ctx, 1, false, ctx.Err(), nil); err != nil || task.Status != queue.StatusFailed {
			t.Fatal(task, err)
		}
	})
	bubble(t, "a result that cannot be JSON does not keep a task from ending", func(t *testing.T, f *fake, m *Manager) {
		f.put("default", "mail", 1)
		_, err := m.NextTask(t.Context(), "w")
		none(t, []error{err})
		task, err := m.ReleaseTask(t.Context(), 1, true, func() {}, nil)
		if err != nil || task.Status != queue.StatusReleased || !strings.Contains(string(task.Result), "unsupported type") {
			t.Fatal(task, err)
		}
	})
}
