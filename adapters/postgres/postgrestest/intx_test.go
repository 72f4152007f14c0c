package postgrestest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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

	t.Run("a create that rolls back leaves nothing and wakes no caller", func(t *testing.T) {
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
		// Notifications come in the order of commits: one of the create would come before this one.
		sql(t, connect(t, s.Pool().Config().ConnString()), "notify pgqueue, 'the end'")
		if n, err := ears.WaitForNotification(ctx); err != nil || n.Payload != "the end" {
			t.Errorf("a caller was woken: %+v, %v", n, err)
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
	t.Run("an unknown queue is an error that leaves the transaction usable", func(t *testing.T) {
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

// TestInTxOfOthers holds a caller's transaction to the ways in which programs use theirs: savepoints, errors that they
// handle, and commits in two phases.
func TestInTxOfOthers(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	undo := errors.New("undo")

	t.Run("a savepoint that rolls back takes its tasks along, and the process remembers nothing of them", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		mustQueue(t, s, "mail")
		// The first task of the queue, of its priority and of its key exists in the savepoint alone.
		urgent := queue.TaskMeta{Key: "k", Priority: -5, Payload: []byte(`1`)}
		err := pgx.BeginFunc(t.Context(), s.Pool(), func(outer pgx.Tx) error {
			err := pgx.BeginFunc(t.Context(), outer, func(inner pgx.Tx) error {
				q, err := s.InTx(inner, "")
				if err != nil {
					return err
				}
				if _, err := q.CreateTask(t.Context(), "mail", urgent); err != nil {
					return err
				}
				return undo
			})
			if !errors.Is(err, undo) {
				return err
			}
			q, err := s.InTx(outer, "")
			if err != nil {
				return err
			}
			_, err = q.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: []byte(`2`)})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}

		out, err := s.CreateTasks(t.Context(), queue.Create{Namespace: queue.DefaultNamespace, Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: urgent}}})
		if err != nil || out[0].Err != nil || out[0].Task.Replayed {
			t.Fatalf("the same task outside of the transaction: %+v, %v", out, err)
		}
		var payloads []string
		for _, task := range retain(t, s, 9) {
			payloads = append(payloads, string(task.Payload))
		}
		if len(payloads) != 2 || payloads[0] != "1" || payloads[1] != "2" {
			t.Errorf("retained %q", payloads)
		}
	})

	t.Run("an error of the domain leaves the transaction usable", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		mustQueue(t, s, "mail")
		makeTask(t, s, queue.DefaultNamespace, "mail")
		task := retain(t, s, 1)[0]
		stale := *task
		stale.Lease = &queue.Lease{Token: task.Lease.Token + 1}
		err := pgx.BeginFunc(t.Context(), s.Pool(), func(tx pgx.Tx) error {
			q, err := s.InTx(tx, "")
			if err != nil {
				return err
			}
			create := func(name string, meta queue.TaskMeta) error {
				_, err := q.CreateTask(t.Context(), name, meta)
				return err
			}
			if err := create("mail", queue.TaskMeta{Key: "k", Payload: []byte(`1`)}); err != nil {
				return err
			}
			for _, fault := range []struct {
				kind queue.Kind
				call func() error
			}{
				{queue.KindKeyReused, func() error { return create("mail", queue.TaskMeta{Key: "k", Payload: []byte(`2`)}) }},
				{queue.KindNotFound, func() error { return create("none", queue.TaskMeta{}) }},
				{queue.KindInvalid, func() error { return create("mail", queue.TaskMeta{Payload: []byte(`{`)}) }},
				{queue.KindLeaseLost, func() error { _, err := q.Complete(t.Context(), &stale, nil); return err }},
				{queue.KindInvalid, func() error { _, err := q.Complete(t.Context(), task, func() {}); return err }},
			} {
				if err := fault.call(); queue.KindOf(err) != fault.kind {
					t.Errorf("answered by %v, want %s", err, fault.kind)
				}
			}
			_, err = q.Complete(t.Context(), task, nil)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(retain(t, s, 9)); n != 1 {
			t.Errorf("retained %d tasks of the transaction, want 1", n)
		}
	})

	t.Run("a commit in two phases needs a store without notifications", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		prepare := func(s *postgres.Store, name string) error {
			conn := connect(t, dsn)
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			q, err := s.InTx(tx, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := q.CreateTask(t.Context(), "mail", queue.TaskMeta{Key: name}); err != nil {
				t.Fatal(err)
			}
			_, err = tx.Exec(t.Context(), "prepare transaction '"+name+"'")
			return err
		}

		loud := postgrestest.OpenURL(t, dsn)
		mustQueue(t, loud, "mail")
		if pg, ok := errors.AsType[*pgconn.PgError](prepare(loud, "loud")); !ok || pg.Code != "0A000" {
			t.Errorf("with notifications: %v", pg)
		}
		if n := len(retain(t, loud, 1)); n != 0 {
			t.Errorf("retained %d tasks of a refused transaction", n)
		}

		quiet := postgrestest.OpenURL(t, dsn, postgres.WithoutNotify())
		if err := prepare(quiet, "quiet_"+connect(t, dsn).Config().Database); err != nil {
			t.Fatal(err)
		}
		if n := len(retain(t, loud, 1)); n != 0 {
			t.Errorf("retained %d tasks before the second phase", n)
		}
		sql(t, connect(t, dsn), "commit prepared 'quiet_"+connect(t, dsn).Config().Database+"'")
		if n := len(retain(t, loud, 9)); n != 1 {
			t.Errorf("retained %d tasks after the second phase, want 1", n)
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
