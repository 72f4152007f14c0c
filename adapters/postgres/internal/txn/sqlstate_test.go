package txn

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// TestFaults holds the errors of this store to the shared table, for every code of PostgreSQL.
func TestFaults(t *testing.T) {
	codes := queuetest.SQLStates(t)
	queuetest.TestSQLStates(t, func(code string) error { return Translate("op", &pgconn.PgError{Code: code}) }, nil)
	t.Run("no code blames the input or the rights of callers", func(t *testing.T) {
		for code := range codes {
			err := Translate("op", &pgconn.PgError{Code: code, Message: "secret"})
			switch k := queue.KindOf(err); k {
			case queue.KindUnavailable, queue.KindInternal, queue.KindIndeterminate:
			case queue.KindConflict:
				if code != "25P02" {
					t.Errorf("%s %s is %s", code, codes[code], k)
				}
			default:
				t.Errorf("%s %s is %s", code, codes[code], k)
			}
			if e, _ := errors.AsType[*queue.Error](err); strings.Contains(e.Msg, "role") || strings.Contains(e.Msg, "secret") || strings.Contains(e.Msg, "migrate") {
				t.Errorf("%s: callers get %q", code, e.Msg)
			}
			if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != code {
				t.Errorf("%s is lost in %v", code, err)
			}
		}
	})
	for _, c := range []struct {
		codes string
		kind  queue.Kind
		again bool
		waits bool
		says  string // in the log
	}{
		{"40001 40P01 55P03 53300 57P01 57P02 57P03 57P05 25P03 25P04 0A000", queue.KindUnavailable, true, true, ""},
		{"08006 08P01 25006 57014 55006", queue.KindUnavailable, false, true, ""},
		{"28P01 28000", queue.KindUnavailable, false, false, "user and password"},
		{"42501", queue.KindUnavailable, false, false, "privilege"},
		{"42P01 42883 3F000 42703", queue.KindUnavailable, false, false, "pgqueue migrate up"},
		{"3D000 57P04", queue.KindUnavailable, false, false, "create it"},
		{"53100 53200 53400", queue.KindUnavailable, false, false, "disk space"},
		{"22021 22P05", queue.KindUnavailable, false, false, "encoding UTF8"},
		{"26000 42P05", queue.KindUnavailable, false, false, "--pooler"},
		{"P0001 P0002 P0003 P0004", queue.KindUnavailable, false, false, "not pgqueue's"},
		{"PQ422 PQ503", queue.KindInternal, false, false, ""},
		{"54000", queue.KindUnavailable, false, false, "transaction ids"},
		{"22003 22007 22008 22P02 23505 23514 42601 42804 XX000", queue.KindInternal, false, false, ""},
		{"25P02", queue.KindConflict, false, false, "roll it back"},
		{"40003", queue.KindIndeterminate, false, false, ""},
		{"ZZ999 x", queue.KindInternal, false, false, ""},
	} {
		for code := range strings.FieldsSeq(c.codes) {
			raw := &pgconn.PgError{Code: code}
			err := Translate("op", raw)
			if queue.KindOf(err) != c.kind || IsTransient(raw) != c.again || WaitHelps(err) != c.waits || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, kind %s, again %v, waits %v", code, err, queue.KindOf(err), IsTransient(raw), WaitHelps(err))
			}
		}
	}
}

func TestWaitHelps(t *testing.T) {
	for err, want := range map[error]bool{
		Translate("open", &ConnectError{Err: errors.New("connection refused")}): true,
		Translate("open", &ConnectError{&pgconn.PgError{Code: "28P01"}}):        false,
		Translate("open", &ConnectError{&pgconn.PgError{Code: "57P03"}}):        true,
		queue.Invalid("url", "is none"):                                         false,
		errors.New("foreign"):                                                   false,
	} {
		if WaitHelps(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

func TestOpenOfARefusedRole(t *testing.T) {
	for code, want := range map[string]queue.Kind{
		"28P01": queue.KindDenied, "28000": queue.KindDenied, "42501": queue.KindDenied,
		"3D000": queue.KindUnavailable, "57P03": queue.KindUnavailable, "53300": queue.KindUnavailable,
	} {
		err := OpenError("open", &ConnectError{&pgconn.PgError{Code: code}})
		if queue.KindOf(err) != want || WaitHelps(err) != (sqlstate.Classify(code).Blame == sqlstate.Passing) {
			t.Errorf("%s: %v, kind %s, waits %v", code, err, queue.KindOf(err), WaitHelps(err))
		}
	}
}
