package root

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// everywhere may be said by the environment of any command, toDatabase by that of the commands that work on a database
// itself. Of run it is every flag of its own.
var (
	everywhere = []string{"url", "namespace", "protocol", "auth-token", "auth-token-file", "ca-file", "cert-file", "key-file", "timeout", "output"}
	toDatabase = []string{"database-url", "schema", "pooler", "data-dir", "listen-url", "max-conns", "wait", "cells-file"}
	onCells    = []string{"cells", "create-cell", "place", "move-home"}
	onTokens   = []string{"audit", "tokens", "create-token", "rotate-token", "revoke-token", "whoami", "can"}
)

// readsVariable says what the contract allows.
func readsVariable(cmd *cobra.Command, flag string) bool {
	path := strings.Fields(cmd.CommandPath())
	switch {
	case slices.Contains(everywhere, flag):
		return true
	case len(path) == 2 && path[1] == "run":
		return !slices.Contains([]string{"help", "jq", "context", "config"}, flag)
	case len(path) > 1 && (path[1] == "migrate" || path[1] == "doctor" || slices.Contains(onTokens, path[1]) || slices.Contains(onCells, path[1])):
		return slices.Contains(toDatabase, flag)
	}
	return false
}

// valueOf is one that a flag of this kind takes, and that none has by itself.
func valueOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		if f.DefValue == "true" {
			return "false"
		}
		return "true"
	case "duration":
		return "17s"
	case "int", "int16", "int64":
		return "17"
	case "time":
		return "2026-01-02"
	}
	return "strange"
}

func TestTheEnvironmentSaysWhereACommandWorksAndNeverWhatItDoes(t *testing.T) {
	streams, _, _ := iostreams.Test("")
	tried := 0
	for _, path := range commandPaths(t) {
		for _, name := range flagNames(t, path) {
			f := &factory.Factory{IO: streams, Version: "test", Lookup: func(k string) (string, bool) { return "", false }}
			cmd, flag := find(t, f, path, name)
			value := valueOf(flag)
			f.Lookup = func(k string) (string, bool) { return value, k == program.Variable(name) }
			before := flag.Value.String()
			if err := cmdutil.Prepare(f, cmd); err != nil {
				t.Errorf("%s: %s=%s: %v", cmd.CommandPath(), program.Variable(name), value, err)
			}
			set := flag.Changed || flag.Value.String() != before
			if want := readsVariable(cmd, name); set != want {
				t.Errorf("%s: %s sets --%s: %v, want %v", cmd.CommandPath(), program.Variable(name), name, set, want)
			}
			tried++
		}
	}
	if tried < 500 {
		t.Errorf("only %d flags were tried", tried)
	}
}

// commandPaths are the words of every command.
func commandPaths(t *testing.T) (paths [][]string) {
	t.Helper()
	streams, _, _ := iostreams.Test("")
	root, _ := New(&factory.Factory{IO: streams, Version: "test"})
	each(root, func(c *cobra.Command) {
		if words := strings.Fields(c.CommandPath()); len(words) > 1 && !cmdutil.OnlyCommands(c) && c.Name() != "help" {
			paths = append(paths, words[1:])
		}
	})
	return paths
}

// flagNames are the flags of a command, those of all commands included.
func flagNames(t *testing.T, path []string) (names []string) {
	t.Helper()
	streams, _, _ := iostreams.Test("")
	cmd, _ := find(t, &factory.Factory{IO: streams, Version: "test"}, path, "")
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// find makes all commands anew and gives one, with its flags parsed, and a flag of it.
func find(t *testing.T, f *factory.Factory, path []string, flag string) (*cobra.Command, *pflag.Flag) {
	t.Helper()
	root, _ := New(f)
	cmd, rest, err := root.Find(path)
	if err != nil || len(rest) > 0 {
		t.Fatal(path, rest, err)
	}
	if err := cmd.ParseFlags(nil); err != nil {
		t.Fatal(err)
	}
	return cmd, cmd.Flags().Lookup(flag)
}

func TestVariablesOfAnotherMeaning(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail", "--retries", "9")
	s.must("create-queue", "follow")
	for range 4 {
		s.must("create-task", "mail")
	}
	for k, v := range map[string]string{
		"QUEUE": "mail", "KEY": "k", "RETRIES": "3", "PRIORITY": "7", "ERROR": "oops", "PAUSED": "1", "EVENTS": "false",
		"STATUS": "new", "WORKER": "w", "LIMIT": "1", "DRY_RUN": "false", "PAYLOAD": "{}", "HEADERS": "{}", "JQ": ".nothing",
	} {
		s.env["PGQUEUE_"+k] = v
	}
	t.Run("a destructive command takes its filter from its arguments alone", func(t *testing.T) {
		for _, verb := range []string{"delete-task", "cancel-task", "retry-task"} {
			if code, out, errOut := s.run(false, "", verb); code != program.ExitUsage || out != "" {
				t.Errorf("%s: %d %s %s", verb, code, out, errOut)
			}
		}
		delete(s.env, "PGQUEUE_STATUS") // of the list below
		if n := s.must("tasks", "--jq", ".count"); n != "4\n" {
			t.Errorf("%s tasks are left", n)
		}
	})
	t.Run("a task is made without the key of another, in the queue that is named", func(t *testing.T) {
		for range 2 {
			if out := s.must("create-task", "follow", "--jq", `.queue, .key == "k", .priority`); out != "follow\nfalse\n0\n" {
				t.Error(out)
			}
		}
		_, out, errOut := s.run(false, "{\"queue\":\"follow\",\"payload\":{}}\n", "import", "-")
		if n := s.must("tasks", "--queue", "follow", "--jq", ".count"); n != "3\n" {
			t.Error(n, out, errOut)
		}
	})
	t.Run("an update changes what is named alone", func(t *testing.T) {
		if out := s.must("update-queue", "mail", "--concurrency", "5", "--jq", ".retries, .paused == true, .concurrency"); out != "9\nfalse\n5\n" {
			t.Error(out)
		}
	})
}
