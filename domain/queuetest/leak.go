package queuetest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// leakPatience is the time that goroutines have to end.
const leakPatience = 2 * time.Second

// CheckGoroutines fails the test when goroutines run at its end that did not run at the call. It checks after the
// cleanups that the test registers later, and gives ending goroutines 2 seconds. Do not use it in parallel tests: it
// cannot assign goroutines to tests.
func CheckGoroutines(t testing.TB) {
	t.Helper()
	before := goroutineIDs()
	t.Cleanup(func() {
		if left := leftSince(before); len(left) > 0 {
			t.Errorf("%d goroutines are left:\n\n%s", len(left), strings.Join(left, "\n\n"))
		}
	})
}

// VerifyGoroutines serves the TestMain of a package: it runs the tests and returns their exit code. It returns 1 when
// they passed but left goroutines running, and writes those to standard error.
//
//	func TestMain(m *testing.M) { os.Exit(queuetest.VerifyGoroutines(m.Run)) }
func VerifyGoroutines(run func() int) int {
	before := goroutineIDs()
	if code := run(); code != 0 {
		return code
	}
	left := leftSince(before)
	if len(left) == 0 {
		return 0
	}
	fmt.Fprintf(os.Stderr, "the tests passed, but %d goroutines are left:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
	return 1
}

func goroutineIDs() map[string]bool {
	ids := map[string]bool{}
	for _, g := range goroutines() {
		ids[goroutineID(g)] = true
	}
	return ids
}

// leftSince returns the goroutines that did not run before and do not end.
func leftSince(before map[string]bool) (left []string) {
	for wait := time.Millisecond; ; wait *= 2 {
		left = left[:0]
		for _, g := range goroutines() {
			if !before[goroutineID(g)] && !harmless(g) {
				left = append(left, g)
			}
		}
		if len(left) == 0 || wait > leakPatience {
			return left
		}
		time.Sleep(wait)
	}
}

// goroutines returns the stacks of all goroutines except the caller's.
func goroutines() []string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			return strings.Split(strings.TrimSpace(string(buf[:n])), "\n\n")[1:]
		}
		buf = make([]byte, 2*len(buf))
	}
}

// goroutineID returns the "goroutine 12" of a stack.
func goroutineID(stack string) string {
	id, _, _ := strings.Cut(stack, " [")
	return id
}

// harmless reports whether a goroutine belongs to the runtime or to the testing package.
func harmless(stack string) bool {
	for _, of := range []string{
		"testing.(*T).Run(", "testing.(*M).", "testing.runFuzzing(", "testing.tRunner.func", "runtime.goexit0",
		"os/signal.signal_recv", "os/signal.loop", "runtime.ensureSigM", "runtime.ReadTrace",
	} {
		if strings.Contains(stack, of) {
			return true
		}
	}
	return false
}
