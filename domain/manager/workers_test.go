package manager

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// workStore is a fake with queues, tickers and leases that last.
type workStore struct{ *fake }

func (s workStore) CreateQueue(_ context.Context, q queue.Queue) (*queue.Queue, error) {
	return &q, nil
}

func (s workStore) UpdateQueue(_ context.Context, _, _ string, _ queue.QueueMeta) (*queue.Queue, error) {
	return nil, queue.ErrNotFound
}

func (s workStore) CreateTicker(_ context.Context, t queue.Ticker) (*queue.Ticker, error) {
	return &t, nil
}

func (s workStore) UpdateTicker(context.Context, string, string, queue.TickerMeta, int) (*queue.Ticker, error) {
	return nil, queue.ErrNotFound
}

func (s workStore) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	outs, err := s.fake.RetainTasks(ctx, r)
	lastingAMinute(outs)
	return outs, err
}

func (s workStore) CreateAndRetain(ctx context.Context, c queue.Create, r queue.Retain) ([]queue.Created, [][]*queue.Task, error) {
	made, outs, err := s.fake.CreateAndRetain(ctx, c, r)
	lastingAMinute(outs)
	return made, outs, err
}

func lastingAMinute(outs [][]*queue.Task) {
	for _, tasks := range outs {
		for _, t := range tasks {
			t.Lease.Duration = time.Minute
		}
	}
}

// works runs test on a manager over a workStore.
func works(t *testing.T, name string, test func(t *testing.T, f *fake, m *Manager)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			m, err := New(workStore{f}, WithWorkers(2), WithWorkerName("w1"), WithLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := m.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			test(t, f, m)
		})
	})
}

func TestRegisteredWorkers(t *testing.T) {
	sleeping := worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
		select {
		case <-time.After(time.Second):
			return map[string]string{"by": task.Worker}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})

	works(t, "a queue's worker works its tasks while Run runs, as the manager's worker, of every namespace", func(t *testing.T, f *fake, m *Manager) {
		other, err := m.In("other")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*Manager{m, other.(*Manager)} {
			q, err := m.RegisterQueueWorker(t.Context(), queue.QueueMeta{Name: " Mail"}, sleeping)
			if err != nil || q.Name != "mail" {
				t.Fatal(q, err)
			}
			f.put(m.Namespace(), "mail", 4)
		}
		running(t, m, func() {
			if n := f.held(); n != 4 {
				t.Errorf("%d held, two namespaces with two workers each", n)
			}
			pass(2500 * time.Millisecond)
			for id := int64(1); id <= 8; id++ {
				if task := f.tasks[id]; task.Status != queue.StatusReleased || string(task.Result) != `{"by":"w1"}` {
					t.Errorf("task %d: %s %s", id, task.Status, task.Result)
				}
			}
			_, err := m.RegisterQueueWorker(t.Context(), queue.QueueMeta{Name: "late"}, sleeping)
			kind(t, err, queue.KindConflict)
		})
	})

	works(t, "a ticker's worker gets its ticks", func(t *testing.T, f *fake, m *Manager) {
		var got []queue.Tick
		_, err := m.RegisterTickerWorker(t.Context(), queue.TickerMeta{Name: "t", Period: new(time.Hour)}, func(_ context.Context, tick queue.Tick) error {
			got = append(got, tick)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		running(t, m, func() {
			f.tick(2)
			pass(5 * time.Second)
			if len(got) != 2 || len(f.done) != 2 {
				t.Errorf("%d ticks, %d settled", len(got), len(f.done))
			}
		})
	})

	works(t, "bad settings are refused", func(t *testing.T, _ *fake, m *Manager) {
		_, err := m.RegisterQueueWorker(t.Context(), queue.QueueMeta{Name: "mail"}, nil)
		kind(t, err, queue.KindInvalid)
		_, err = m.RegisterQueueWorker(t.Context(), queue.QueueMeta{Name: "9"}, sleeping)
		kind(t, err, queue.KindInvalid)
		_, err = m.RegisterTickerWorker(t.Context(), queue.TickerMeta{Name: "t", Period: new(time.Hour), Queue: new("mail")},
			func(context.Context, queue.Tick) error { return nil })
		kind(t, err, queue.KindInvalid)
		if _, err := m.RegisterQueueWorker(t.Context(), queue.QueueMeta{Name: "mail"}, sleeping); err != nil {
			t.Error(err)
		}
		_, err = m.RegisterQueueWorker(t.Context(), queue.QueueMeta{Name: "mail"}, sleeping)
		kind(t, err, queue.KindConflict)
	})

	for name, end := range map[string]func(*Manager, context.CancelFunc) error{
		"the end of Run":       func(_ *Manager, cancel context.CancelFunc) error { cancel(); return nil },
		"closing the manager":  func(m *Manager, _ context.CancelFunc) error { return m.Close(context.Background()) },
		"closing it in a rush": func(m *Manager, _ context.CancelFunc) error { return hurried(m) },
	} {
		works(t, name+" drains the workers: what runs is recorded or handed back", func(t *testing.T, f *fake, m *Manager) {
			if _, err := m.RegisterQueueWorker(t.Context(), queue.QueueMeta{Name: "mail"}, sleeping); err != nil {
				t.Fatal(err)
			}
			f.put("default", "mail", 2)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ran := start(func() (int, error) { return 0, m.Run(ctx) })
			pass(100 * time.Millisecond)
			if f.held() != 2 {
				t.Fatalf("%d held", f.held())
			}
			if err := end(m, cancel); err != nil && !errors.Is(err, queue.ErrDeadline) {
				t.Error(err)
			}
			if _, err := ran.wait(); err != nil {
				t.Error(err)
			}
			if name == "closing it in a rush" {
				return
			}
			if f.tasks[1].Status != queue.StatusReleased || f.tasks[2].Status != queue.StatusReleased {
				t.Errorf("%s and %s", f.tasks[1].Status, f.tasks[2].Status)
			}
		})
	}
}

// hurried closes m with a short deadline.
func hurried(m *Manager) error {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	return m.Close(ctx)
}
