package queuetest

import (
	"os"
	"strings"
	"testing"
)

// recorder is a testing.TB that records the calls of a helper.
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

func TestMain(m *testing.M) { os.Exit(VerifyGoroutines(m.Run)) }

func TestVerifyGoroutines(t *testing.T) {
	if code := VerifyGoroutines(func() int { return 3 }); code != 3 {
		t.Errorf("failed tests are %d", code)
	}
	if code := VerifyGoroutines(func() int { return 0 }); code != 0 {
		t.Errorf("good tests are %d", code)
	}
	if testing.Short() {
		t.Skip("the check waits its 2 seconds: run it without -short")
	}
	stop := make(chan struct{})
	defer close(stop)
	if code := VerifyGoroutines(func() int { go func() { <-stop }(); return 0 }); code != 1 {
		t.Errorf("good tests that leave a goroutine are %d", code)
	}
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
