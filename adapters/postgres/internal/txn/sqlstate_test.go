package txn

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// sqlStates are all codes of PostgreSQL 14 to 18 with their names.
func sqlStates(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("testdata/sqlstates.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(string(b)))
	for lines.Scan() {
		code, name, _ := strings.Cut(lines.Text(), " ")
		out[code] = name
	}
	if len(out) < 250 {
		t.Fatalf("%d codes are not all", len(out))
	}
	return out
}

// TestFaults holds the table to PostgreSQL's list of codes.
func TestFaults(t *testing.T) {
	codes := sqlStates(t)
	t.Run("each class is in the table, and nothing that PostgreSQL does not have", func(t *testing.T) {
		classes := map[string]bool{}
		for code := range codes {
			classes[code[:2]] = true
			if _, ok := faults[code[:2]]; !ok {
				t.Errorf("class %s of %s is missing", code[:2], codes[code])
			}
		}
		for code := range faults {
			if len(code) == 2 && !classes[code] || len(code) == 5 && codes[code] == "" {
				t.Errorf("%s is none of PostgreSQL's", code)
			}
		}
	})
	t.Run("each gives a remedy where the operator or the caller must act", func(t *testing.T) {
		for code, f := range faults {
			if _, ok := blameKinds[f.blame]; !ok {
				t.Errorf("%s: blame %q has no kind", code, f.blame)
			}
			if needs := f.blame == blameOperator || f.blame == blameCaller; needs != (f.advice != "") {
				t.Errorf("%s: blamed on %s with advice %q", code, f.blame, f.advice)
			}
			if f.again && f.blame != blamePassing {
				t.Errorf("%s is tried again and does not pass", code)
			}
		}
	})
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
		if queue.KindOf(err) != want || WaitHelps(err) != (classifySQLState(code).blame == blamePassing) {
			t.Errorf("%s: %v, kind %s, waits %v", code, err, queue.KindOf(err), WaitHelps(err))
		}
	}
}
