package sqltx

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// kinds maps the SQLSTATEs of the SQL API, and those of PostgreSQL that a caller can act on, to kinds of errors. Classes,
// of two letters, are looked up after whole codes.
var kinds = map[string]queue.Kind{
	"PQ404": queue.KindNotFound,
	"PQ409": queue.KindKeyReused,
	"PQ410": queue.KindLeaseLost,
	"PQ413": queue.KindTooLarge,
	"PQ422": queue.KindInvalid,
	"PQ429": queue.KindExhausted,
	"PQ503": queue.KindUnavailable,

	"22021": queue.KindInvalid, // bytes that are not of the encoding
	"40003": queue.KindIndeterminate,
	"42501": queue.KindDenied,
	"3F000": queue.KindUnavailable, // no such schema
	"42883": queue.KindUnavailable, // no such function

	"08": queue.KindUnavailable, // connection
	"25": queue.KindConflict,    // state of the transaction: aborted, read-only
	"40": queue.KindUnavailable, // serialization failure, deadlock
	"53": queue.KindUnavailable, // resources
	"55": queue.KindUnavailable, // lock timeout
	"57": queue.KindUnavailable, // canceled, shutdown
}

// remedies are what a caller does about an error of PostgreSQL, by code or class.
var remedies = map[string]string{
	"22021": "must be valid UTF-8; encode the text as UTF-8",
	"42501": "the role may not; grant it the role pgqueue_producer, or EXECUTE on the function",
	"3F000": "must be the schema of pgqueue, got one that does not exist; run: pgqueue migrate up",
	"42883": "must have the functions of pgqueue, got a schema without them; run: pgqueue migrate up",
	"25":    "must be a transaction that can write, got one that is aborted or read-only; roll back",
	"40":    "the transaction must be repeated as a whole",
}

// located matches an error of the SQL API about a field of the input.
var located = regexp.MustCompile(`(?s)^([a-z_]+(?:\[\d+\])?): (.*)$`)

// translate returns the *queue.Error of an error of a driver. It reads the SQLSTATE by the method SQLState, which pgx and
// lib/pq have.
func translate(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*queue.Error](err); ok && stateOf(err) == "" {
		return queue.WithOp(op, err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return queue.WithOp(op, queue.ContextError(err))
	}

	code := stateOf(err)
	if code == "" {
		return &queue.Error{Op: op, Kind: queue.KindIndeterminate, Msg: "the driver reports an error without a SQLSTATE; roll back and repeat", Err: err}
	}
	kind, known := kinds[code]
	if !known {
		kind, known = kinds[code[:2]]
	}
	if !known {
		kind = queue.KindInternal
	}

	e := &queue.Error{Op: op, Kind: kind, Err: err}
	if !strings.HasPrefix(code, "PQ") {
		if e.Msg = remedies[code]; e.Msg == "" {
			e.Msg = remedies[code[:2]]
		}
		return e
	}

	// The message of the API is the whole text; the cause would repeat it.
	text := messageOf(err, code)
	e.Err = state(code)
	if m := located.FindStringSubmatch(text); m != nil {
		e.Field, text = m[1], m[2]
	}
	e.Msg = text
	return e
}

// translateCreate is translate for the create of a task: a key that its rule rejects is not a key with another payload.
func translateCreate(op string, task *queue.NewTask, err error) error {
	translated := translate(op, err)
	if e, ok := errors.AsType[*queue.Error](translated); ok && e.Kind == queue.KindKeyReused && task.OnConflict == queue.ConflictReject {
		e.Kind = queue.KindAlreadyExists
	}
	return translated
}

// state is the SQLSTATE of an error of the API, for callers that look for it.
type state string

// SQLState returns the code.
func (s state) SQLState() string { return string(s) }

// Error returns the code with its name.
func (s state) Error() string { return "SQLSTATE " + string(s) }

// stateOf returns the SQLSTATE of an error; "" without one.
func stateOf(err error) string {
	var e interface {
		error
		SQLState() string
	}
	if errors.As(err, &e) && len(e.SQLState()) == 5 {
		return e.SQLState()
	}
	return ""
}

// severity is the first word of a driver's text in the language of the server, or FATAL under exit_on_error. Messages of the API
// begin with a small letter.
var severity = regexp.MustCompile(`^[\p{Lu}\p{Lo}\p{Lm}]+: `)

// messageOf returns the message of an error of PostgreSQL without the additions of its driver.
func messageOf(err error, code string) string {
	text := err.Error()
	for _, prefix := range []string{"ERROR: ", "pq: "} {
		if _, rest, ok := strings.Cut(text, prefix); ok {
			text = rest
		}
	}
	text = severity.ReplaceAllString(text, "")
	for _, suffix := range []string{" (SQLSTATE " + code + ")", " (" + code + ")"} {
		if rest, _, ok := strings.Cut(text, suffix); ok {
			text = rest
		}
	}
	return text
}
