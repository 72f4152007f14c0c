package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says what went wrong in a way that survives every transport: REST and Connect map kinds to statuses and back.
// A Kind is itself an error, so errors.Is(err, ErrNotFound) holds wherever the error came from. Kinds are append-only.
type Kind string

// The kinds of errors.
const (
	// KindInvalid: the input breaks a rule or a limit; Field names it. Nothing changed; do not repeat it unchanged.
	KindInvalid Kind = "invalid"
	// KindTooLarge: the input is over a size limit.
	KindTooLarge Kind = "too_large"
	// KindNotFound: no such namespace, queue, task or ticker.
	KindNotFound Kind = "not_found"
	// KindAlreadyExists: a queue or ticker of that name is there.
	KindAlreadyExists Kind = "already_exists"
	// KindConflict: the task's status does not allow the move.
	KindConflict Kind = "conflict"
	// KindLeaseLost: the token is not the one of the task's present lease.
	KindLeaseLost Kind = "lease_lost"
	// KindKeyReused: the idempotency key belongs to a task with another payload.
	KindKeyReused Kind = "key_reused"
	// KindExhausted: a limit of the queue is reached, as max_waiting. Nothing changed; repeat it later.
	KindExhausted Kind = "exhausted"
	// KindPrecondition: the version given (If-Match) is not the present one.
	KindPrecondition Kind = "precondition_failed"
	// KindCursorExpired: the event cursor is older than what is kept.
	KindCursorExpired Kind = "cursor_expired"
	// KindSlowReader: a stream was ended because its reader did not keep up; resume from the last cursor.
	KindSlowReader Kind = "slow_reader"
	// KindUnavailable: the database or the server cannot be reached now, or is shutting down. Nothing changed; repeat it.
	KindUnavailable Kind = "unavailable"
	// KindIndeterminate: the connection broke when the outcome was on its way: it may have happened or not. Repeat a
	// create with its idempotency key, a release with its token.
	KindIndeterminate Kind = "indeterminate"
	// KindDeadline: the caller's deadline passed.
	KindDeadline Kind = "deadline_exceeded"
	// KindCanceled: the caller gave up.
	KindCanceled Kind = "canceled"
	// KindDenied: the caller may not do this. A role that the database denies something to is KindUnavailable to callers.
	KindDenied Kind = "permission_denied"
	// KindUnauthenticated: the call has no credential, or one that is not valid.
	KindUnauthenticated Kind = "unauthenticated"
	// KindInternal: a defect of pgqueue.
	KindInternal Kind = "internal"
)

// Error makes a Kind a sentinel.
func (k Kind) Error() string { return "pgqueue: " + strings.ReplaceAll(string(k), "_", " ") }

// Sentinels for errors.Is, one a kind.
var (
	ErrInvalid       error = KindInvalid
	ErrTooLarge      error = KindTooLarge
	ErrNotFound      error = KindNotFound
	ErrAlreadyExists error = KindAlreadyExists
	ErrConflict      error = KindConflict
	ErrLeaseLost     error = KindLeaseLost
	ErrKeyReused     error = KindKeyReused
	ErrExhausted     error = KindExhausted
	ErrPrecondition  error = KindPrecondition
	ErrCursorExpired error = KindCursorExpired
	ErrSlowReader    error = KindSlowReader
	ErrUnavailable   error = KindUnavailable
	ErrIndeterminate error = KindIndeterminate
	ErrDeadline      error = KindDeadline
	ErrCanceled      error = KindCanceled
	ErrDenied        error = KindDenied
	ErrInternal      error = KindInternal

	ErrUnauthenticated error = KindUnauthenticated
)

// Kinds lists every kind, for tables and tests.
func Kinds() []Kind {
	return []Kind{
		KindInvalid, KindTooLarge, KindNotFound, KindAlreadyExists, KindConflict, KindLeaseLost, KindKeyReused,
		KindExhausted, KindPrecondition, KindCursorExpired, KindSlowReader, KindUnavailable, KindIndeterminate, KindDeadline,
		KindCanceled, KindDenied, KindUnauthenticated, KindInternal,
	}
}

// Error is the one error type of the domain, its adapters and its clients.
type Error struct {
	// Op is what was attempted, as "create task".
	Op string
	// Kind classifies; errors.Is compares it with the sentinels.
	Kind Kind
	// Subject is what it was about, as "queue mail" or "task 12".
	Subject string
	// Field is the input at fault, in the words of the wire, as "retry_delay" or "tasks[3].payload".
	Field string
	// Msg says what is wrong and what to do, for people.
	Msg string
	// Err is the cause, if any. It does not travel over the wire.
	Err error
}

// Error reads "create task: queue mail: no such queue; create it first".
func (e *Error) Error() string {
	var parts []string
	for _, p := range []string{e.Op, e.Subject, e.Field} {
		if p != "" {
			parts = append(parts, p)
		}
	}

	switch {
	case e.Msg != "":
		parts = append(parts, e.Msg)
	case e.Err == nil:
		parts = append(parts, strings.TrimPrefix(e.Kind.Error(), "pgqueue: "))
	}

	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}

	return strings.Join(parts, ": ")
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the sentinel of e's kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// KindOf returns the kind of err: the outermost *Error's, or the Kind itself; KindInternal for a foreign error and ""
// for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if k, ok := errors.AsType[Kind](err); ok {
		return k
	}
	return KindInternal
}

// Invalid is an error of KindInvalid about one field of the input.
func Invalid(field, msg string) *Error { return &Error{Kind: KindInvalid, Field: field, Msg: msg} }

// At returns err with prefix put before its field ("tasks[3]" and "payload" give "tasks[3].payload"), so that an error
// inside a batch names its place. A foreign error is returned as it is.
func At(prefix string, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	c := *e
	if c.Field == "" {
		c.Field = prefix
	} else {
		c.Field = prefix + "." + c.Field
	}
	return &c
}

// WithOp returns err with its operation set when it is an *Error without one; nil stays nil.
func WithOp(op string, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Op != "" {
		return err
	}
	c := *e
	c.Op = op
	return &c
}

// NotFoundTask is the error of KindNotFound for a task.
func NotFoundTask(id int64) *Error {
	return &Error{Kind: KindNotFound, Subject: fmt.Sprintf("task %d", id), Msg: "no such task; it may be deleted or past its retention"}
}

// NotFoundQueue is the error of KindNotFound for a queue.
func NotFoundQueue(name string) *Error {
	return &Error{Kind: KindNotFound, Subject: "queue " + name, Msg: "no such queue; create it first"}
}

// NotFoundTicker is the error of KindNotFound for a ticker.
func NotFoundTicker(name string) *Error {
	return &Error{Kind: KindNotFound, Subject: "ticker " + name, Msg: "no such ticker; create it first"}
}

// ContextError is the error of a call that ended with its caller's context: KindDeadline or KindCanceled, with err, the
// error of that context, as its cause.
func ContextError(err error) *Error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Kind: KindDeadline, Err: err}
	}

	return &Error{Kind: KindCanceled, Err: err}
}
