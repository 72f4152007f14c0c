package postgrestest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestDeletesAnEmptyQueueAlone keeps each way in which a transaction adds a task open beside the deletion of an empty queue.
func TestDeletesAnEmptyQueueAlone(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	s := postgrestest.Open(t)

	// A create in Go makes the partition that those in SQL need.
	mustQueue(t, s, "first")
	first := queue.Create{Namespace: queue.DefaultNamespace, Tasks: []queue.NewTask{{Queue: "first", TaskMeta: queue.TaskMeta{Payload: []byte("1")}}}}
	if _, err := s.CreateTasks(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for name, add := range map[string]func(t *testing.T, tx pgx.Tx, name string){
		"a create in Go": func(t *testing.T, tx pgx.Tx, name string) {
			q, err := s.InTx(tx, "")
			if err == nil {
				_, err = q.CreateTask(t.Context(), name, queue.TaskMeta{})
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"a create in SQL": func(t *testing.T, tx pgx.Tx, name string) {
			if _, err := tx.Exec(t.Context(), "select pgqueue.create_task($1::text, '1'::json)", name); err != nil {
				t.Fatal(err)
			}
		},
		"a create in SQL behind a savepoint": func(t *testing.T, tx pgx.Tx, name string) {
			if _, err := tx.Exec(t.Context(), "savepoint a"); err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "select pgqueue.create_tasks($1::text, array['1'::json, '2'])", name); err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "release savepoint a"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			mustQueue(t, s, "mail")
			tx, err := s.Pool().Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			add(t, tx, "mail")

			_, err = s.DeleteQueue(t.Context(), queue.DefaultNamespace, "mail", queue.IfEmpty(true))
			if queue.KindOf(err) != queue.KindUnavailable {
				t.Errorf("beside the open transaction: %v", err)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err = s.DeleteQueue(t.Context(), queue.DefaultNamespace, "mail", queue.IfEmpty(true))
			if queue.KindOf(err) != queue.KindConflict {
				t.Errorf("after its commit: %v", err)
			}
			if _, err := s.DeleteQueue(t.Context(), queue.DefaultNamespace, "mail"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
