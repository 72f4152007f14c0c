package program_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestCheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("it asks %s", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a server that is ready is well, whatever address it listens on", func(t *testing.T) {
		for _, host := range []string{"127.0.0.1", "0.0.0.0", ""} {
			if err := program.Check(t.Context(), net.JoinHostPort(host, port), false); err != nil {
				t.Errorf("%q: %v", host, err)
			}
		}
	})
	t.Run("one that is not ready is unavailable", func(t *testing.T) {
		status = http.StatusServiceUnavailable
		if err := program.Check(t.Context(), "127.0.0.1:"+port, false); !errors.Is(err, queue.ErrUnavailable) {
			t.Error(err)
		}
	})
	t.Run("one that does not answer is unavailable", func(t *testing.T) {
		server.Close()
		if err := program.Check(t.Context(), "127.0.0.1:"+port, false); !errors.Is(err, queue.ErrUnavailable) {
			t.Error(err)
		}
	})
	t.Run("an address without a port is invalid", func(t *testing.T) {
		if err := program.Check(t.Context(), "localhost", false); !errors.Is(err, queue.ErrInvalid) {
			t.Error(err)
		}
	})
}
