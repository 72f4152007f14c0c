package migrate

import (
	"context"
	"errors"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// These limits bound a step. Other sessions queue behind a step that waits for a table lock, so it waits at most
// stepLockTimeout and tries again.
const (
	stepTimeout      = 10 * time.Minute
	stepTries        = 20
	stepLockTimeout  = "3s"
	stepFirstBackoff = 50 * time.Millisecond
	stepMaxBackoff   = 2 * time.Second
	rollbackTimeout  = 5 * time.Second
)

// step is the work of one transaction. It may run several times.
type step func(context.Context, pgx.Tx) error

// readOnly runs do in a transaction that reads one snapshot and cannot write.
func (m *Migrator) readOnly(ctx context.Context, op string, do step) error {
	return m.retryStep(ctx, op, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, do)
}

// underLock runs do in a transaction that holds the lock of installers. Read committed overrides the default of the
// role: a statement after the lock must see the state at that time.
func (m *Migrator) underLock(ctx context.Context, op string, do step) error {
	options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	return m.retryStep(ctx, op, options, func(ctx context.Context, t pgx.Tx) error {
		if err := m.takeInstallLock(ctx, t); err != nil {
			return err
		}
		return do(ctx, t)
	})
}

// retryStep runs do in one transaction and repeats it after a transient fault.
func (m *Migrator) retryStep(ctx context.Context, op string, options pgx.TxOptions, do step) error {
	// The wide spread separates installers that started together.
	backoff := retry.Backoff{Min: stepFirstBackoff, Max: stepMaxBackoff, Spread: 0.5}
	for try := 1; ; try++ {
		err := m.tryStep(ctx, options, do)
		if err == nil || try == stepTries || ctx.Err() != nil || !txn.IsTransient(err) {
			return m.explainFault(op, err)
		}

		m.Logger.WarnContext(ctx, "a migration had to wait and tries again", "try", try, "error", err)
		if !retry.Sleep(ctx, backoff.Next()) {
			return m.explainFault(op, err)
		}
	}
}

// tryStep makes one attempt of retryStep, within stepTimeout.
func (m *Migrator) tryStep(ctx context.Context, options pgx.TxOptions, do step) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	conn, err := m.DB.Pool.Acquire(ctx)
	if err != nil {
		return &txn.ConnectError{Err: err}
	}
	defer conn.Release()

	t, err := conn.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	// The rollback has a deadline of its own, because the caller's may have ended. After a commit it has no effect.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = t.Rollback(ctx)
	}()

	if err := do(ctx, t); err != nil {
		return err
	}
	return t.Commit(ctx)
}

// takeInstallLock waits for other installers. The wait for them may be long, the later waits for tables must be short.
func (m *Migrator) takeInstallLock(ctx context.Context, t pgx.Tx) error {
	const noTimeouts = "set local lock_timeout = 0; set local statement_timeout = 0; "
	if err := runScript(ctx, t, noTimeouts+m.DB.Text.Of(clearSession)); err != nil {
		return err
	}
	if err := m.exec(ctx, t, lockInstallers, arg("key", m.installLockKey())); err != nil {
		return err
	}
	return runScript(ctx, t, "set local lock_timeout = '"+stepLockTimeout+"'")
}

// installLockKey returns the advisory lock of the schema's installers. It contains the schema, because several
// installations may share one database.
func (m *Migrator) installLockKey() int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("pgqueue migrate " + m.Schema))
	return int64(h.Sum64())
}

// explainFault returns the error for the caller, with a remedy if the role lacks a privilege.
func (m *Migrator) explainFault(op string, err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == sqlstate.InsufficientPrivilege {
		return &queue.Error{
			Op: op, Kind: queue.KindDenied, Subject: "schema " + m.Schema,
			Msg: "the role may not; run migrations as the role that owns the schema and its tables", Err: err,
		}
	}
	return txn.Translate(op, err)
}

// runScript runs the commands of text within t, each in a message of its own: Citus refuses several in one.
func runScript(ctx context.Context, t pgx.Tx, text string) error {
	for _, command := range sqltext.SplitCommands(text) {
		if err := t.Conn().PgConn().Exec(ctx, command).Close(); err != nil {
			return err
		}
	}
	return nil
}

// arg returns a named parameter with its value.
func arg(name string, value any) sqltext.Arg { return sqltext.Arg{Name: name, Value: value} }

// queryRow runs a statement that returns one row. It prepares nothing, because migrations change the tables.
func (m *Migrator) queryRow(ctx context.Context, t pgx.Tx, s sqltext.Statement, args ...sqltext.Arg) pgx.Row {
	return t.QueryRow(ctx, m.DB.Text.Of(s), m.values(s, args)...)
}

// exec runs a statement as queryRow does, without a result.
func (m *Migrator) exec(ctx context.Context, t pgx.Tx, s sqltext.Statement, args ...sqltext.Arg) error {
	_, err := t.Exec(ctx, m.DB.Text.Of(s), m.values(s, args)...)
	return err
}

func (m *Migrator) values(s sqltext.Statement, args []sqltext.Arg) []any {
	return append([]any{pgx.QueryExecModeExec}, m.DB.Text.Values(s, args)...)
}
