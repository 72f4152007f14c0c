package postgres

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgqueue/pgqueue/domain/queue"
)

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
