package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// tx is one transaction as a unit of work. It queues writes and sends them with the next read or the commit, in one
// round trip. A transaction that reads, decides and writes costs two round trips. It is not safe for concurrent use.
type tx struct {
	on    sender
	sql   statements
	batch *pgx.Batch
	// committed runs once t has committed; it may be nil.
	committed func()
}

// sender is a connection, or the transaction of the caller.
type sender interface {
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// queue adds a statement to the next round trip.
func (t *tx) queue(name string, args ...any) { t.batch.Queue(t.sql.get(name), args...) }

// queueRows adds a statement to the next round trip and calls each for every row of its result.
func (t *tx) queueRows(name string, each func(pgx.Rows) error, args ...any) {
	t.batch.Queue(t.sql.get(name), args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := each(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// queueStatement adds a statement with named parameters to the next round trip.
func (t *tx) queueStatement(s sqltext.Statement, args ...sqltext.Arg) {
	t.batch.Queue(t.sql.Of(s), t.sql.Values(s, args)...)
}

// queueQuery is queueStatement with the function each, which it calls for every row of the result.
func (t *tx) queueQuery(s sqltext.Statement, each func(pgx.Rows) error, args ...sqltext.Arg) {
	t.askText(t.sql.Of(s), each, t.sql.Values(s, args)...)
}

// askText is queueQuery for a text that serves one call.
func (t *tx) askText(text string, each func(pgx.Rows) error, values ...any) {
	t.batch.Queue(text, values...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := each(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// queueCounted adds a statement and sets rows to the number of rows that it changes.
func (t *tx) queueCounted(s sqltext.Statement, rows *int64, args ...sqltext.Arg) {
	t.batch.Queue(t.sql.Of(s), t.sql.Values(s, args)...).Exec(func(tag pgconn.CommandTag) error {
		*rows = tag.RowsAffected()
		return nil
	})
}

// queryRows is queueQuery and flushBatch in one call.
func (t *tx) queryRows(ctx context.Context, s sqltext.Statement, each func(pgx.Rows) error, args ...sqltext.Arg) error {
	t.queueQuery(s, each, args...)
	return t.flushBatch(ctx)
}

// flushBatch sends all queued statements and waits for their results.
func (t *tx) flushBatch(ctx context.Context) error {
	if t.batch.Len() == 0 {
		return nil
	}
	// The callbacks of the results may queue further statements, which belong to the next batch.
	b := t.batch
	t.batch = &pgx.Batch{}
	return t.on.SendBatch(ctx, b).Close()
}

// read is queueRows and flushBatch in one call.
func (t *tx) read(ctx context.Context, name string, each func(pgx.Rows) error, args ...any) error {
	t.queueRows(name, each, args...)
	return t.flushBatch(ctx)
}

// These limits govern the retries of transient faults: serialization failures, deadlocks and lock timeouts, and a
// shutdown or a broken connection before the commit.
const (
	maxTries     = 5
	firstBackoff = 5 * time.Millisecond
)

// runInTx runs do in a transaction of its own, and again after a transient fault without any effect. Because do may run
// several times, it must reset its results at the start.
func (s *Store) runInTx(ctx context.Context, op string, do func(ctx context.Context, t *tx) error) error {
	return s.runInTxWithin(ctx, s.opt.callTimeout, op, do)
}

// runInTxWithin is runInTx with a deadline of its own.
func (s *Store) runInTxWithin(ctx context.Context, most time.Duration, op string, do func(ctx context.Context, t *tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	backoff := firstBackoff
	for try := 1; ; try++ {
		err := s.tryTransaction(ctx, do)
		if err == nil || try == maxTries || ctx.Err() != nil || !isTransient(err) {
			return translateError(op, err)
		}
		// Jitter separates transactions that failed on each other.
		if !sleepFor(ctx, time.Duration((0.5+rand.Float64())*float64(backoff))) {
			return translateError(op, err)
		}
		backoff *= 2
	}
}

// sleepFor waits for d. It returns false if ctx ends first.
func sleepFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// tryTransaction makes one attempt of runInTx on a connection of the pool.
func (s *Store) tryTransaction(ctx context.Context, do func(ctx context.Context, t *tx) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return &connectError{err}
	}
	defer conn.Release()
	// Open has checked the connections of its own pool already.
	if !s.owned {
		if err := encodingFault(conn.Conn().PgConn()); err != nil {
			return err
		}
	}
	s.noteNewConnection(conn.Conn())
	return s.tryTransactionOn(ctx, conn.Conn(), do)
}

// beginTx sets the isolation level and overrides the role's default. A statement after a lock must read the state at
// that time; otherwise a concurrency limit could be exceeded. The access mode keeps its default: an operator that sets
// it to read-only intends that.
const beginTx = "begin isolation level read committed"

// tryTransactionOn runs do in one transaction on conn.
func (s *Store) tryTransactionOn(ctx context.Context, conn *pgx.Conn, do func(ctx context.Context, t *tx) error) error {
	takeUnconfirmedMark(conn) // clears the mark of an earlier user of the connection
	t := &tx{on: conn, sql: s.sql, batch: &pgx.Batch{}}
	t.batch.Queue(beginTx)
	if !s.tuned {
		t.queueStatement(setPlanner)
	}
	if err := do(ctx, t); err != nil {
		s.noteDatabaseError(err)
		if conn.PgConn().TxStatus() != 'I' {
			// The rollback has a deadline of its own, because the caller's may have ended. A connection that cannot
			// roll back is closed.
			rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if _, rerr := conn.Exec(rctx, "rollback"); rerr != nil {
				_ = conn.Close(rctx)
			}
		}
		return err
	}

	committed := false
	t.batch.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
		if committed = tag.String() == "COMMIT"; !committed {
			return errRolledBack
		}
		return nil
	})

	err := t.flushBatch(ctx)
	if committed { // an error after the answer to the commit, such as a shutdown of the server, has no effect
		if takeUnconfirmedMark(conn) {
			return &indeterminateError{errUnconfirmed}
		}

		if err == nil && t.committed != nil {
			t.committed()
		}
		return nil
	}
	if err != nil {
		s.noteDatabaseError(err)
		// The transaction has ended, or the connection broke with the commit on its way.
		if conn.PgConn().TxStatus() == 'I' || conn.IsClosed() {
			return commitFault(conn, err)
		}

		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = conn.Exec(rctx, "rollback")
	}

	return err
}

// These statements read the clock of the database, or set properties of a transaction.
var (
	readClock      = statement("clock")
	setPlanner     = statement("tx.plan")
	waitForStandby = statement("tx.wait")
	allowBitmaps   = statement("tx.bitmaps")
)

// errUnconfirmed is a commit with an interrupted wait for a synchronous standby (statement_timeout, pg_cancel_backend).
// PostgreSQL reports success for it. Only a warning says that a failover loses the commit.
var errUnconfirmed = errors.New("committed, but not confirmed by a standby")

// unconfirmedMark marks a connection that received that warning.
const unconfirmedMark = "pgqueue unconfirmed"

// onNotice handles every notice of a connection. It compares the routine, because servers translate the text.
func onNotice(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.Routine == "SyncRepWaitForLSN" {
		c.CustomData()[unconfirmedMark] = true
	}
}

// takeUnconfirmedMark reports whether the last commit of conn is unconfirmed, and clears the mark.
func takeUnconfirmedMark(conn *pgx.Conn) bool {
	data := conn.PgConn().CustomData()
	marked := data[unconfirmedMark] != nil
	delete(data, unconfirmedMark)
	return marked
}

// noteNewConnection invalidates the cursors if this store uses a connection for the first time.
func (s *Store) noteNewConnection(conn *pgx.Conn) {
	if data := conn.PgConn().CustomData(); data[s.notify.sender] == nil {
		data[s.notify.sender] = true
		s.lanes.invalidateCursors()
	}
}

// noteDatabaseError invalidates the cursors after a fault of the database.
func (s *Store) noteDatabaseError(err error) {
	if _, ok := errors.AsType[*queue.Error](err); !ok && !errors.Is(err, errNothing) && !errors.Is(err, errSplitting) && !errors.Is(err, errUndelivered) && !needPartition(err) {
		s.lanes.invalidateCursors()
	}
}

// errRolledBack is a commit that the server answered with a rollback.
var errRolledBack = errors.New("the transaction was rolled back at its commit")

// commitFault separates two cases of a failed commit. An error from the server proves that nothing was committed. A
// connection that broke during the commit leaves its result unknown.
func commitFault(conn *pgx.Conn, err error) error {
	if !conn.IsClosed() || isSentByServer(err) {
		return err
	}
	return &indeterminateError{err}
}

// withCallTimeout limits ctx to the call timeout of the store; a nearer deadline stays.
func (s *Store) withCallTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.opt.callTimeout)
}

// errNothing ends a transaction early, because it has nothing to do. It is not a failure.
var errNothing = errors.New("nothing to do")

// ignoreNothingToDo returns nil for errNothing, and err otherwise.
func ignoreNothingToDo(err error) error {
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

var _ queue.Store = (*Store)(nil)
