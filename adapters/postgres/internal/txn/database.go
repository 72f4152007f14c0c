package txn

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// Database runs transactions and reads on the pool of a store. Its fields do not change after the first call.
type Database struct {
	Pool *pgxpool.Pool
	Text *sqltext.Text
	// CallTimeout bounds each call; a nearer deadline of the caller stays.
	CallTimeout time.Duration
	// Owned means that a [Connector] made the connections of the pool: they have passed its checks.
	Owned bool
	// Planned means that the connections have the planner settings of statedSettings. Otherwise each transaction makes
	// SetPlanner its first statement.
	Planned    bool
	SetPlanner sqltext.Statement
	// ID marks the connections that this Database has used. It is unique among the stores that share a pool.
	ID string
	// OnNewConnection runs when a transaction uses a connection for the first time: it may lead to another server.
	OnNewConnection func()
	// OnFault runs with each fault of the database that ends a transaction.
	OnFault func(error)
}

// These limits govern the retries of transient faults: serialization failures, deadlocks and lock timeouts, and a
// shutdown or a broken connection before the commit.
const (
	maxTries = 5
	// FirstBackoff is the mean pause before the first retry; it doubles from one to the next.
	FirstBackoff = 5 * time.Millisecond
)

// rollbackTimeout bounds a rollback, for which the deadline of the caller may have ended.
const rollbackTimeout = 5 * time.Second

// WithTimeout limits ctx to the timeout of a call.
func (d *Database) WithTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.CallTimeout)
}

// Run runs do in a transaction of its own, and again after a transient fault without any effect. Because do may run
// several times, it must reset its results at the start.
func (d *Database) Run(ctx context.Context, op string, do func(ctx context.Context, t *Tx) error) error {
	return d.RunWithin(ctx, d.CallTimeout, op, do)
}

// RunWithin is Run with a deadline of its own.
func (d *Database) RunWithin(ctx context.Context, most time.Duration, op string, do func(ctx context.Context, t *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	// Jitter separates transactions that failed on each other.
	backoff := retry.Backoff{Min: FirstBackoff, Max: FirstBackoff << maxTries, Spread: 0.5}
	for try := 1; ; try++ {
		err := d.Try(ctx, do)
		if err == nil || try == maxTries || ctx.Err() != nil || !IsTransient(err) {
			return Translate(op, err)
		}
		if !retry.Sleep(ctx, backoff.Next()) {
			return Translate(op, err)
		}
	}
}

// Try makes one attempt of Run on a connection of the pool. Its error is that of pgx.
func (d *Database) Try(ctx context.Context, do func(ctx context.Context, t *Tx) error) error {
	conn, err := d.Pool.Acquire(ctx)
	if err != nil {
		return &ConnectError{err}
	}
	defer conn.Release()

	// A Connector has checked the connections of its own pool already.
	if !d.Owned {
		if err := EncodingFault(conn.Conn().PgConn()); err != nil {
			return err
		}
	}
	d.NoteConnection(conn.Conn())
	return d.TryOn(ctx, conn.Conn(), do)
}

// beginTx sets the isolation level and overrides the role's default. A statement after a lock must read the state at
// that time; otherwise a concurrency limit could be exceeded. The access mode keeps its default: an operator that sets
// it to read-only intends that.
const beginTx = "begin isolation level read committed"

// TryOn runs do in one transaction on conn. Its error is that of pgx.
func (d *Database) TryOn(ctx context.Context, conn *pgx.Conn, do func(ctx context.Context, t *Tx) error) error {
	takeUnconfirmedMark(conn) // clears the mark of an earlier user of the connection
	t := newTx(conn, d.Text)
	t.QueueText(beginTx)
	if !d.Planned {
		t.Queue(d.SetPlanner)
	}

	if err := do(ctx, t); err != nil {
		d.noteFault(err)
		// I is idle: do may fail before anything was sent, or the server may have ended the transaction.
		if conn.PgConn().TxStatus() != 'I' {
			rollBack(ctx, conn)
		}
		forgetStatements(ctx, conn, err)
		return err
	}
	return d.commitOn(ctx, conn, t)
}

// commitOn sends the queued statements of t and the commit.
func (d *Database) commitOn(ctx context.Context, conn *pgx.Conn, t *Tx) error {
	committed := false
	t.batch.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
		if committed = tag.String() == "COMMIT"; !committed {
			return errRolledBack
		}
		return nil
	})

	err := t.Flush(ctx)
	if committed { // an error after the answer to the commit, such as a shutdown of the server, has no effect
		if takeUnconfirmedMark(conn) {
			return &indeterminateError{errUnconfirmed}
		}
		if err == nil && t.AfterCommit != nil {
			t.AfterCommit()
		}
		return nil
	}
	if err == nil {
		return nil
	}

	d.noteFault(err)
	// The transaction has ended, or the connection broke with the commit on its way.
	defer forgetStatements(ctx, conn, err)
	if conn.PgConn().TxStatus() == 'I' || conn.IsClosed() {
		return commitFault(conn, err)
	}
	rollBack(ctx, conn)
	return err
}

// rollBack ends the transaction on conn. It closes a connection that cannot roll back.
func rollBack(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, "rollback"); err != nil {
		_ = conn.Close(ctx)
	}
}

// forgetStatements forgets the prepared statements of conn when the server has lost one, because it may have lost all. Else each of
// the following calls would meet another lost one. It closes a connection that it cannot clear.
func forgetStatements(ctx context.Context, conn *pgx.Conn, err error) {
	if sent, ok := errors.AsType[*pgconn.PgError](err); !ok || sent.Code != sqlstate.LostStatement || conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	if conn.DeallocateAll(ctx) != nil {
		_ = conn.Close(ctx)
	}
}

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

// NoteConnection runs OnNewConnection if d uses conn for the first time.
func (d *Database) NoteConnection(conn *pgx.Conn) {
	if data := conn.PgConn().CustomData(); data[d.ID] == nil {
		data[d.ID] = true
		d.OnNewConnection()
	}
}

// noteFault runs OnFault for a fault of the database.
func (d *Database) noteFault(err error) {
	if _, domain := errors.AsType[*queue.Error](err); domain {
		return
	}
	if _, stopped := errors.AsType[StopError](err); stopped {
		return
	}
	d.OnFault(err)
}

// errRolledBack is a commit that the server answered with a rollback.
var errRolledBack = errors.New("the transaction was rolled back at its commit")

// commitFault separates two cases of a failed commit. An error from the server proves that nothing was committed. A
// connection that broke during the commit leaves its result unknown.
func commitFault(conn *pgx.Conn, err error) error {
	if !conn.IsClosed() || IsSentByServer(err) {
		return err
	}
	return &indeterminateError{err}
}

// StopError ends a transaction on purpose. It is not a fault of the database.
type StopError string

func (e StopError) Error() string { return string(e) }

// ErrNothing ends a transaction early, because it has nothing to do. It is not a failure.
const ErrNothing = StopError("nothing to do")

// IgnoreNothing returns nil for ErrNothing, and err otherwise.
func IgnoreNothing(err error) error {
	if errors.Is(err, ErrNothing) {
		return nil
	}
	return err
}

// Query runs one statement outside a transaction, calls each for every row, and repeats both after a transient fault.
// It is for reads only.
func (d *Database) Query(ctx context.Context, op string, s sqltext.Statement, each func(pgx.Rows) error, args ...sqltext.Arg) error {
	return d.QueryText(ctx, op, d.Text.Of(s), each, d.Text.Values(s, args)...)
}

// QueryText is Query for a text that serves one call.
func (d *Database) QueryText(ctx context.Context, op, text string, each func(pgx.Rows) error, values ...any) error {
	ctx, cancel := d.WithTimeout(ctx)
	defer cancel()
	for try := 1; ; try++ {
		// Without a pause: a read cannot fail on another transaction that has to end first.
		err := d.queryTextOnce(ctx, text, each, values...)
		if err == nil || try == maxTries || ctx.Err() != nil || !IsTransient(err) {
			return Translate(op, err)
		}
	}
}

// queryTextOnce makes one attempt of QueryText.
func (d *Database) queryTextOnce(ctx context.Context, text string, each func(pgx.Rows) error, values ...any) error {
	rows, err := d.Pool.Query(ctx, text, values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	return eachRow(rows, each)
}
