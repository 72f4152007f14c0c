package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// TestOperator runs an operator's commands on a database beside a running server, with the real program.
func TestOperator(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	n := startNode(t, dataDir(t))
	// pgqueue runs a command line, expects an exit code and returns the stdout.
	pgqueue := func(t *testing.T, code int, says string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(programs(t), "pgqueue"), args...)
		cmd.Env = append(os.Environ(), "PGQUEUE_URL="+n.url)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, _ := cmd.Output()
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(stderr.String(), says) {
			t.Fatalf("pgqueue %s: exit code %d, want %d; it should say %q:\n%s%s", strings.Join(args, " "), got, code, says, out, &stderr)
		}
		return string(out)
	}
	dsn, err := embedded.Running(n.data)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("doctor examines a database by its URL, and the embedded one by its folder", func(t *testing.T) {
		for _, args := range [][]string{{dsn}, {"--data-dir", n.data}} {
			if got := pgqueue(t, program.ExitDone, "", append([]string{"doctor", "--jq", `[.body[] | select(.name == "fsync") | .level] | first`}, args...)...); got != "ok\n" {
				t.Error(got)
			}
			if table := pgqueue(t, program.ExitDone, "", append([]string{"doctor", "-o", "table"}, args...)...); !strings.HasPrefix(table, "CHECK") {
				t.Error(table)
			}
		}
		pgqueue(t, program.ExitFailed, "", "doctor", dsn, "--schema", "nothing_here")
	})
	t.Run("migrate goes up and down, and a dry run changes nothing", func(t *testing.T) {
		migrate := func(code int, says string, args ...string) string {
			t.Helper()
			return pgqueue(t, code, says, append(append([]string{"migrate"}, args...), dsn, "--schema", "second")...)
		}
		state := func() string { return migrate(program.ExitDone, "", "status", "--jq", ".body[0].state") }
		pending := state()
		migrate(program.ExitDone, "", "up", "--dry-run")
		if got := state(); got != pending {
			t.Errorf("a dry run made it %s", got)
		}
		migrate(program.ExitDone, "", "up")
		if got := state(); got == pending {
			t.Errorf("it is still %s", got)
		}
		migrate(program.ExitDone, "", "validate")
		migrate(program.ExitUsage, "--to: must be the version", "down")
		migrate(program.ExitDone, "", "down", "--to", "0")
		if got := state(); got != pending {
			t.Errorf("it is %s", got)
		}
		if sql := pgqueue(t, program.ExitDone, "", "migrate", "sql", "up", "--schema", "second"); !strings.Contains(sql, `create schema if not exists "second"`) {
			t.Error(sql)
		}
	})
	t.Run("bench measures, and leaves nothing behind", func(t *testing.T) {
		if got := pgqueue(t, program.ExitDone, "", "bench", "--tasks", "1234", "--batch", "100", "--jq", ".tasks, (.work_per_second > 0)"); got != "1234\ntrue\n" {
			t.Error(got)
		}
		if got := pgqueue(t, program.ExitDone, "", "queues", "--jq", ".count"); got != "0\n" {
			t.Error(got)
		}
	})
	t.Run("create-token works on the embedded database by its folder, past the server", func(t *testing.T) {
		token := pgqueue(t, program.ExitDone, "", "create-token", "admin", "--grant", "system@*", "--data-dir", n.data, "--jq", ".token")
		t.Setenv("PGQUEUE_AUTH_TOKEN", strings.TrimSpace(token))
		if got := pgqueue(t, program.ExitDone, "", "can", "access.manage", "--jq", ".allowed"); got != "true\n" {
			t.Error(got)
		}
	})
	t.Run("a folder of a process that has ended is reported", func(t *testing.T) {
		n.stop(t)
		pgqueue(t, program.ExitUsage, "no PostgreSQL runs there", "doctor", "--data-dir", n.data)
	})
}
