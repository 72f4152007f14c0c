package txn

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// adviceError is an error with its remedy for the operator. It is for logs: causes never travel to remote callers.
type adviceError struct {
	advice string
	err    error
}

func (e *adviceError) Error() string { return e.advice + ": " + e.err.Error() }
func (e *adviceError) Unwrap() error { return e.err }

// serverError translates the error pg of PostgreSQL for the caller of op.
func serverError(op string, pg *pgconn.PgError, err error) *queue.Error {
	f := sqlstate.Classify(pg.Code)
	e := &queue.Error{Op: op, Kind: f.Blame.Kind(), Err: err}
	switch f.Blame {
	case sqlstate.Operator:
		e.Msg, e.Err = "the database refuses this program's work; the program's log says why", &adviceError{f.Advice, err}
	case sqlstate.Caller:
		e.Msg = f.Advice
	case sqlstate.Passing, sqlstate.Defect, sqlstate.Unknown: // their kinds suffice
	}
	return e
}

// OpenError translates err for a program that opens a store, which acts for the operator. A role that cannot log in
// or lacks a privilege gives KindDenied with the advice. Callers of an open Store never get the advice.
func OpenError(op string, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return Translate(op, err)
	}
	if advice := sqlstate.Classify(pg.Code).Advice; advice == sqlstate.AdviceRole || advice == sqlstate.AdviceRights {
		return &queue.Error{Op: op, Kind: queue.KindDenied, Msg: advice, Err: err}
	}
	return Translate(op, err)
}

// WaitHelps reports whether a program that gets err at its start should wait for the database. It returns true for a
// database that is starting or unreachable. It returns false for an answer that needs the operator: a missing role or
// database, or a pooler in place of PostgreSQL.
func WaitHelps(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return sqlstate.Classify(pg.Code).Blame == sqlstate.Passing
	}
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Err == nil {
		return false
	}
	k := queue.KindOf(err)
	return (k == queue.KindUnavailable || k == queue.KindDeadline) && !errors.Is(err, errForeignEncoding) && !errors.Is(err, ErrNeedsPooler)
}
