package sqltx

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// driverError is an error of a driver: its text and its SQLSTATE.
type driverError struct{ text, code string }

func (e driverError) Error() string    { return e.text }
func (e driverError) SQLState() string { return e.code }

func TestTranslate(t *testing.T) {
	for _, c := range []struct {
		err   error
		kind  queue.Kind
		field string
		text  string
	}{
		{driverError{"ERROR: key: must be new, got 'a' (SQLSTATE PQ409)", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new, got 'a': SQLSTATE PQ409"},
		{driverError{"pq: payloads[3]: must be one JSON value", "PQ422"}, queue.KindInvalid, "payloads[3]", "create task: payloads[3]: must be one JSON value: SQLSTATE PQ422"},
		{driverError{"pq: queue none: not found (PQ404)", "PQ404"}, queue.KindNotFound, "", "create task: queue none: not found: SQLSTATE PQ404"},
		{driverError{"ERROR: token: must be that of the present lease (SQLSTATE PQ410)", "PQ410"}, queue.KindLeaseLost, "token", ""},
		{driverError{"FATAL: key: must be new (SQLSTATE PQ409)", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new: SQLSTATE PQ409"},
		{driverError{"ОШИБКА: key: must be new (SQLSTATE PQ409)", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new: SQLSTATE PQ409"},
		{driverError{"エラー: key: must be new (SQLSTATE PQ409)", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new: SQLSTATE PQ409"},
		{driverError{"ERROR: key: must be new, got 'pq: x' (SQLSTATE PQ409)", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new, got 'pq: x': SQLSTATE PQ409"},
		{driverError{"ERROR: key: must be new, got 'ERROR: x' (SQLSTATE PQ409)", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new, got 'ERROR: x': SQLSTATE PQ409"},
		{driverError{"ERROR: key: must be new, got ' (SQLSTATE PQ409)' (SQLSTATE PQ409)", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new, got ' (SQLSTATE PQ409)': SQLSTATE PQ409"},
		{driverError{"pq: key: must be new, got ' (PQ409)' (PQ409)", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new, got ' (PQ409)': SQLSTATE PQ409"},
		{driverError{"pq: key: must be new, got 'pq: x' (PQ409)", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new, got 'pq: x': SQLSTATE PQ409"},
		{driverError{"pq: key: must be new, got 'ERROR: x'", "PQ409"}, queue.KindKeyReused, "key", "create task: key: must be new, got 'ERROR: x': SQLSTATE PQ409"},
		{fmt.Errorf("insert: %w", driverError{"ERROR: key: must be new, got 'a' (SQLSTATE PQ409)", "PQ409"}), queue.KindKeyReused, "key", "create task: key: must be new, got 'a': SQLSTATE PQ409"},
		{driverError{"x", "PQ413"}, queue.KindTooLarge, "", ""},
		{driverError{"x", "PQ503"}, queue.KindUnavailable, "", ""},
		{driverError{"could not serialize access", "40001"}, queue.KindUnavailable, "", "create task: the transaction must be repeated as a whole: could not serialize access"},
		{driverError{"deadlock", "40P01"}, queue.KindUnavailable, "", ""},
		{driverError{"unknown result", "40003"}, queue.KindIndeterminate, "", ""},
		{driverError{"denied", "42501"}, queue.KindDenied, "", ""},
		{driverError{"aborted", "25P02"}, queue.KindConflict, "", ""},
		{driverError{"no function", "42883"}, queue.KindUnavailable, "", ""},
		{driverError{"encoding", "22021"}, queue.KindInvalid, "", ""},
		{driverError{"syntax", "42601"}, queue.KindInternal, "", ""},
		{errors.New("broken pipe"), queue.KindIndeterminate, "", ""},
		{context.Canceled, queue.KindCanceled, "", ""},
		{context.DeadlineExceeded, queue.KindDeadline, "", ""},
		{queue.Invalid("queue", "must be a name, got none"), queue.KindInvalid, "queue", "create task: queue: must be a name, got none"},
	} {
		err := translate("create task", c.err)
		e, ok := errors.AsType[*queue.Error](err)
		if !ok || e.Kind != c.kind || e.Field != c.field || e.Op != "create task" || c.text != "" && err.Error() != c.text {
			t.Errorf("%v becomes %q of kind %s and field %q, want %q, %s and %q", c.err, err, queue.KindOf(err), e.Field, c.text, c.kind, c.field)
		}
		if code := stateOf(c.err); code != "" && stateOf(err) != code {
			t.Errorf("%v loses its SQLSTATE %s", c.err, code)
		}
	}
	if translate("create task", nil) != nil {
		t.Error("no error becomes one")
	}
}

// TestSQLStates holds the errors of this package to the table that package postgres reads, for every code of PostgreSQL.
func TestSQLStates(t *testing.T) {
	queuetest.TestSQLStates(t, func(code string) error { return translate("create task", driverError{"refused", code}) }, map[string]queue.Kind{
		"22021": queue.KindInvalid, // a name that the program gives, as of its namespace
		"42501": queue.KindDenied,  // the role is the program's
	})
	for code, want := range map[string]string{
		"25006": "primary", "25P02": "roll it back", "42P05": "no prepared statements", "26000": "no prepared statements", "42P01": "pgqueue migrate up",
		"0A000": "repeated as a whole", "08006": "repeated as a whole", "3D000": "create it", "58030": "look at its log", "22P05": "UTF8",
	} {
		if err, _ := errors.AsType[*queue.Error](translate("create task", driverError{"refused", code})); !strings.Contains(err.Msg, want) {
			t.Errorf("%s: %v, want a remedy with %q", code, err, want)
		}
	}
}
