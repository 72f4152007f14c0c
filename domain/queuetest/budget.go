package queuetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestLargeAnswers runs the sentences about the budget of large answers. serve starts a server over a Service of its
// own with the budget b and returns a client of it.
func TestLargeAnswers(t *testing.T, serve func(t *testing.T, b *queue.Budget) queue.Service) {
	const most = 1 << 20
	for name, ask := range map[string]func(context.Context, queue.Service, *queue.Task) error{
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
	} {
		t.Run(name+" waits for the bytes of its answer", func(t *testing.T) {
			b := queue.NewBudget(most)
			s := serve(t, b)
			if _, err := s.CreateQueue(t.Context(), queue.QueueMeta{Name: "q"}); err != nil {
				t.Fatal(err)
			}
			payload := []byte(`"` + strings.Repeat("x", 900_000) + `"`)
			if _, err := s.CreateTask(t.Context(), "q", queue.TaskMeta{Payload: payload}); err != nil {
				t.Fatal(err)
			}
			held, err := s.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w"})
			if err != nil || len(held) != 1 {
				t.Fatal(len(held), err)
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
