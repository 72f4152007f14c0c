package txn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// ConnectError means that the store got no connection, so it sent nothing.
type ConnectError struct{ Err error }

func (e *ConnectError) Unwrap() error { return e.Err }

// Error names each address once. pgx names each attempt, including the one with TLS before the one without.
func (e *ConnectError) Error() string {
	all, ok := errors.AsType[*pgconn.ConnectError](e.Err)
	if !ok {
		return e.Err.Error()
	}

	attempts := slices.Compact(strings.Split(all.Unwrap().Error(), "\n"))
	// A server without TLS refuses the first of two attempts; that of the second one is the cause.
	if len(attempts) > 1 {
		attempts = slices.DeleteFunc(attempts, func(s string) bool { return strings.HasSuffix(s, "server refused TLS connection") })
	}

	return fmt.Sprintf("user=%s database=%s: %s", all.Config.User, all.Config.Database, strings.Join(attempts, "; "))
}

// indeterminateError is a commit in doubt: the connection broke during the commit, or no standby confirmed the
// commit.
type indeterminateError struct{ err error }

func (e *indeterminateError) Error() string { return e.err.Error() }
func (e *indeterminateError) Unwrap() error { return e.err }

// IsSentByServer reports whether the server itself refused, so that nothing was committed. Class 08 (connection
// exceptions) does not count: a pooler that lost its server sends it in the server's place, and does not know the
// result.
func IsSentByServer(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !strings.HasPrefix(pg.Code, sqlstate.ConnectionClass)
}

// IsTransient reports whether a call that failed with err left nothing behind and may succeed when repeated. Package
// sqlstate has the SQLSTATEs.
func IsTransient(err error) bool {
	if _, ok := errors.AsType[*indeterminateError](err); ok {
		return false
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		// The server itself answered, so nothing is in doubt; its code alone decides.
		return sqlstate.Classify(pg.Code).Again
	}
	if _, ok := errors.AsType[*ConnectError](err); ok {
		return false // the pool has tried already; the caller decides how long to go on
	}
	if _, ok := errors.AsType[*queue.Error](err); ok {
		return false
	}
	// A broken connection before the commit: the server rolls back by itself.
	return pgconn.SafeToRetry(err) || isBrokenConnection(err)
}

// isBrokenConnection reports whether err means a broken connection.
func isBrokenConnection(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, cause := range []error{io.ErrUnexpectedEOF, io.EOF, net.ErrClosed, pgconn.ErrConnClosed, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// Translate turns each error of pgx into a *queue.Error with op. Every public method returns its errors through
// it.
func Translate(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*queue.Error](err); ok {
		return queue.WithOp(op, err)
	}

	e := &queue.Error{Op: op, Kind: queue.KindInternal, Err: err}
	if _, ok := errors.AsType[*indeterminateError](err); ok {
		e.Kind, e.Msg = queue.KindIndeterminate, "the connection broke during the commit; it may have happened or not, so check the state before a repeat"
		if errors.Is(err, errUnconfirmed) {
			e.Msg = "the wait for a synchronous standby was cut short; it has happened, and a failover may undo it"
		}
		return e
	}

	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverError(op, pg, err)
	}

	// The server has not answered: the context ended, or the connection failed.
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind = queue.KindDeadline
	case errors.Is(err, context.Canceled):
		e.Kind = queue.KindCanceled
	default:
		if _, ok := errors.AsType[*ConnectError](err); ok || pgconn.SafeToRetry(err) || isBrokenConnection(err) {
			e.Kind, e.Msg = queue.KindUnavailable, "the database cannot be reached"
		}
	}
	return e
}

// ErrNeedsPooler means that the connection string leads to a pooler and the options do not say so.
var ErrNeedsPooler = errors.New(sqlstate.AdvicePooler)

// errForeignEncoding is the cause of an error about the encoding of a connection.
var errForeignEncoding = errors.New("foreign client_encoding")
