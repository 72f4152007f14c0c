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

// tx is one transaction as a unit of work: writes are queued and leave with the next read or with the commit, in one
// round trip. A transaction of "read, decide, write" costs two.
type tx struct {
	on    sender
	sql   statements
	batch *pgx.Batch
	// committed is called once t has committed; nil = nothing to do.
	committed func()
}

// sender is a connection, or the caller's own transaction.
type sender interface {
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// queue puts a statement into the next round trip.
func (t *tx) queue(name string, args ...any) { t.batch.Queue(t.sql.get(name), args...) }

// queueRows does the same and hands the rows to each.
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

// queueStatement puts a statement with named parameters into the next round trip.
func (t *tx) queueStatement(s sqltext.Statement, args ...sqltext.Arg) {
	t.batch.Queue(t.sql.Of(s), t.sql.Values(s, args)...)
}

// queueQuery does the same and calls each for every row of the answer.
func (t *tx) queueQuery(s sqltext.Statement, each func(pgx.Rows) error, args ...sqltext.Arg) {
	t.askText(t.sql.Of(s), each, t.sql.Values(s, args)...)
}

// askText is ask for a text that is made for one call.
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

// queueCounted does the same and keeps the number of rows that the statement changes.
func (t *tx) queueCounted(s sqltext.Statement, rows *int64, args ...sqltext.Arg) {
	t.batch.Queue(t.sql.Of(s), t.sql.Values(s, args)...).Exec(func(tag pgconn.CommandTag) error {
		*rows = tag.RowsAffected()
		return nil
	})
}

// queryRows is ask and flush.
func (t *tx) queryRows(ctx context.Context, s sqltext.Statement, each func(pgx.Rows) error, args ...sqltext.Arg) error {
	t.queueQuery(s, each, args...)
	return t.flushBatch(ctx)
}

// flushBatch sends what is queued and waits for all of it.
func (t *tx) flushBatch(ctx context.Context) error {
	if t.batch.Len() == 0 {
		return nil
	}
	b := t.batch
	t.batch = &pgx.Batch{}
	return t.on.SendBatch(ctx, b).Close()
}

// read is queueRows and flush.
func (t *tx) read(ctx context.Context, name string, each func(pgx.Rows) error, args ...any) error {
	t.queueRows(name, each, args...)
	return t.flushBatch(ctx)
}

// Retries of transient faults: serialization, deadlock, lock not to be had, a shutdown or a broken connection before
// anything was committed.
const (
	maxTries     = 5
	firstBackoff = 5 * time.Millisecond
)

// runInTx runs do in a transaction of its own, again after a transient fault that left nothing behind. do may run several
// times and must not keep what an earlier run gathered.
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
		if !sleepFor(ctx, time.Duration((0.5+rand.Float64())*float64(backoff))) {
			return translateError(op, err)
		}
		backoff *= 2
	}
}

// sleepFor waits for d; false when ctx ended first.
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

func (s *Store) tryTransaction(ctx context.Context, do func(ctx context.Context, t *tx) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return &connectError{err}
	}
	defer conn.Release()
	if !s.owned {
		if err := encodingFault(conn.Conn().PgConn()); err != nil {
			return err
		}
	}
	s.noteNewConnection(conn.Conn())
	return s.tryTransactionOn(ctx, conn.Conn(), do)
}

// beginTx states the level, whatever the role's default: what a statement reads after a lock must be what is there then.
// A concurrency limit is exceeded otherwise. The access mode stays the default's: who made it read only means that.
const beginTx = "begin isolation level read committed"

// tryTransactionOn runs do in one transaction on conn.
func (s *Store) tryTransactionOn(ctx context.Context, conn *pgx.Conn, do func(ctx context.Context, t *tx) error) error {
	takeUnconfirmedMark(conn) // whatever somebody else did on it
	t := &tx{on: conn, sql: s.sql, batch: &pgx.Batch{}}
	t.batch.Queue(beginTx)
	if !s.tuned {
		t.queueStatement(setPlanner)
	}
	if err := do(ctx, t); err != nil {
		s.noteDatabaseError(err)
		if conn.PgConn().TxStatus() != 'I' {
			// On its own deadline: the caller's may be why we are here. A connection that cannot roll back is closed.
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
	if committed { // what came behind its answer, such as the server's own end, changes nothing
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
		if conn.PgConn().TxStatus() == 'I' || conn.IsClosed() {
			return commitFault(conn, err)
		}

		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = conn.Exec(rctx, "rollback")
	}

	return err
}

// Settings and effects of a transaction, and the clock of the database.
var (
	readClock      = statement("clock")
	setPlanner     = statement("tx.plan")
	waitForStandby = statement("tx.wait")
	allowBitmaps   = statement("tx.bitmaps")
)

// errUnconfirmed is a commit that waited for a synchronous standby until somebody ended the wait (statement_timeout,
// pg_cancel_backend). PostgreSQL answers such a commit like any other, and says by a warning alone that a failover loses it.
var errUnconfirmed = errors.New("committed, but not confirmed by a standby")

// unconfirmedMark marks a connection that gave that warning.
const unconfirmedMark = "pgqueue unconfirmed"

// onNotice is told of every notice. The texts are translated, the name of the routine is not.
func onNotice(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.Routine == "SyncRepWaitForLSN" {
		c.CustomData()[unconfirmedMark] = true
	}
}

// takeUnconfirmedMark says whether the last commit of conn is not confirmed, and forgets it.
func takeUnconfirmedMark(conn *pgx.Conn) bool {
	data := conn.PgConn().CustomData()
	marked := data[unconfirmedMark] != nil
	delete(data, unconfirmedMark)
	return marked
}

// noteNewConnection notices a connection that this store has not used.
func (s *Store) noteNewConnection(conn *pgx.Conn) {
	if data := conn.PgConn().CustomData(); data[s.notify.sender] == nil {
		data[s.notify.sender] = true
		s.lanes.invalidateCursors()
	}
}

// noteDatabaseError notices a fault of the database.
func (s *Store) noteDatabaseError(err error) {
	if _, ok := errors.AsType[*queue.Error](err); !ok && !errors.Is(err, errNothing) && !errors.Is(err, errSplitting) && !errors.Is(err, errUndelivered) && !needPartition(err) {
		s.lanes.invalidateCursors()
	}
}

// errRolledBack is a commit that was answered by a rollback.
var errRolledBack = errors.New("the transaction was rolled back at its commit")

// commitFault tells an error that the server sent (nothing was committed) from a connection that broke with the commit
// on its way (nobody knows).
func commitFault(conn *pgx.Conn, err error) error {
	if !conn.IsClosed() || isSentByServer(err) {
		return err
	}
	return &indeterminateError{err}
}

// withCallTimeout gives ctx the store's deadline where it has none of its own that is nearer.
func (s *Store) withCallTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.opt.callTimeout)
}

// errNothing ends a transaction early without an error: there is nothing to do.
var errNothing = errors.New("nothing to do")

// ignoreNothingToDo turns errNothing into success.
func ignoreNothingToDo(err error) error {
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

var _ queue.Store = (*Store)(nil)
