package postgres

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

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
			err := translateError("op", &pgconn.PgError{Code: code, Message: "secret"})
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
		{"54000", queue.KindUnavailable, false, false, "transaction ids"},
		{"22003 22007 22008 22P02 23505 23514 42601 42804 XX000", queue.KindInternal, false, false, ""},
		{"25P02", queue.KindConflict, false, false, "roll it back"},
		{"40003", queue.KindIndeterminate, false, false, ""},
		{"ZZ999 x", queue.KindInternal, false, false, ""},
	} {
		for code := range strings.FieldsSeq(c.codes) {
			raw := &pgconn.PgError{Code: code}
			err := translateError("op", raw)
			if queue.KindOf(err) != c.kind || isTransient(raw) != c.again || WaitHelps(err) != c.waits || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, kind %s, again %v, waits %v", code, err, queue.KindOf(err), isTransient(raw), WaitHelps(err))
			}
		}
	}
}

func TestWaitHelps(t *testing.T) {
	for err, want := range map[error]bool{
		translateError("open", &connectError{errors.New("connection refused")}): true,
		translateError("open", &connectError{&pgconn.PgError{Code: "28P01"}}):   false,
		translateError("open", &connectError{&pgconn.PgError{Code: "57P03"}}):   true,
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
		err := makeOpenError("open", &connectError{&pgconn.PgError{Code: code}})
		if queue.KindOf(err) != want || WaitHelps(err) != (classifySQLState(code).blame == blamePassing) {
			t.Errorf("%s: %v, kind %s, waits %v", code, err, queue.KindOf(err), WaitHelps(err))
		}
	}
}

// TestOpenBehindPooler has a pooler in PostgreSQL's place: it refuses all start-up parameters but those that each pooler knows.
func TestOpenBehindPooler(t *testing.T) {
	known := []string{"user", "database", "client_encoding", "standard_conforming_strings", "application_name"}
	url, starts := fakeServer(t, func(params map[string]string) *pgproto3.ErrorResponse {
		for name := range params {
			if !slices.Contains(known, strings.ToLower(name)) {
				return &pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "paramètre inconnu: " + name}
			}
		}
		return nil
	})
	t.Run("without its option the error names the option at once", func(t *testing.T) {
		_, err := Open(t.Context(), url)
		if !errors.Is(err, queue.ErrUnavailable) || WaitHelps(err) || !strings.Contains(err.Error(), "--pooler") {
			t.Errorf("answered by %v", err)
		}
	})
	t.Run("with it the encoding is asked for, and nothing that it refuses", func(t *testing.T) {
		s, err := Open(t.Context(), url, WithPooler())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if last := starts(); last["client_encoding"] != "UTF8" {
			t.Errorf("it was asked for %v", last)
		}
	})
	t.Run("a refusal of a pooler for another reason passes", func(t *testing.T) {
		url, _ := fakeServer(t, func(map[string]string) *pgproto3.ErrorResponse {
			return &pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "no more connections allowed"}
		})
		if _, err := Open(t.Context(), url); !WaitHelps(err) {
			t.Errorf("answered by %v", err)
		}
	})
}

// fakeServer answers start-ups as refuse says, and a ping. starts gives the parameters of the last.
func fakeServer(t *testing.T, refuse func(map[string]string) *pgproto3.ErrorResponse) (url string, starts func() map[string]string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	seen := make(chan map[string]string, 100)
	serve := func(conn net.Conn) {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		b := pgproto3.NewBackend(conn, conn)
		start, err := b.ReceiveStartupMessage()
		if err != nil {
			return
		}
		m, ok := start.(*pgproto3.StartupMessage)
		if !ok {
			return
		}
		seen <- m.Parameters
		if e := refuse(m.Parameters); e != nil {
			b.Send(e)
			_ = b.Flush()
			return
		}
		b.Send(&pgproto3.AuthenticationOk{})
		b.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: m.Parameters["client_encoding"]})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		for b.Flush() == nil {
			msg, err := b.Receive()
			if err != nil {
				return
			}
			if _, ok := msg.(*pgproto3.Query); ok {
				b.Send(&pgproto3.EmptyQueryResponse{})
				b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			}
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return fmt.Sprintf("postgres://u@%s/d?sslmode=disable", l.Addr()), func() (last map[string]string) {
		for {
			select {
			case last = <-seen:
			default:
				return last
			}
		}
	}
}

// TestForeignEncoding: a connection that is not of UTF-8 is refused by name.
func TestForeignEncoding(t *testing.T) {
	url, _ := fakeServer(t, func(m map[string]string) *pgproto3.ErrorResponse {
		m["client_encoding"] = "LATIN1" // as a pooler that does not pass it on
		return nil
	})
	_, err := Open(t.Context(), url)
	if err == nil || !strings.Contains(err.Error(), "client_encoding") || !strings.Contains(err.Error(), "LATIN1") || WaitHelps(err) {
		t.Errorf("answered by %v", err)
	}
}
