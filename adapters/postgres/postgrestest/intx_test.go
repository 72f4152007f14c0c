package postgrestest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestInTx holds the queue inside a caller's transaction to "all or nothing with the caller's writes".
func TestInTx(t *testing.T) {
	needsDatabase(t)
	s := postgrestest.Open(t)
	ctx := t.Context()
	mustQueue(t, s, "mail")
	if _, err := s.Pool().Exec(ctx, "create table orders (id int)"); err != nil {
		t.Fatal(err)
	}
	count := func(table string) (n int) {
		t.Helper()
		if err := s.Pool().QueryRow(ctx, "select count(*) from "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	inTx := func(do func(tx pgx.Tx, q *postgres.InTx) error) error {
		return pgx.BeginFunc(ctx, s.Pool(), func(tx pgx.Tx) error {
			q, err := s.InTx(tx, "")
			if err != nil {
				return err
			}
			return do(tx, q)
		})
	}
	undo := errors.New("undo")

	t.Run("a create that rolls back leaves nothing and wakes nobody", func(t *testing.T) {
		ears := connect(t, s.Pool().Config().ConnString())
		sql(t, ears, "listen pgqueue")
		err := inTx(func(tx pgx.Tx, q *postgres.InTx) error {
			if _, err := tx.Exec(ctx, "insert into orders values (1)"); err != nil {
				return err
			}
			if _, err := q.CreateTask(ctx, "mail", queue.TaskMeta{Key: "k"}); err != nil {
				return err
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
		for _, table := range []string{"orders", "pgqueue.task", "pgqueue.ready", "pgqueue.event", "pgqueue.task_key"} {
			if n := count(table); n != 0 {
				t.Errorf("%s has %d rows", table, n)
			}
		}
		// Notifications come in the order of commits: what the create might have sent is before this one.
		sql(t, connect(t, s.Pool().Config().ConnString()), "notify pgqueue, 'the end'")
		if n, err := ears.WaitForNotification(ctx); err != nil || n.Payload != "the end" {
			t.Errorf("somebody was woken: %+v, %v", n, err)
		}
	})
	t.Run("a create that commits is there with the caller's writes", func(t *testing.T) {
		var made []*queue.Task
		err := inTx(func(tx pgx.Tx, q *postgres.InTx) (err error) {
			if _, err := tx.Exec(ctx, "insert into orders values (1)"); err != nil {
				return err
			}
			many := make([]queue.NewTask, 200) // enough to be copied
			for i := range many {
				many[i].Queue = "mail"
			}
			made, err = q.CreateTasks(ctx, many)
			if n := len(retain(t, s, 10)); n != 0 {
				t.Errorf("others retained %d tasks before the commit", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if count("orders") != 1 || len(made) != 200 {
			t.Fatalf("%d orders, %d tasks", count("orders"), len(made))
		}
		if n := len(retain(t, s, 1000)); n != 200 {
			t.Fatalf("retained %d of 200", n)
		}
	})
	t.Run("an unknown queue is told and leaves the transaction usable", func(t *testing.T) {
		err := inTx(func(tx pgx.Tx, q *postgres.InTx) error {
			if _, err := q.CreateTask(ctx, "none", queue.TaskMeta{}); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("answered by %v", err)
			}
			_, err := q.CreateTask(ctx, "mail", queue.TaskMeta{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a task is completed, with what follows, exactly when the transaction commits", func(t *testing.T) {
		task := retain(t, s, 1)[0]
		complete := func(end error) error {
			return inTx(func(tx pgx.Tx, q *postgres.InTx) error {
				done, err := q.Complete(ctx, task, map[string]int{"n": 1}, queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(`"next"`)}})
				if err != nil {
					return err
				}
				if done.Status != queue.StatusReleased || string(done.Result) != `{"n":1}` {
					t.Errorf("completed as %s with %s", done.Status, done.Result)
				}
				return end
			})
		}
		if err := complete(undo); !errors.Is(err, undo) {
			t.Fatal(err)
		}
		if st := status(t, s, task.ID); st != queue.StatusRetained {
			t.Fatalf("after the rollback it is %s", st)
		}
		if n := len(retain(t, s, 9)); n != 0 {
			t.Fatalf("the rollback left %d tasks that followed", n)
		}
		if err := complete(nil); err != nil {
			t.Fatal(err)
		}
		if st := status(t, s, task.ID); st != queue.StatusReleased {
			t.Fatalf("after the commit it is %s", st)
		}
		next := retain(t, s, 9)
		if len(next) != 1 || string(next[0].Payload) != `"next"` {
			t.Fatalf("%d tasks followed", len(next))
		}
		stale := *task
		stale.Lease = &queue.Lease{Token: task.Lease.Token + 1}
		err := inTx(func(tx pgx.Tx, q *postgres.InTx) error {
			_, err := q.Complete(ctx, &stale, nil)
			return err
		})
		if !errors.Is(err, queue.ErrLeaseLost) {
			t.Fatalf("a stale token was answered by %v", err)
		}
	})
	t.Run("the first task of a database may come in a transaction", func(t *testing.T) {
		fresh := postgrestest.Open(t)
		mustQueue(t, fresh, "mail")
		err := pgx.BeginFunc(ctx, fresh.Pool(), func(tx pgx.Tx) error {
			q, err := fresh.InTx(tx, "")
			if err != nil {
				return err
			}
			_, err = q.CreateTask(ctx, "mail", queue.TaskMeta{Delay: time.Hour})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func mustQueue(t testing.TB, s queue.Store, name string) {
	t.Helper()
	q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{Name: name})
	if err == nil {
		_, err = s.CreateQueue(t.Context(), q)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func retain(t testing.TB, s queue.Store, limit int) []*queue.Task {
	t.Helper()
	out, err := s.RetainTasks(t.Context(), queue.Retain{
		Namespace: queue.DefaultNamespace, Requests: []queue.RetainShare{{Worker: "w", Limit: limit}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func status(t testing.TB, s queue.Store, id int64) queue.Status {
	t.Helper()
	tasks, err := s.GetTasks(t.Context(), queue.DefaultNamespace, []int64{id}, false)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("task %d: %v, %v", id, tasks, err)
	}
	return tasks[0].Status
}
