package sqltx

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// meaning is the kind of an error, and its remedy.
type meaning struct {
	kind   queue.Kind
	remedy string
}

// ownStates are the codes that mean something else to a program with a transaction and a role of its own than to callers of a
// store: those of the SQL API, and the two that such a program causes itself. All other codes mean what package sqlstate says.
var ownStates = map[string]meaning{
	"PQ404": {kind: queue.KindNotFound},
	"PQ409": {kind: queue.KindKeyReused},
	"PQ410": {kind: queue.KindLeaseLost},
	"PQ413": {kind: queue.KindTooLarge},
	"PQ422": {kind: queue.KindInvalid},
	"PQ429": {kind: queue.KindExhausted},
	"PQ503": {kind: queue.KindUnavailable},

	sqlstate.UnknownEncoding:       {queue.KindInvalid, "must be valid UTF-8; encode the text as UTF-8"},
	sqlstate.InsufficientPrivilege: {queue.KindDenied, "the role may not; grant it the role pgqueue_producer, or EXECUTE on the function"},
}

// meaningOf returns the meaning of a code.
func meaningOf(code string) meaning {
	if m, ok := ownStates[code]; ok {
		return m
	}

	f := sqlstate.Classify(code)
	m := meaning{f.Blame.Kind(), f.Advice}
	switch {
	case f.Advice == sqlstate.AdvicePooler: // the connection is the program's, and has no option of pgqueue
		m.remedy = "the connection leads through a transaction pooler; let the driver use no prepared statements"
	case code == sqlstate.ReadOnly:
		m.remedy = "must be a transaction that can write, got one that is read-only, as on a standby; roll back and repeat it on the primary"
	case f.Blame == sqlstate.Passing:
		m.remedy = "the transaction must be repeated as a whole"
	}
	return m
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

	m := meaningOf(code)
	e := &queue.Error{Op: op, Kind: m.kind, Msg: m.remedy, Err: err}
	if !strings.HasPrefix(code, "PQ") {
		return e
	}

	// The message of the API is the whole text; the cause would repeat it.
	text := messageOf(err, code)
	e.Err = state(code)
	if parts := located.FindStringSubmatch(text); parts != nil {
		e.Field, text = parts[1], parts[2]
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

// sqlStater is an error of a driver.
type sqlStater interface {
	error
	SQLState() string
}

// stateOf returns the SQLSTATE of an error; "" without one.
func stateOf(err error) string {
	var e sqlStater
	if errors.As(err, &e) && len(e.SQLState()) == 5 {
		return e.SQLState()
	}
	return ""
}

// severity is the first word of a driver's text in the language of the server, or FATAL under exit_on_error. Messages of the API
// begin with a small letter.
var severity = regexp.MustCompile(`^[\p{Lu}\p{Lo}\p{Lm}]+: `)

// messageOf returns the message of an error of PostgreSQL without the additions of its driver, which are at the ends of the text
// alone: a message may quote a key with the same words.
func messageOf(err error, code string) string {
	text := err.Error()
	if e := sqlStater(nil); errors.As(err, &e) {
		text = e.Error() // without the words of what wraps it
	}

	if rest, ok := strings.CutPrefix(text, "pq: "); ok { // lib/pq, before 1.11 without the code
		text = strings.TrimSuffix(rest, " ("+code+")")
	} else {
		text = strings.TrimSuffix(severity.ReplaceAllString(text, ""), " (SQLSTATE "+code+")")
	}
	return text
}
