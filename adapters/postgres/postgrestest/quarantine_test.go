package postgrestest_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// poison is the payload of the task that kills its worker.
const poison = `"poison"`

// workPoison is the role of a worker of 100 slots with background work. The handler of one task ends the process by SIGKILL.
func workPoison(ctx context.Context, s *postgres.Store, _ <-chan string, _ func(string, ...any)) error {
	m, err := manager.New(s, manager.WithNamespace(queue.DefaultNamespace), manager.WithPollInterval(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer m.Close(context.WithoutCancel(ctx))
	go func() { _ = m.Run(ctx) }()
	w := worker.New(m, worker.WithConcurrency(100), worker.WithWait(200*time.Millisecond), worker.WithInProcess())
	w.HandleFunc("q", func(_ context.Context, task *queue.Task) (any, error) {
		if bytes.Equal(task.Payload, []byte(poison)) {
			time.Sleep(20 * time.Millisecond) // its neighbours have begun
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		time.Sleep(60 * time.Millisecond)
		return nil, nil
	})
	return w.Run(ctx)
}

// TestPoisonIsQuarantined: a task that kills its worker each time ends quarantined after 3 lost leases, its 99 neighbours in the
// same worker succeed, and so do the tasks that come meanwhile.
func TestPoisonIsQuarantined(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{
		Name: "q", Lease: new(time.Second), Retries: new(0), RetryDelay: new(100 * time.Millisecond), Backoff: new(queue.BackoffConstant),
		FailurePolicyMeta: queue.FailurePolicyMeta{MaxLeaseLosses: new(3)},
	})
	if err == nil {
		_, err = s.CreateQueue(t.Context(), q)
	}
	if err != nil {
		t.Fatal(err)
	}
	create := func(n, poisonAt int) (poisoned int64) {
		tasks := make([]queue.NewTask, n)
		for i := range tasks {
			tasks[i] = queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Payload: []byte(`{}`)}}
			if i == poisonAt {
				tasks[i].Payload = []byte(poison)
			}
		}
		made, err := s.CreateTasks(t.Context(), queue.Create{Namespace: queue.DefaultNamespace, Tasks: tasks})
		if err != nil {
			t.Fatal(err)
		}
		if poisonAt >= 0 {
			poisoned = made[poisonAt].Task.ID
		}
		return poisoned
	}

	poisoned := create(100, 50)
	kills := 0
	workers := []*child{spawn(t, "poison", dsn)}
	deadline := time.Now().Add(patience)
	for {
		for i, c := range workers {
			select {
			case err := <-c.ended:
				if err == nil || !strings.Contains(err.Error(), "killed") {
					t.Fatalf("a worker ended by itself: %v", err)
				}
				kills++
				create(20, -1)
				workers[i] = spawn(t, "poison", dsn)
			default:
			}
		}
		if kills == 1 && len(workers) == 1 { // the first had all of the 100 in one batch
			workers = append(workers, spawn(t, "poison", dsn), spawn(t, "poison", dsn))
		}

		page, err := s.ListTasks(t.Context(), queue.DefaultNamespace, queue.TaskQuery{
			TaskFilter: queue.TaskFilter{Queue: "q", Statuses: []queue.Status{queue.StatusNew, queue.StatusRetry, queue.StatusRetained}}, Page: queue.Page{Limit: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		if page.Count == 0 && kills >= 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d tasks have not ended after %d kills", page.Count, kills)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, c := range workers {
		c.dismiss(t)
	}

	if kills != 3 {
		t.Errorf("%d workers were killed, want 3", kills)
	}
	page, err := s.ListTasks(t.Context(), queue.DefaultNamespace, queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "q"}, Page: queue.Page{Limit: queue.MaxPage}})
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, task := range page.Tasks {
		lost = max(lost, task.Attempt-1)
		if want := task.ID == poisoned; (task.Status == queue.StatusFailed) != want || !want && task.Status != queue.StatusReleased {
			t.Errorf("task %d is %s after %d attempts, and the poisoned one is %d", task.ID, task.Status, task.Attempt, poisoned)
		}
		if task.ID != poisoned && task.Attempt > 2 {
			t.Errorf("task %d lost %d leases to one killer", task.ID, task.Attempt-1)
		}
	}
	full, err := s.GetTasks(t.Context(), queue.DefaultNamespace, []int64{poisoned}, true)
	if err != nil || len(full[0].Errors) != 3 || full[0].Errors[2].Kind != queue.ErrorKindQuarantined {
		t.Errorf("the poisoned task has the errors %+v (%v)", full[0].Errors, err)
	}
	if len(page.Tasks) != 160 {
		t.Errorf("%d tasks are there, want 160", len(page.Tasks))
	}
}
