//go:build unix

package execrun_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/apps/worker/execrun"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/domain/worker"
)

func TestMain(m *testing.M) {
	queuetest.DefaultSignals()
	goleak.VerifyTestMain(m)
}

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		name, line, payload string
		outcome             queue.Outcome
		result              string
	}{
		{"the payload is standard input and JSON on standard output the result", `cat`, `{"n":1.50,"a":[]}`, queue.OutcomeSuccess, `{"n":1.50,"a":[]}`},
		{"other output is a text", `echo hello; echo world`, `{}`, queue.OutcomeSuccess, `{"text":"hello\nworld"}`},
		{"output that is not UTF-8 is a text all the same", `printf 'a\377b'`, `{}`, queue.OutcomeSuccess, `{"text":"a�b"}`},
		{"no output makes no result", `true`, `{}`, queue.OutcomeSuccess, ``},
		{"a payload that is not read does no harm", `exit 0`, `"` + strings.Repeat("x", 200_000) + `"`, queue.OutcomeSuccess, ``},
		{"output over the limit is cut", `head -c 5000 /dev/zero | tr '\0' x`, `{}`, queue.OutcomeSuccess, `{"text":"` + strings.Repeat("x", 1000) + `","dropped_bytes":4000}`},
		{"exit 75 is tried again", `echo busy >&2; exit 75`, `{}`, queue.OutcomeFailure, `{"error":"exit status 75: busy","exit_code":75,"stderr":"busy\n"}`},
		{"exit 100 is a failure for good", `echo '{"why":1}'; exit 100`, `{}`, queue.OutcomePermanent, `{"error":"exit status 100","exit_code":100,"output":{"why":1}}`},
		{"any other exit code is a failure", `exit 3`, `{}`, queue.OutcomeFailure, `{"error":"exit status 3","exit_code":3}`},
		{"death by a signal is a failure", `kill -9 $$`, `{}`, queue.OutcomeFailure, `{"error":"signal: killed","exit_code":-1}`},
		{"a command that is not there is the worker's trouble: the task goes back", `/nowhere/at/all 2>/dev/null`, `{}`, queue.OutcomeHandBack, ``},
		{"a command that is not found in its own turn is a failure", `true; nowhere-at-all 2>/dev/null`, `{}`, queue.OutcomeFailure, `{"error":"exit status 127","exit_code":127}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &execrun.Command{Line: c.line, MaxOutput: 1000}
			rel := queuetest.RunHandler(t, h, json.RawMessage(c.payload))
			if rel.Outcome != c.outcome || string(rel.Result) != c.result {
				t.Errorf("got %s %.300s", rel.Outcome, rel.Result)
			}
		})
	}

	t.Run("of much on standard error the end is kept, and the task ends", func(t *testing.T) {
		rel := queuetest.RunHandler(t, &execrun.Command{Line: `yes 123456789 | head -n 200000 >&2; echo last >&2; exit 1`}, nil)
		var f struct{ Error, Stderr string }
		if err := json.Unmarshal(rel.Result, &f); err != nil || rel.Outcome != queue.OutcomeFailure {
			t.Fatal(err, rel.Outcome)
		}
		if f.Error != "exit status 1: last" || !strings.HasSuffix(f.Stderr, "123456789\nlast\n") || len(f.Stderr) > 4<<10 {
			t.Errorf("%q and %d bytes of standard error", f.Error, len(f.Stderr))
		}
	})
	t.Run("of output without end the beginning is kept, until the command is stopped", func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, worker.ErrDeadline)
		defer cancel()
		rel := worker.Work(ctx, &execrun.Command{Line: `yes; echo never`, MaxOutput: 1000}, &queue.Task{ID: 1, Payload: queue.EmptyJSON})
		if rel.Outcome != queue.OutcomeFailure || len(rel.Result) > 2000 || !strings.Contains(string(rel.Result), "time to live is over") {
			t.Errorf("got %s %.200s", rel.Outcome, rel.Result)
		}
	})
	t.Run("a working directory that is not there is the worker's trouble, and is named", func(t *testing.T) {
		h := &execrun.Command{Line: "true", Dir: "/nowhere"}
		queuetest.RequireOutcome(t, queuetest.RunHandler(t, h, nil), queue.OutcomeHandBack)
		if _, err := h.Work(t.Context(), &queue.Task{ID: 1}); err == nil || !strings.Contains(err.Error(), "stat /nowhere") {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestEnvironment(t *testing.T) {
	t.Setenv("PGQUEUE_DATABASE", "postgres://secret")
	t.Setenv("MAIL_HOST", "mx")
	t.Setenv("OTHER", "o")
	fill := func(task *queue.Task) {
		task.ID, task.Queue, task.Attempt, task.Retries, task.Key = 42, "mail", 2, 1, "k\n1"
		task.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("x", 3600))
		task.Headers = map[string]string{"traceparent": "00-aa-bb-01", "x": "y"}
	}
	const line = `printf '%s|' "$PGQUEUE_TASK_ID" "$PGQUEUE_NAMESPACE" "$PGQUEUE_TASK_QUEUE" "$PGQUEUE_TASK_ATTEMPT" "$PGQUEUE_TASK_RETRIES" \
		"$PGQUEUE_TASK_KEY" "$PGQUEUE_TASK_CREATED_AT" "$PGQUEUE_TASK_DIES_AT" "$PGQUEUE_TASK_HEADERS" "$TRACEPARENT" "$PGQUEUE_DATABASE" "$MAIL_HOST" "$OTHER" "$PWD"`

	run := func(t *testing.T, c *execrun.Command) string {
		t.Helper()
		return queuetest.RequireResult[struct{ Text string }](t, queuetest.RunHandler(t, c, nil, fill)).Text
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const about = "42|default|mail|2|1|k\n1|2026-01-02T02:04:05.000006Z||" + `{"traceparent":"00-aa-bb-01","x":"y"}` + "|00-aa-bb-01|"
	t.Run("passes the task and the worker's environment without its configuration, in the working directory", func(t *testing.T) {
		if got := run(t, &execrun.Command{Line: line, Dir: dir}); got != about+"|mx|o|"+dir+"|" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a pgqueue in it finds server and namespace, and no variable says what it does", func(t *testing.T) {
		c := &execrun.Command{Line: "env | grep ^PGQUEUE_ | sort", Dir: dir, Server: "http://me:secret@queue:8080/api", Protocol: "connect"}
		got := run(t, c) + "\n"
		if !strings.Contains(got, "PGQUEUE_URL=http://queue:8080/api\n") || !strings.Contains(got, "PGQUEUE_PROTOCOL=connect\n") || strings.Contains(got, "secret") {
			t.Errorf("got %q", got)
		}
		for line := range strings.Lines(got) {
			name, _, isVariable := strings.Cut(line, "=")
			if isVariable && !strings.HasPrefix(name, "PGQUEUE_TASK_") && !slices.Contains([]string{"PGQUEUE_URL", "PGQUEUE_PROTOCOL", "PGQUEUE_NAMESPACE"}, name) {
				t.Errorf("%s is given", name)
			}
		}
	})
	t.Run("passes only what is named when something is", func(t *testing.T) {
		if got := run(t, &execrun.Command{Line: line, Dir: dir, Env: []string{"MAIL_HOST", "PATH"}}); got != about+"|mx||"+dir+"|" {
			t.Errorf("got %q", got)
		}
	})
}

// await waits for the pid that a command writes into a file.
func await(t *testing.T, file string) int {
	t.Helper()
	for {
		if b, err := os.ReadFile(file); err == nil && strings.HasSuffix(string(b), "\n") {
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the command did not start")
		case <-time.After(time.Millisecond):
		}
	}
}

// gone waits until no process has pid, or only its undertaker is late.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 5000 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
}

func zombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") Z ")
}

func TestStop(t *testing.T) {
	stop := func(t *testing.T, line string, killAfter time.Duration) (queue.Release, int) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "pid")
		t.Setenv("PID_FILE", file)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		done := make(chan queue.Release, 1)
		go func() {
			h := &execrun.Command{Line: line, KillAfter: killAfter}
			done <- worker.Work(ctx, h, &queue.Task{ID: 1, Payload: queue.EmptyJSON})
		}()
		pid := await(t, file)
		cancel(worker.ErrCancelRequested)
		return <-done, pid
	}

	t.Run("a command gets SIGTERM and may still end well", func(t *testing.T) {
		rel, _ := stop(t, `trap 'echo "\"cleaned up\""; exit 0' TERM; echo $$ > $PID_FILE; while :; do sleep 0.01; done`, time.Minute)
		if rel.Outcome != queue.OutcomeSuccess || string(rel.Result) != `"cleaned up"` {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	})
	t.Run("its children get it too", func(t *testing.T) {
		rel, pid := stop(t, `sleep 1000 & echo $! > $PID_FILE; wait`, time.Minute)
		if rel.Outcome != queue.OutcomeFailure || !strings.Contains(string(rel.Result), "a cancel of the task was requested") {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
		gone(t, pid)
	})
	t.Run("one that ignores it is killed with all its children", func(t *testing.T) {
		rel, pid := stop(t, `trap '' TERM; (while :; do sleep 0.05; done) & echo $! > $PID_FILE; while :; do sleep 0.05; done`, 50*time.Millisecond)
		if rel.Outcome != queue.OutcomeFailure {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
		gone(t, pid)
	})
	t.Run("a child that keeps the output open does not keep the task from ending", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "pid")
		t.Setenv("PID_FILE", file)
		rel := queuetest.RunHandler(t, &execrun.Command{Line: `sleep 1000 & echo $! > $PID_FILE; echo 7`, KillAfter: 20 * time.Millisecond}, nil)
		if rel.Outcome != queue.OutcomeSuccess || string(rel.Result) != "7" {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
		gone(t, await(t, file))
	})
}
