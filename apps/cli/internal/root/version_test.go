package root

import (
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// TestIfVersion: each command that changes a queue or a ticker is for the version it names.
func TestIfVersion(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail")
	s.must("update-queue", "mail", "--retries", "9")
	s.must("create-ticker", "t", "--period", "1h")
	s.must("update-ticker", "t", "--payload", "2")
	calls := []string{
		"update-queue mail --retries 8", "pause-queue mail", "resume-queue mail", "clean-queue mail", "delete-queue mail",
		"update-ticker t --payload 3", "run-ticker t", "delete-ticker t",
	}

	before := s.must("queues") + s.must("tickers")
	for _, line := range calls {
		code, out, errOut := s.run(false, "", append(strings.Fields(line), "--if-version", "1")...)
		if code != program.ExitConflict || out != "" || !strings.Contains(errOut, "version 2 by now, not 1") {
			t.Errorf("%s: exit code %d: %s%s", line, code, out, errOut)
		}
	}
	if after := s.must("queues") + s.must("tickers"); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}

	for _, line := range []string{"clean-queue mail", "delete-queue mail", "run-ticker t", "delete-ticker t"} {
		s.must(append(strings.Fields(line), "--if-version", "2")...)
	}
}
