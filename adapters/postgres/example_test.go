package postgres_test

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// A queue on a database, in the process: migrated here, or before by "pgqueue migrate up".
func Example() {
	ctx := context.Background()
	store, err := postgres.Open(ctx, "postgres://app@localhost/app")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if _, err := store.MigrateUp(ctx); err != nil {
		log.Print(err)
		return
	}
	m, err := manager.New(store, manager.WithNamespace("shop"))
	if err != nil {
		log.Print(err)
		return
	}
	if err := m.Run(ctx); err != nil { // background work and registered workers, until ctx ends
		log.Print(err)
	}
	if err := m.Close(context.WithoutCancel(ctx)); err != nil {
		log.Print(err)
	}
}

// An order and the task to mail its confirmation: both are there, or neither.
func ExampleInTx_CreateTask() {
	placeOrder := func(ctx context.Context, store *postgres.Store, id int64, payload []byte) error {
		return pgx.BeginFunc(ctx, store.Pool(), func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "insert into orders (id) values ($1)", id); err != nil {
				return err
			}
			q, err := store.InTx(tx, "shop")
			if err != nil {
				return err
			}
			_, err = q.CreateTask(ctx, "mail", queue.TaskMeta{Payload: payload})
			return err
		})
	}
	_ = placeOrder
}

// A retained task is completed, and what follows from it created, exactly when its work commits. The handler's own
// release afterwards repeats it and changes nothing.
func ExampleInTx_Complete() {
	ship := func(ctx context.Context, store *postgres.Store, task *queue.Task, order int64) error {
		return pgx.BeginFunc(ctx, store.Pool(), func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "update orders set shipped = true where id = $1", order); err != nil {
				return err
			}
			q, err := store.InTx(tx, task.Namespace)
			if err != nil {
				return err
			}
			follow := queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: task.Payload}}
			_, err = q.Complete(ctx, task, map[string]bool{"shipped": true}, follow)
			return err // a lost lease rolls the order back too
		})
	}
	_ = ship
}
