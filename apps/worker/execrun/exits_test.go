//go:build unix

package execrun_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgqueue/pgqueue/apps/worker/execrun"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestExits holds what every exit code, and every signal that ends a process, stands for.
func TestExits(t *testing.T) {
	for code := range 256 {
		want := queue.OutcomeFailure
		switch code {
		case execrun.ExitDone:
			want = queue.OutcomeSuccess
		case execrun.ExitPermanent:
			want = queue.OutcomePermanent
		}
		rel := queuetest.RunHandler(t, &execrun.Command{Line: fmt.Sprintf("exit %d", code)}, nil)
		if rel.Outcome != want {
			t.Errorf("exit %d: %s", code, rel.Outcome)
		}
	}
	for _, sig := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGTERM,
	} {
		rel := queuetest.RunHandler(t, &execrun.Command{Line: fmt.Sprintf("kill -%d $$", sig)}, nil)
		if rel.Outcome != queue.OutcomeFailure || !strings.Contains(string(rel.Result), `"exit_code":-1`) {
			t.Errorf("%s: %s %s", sig, rel.Outcome, rel.Result)
		}
	}
}

// TestStartErrors holds what keeps a command from being started: the task goes back at no cost of an attempt.
func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("plain.sh", "#!/bin/sh\n", 0o600)
	write("fine.sh", "#!/bin/sh\n", 0o700)
	for name, c := range map[string]struct {
		cmd execrun.Command
		bad string // what Check says, "" = nothing
	}{
		"a folder that is not there":             {execrun.Command{Line: "true", Dir: filepath.Join(dir, "gone")}, "dir: must be a folder"},
		"a folder that is a file":                {execrun.Command{Line: "true", Dir: filepath.Join(dir, "fine.sh")}, "must be a folder"},
		"a program that is not there":            {execrun.Command{Line: "./gone.sh", Dir: dir}, "gone.sh: no such file"},
		"a program that is not executable":       {execrun.Command{Line: "./plain.sh a b", Dir: dir}, "chmod +x"},
		"a program that is a folder":             {execrun.Command{Line: dir}, "must be a file"},
		"a program that is not on the PATH":      {execrun.Command{Line: "no-such-program --x"}, "must begin with a program that is there, got no-such-program; check its name and PATH"},
		"a program of the worker's folder":       {execrun.Command{Line: "./fine.sh", Dir: dir}, ""},
		"a program with an absolute path":        {execrun.Command{Line: filepath.Join(dir, "fine.sh")}, ""},
		"a variable, which only the shell knows": {execrun.Command{Line: `"$TOOL" x`}, ""},
		"an assignment":                          {execrun.Command{Line: `A=1 fine`}, ""},
		"a list of commands":                     {execrun.Command{Line: `cd / && ls`}, ""},
		"a subshell":                             {execrun.Command{Line: `(true)`}, ""},
		"a condition":                            {execrun.Command{Line: `if true; then :; fi`}, ""},
		"a test":                                 {execrun.Command{Line: `[ -n "$X" ] || true`}, ""},
		"a negation":                             {execrun.Command{Line: `! false`}, ""},
		"a word of the shell":                    {execrun.Command{Line: `read -r p; echo "$p"`}, ""},
		"a quoted path":                          {execrun.Command{Line: `'./fine.sh' x`, Dir: dir}, ""},
		"a comment first":                        {execrun.Command{Line: "# send\ntrue"}, ""},
		"no command":                             {execrun.Command{Line: "  "}, "exec: must be a command"},
		"a bad name of a variable":               {execrun.Command{Line: "true", Env: []string{"A=1"}}, "env: must be the name"},
		"time to kill below 0":                   {execrun.Command{Line: "true", KillAfter: -1}, "kill-after: must be"},
		"output below 0":                         {execrun.Command{Line: "true", MaxOutput: -1}, "max-output: must be"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.cmd.Check()
			switch {
			case c.bad == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad) || !errors.Is(err, queue.ErrInvalid)):
				t.Errorf("got %v", err)
			}
		})
		if strings.HasPrefix(name, "a folder") || strings.HasPrefix(name, "a program that is") {
			rel := queuetest.RunHandler(t, &c.cmd, nil)
			if rel.Outcome != queue.OutcomeHandBack || rel.Result != nil {
				t.Errorf("%s: the task ends as %s %s", name, rel.Outcome, rel.Result)
			}
		}
	}

	t.Run("no file descriptors left", func(t *testing.T) {
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
		few := before
		few.Cur = 3 // those that are open stay so
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
			t.Fatal(err)
		}
		rel := queuetest.RunHandler(t, &execrun.Command{Line: "true"}, nil)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
		if rel.Outcome != queue.OutcomeHandBack {
			t.Errorf("the task ends as %s %s", rel.Outcome, rel.Result)
		}
	})
}

func TestExitKinds(t *testing.T) {
	kinds, err := execrun.ParseKinds([]string{"65=invalid_input", " 100 = gone", "255=last"})
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[int]string{1: "", 65: "invalid_input", 100: "gone", 255: "last"} {
		rel := queuetest.RunHandler(t, &execrun.Command{Line: fmt.Sprintf("exit %d", code), Kinds: kinds}, nil)
		if permanent := rel.Outcome == queue.OutcomePermanent; rel.ErrorKind != want || permanent != (code == execrun.ExitPermanent) {
			t.Errorf("exit %d: %q %s, want %q", code, rel.ErrorKind, rel.Outcome, want)
		}
	}
	for _, bad := range []string{"", "65", "65=", "0=fine", "256=far", "x=bad", "-1=bad", "65=quarantined", "65=" + strings.Repeat("x", 65), "1=a,1=b"} {
		if _, err := execrun.ParseKinds(strings.Split(bad, ",")); err == nil || !strings.HasPrefix(err.Error(), "exit-kinds: must ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
