package sqltx_test

import (
	"context"
	"database/sql"

	"github.com/pgqueue/pgqueue/adapters/sqltx"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// An order and the task to mail its confirmation: both are there, or neither.
func ExampleCreateTask() {
	order := func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // without effect after the commit
		if _, err := tx.ExecContext(ctx, "insert into orders (id) values (17)"); err != nil {
			return err
		}
		if _, err := sqltx.CreateTask(ctx, tx, "mail", queue.TaskMeta{Payload: []byte(`{"order": 17}`), Key: "order-17"}); err != nil {
			return err
		}
		return tx.Commit()
	}
	_ = order
}
