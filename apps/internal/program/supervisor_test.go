//go:build unix

package program_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestMain(m *testing.M) { os.Exit(queuetest.VerifyGoroutines(m.Run)) }

func TestASupervisorIsToldUntilItIsClosed(t *testing.T) {
	dir, err := os.MkdirTemp("", "") // a socket's name must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "")
	s := program.Supervised(slog.New(slog.DiscardHandler))
	if left := os.Getenv("NOTIFY_SOCKET"); left != "" {
		t.Errorf("a child would speak in its name: %q", left)
	}
	s.Ready()
	for i, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		b := make([]byte, 100)
		n, err := l.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("%d: %q, %v, want %q", i, b[:n], err, want)
		}
	}
	s.Close()
	s.Close()
}

// TestSupervisorThatDoesNotRead has a supervisor that reads nothing until its socket is full: the program stops all the same.
func TestSupervisorThatDoesNotRead(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "20000")

	s := program.Supervised(slog.New(slog.DiscardHandler))
	s.Ready()
	time.Sleep(time.Second) // signs of life every 10 ms fill the socket

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Stopping() // it took 15 to 142 s while each sign of life set the deadline anew
		s.Close()
	}()
	select {
	case <-stopped:
	case <-time.After(10 * time.Second): // at most 3 messages of 1 s each
		t.Fatal("the messages of the stop do not end")
	}
}
