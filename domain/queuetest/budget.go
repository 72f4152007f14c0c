package queuetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestLargeAnswers runs the sentences about the budget of large answers. serve starts a server over a Service of its
// own with the budget b and returns a client of it.
func TestLargeAnswers(t *testing.T, serve func(t *testing.T, b *queue.Budget) queue.Service) {
	const most = 1 << 20
	const workers = "a list of workers with many queues"
	for name, ask := range map[string]func(context.Context, queue.Service, *queue.Task) error{
		workers: func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.ListWorkers(ctx))
		},
		"a create": func(ctx context.Context, s queue.Service, task *queue.Task) error {
			return second(s.CreateTask(ctx, "q", queue.TaskMeta{Payload: task.Payload}))
		},
		"a create of several": func(ctx context.Context, s queue.Service, task *queue.Task) error {
			return second(s.CreateTasks(ctx, []queue.NewTask{{Queue: "q", TaskMeta: queue.TaskMeta{Payload: task.Payload}}}))
		},
		"a look at a task": func(ctx context.Context, s queue.Service, task *queue.Task) error {
			return second(s.GetTask(ctx, task.ID))
		},
		"a release": func(ctx context.Context, s queue.Service, task *queue.Task) error {
			return second(s.ReleaseTasks(ctx, []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeHandBack}}))
		},
		"a result": func(ctx context.Context, s queue.Service, task *queue.Task) error {
			_, err := s.ReleaseTasks(ctx, []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}})
			if err != nil {
				return err
			}
			return second(s.AwaitTask(ctx, task.ID, 0))
		},
		"a list of tickers": func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.ListTickers(ctx, queue.Page{}))
		},
		"a list of queues": func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.ListQueues(ctx, queue.Page{Limit: 100}))
		},
		"the counts of all queues": func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.ListQueueStatuses(ctx))
		},
		"a look at a ticker": func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.GetTicker(ctx, "t"))
		},
		"a run of a ticker": func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.RunTicker(ctx, "t"))
		},
		"a list of ticks": func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.ListTicks(ctx, "t", 0))
		},
		"a create of a ticker": func(ctx context.Context, s queue.Service, task *queue.Task) error {
			return second(s.CreateTicker(ctx, queue.TickerMeta{Name: "u", Period: new(time.Hour), Payload: task.Payload}))
		},
		"an update of a ticker": func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.UpdateTicker(ctx, "t", queue.TickerMeta{Paused: new(true)}))
		},
		"a register of a ticker": func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.RegisterTicker(ctx, queue.TickerMeta{Name: "t", Period: new(24 * time.Hour), Paused: new(true)}))
		},
		"a delete of a ticker": func(ctx context.Context, s queue.Service, _ *queue.Task) error {
			return second(s.DeleteTicker(ctx, "t"))
		},
	} {
		t.Run(name+" waits for the bytes of its answer", func(t *testing.T) {
			b := queue.NewBudget(most)
			s := serve(t, b)
			if _, err := s.CreateQueue(t.Context(), queue.QueueMeta{Name: "q"}); err != nil {
				t.Fatal(err)
			}
			for i := range 99 { // lists of as many rows are large
				if _, err := s.CreateQueue(t.Context(), queue.QueueMeta{Name: fmt.Sprintf("q%d", i)}); err != nil {
					t.Fatal(err)
				}
			}
			payload := []byte(`"` + strings.Repeat("x", 900_000) + `"`)
			if _, err := s.CreateTask(t.Context(), "q", queue.TaskMeta{Payload: payload}); err != nil {
				t.Fatal(err)
			}
			held, err := s.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w"})
			if err != nil || len(held) != 1 {
				t.Fatal(len(held), err)
			}

			// The period is long: only the first run, here, makes a tick.
			meta := queue.TickerMeta{Name: "t", Period: new(24 * time.Hour), Payload: payload}
			if _, err := s.CreateTicker(t.Context(), meta); err != nil {
				t.Fatal(err)
			}
			if _, err := s.RunTicker(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}

			if name == workers {
				holdInQueues(t, s, 12, 100)
			}

			give, err := b.Take(t.Context(), most)
			if err != nil {
				t.Fatal(err)
			}
			answer := make(chan error, 1)
			go func() { answer <- ask(t.Context(), s, held[0]) }()
			over, cancel := context.WithCancel(t.Context())
			cancel()
			// Take the budget until no other answer may wait beside this one.
			for {
				if _, err := b.TakeRead(over, most); queue.KindOf(err) == queue.KindUnavailable {
					break
				}
				select {
				case err := <-answer:
					t.Fatalf("it was answered beside the budget: %v", err)
				case <-time.After(time.Millisecond):
				}
			}
			give()
			if err := <-answer; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// holdInQueues lets each of so many workers hold a task of each of so many queues with long names.
func holdInQueues(t *testing.T, s queue.Service, workers, queues int) {
	t.Helper()
	tasks := make([]queue.NewTask, queues)
	for i := range tasks {
		tasks[i].Queue = fmt.Sprintf("%s%d", strings.Repeat("n", 59), i)
		if _, err := s.CreateQueue(t.Context(), queue.QueueMeta{Name: tasks[i].Queue}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range workers {
		if _, err := s.CreateTasks(t.Context(), tasks); err != nil {
			t.Fatal(err)
		}
		held, err := s.RetainTasks(t.Context(), queue.RetainRequest{Worker: fmt.Sprintf("w%d", i), Limit: queues})
		if err != nil || len(held) != queues {
			t.Fatalf("worker %d holds %d tasks: %v", i, len(held), err)
		}
	}
}

// TestLargeBodies runs the sentences about the budget of large bodies. serve starts a server over a Service of its own with
// the budget b and returns a client of it.
func TestLargeBodies(t *testing.T, serve func(t *testing.T, b *queue.Budget) queue.Service) {
	const most = 1 << 20
	for name, ask := range map[string]func(context.Context, queue.Service, *queue.Task) error{
		"a create": func(ctx context.Context, s queue.Service, task *queue.Task) error {
			return second(s.CreateTask(ctx, "q", queue.TaskMeta{Payload: task.Payload}))
		},
		"a create of several": func(ctx context.Context, s queue.Service, task *queue.Task) error {
			return second(s.CreateTasks(ctx, []queue.NewTask{{Queue: "q", TaskMeta: queue.TaskMeta{Payload: task.Payload}}}))
		},
		"a release with a result": func(ctx context.Context, s queue.Service, task *queue.Task) error {
			release := queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Result: task.Payload}
			return second(s.ReleaseTasks(ctx, []queue.Release{release}))
		},
	} {
		t.Run(name+" waits for the bytes of its body, and a small one does not", func(t *testing.T) {
			t.Parallel()
			b := queue.NewBodyBudget(most)
			s := serve(t, b)
			if _, err := s.CreateQueue(t.Context(), queue.QueueMeta{Name: "q"}); err != nil {
				t.Fatal(err)
			}
			payload := []byte(`"` + strings.Repeat("x", 700_000) + `"`)
			if _, err := s.CreateTask(t.Context(), "q", queue.TaskMeta{Payload: payload}); err != nil {
				t.Fatal(err)
			}
			held, err := s.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w"})
			if err != nil || len(held) != 1 {
				t.Fatal(len(held), err)
			}

			// The budget has room for a claim of 100 kB, unless the body waits in front of it.
			give, err := b.Take(t.Context(), most-200_000)
			if err != nil {
				t.Fatal(err)
			}
			answer := make(chan error, 1)
			go func() { answer <- ask(t.Context(), s, held[0]) }()
			for waits := false; !waits; {
				select {
				case err := <-answer:
					t.Fatalf("its body was read beside the budget: %v", err)
				default:
				}
				soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				small, err := b.Take(soon, 100_000)
				cancel()
				if waits = err != nil; !waits {
					small()
				}
			}
			if _, err := s.CreateTask(t.Context(), "q", queue.TaskMeta{}); err != nil {
				t.Errorf("a small create beside it: %v", err)
			}

			give()
			if err := <-answer; err != nil {
				t.Fatal(err)
			}
			if all, err := b.Take(t.Context(), most); err != nil {
				t.Errorf("it keeps bytes after its end: %v", err)
			} else {
				all()
			}
		})
	}
}
