package root

import (
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// TestAnEmptyFlagIsRefusedByNameInEveryCommand gives each flag of each command an empty value, as an unset variable does.
func TestAnEmptyFlagIsRefusedByNameInEveryCommand(t *testing.T) {
	s := newShell(t, "http://127.0.0.1:1/api") // no server is there: a command that is not refused fails otherwise
	tried := 0
	for _, path := range commandPaths(t) {
		if path[0] == "config" {
			continue // an empty flag takes a setting out of a context
		}
		for _, name := range flagNames(t, path) {
			if name == "help" || path[len(path)-1] == "update-ticker" && name == "queue" || strings.Join(path, " ") == "ticker update" && name == "queue" {
				continue
			}
			for _, empty := range []string{"", " "} {
				args := append(append([]string{}, path...), "--"+name+"="+empty)
				args = append(args, argsOf(path)...)
				code, out, errOut := s.run(false, "", args...)
				if code != program.ExitUsage || out != "" || !strings.Contains(errOut, "--"+name+":") {
					t.Errorf("%q: %d %s%s", args, code, out, errOut)
				}
				tried++
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d were tried", tried)
	}
}

// argsOf are the arguments that a command needs.
func argsOf(path []string) []string {
	flat := path[len(path)-1]
	if len(path) > 1 {
		for _, c := range newCommands(factory.New("test")) {
			if name, _ := cmdutil.SecondName(c); name == strings.Join(path, " ") {
				flat = c.Name()
			}
		}
	}
	switch flat {
	case "queues", "tasks", "tickers", "namespaces", "workers", "tokens", "whoami", "generate-token", "audit", "dashboard", "sessions", "upcoming-ticks", "next-ticker", "version", "bench", "top", "events", "delete-task", "cancel-task", "retry-task", "apply":
		return nil
	case "task", "complete-task", "heartbeat-task", "snooze-task", "handback-task", "await-task":
		return []string{"1"}
	case "group", "unblock-group":
		return []string{"x", "y"}
	case "completion":
		return []string{"bash"}
	case "sql":
		return []string{"up"}
	case "run", "demo", "stats", "export", "doctor", "retain-task", "up", "down", "status", "validate":
		return nil
	}
	return []string{"x"}
}

func TestAnEmptyArgumentIsRefused(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail")
	s.must("create-task", "mail")
	for _, line := range []string{
		"run", "queue", "create-queue", "update-queue --retries 1", "delete-queue", "pause-queue", "clean-queue", "task", "create-task", "retain-task --worker w",
		"complete-task", "heartbeat-task --token 1", "await-task", "delete-task", "cancel-task", "retry-task", "ticker", "create-ticker --period 1h",
		"delete-ticker", "run-ticker", "ticks", "preview-ticker", "stats", "import", "export", "doctor", "migrate up", "config use-context", "config delete-context",
	} {
		for _, empty := range []string{"", "  "} {
			code, out, errOut := s.run(false, "", append(strings.Fields(line), empty)...)
			if code != program.ExitUsage || out != "" || !strings.Contains(errOut, "argument 1: must not be empty") {
				t.Errorf("%s %q: %d %s%s", line, empty, code, out, errOut)
			}
		}
	}
	if n := s.must("tasks", "--jq", ".count"); n != "1\n" {
		t.Error(n)
	}
}
