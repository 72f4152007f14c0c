package postgrestest_test

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/embedded"
)

// patience bounds waits for what must come; it decides nothing.
const patience = 30 * time.Second

// signals are messages of a log, so that a test can wait for one.
type signals chan string

func (s signals) logger() *slog.Logger { return slog.New(s) }

// wait returns when a message with text was logged.
func (s signals) wait(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case msg := <-s:
			if strings.Contains(msg, text) {
				return
			}
		case <-timeout:
			t.Fatalf("no log line has %q", text)
		}
	}
}

// Enabled, Handle, WithAttrs and WithGroup make it a slog.Handler. Messages without a reader are dropped.
func (s signals) Enabled(context.Context, slog.Level) bool { return true }

func (s signals) Handle(_ context.Context, r slog.Record) error {
	msg := r.Message
	r.Attrs(func(a slog.Attr) bool {
		msg += " " + a.String()
		return true
	})
	select {
	case s <- msg:
	default:
	}
	return nil
}

func (s signals) WithAttrs([]slog.Attr) slog.Handler { return s }
func (s signals) WithGroup(string) slog.Handler      { return s }

func cleanupContext(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(context.WithoutCancel(t.Context()), patience)
}

// binaries returns the option for the PostgreSQL programs under test, for tests that start a server of their own.
func binaries() []embedded.Option {
	if dir := os.Getenv("PGQUEUE_TEST_BINDIR"); dir != "" {
		return []embedded.Option{embedded.WithBinDir(dir)}
	}
	return nil
}

// startServer starts the PostgreSQL of binaries, for this test alone.
func startServer(t *testing.T, binDir string) string {
	t.Helper()
	return launchServer(t, embedded.WithBinDir(binDir), embedded.WithSetting("fsync", "off"))
}

// launchServer starts a durable PostgreSQL for this test alone, unless opts say otherwise.
func launchServer(t *testing.T, opts ...embedded.Option) string {
	t.Helper()
	pg, err := embedded.Start(t.Context(), slices.Concat(binaries(), []embedded.Option{embedded.WithTemporary()}, opts)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		if err := pg.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return pg.DSN()
}
