package wire_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

func TestMain(m *testing.M) {
	os.Exit(queuetest.VerifyGoroutines(func() int { return postgrestest.Main(m) }))
}

func needsDatabase(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short runs without PostgreSQL")
	}
}

// start starts a server on store; it ends with the test.
func start(t testing.TB, store *postgres.Store) *run.Server {
	t.Helper()
	s, err := run.Start(t.Context(), run.Config{
		Addr: "127.0.0.1:0", NoBackground: true, Log: slog.New(slog.DiscardHandler),
		Store: func(context.Context) (queue.Store, func(context.Context) error, error) {
			return store, func(context.Context) error { return nil }, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func rest(t testing.TB, s *run.Server) *restclient.Client {
	t.Helper()
	c, err := restclient.New(s.URL() + "/api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func connect(t testing.TB, s *run.Server, opts ...connectclient.Option) *connectclient.Client {
	t.Helper()
	c, err := connectclient.New(s.URL(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
