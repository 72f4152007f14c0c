package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// connectError: no connection could be had, so nothing was sent.
type connectError struct{ err error }

func (e *connectError) Unwrap() error { return e.err }

// Error tells of each address once: pgx tells of every attempt, also of that with TLS before that without.
func (e *connectError) Error() string {
	all, ok := errors.AsType[*pgconn.ConnectError](e.err)
	if !ok {
		return e.err.Error()
	}
	attempts := slices.Compact(strings.Split(all.Unwrap().Error(), "\n"))
	if len(attempts) > 1 {
		attempts = slices.DeleteFunc(attempts, func(s string) bool { return strings.HasSuffix(s, "server refused TLS connection") })
	}
	return fmt.Sprintf("user=%s database=%s: %s", all.Config.User, all.Config.Database, strings.Join(attempts, "; "))
}

// indeterminateError: the connection broke while the commit was on its way, or the commit is not confirmed by a standby.
type indeterminateError struct{ err error }

func (e *indeterminateError) Error() string { return e.err.Error() }
func (e *indeterminateError) Unwrap() error { return e.err }

// isSentByServer says that the server itself refused, so nothing was committed. A pooler that lost its server in the middle
// says so in the server's place (class 08, connection exceptions), and knows no more than we do.
func isSentByServer(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !strings.HasPrefix(pg.Code, "08")
}

// isTransient says that err left nothing behind and may not come again. Codes: see faults.
func isTransient(err error) bool {
	if _, ok := errors.AsType[*indeterminateError](err); ok {
		return false
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifySQLState(pg.Code).again
	}
	if _, ok := errors.AsType[*connectError](err); ok {
		return false // the pool has tried already; the caller decides how long to go on
	}
	if _, ok := errors.AsType[*queue.Error](err); ok {
		return false
	}
	return pgconn.SafeToRetry(err) || isBrokenConnection(err)
}

// isBrokenConnection says that the connection is gone.
func isBrokenConnection(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	msg := err.Error()
	return strings.Contains(msg, "unexpected EOF") || strings.Contains(msg, "conn closed") || strings.Contains(msg, "broken pipe") ||
		strings.Contains(msg, "connection reset")
}

// translateError is the edge: whatever comes out of pgx leaves as a *queue.Error with op.
func translateError(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*queue.Error](err); ok {
		return queue.WithOp(op, err)
	}
	e := &queue.Error{Op: op, Kind: queue.KindInternal, Err: err}
	if _, ok := errors.AsType[*indeterminateError](err); ok {
		e.Kind, e.Msg = queue.KindIndeterminate, "the connection broke during the commit; it may have happened or not"
		if errors.Is(err, errUnconfirmed) {
			e.Msg = "the wait for a synchronous standby was cut short; it has happened, and a failover may undo it"
		}
		return e
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverError(op, pg, err)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind = queue.KindDeadline
	case errors.Is(err, context.Canceled):
		e.Kind = queue.KindCanceled
	default:
		if _, ok := errors.AsType[*connectError](err); ok || pgconn.SafeToRetry(err) || isBrokenConnection(err) {
			e.Kind, e.Msg = queue.KindUnavailable, "the database cannot be reached"
		}
	}
	return e
}

// errNeedsPooler: the connection string leads through a pooler that the options do not tell of.
var errNeedsPooler = errors.New(advicePooler)

// errForeignEncoding is the cause of a refusal for the encoding of a connection.
var errForeignEncoding = errors.New("foreign client_encoding")
