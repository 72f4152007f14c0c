package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stack is client → server → manager → memory on a real connection.
type stack struct {
	*testing.T
	url    string // without the prefix
	server *restserver.Server
	client *restclient.Client
	http   *http.Client
}

// noCookie keeps no session in a browser.
type noCookie struct{}

func (noCookie) Check(*http.Request) error                                    { return nil }
func (noCookie) Set(http.ResponseWriter, *http.Request, access.OpenedSession) {}
func (noCookie) Clear(http.ResponseWriter, *http.Request)                     {}

// serve puts a service behind a server that listens.
func serve(t *testing.T, svc queue.Service, change ...func(*restserver.Config)) *stack {
	t.Helper()
	tokens := memory.NewTokens(nil)
	cfg := restserver.Config{
		Service: svc, Logger: slog.New(slog.DiscardHandler), Admin: access.NewAdmin(tokens, access.AdminOptions{}),
		Sessions: access.NewSessionKeeper(access.SessionSettings{Store: tokens, Authenticate: access.NewAuthenticator(tokens).Authenticate}),
		Cookie:   noCookie{},
	}
	for _, f := range change {
		f(&cfg)
	}
	server, err := restserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hs := restserver.NewHTTPServer(server, cfg.Timeouts)
	hs.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	done := make(chan error, 1)
	go func() { done <- hs.Serve(l) }()
	s := &stack{T: t, url: "http://" + l.Addr().String(), server: server}
	s.http = &http.Client{Transport: &http.Transport{}}
	s.client, err = restclient.New(s.url + "/api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error("requests outlive the server:", err)
		}
		s.http.CloseIdleConnections()
		s.client.Close()
		if err := hs.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

func newManager(t *testing.T, opts ...manager.Option) *manager.Manager {
	t.Helper()
	m, err := manager.New(memory.New(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func newStack(t *testing.T, change ...func(*restserver.Config)) *stack {
	t.Helper()
	return serve(t, newManager(t), change...)
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends one request; header are pairs.
func (s *stack) send(method, path, body string, header ...string) answer {
	s.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, content)
	if err != nil {
		s.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: strings.TrimSpace(string(b))}
}

// do is send that expects a status.
func (s *stack) do(status int, method, path, body string, header ...string) answer {
	s.Helper()
	a := s.send(method, path, body, header...)
	if a.status != status {
		s.Fatalf("%s %s %s: %d %s, want %d", method, path, cut(body), a.status, cut(a.body), status)
	}
	return a
}

// refused is do that expects a problem with this code and field.
func (s *stack) refused(status int, code queue.Kind, field, method, path, body string, header ...string) answer {
	s.Helper()
	a := s.do(status, method, path, body, header...)
	var p struct {
		Type, Title, Detail, Code, Field string
		Status                           int
		RequestID                        string `json:"request_id"`
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		s.Fatalf("%s %s: content type %q", method, path, ct)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		s.Fatal(err)
	}
	if p.Code != string(code) || p.Field != field || p.Status != status || p.Type == "" || p.Title == "" || p.Detail == "" || p.RequestID == "" {
		s.Errorf("%s %s %s: %s, want code %s, field %q", method, path, cut(body), a.body, code, field)
	}
	return a
}

func cut(s string) string { return s[:min(len(s), 300)] }

func ok[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
