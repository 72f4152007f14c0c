package postgrestest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest/internal/server"
)

// shared is the server of this test binary, where none is given from outside.
var shared sharedServer

type sharedServer struct {
	mu     sync.Mutex
	server *server.Server
	users  int // tests that use it now, and Main
}

// Main runs the tests of a package and keeps one server for all of them; the result is for os.Exit:
//
//	func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }
//
// Without it the server ends whenever no test uses it, and the next test waits for another. Where PGQUEUE_TEST_URL names
// a server, as it does under cmd/testdb, it makes no difference.
func Main(m *testing.M) int {
	shared.mu.Lock()
	shared.users++
	shared.mu.Unlock()
	code := m.Run()
	if err := shared.leave(); err != nil {
		fmt.Fprintln(os.Stderr, "postgrestest:", err)
		code = max(code, 1)
	}
	return code
}

// serverURL is the server for t: the one that PGQUEUE_TEST_URL names, else a container, else one of this machine's.
func serverURL(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL; -short leaves it out")
	}
	if url := os.Getenv(server.URLEnv); url != "" {
		return url
	}
	url, err := shared.enter(t.Context(), t.Logf)
	if err != nil {
		t.Fatalf("no PostgreSQL to test on (name one with %s): %v", server.URLEnv, err)
	}
	t.Cleanup(func() {
		if err := shared.leave(); err != nil {
			t.Error(err)
		}
	})
	return url
}

func (s *sharedServer) enter(ctx context.Context, log func(string, ...any)) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), setupTimeout)
		defer cancel()
		made, err := server.Start(ctx, server.Options{Log: toStderr})
		if err != nil {
			return "", err
		}
		log("started a PostgreSQL for this test binary: %s", made.URL)
		s.server = made
	}
	s.users++
	return s.server.URL, nil
}

func (s *sharedServer) leave() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	if s.users > 0 || s.server == nil {
		return nil
	}
	stopped := s.server
	s.server = nil
	return stopped.Stop()
}

// toStderr outlives the test that was first.
func toStderr(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "postgrestest: "+format+"\n", args...)
}
