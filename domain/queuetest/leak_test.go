package queuetest

import (
	"strings"
	"testing"
)

// recorder is a testing.TB that keeps what a helper does to it.
type recorder struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, _ ...any) {
	r.errors = append(r.errors, format)
}

func TestCheckGoroutines(t *testing.T) {
	t.Run("a goroutine that is about to end is waited for", func(t *testing.T) {
		r := &recorder{TB: t}
		CheckGoroutines(r)
		stop := make(chan struct{})
		go func() { <-stop }()
		close(stop)
		r.cleanups[0]()
		if len(r.errors) > 0 {
			t.Fatalf("it was reported: %v", r.errors)
		}
	})
	t.Run("a goroutine that is left is reported", func(t *testing.T) {
		if testing.Short() {
			t.Skip("the check waits its 2 seconds: run it without -short")
		}
		r := &recorder{TB: t}
		CheckGoroutines(r)
		stop := make(chan struct{})
		defer close(stop)
		go func() { <-stop }()
		r.cleanups[0]()
		if len(r.errors) != 1 || !strings.Contains(r.errors[0], "goroutines are left") {
			t.Fatalf("it was not reported: %v", r.errors)
		}
	})
}
