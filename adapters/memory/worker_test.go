package memory_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// TestRedelivery is about a worker that dies: what it held is with another within the lease and 2 seconds, in a time
// that stands still while anything computes.
func TestRedelivery(t *testing.T) {
	for _, died := range []time.Duration{0, 1, 250 * time.Millisecond, 999 * time.Millisecond} { // by the clock of the chores
		synctest.Test(t, func(t *testing.T) {
			m, err := manager.New(memory.New(), manager.WithLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				t.Fatal(err)
			}
			const lease, n = 10 * time.Second, 50
			if _, err := m.CreateQueue(t.Context(), queue.QueueMeta{Name: "q", Lease: new(lease), RetryDelay: new(time.Duration)}); err != nil {
				t.Fatal(err)
			}
			if _, err := m.CreateTasks(t.Context(), inQueue("q", n)); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 2)
			go func() { ended <- m.Run(ctx) }()
			time.Sleep(died)
			held, err := m.RetainTasks(ctx, queue.RetainRequest{Worker: "dies", Limit: n})
			if err != nil || len(held) != n {
				t.Fatal(len(held), err)
			}
			kill := time.Now()
			done := make(chan *queue.Task, n)
			w := worker.New(m, worker.WithInProcess(), worker.WithConcurrency(n), worker.WithLogger(slog.New(slog.DiscardHandler)))
			w.HandleFunc("q", func(_ context.Context, task *queue.Task) (any, error) {
				done <- task
				return nil, nil
			})
			go func() { ended <- w.Run(ctx) }()
			for range n {
				task := <-done
				if took := time.Since(kill); took > lease+2*time.Second || took < lease || task.Attempt != 2 {
					t.Errorf("task %d is at attempt %d %v after the death of its worker, with a lease of %v", task.ID, task.Attempt, took, lease)
				}
			}
			stop()
			for range 2 {
				if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
			if err := m.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

func inQueue(name string, n int) []queue.NewTask {
	batch := make([]queue.NewTask, n)
	for i := range batch {
		batch[i].Queue = name
	}
	return batch
}
