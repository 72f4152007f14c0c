// The program inserts orders and creates tasks in transactions of a client of ent, as its users do. Its argument is the URL of a
// database, of which it prints the orders and the tasks: those of the transaction that was rolled back are not among them.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "github.com/lib/pq"

	"example.com/orders/ent"

	"github.com/pgqueue/pgqueue/adapters/sqltx"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url string) error {
	db, err := sql.Open("postgres", url)
	if err != nil {
		return err
	}
	client := ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, db)))
	if err := client.Schema.Create(ctx); err != nil {
		return err
	}

	for _, end := range []func(*ent.Tx) error{(*ent.Tx).Rollback, (*ent.Tx).Commit} {
		tx, err := client.Tx(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Order.Create().SetEmail("ann@example.org").Save(ctx); err != nil {
			return err
		}
		if _, err := sqltx.CreateTask(ctx, tx, "mail", queue.TaskMeta{Payload: []byte(`{"to": "ann"}`), Key: "order"}); err != nil {
			return err
		}
		if err := end(tx); err != nil {
			return err
		}
	}

	// Outside of a transaction, the error names the field.
	_, err = sqltx.CreateTask(ctx, client, "mail", queue.TaskMeta{Payload: []byte(`2`), Key: "order"})
	e, ok := errors.AsType[*queue.Error](err)
	orders, countErr := client.Order.Query().Count(ctx)
	var tasks int
	scanErr := db.QueryRowContext(ctx, "select count(*) from pgqueue.tasks").Scan(&tasks)
	fmt.Println("orders", orders, "tasks", tasks, "refused", ok && e.Kind == queue.KindKeyReused && e.Field == "key")
	return errors.Join(countErr, scanErr)
}
