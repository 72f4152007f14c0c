package rest_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// BenchmarkService measures client → server → manager → memory on real connections.
func BenchmarkService(b *testing.B) {
	queuetest.BenchService(b, queuetest.ServiceHarness{New: func(t testing.TB) queue.Service {
		t.Helper()
		m, err := manager.New(memory.New())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeWith(t, m.Close) })
		server, err := restserver.New(restserver.Config{Service: m, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		hs := restserver.NewHTTPServer(server, restserver.Timeouts{})
		served := make(chan error, 1)
		go func() { served <- hs.Serve(l) }()
		t.Cleanup(func() {
			closeWith(t, server.Shutdown)
			closeWith(t, hs.Shutdown)
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
		c, err := restclient.New("http://" + l.Addr().String() + "/api")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}})
}

func closeWith(t testing.TB, closing func(context.Context) error) {
	t.Helper()
	if err := closing(context.Background()); err != nil {
		t.Error(err)
	}
}
