package queuetest

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// CheckGoroutines fails the test, at its end and behind the cleanups that it registers later, if goroutines run that
// were not there when it was called. It gives those that are about to end 2 seconds. Do not use it in parallel tests:
// it cannot tell whose goroutines are whose.
func CheckGoroutines(t testing.TB) {
	t.Helper()
	before := map[string]bool{}
	for _, g := range goroutines() {
		before[goroutineID(g)] = true
	}
	t.Cleanup(func() {
		var left []string
		for wait := time.Millisecond; ; wait *= 2 {
			left = left[:0]
			for _, g := range goroutines() {
				if !before[goroutineID(g)] && !harmless(g) {
					left = append(left, g)
				}
			}
			if len(left) == 0 {
				return
			}
			if wait > 2*time.Second {
				t.Errorf("%d goroutines are left:\n\n%s", len(left), strings.Join(left, "\n\n"))
				return
			}
			time.Sleep(wait)
		}
	})
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
