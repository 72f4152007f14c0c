// Creates a task in the transaction of its order by database/sql, and works it over REST with typed handlers:
//
//	go run main.go postgres://… http://localhost:8080/api
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/pgqueue/pgqueue/adapters/sqltx"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

type mail struct {
	Order int64 `json:"order"`
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := runExample(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func runExample(ctx context.Context, database, api string) error {
	client, err := restclient.New(api)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.RegisterQueue(ctx, queue.QueueMeta{Name: "go-mail"}); err != nil {
		return err
	}
	db, err := sql.Open("pgx", database)
	if err != nil {
		return err
	}
	defer db.Close()
	id, err := placeOrder(ctx, db, 17)
	if err != nil {
		return err
	}

	// A program that goes on until a signal leaves out WithMaxTasks.
	w := worker.New(client, worker.WithMaxTasks(1))
	w.Handle("go-mail", worker.Typed(func(_ context.Context, m mail) (map[string]int64, error) {
		return map[string]int64{"sent": m.Order}, nil // an error causes a retry after the backoff
	}))
	if err := w.Run(ctx); err != nil {
		return err
	}
	task, err := client.GetTask(ctx, id)
	if err != nil {
		return err
	}
	fmt.Println(task.Status, string(task.Result))
	return nil
}

// placeOrder writes an order and the task of its mail: both commit or neither.
func placeOrder(ctx context.Context, db *sql.DB, order int64) (id int64, err error) {
	if _, err := db.ExecContext(ctx, "create table if not exists go_orders (id bigint primary key)"); err != nil {
		return 0, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() {
		if rollback := tx.Rollback(); !errors.Is(rollback, sql.ErrTxDone) {
			err = errors.Join(err, rollback)
		}
	}()
	if _, err := tx.ExecContext(ctx, "insert into go_orders values ($1)", order); err != nil {
		return 0, err
	}
	id, err = sqltx.CreateTask(ctx, tx, "go-mail", queue.TaskMeta{Payload: fmt.Appendf(nil, `{"order":%d}`, order), Key: fmt.Sprintf("order-%d", order)})
	if err != nil {
		return 0, err
	}
	return id, tx.Commit()
}
