package run

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// TestStarting calls a server that waits for its database.
func TestStarting(t *testing.T) {
	store := newSlow()
	cfg := store.config(io.Discard)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr = ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	opening, open := make(chan struct{}), make(chan struct{})
	inner := cfg.Store
	cfg.Store = func(ctx context.Context) (queue.Store, func(context.Context) error, error) {
		close(opening)
		<-open
		return inner(ctx)
	}
	started := make(chan *Server, 1)
	go func() {
		s, err := Start(context.Background(), cfg)
		if err != nil {
			t.Error(err)
		}
		started <- s
	}()
	<-opening
	base := "http://" + cfg.Addr
	t.Run("it is alive and not ready", func(t *testing.T) {
		if code, body := do(t, "GET", base+"/livez", ""); code != http.StatusOK || body != "ok\n" {
			t.Error(code, body)
		}
		if code, body := do(t, "GET", base+"/readyz", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, "starting") {
			t.Error(code, body)
		}
	})
	clients := map[string]func() (queue.Service, func(), error){
		"REST": func() (queue.Service, func(), error) {
			c, err := restclient.New(base+"/api", restclient.WithAttempts(1))
			return c, c.Close, err
		},
		"Connect": func() (queue.Service, func(), error) {
			c, err := connectclient.New(base, connectclient.WithRetries(0))
			return c, c.Close, err
		},
		"gRPC": func() (queue.Service, func(), error) {
			c, err := connectclient.New(base, connectclient.WithRetries(0), connectclient.WithProtocol(connectclient.GRPC))
			return c, c.Close, err
		},
	}
	for name, client := range clients {
		t.Run("a client over "+name+" gets unavailable at once", func(t *testing.T) {
			c, end, err := client()
			if err != nil {
				t.Fatal(err)
			}
			defer end()
			if _, err := c.ListQueues(t.Context(), queue.Page{}); queue.KindOf(err) != queue.KindUnavailable || !strings.Contains(err.Error(), "starting") {
				t.Errorf("%s: %v", queue.KindOf(err), err)
			}
		})
	}
	close(open)
	s := <-started
	t.Run("and then it serves", func(t *testing.T) {
		if code, body := do(t, "GET", base+"/api/queue", ""); code != http.StatusOK {
			t.Error(code, body)
		}
	})
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestWaiting(t *testing.T) {
	var told []error
	_, err := Start(t.Context(), Config{
		Database: program.Database{
			URL: "postgres://127.0.0.1:1/x", Wait: 1, Waiting: func(err error, _ time.Duration) { told = append(told, err) },
		},
		Addr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
	})
	if code := program.ExitCode(err); code != program.ExitUnreachable || !strings.Contains(err.Error(), "check the URL") {
		t.Errorf("exit code %d: %v", code, err)
	}
	if len(told) == 0 || told[len(told)-1] != nil {
		t.Errorf("the last word is not nil: %v", told)
	}
	if n := strings.Count(err.Error(), "refused"); n != 1 {
		t.Errorf("it logs %d times that the connection was refused: %v", n, err)
	}
}
