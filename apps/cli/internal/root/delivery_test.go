package root

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
)

// full is a stdout that takes nothing, as /dev/full does.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestRetainThatCannotBeShownGoesBack: a retain with a token that was never shown costs the task nothing.
func TestRetainThatCannotBeShownGoesBack(t *testing.T) {
	for _, protocol := range []string{"rest", "connect"} {
		t.Run(protocol, func(t *testing.T) {
			s := world(t)
			s.must("create-queue", "unseen", "--retries", "2")
			s.must("create-task", "unseen", "--protocol", protocol)
			for name, args := range map[string][]string{
				"a filter that fails":      {"--jq", `.id | error("x")`},
				"a filter that fits not":   {"--jq", ".id.x"},
				"a list and such a filter": {"--limit", "5", "--jq", ".body.x"},
			} {
				code, out, errOut := s.run(false, "", append([]string{"retain-task", "unseen", "--worker", "w", "--protocol", protocol}, args...)...)
				if code == 0 || out != "" || !strings.Contains(errOut, "handed back") {
					t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, out, errOut)
				}
			}
			streams, _, errOut := iostreams.Test("")
			streams.Out = full{}
			f := &factory.Factory{IO: streams, Version: "test", Now: time.Now, Lookup: func(k string) (string, bool) { v, ok := s.env[k]; return v, ok }}
			if code := Run(t.Context(), f, []string{"retain-task", "unseen", "--worker", "w", "--protocol", protocol}); code == 0 || !strings.Contains(errOut.String(), "handed back") {
				t.Errorf("a full disk: exit code %d, stderr %q", code, errOut)
			}
			got := s.must("retain-task", "unseen", "--worker", "w", "--jq", `"\(.attempt) \(.retries)"`)
			if strings.TrimSpace(got) != "1 2" {
				t.Errorf("attempt and retries %q, want 1 and 2", got)
			}
		})
	}
}
