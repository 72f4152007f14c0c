// Package sqltx creates and completes tasks in transactions of database/sql, and of libraries that build on it.
//
// It calls the SQL API of the schema (docs/how-to/sql.md), so it needs no pool of its own, and works with every driver and
// pooler: each call is one statement with arguments of text and int8. A call that fails in PostgreSQL aborts the
// transaction, like any statement; bad input that this package finds itself does not.
//
// A [Querier] is *sql.Tx, *sql.Conn or *sql.DB, sqlx.Tx, the field Tx of bun.Tx, the DBTX of sqlc, tx.Statement.ConnPool of
// GORM, and the client of ent with the feature sql/execquery. *sql.DB gives each call a transaction of its own, apart from the
// statements of the program:
//
//	tx, err := db.BeginTx(ctx, nil)
//	// … statements of the program
//	id, err := sqltx.CreateTask(ctx, tx, "mail", queue.TaskMeta{Payload: []byte(`{"to": "ann@example.org"}`)})
//	err = tx.Commit()
//
// Errors are *queue.Error. KindUnavailable with SQLSTATE 40001 or 40P01 as its cause asks for a repeat of the whole
// transaction.
package sqltx
