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
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// TestRedelivery lets a worker die: another worker has its tasks within the lease and 2 seconds, in a time that stands
// still while anything computes.
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

// remind is a handler of an application: it reminds of a mail in an hour, by another task.
func remind(m *manager.Manager) worker.Handler {
	return worker.Typed(func(ctx context.Context, mail Mail) (struct{}, error) {
		payload, err := queue.Marshal(mail)
		if err == nil {
			_, err = m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: payload, Delay: time.Hour})
		}
		return struct{}{}, err
	})
}

// send is another: the first attempt never works.
var send = worker.Typed(func(ctx context.Context, mail Mail) (string, error) {
	if worker.TaskFrom(ctx).Attempt == 1 {
		return "", errors.New("busy")
	}
	return "sent to " + mail.To, nil
})

// TestWithFakeTime is how an application tests its handlers.
func TestWithFakeTime(t *testing.T) {
	rel := queuetest.RunHandler(t, send, Mail{To: "ann@example.org"}, func(task *queue.Task) { task.Attempt = 2 })
	if got := queuetest.RequireResult[string](t, rel); got != "sent to ann@example.org" {
		t.Error(got)
	}

	synctest.Test(t, func(t *testing.T) { // here time passes when all goroutines wait
		m, err := manager.New(memory.New())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"remind", "mail"} {
			if _, err := m.RegisterQueue(t.Context(), queue.QueueMeta{Name: name, RetryDelay: new(time.Minute)}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx) }() // the promoter makes delayed tasks ready
		if _, err := m.CreateTask(t.Context(), "remind", queue.TaskMeta{Payload: []byte(`{"to":"ann@example.org"}`)}); err != nil {
			t.Fatal(err)
		}
		handlers := map[string]worker.Handler{"remind": remind(m), "mail": send}
		if worked := queuetest.Drain(t, m, handlers); len(worked) != 1 { // the mail is not due
			t.Errorf("worked %d", len(worked))
		}
		mail := queuetest.RequireCreated(t, m, "mail", Mail{To: "ann@example.org"})
		time.Sleep(time.Hour + time.Second)
		if worked := queuetest.Drain(t, m, handlers); len(worked) != 1 || worked[0].ID != mail.ID || worked[0].Status != queue.StatusRetry {
			t.Errorf("worked %+v", worked)
		}
		time.Sleep(2 * time.Minute) // the backoff
		if worked := queuetest.Drain(t, m, handlers); len(worked) != 1 || worked[0].Status != queue.StatusReleased {
			t.Errorf("worked %+v", worked)
		}
		stop()
		if err := errors.Join(<-ran, m.Close(t.Context())); err != nil {
			t.Error(err)
		}
	})
}
