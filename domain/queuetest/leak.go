package queuetest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// leakPatience is how long goroutines that are about to end get for it.
const leakPatience = 2 * time.Second

// CheckGoroutines fails the test, at its end and behind the cleanups that it registers later, if goroutines run that
// were not there when it was called. It gives those that are about to end 2 seconds. Do not use it in parallel tests:
// it cannot tell whose goroutines are whose.
func CheckGoroutines(t testing.TB) {
	t.Helper()
	before := goroutineIDs()
	t.Cleanup(func() {
		if left := leftSince(before); len(left) > 0 {
			t.Errorf("%d goroutines are left:\n\n%s", len(left), strings.Join(left, "\n\n"))
		}
	})
}

// VerifyGoroutines is for a package's TestMain: it runs the tests and returns their exit code, or 1 when they passed but
// left goroutines running, which it tells on standard error.
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

// leftSince are the goroutines that were not there before and do not end.
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

// goroutines are the stacks of all goroutines but the caller's.
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

// goroutineID is the "goroutine 12" of a stack.
func goroutineID(stack string) string {
	id, _, _ := strings.Cut(stack, " [")
	return id
}

// harmless says that a goroutine belongs to the runtime or to the testing package.
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
