package root

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// broken is a stdout that fails every write.
type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func (s *shell) runTo(stdout broken, terminal bool, args ...string) (code int, stderr string) {
	streams, _, errOut := iostreams.Test("{\"queue\":\"q\",\"payload\":1}\n")
	if terminal {
		streams.Terminal()
	}
	streams.Out = stdout
	f := &factory.Factory{IO: streams, Version: "test", Now: time.Now, Lookup: func(k string) (string, bool) { v, ok := s.env[k]; return v, ok }}
	code = Run(s.t.Context(), f, args)
	return code, errOut.String()
}

// changing are commands that change something, each with what makes it possible.
var changing = []struct{ before, args string }{
	{"", "create-task q"},
	{"", "create-queue another"},
	{"create-queue other", "delete-queue other"},
	{"", "update-queue q --retries 5"},
	{"", "pause-queue q"},
	{"", "resume-queue q"},
	{"", "clean-queue q"},
	{"create-task q", "cancel-task --queue q --status new"},
	{"", "retry-task --queue q --status cancelled"},
	{"", "delete-task --queue q --status new"},
	{"", "create-ticker t --period 1h"},
	{"", "update-ticker t --period 2h"},
	{"", "run-ticker t"},
	{"", "delete-ticker t"},
	{"", "import -"},
	{"", "queue create third"},
	{"", "task create q"},
}

func TestWhatWasDoneAndCannotBeShownIsTold(t *testing.T) {
	for name, try := range map[string]func(s *shell, args []string) (int, string){
		"--jq fails": func(s *shell, args []string) (int, string) {
			code, out, errOut := s.run(false, "{\"queue\":\"q\",\"payload\":1}\n", append(args, "--jq", `tojson | error("no")`)...)
			return code, out + errOut
		},
		"stdout is full":            func(s *shell, args []string) (int, string) { return s.runTo(broken{syscall.ENOSPC}, false, args...) },
		"the reader of stdout went": func(s *shell, args []string) (int, string) { return s.runTo(broken{syscall.EPIPE}, false, args...) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShell(t, startServer(t))
			s.must("create-queue", "q")
			for _, c := range changing {
				if c.before != "" {
					s.must(strings.Fields(c.before)...)
				}
				code, errOut := try(s, strings.Fields(c.args))
				if code != program.ExitFailed || !strings.Contains(errOut, "pgqueue: done, but ") || !strings.Contains(errOut, "the answer is:\n{") {
					t.Errorf("%s: %d %s", c.args, code, errOut)
				}
			}
			if n := s.must("queues", "--jq", ".count"); n != "3\n" { // q, another and third
				t.Error(n)
			}
		})
	}
	t.Run("on a terminal", func(t *testing.T) {
		s := newShell(t, startServer(t))
		s.must("create-queue", "q")
		if code, errOut := s.runTo(broken{syscall.EIO}, true, "create-task", "q"); code != program.ExitFailed || !strings.Contains(errOut, "done, but") || !strings.Contains(errOut, `{"id":1,`) {
			t.Error(code, errOut)
		}
	})
}

func TestAJQThatIsNoneIsFoundBeforeAnythingIsDone(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "q")
	s.must("create-task", "q", "--key", "first")
	s.must("create-ticker", "t", "--period", "1h")
	for _, path := range commandPaths(t) {
		args := append(append([]string{}, path...), argsOf(path)...)
		switch name := strings.Join(path, " "); {
		case strings.HasPrefix(name, "config "):
			if name == "config view" || name == "config get-contexts" {
				args = path
				break
			}
			continue // they print nothing
		case path[len(path)-1] == "import":
			args = append(args[:len(args)-1], "-")
		}
		code, out, errOut := s.run(false, "{\"queue\":\"q\"}\n", append(args, "--jq", ".[")...)
		if code != program.ExitUsage || out != "" || !strings.Contains(errOut, "--jq") {
			t.Errorf("%v: %d %s%s", path, code, out, errOut)
		}
	}
	if n := s.must("tasks", "--jq", ".count, .body[0].status"); n != "1\nnew\n" {
		t.Error(n)
	}
	if n := s.must("queues", "--jq", ".count"); n != "1\n" {
		t.Error(n)
	}
}

func TestAReadThatCannotBeShownIsNotCalledDone(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "q")
	if code, _, errOut := s.run(false, "", "queue", "q", "--jq", ".queue.x"); code != program.ExitUsage || strings.Contains(errOut, "done") {
		t.Error(code, errOut)
	}
	if code, errOut := s.runTo(broken{errors.New("no space")}, false, "queues"); code != program.ExitFailed || strings.Contains(errOut, "done") {
		t.Error(code, errOut)
	}
	if code, errOut := s.runTo(broken{syscall.EPIPE}, false, "queues"); code != program.ExitDone || errOut != "" {
		t.Error(code, errOut)
	}
}
