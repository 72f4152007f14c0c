package txn

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

// Tx is one transaction as a unit of work. It queues writes and sends them with the next read or the commit, in one
// round trip. A transaction that reads, decides and writes costs two round trips. It is not safe for concurrent use.
type Tx struct {
	conn sender
	text *sqltext.Text

	// batch gathers the statements of the next round trip. Flush swaps it with sent, because the callbacks of the results
	// may queue further statements.
	batch, sent *pgx.Batch
	batches     [2]pgx.Batch
	// queued is the first memory of the batches: most round trips have no more statements.
	queued [2][4]*pgx.QueuedQuery

	// AfterCommit runs once the transaction has committed; it may be nil.
	AfterCommit func()
}

// sender is a connection, or the transaction of the caller.
type sender interface {
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Within returns a Tx inside the transaction tx of the caller, which commits it. AfterCommit has no effect there.
func Within(tx pgx.Tx, text *sqltext.Text) *Tx { return newTx(tx, text) }

func newTx(conn sender, text *sqltext.Text) *Tx {
	t := &Tx{conn: conn, text: text}
	for i := range t.batches {
		t.batches[i].QueuedQueries = t.queued[i][:0]
	}
	t.batch, t.sent = &t.batches[0], &t.batches[1]
	return t
}

// Queue adds a statement to the next round trip.
func (t *Tx) Queue(s sqltext.Statement, args ...sqltext.Arg) {
	t.batch.Queue(t.text.Of(s), t.text.Values(s, args)...)
}

// QueueQuery is Queue with the function each, which Flush calls for every row of the result.
func (t *Tx) QueueQuery(s sqltext.Statement, each func(pgx.Rows) error, args ...sqltext.Arg) {
	t.QueueTextQuery(t.text.Of(s), each, t.text.Values(s, args)...)
}

// QueueCounted is Queue; Flush sets rows to the number of rows that the statement changes.
func (t *Tx) QueueCounted(s sqltext.Statement, rows *int64, args ...sqltext.Arg) {
	t.batch.Queue(t.text.Of(s), t.text.Values(s, args)...).Exec(func(tag pgconn.CommandTag) error {
		*rows = tag.RowsAffected()
		return nil
	})
}

// QueueText is Queue for a text that serves one call.
func (t *Tx) QueueText(text string, values ...any) { t.batch.Queue(text, values...) }

// QueueTextQuery is QueueQuery for a text that serves one call.
func (t *Tx) QueueTextQuery(text string, each func(pgx.Rows) error, values ...any) {
	t.batch.Queue(text, values...).Query(func(rows pgx.Rows) error { return eachRow(rows, each) })
}

// Query is QueueQuery and Flush in one call.
func (t *Tx) Query(ctx context.Context, s sqltext.Statement, each func(pgx.Rows) error, args ...sqltext.Arg) error {
	t.QueueQuery(s, each, args...)
	return t.Flush(ctx)
}

// Flush sends all queued statements and waits for their results.
func (t *Tx) Flush(ctx context.Context) error {
	if t.batch.Len() == 0 {
		return nil
	}

	t.batch, t.sent = t.sent, t.batch
	err := t.conn.SendBatch(ctx, t.sent).Close()

	// The next round trip but one uses the memory of this one.
	clear(t.sent.QueuedQueries)
	*t.sent = pgx.Batch{QueuedQueries: t.sent.QueuedQueries[:0]}
	return err
}

// CopyFrom writes rows into table by COPY, in a round trip of its own.
func (t *Tx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) error {
	_, err := t.conn.CopyFrom(ctx, table, columns, rows)
	return err
}

// Text returns the statements in the schema of the transaction.
func (t *Tx) Text() *sqltext.Text { return t.text }

// eachRow calls each for every row of rows.
func eachRow(rows pgx.Rows, each func(pgx.Rows) error) error {
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
