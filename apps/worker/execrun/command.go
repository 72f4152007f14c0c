package execrun

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// Defaults of a Command.
const (
	DefaultKillAfter = 5 * time.Second
	DefaultMaxOutput = 256 << 10
	// maxStderr is the part of the end of standard error that a failure keeps.
	maxStderr = 4 << 10
)

// Command is a handler that runs a command. It is safe for concurrent use and must not change after its first use.
type Command struct {
	// Line is run by the shell: /bin/sh -c LINE.
	Line string
	// Dir is the working directory; "" = that of this process.
	Dir string
	// Env names the variables of this process's environment that the command gets. nil = all but PGQUEUE_…, which
	// configure the worker and may hold secrets.
	Env []string
	// KillAfter is the time between SIGTERM and SIGKILL; 0 = DefaultKillAfter.
	KillAfter time.Duration
	// Server and Protocol are the PGQUEUE_URL, without user and password, and the PGQUEUE_PROTOCOL for a pgqueue that
	// the command runs; "" = the command gets neither.
	Server, Protocol string
	// Kinds gives the kinds of the errors of exit codes, as 65: "invalid_input"; nil = none.
	Kinds map[int]string
	// MaxOutput is the part of standard output in bytes that is kept; 0 = DefaultMaxOutput. The rest is read and
	// dropped.
	MaxOutput int
}

var _ worker.Handler = (*Command)(nil)

// Failure is the error of a command that failed.
type Failure struct {
	// Text describes the end of the command, such as "exit status 3".
	Text string
	// Code is its exit code; -1 if it did not exit by itself.
	Code   int
	Stderr string
	Output json.RawMessage
	// Kind is that of Command.Kinds for the code; "" = none.
	Kind string
}

// ErrorKind returns the kind of the failure.
func (f *Failure) ErrorKind() string { return f.Kind }

func (f *Failure) Error() string {
	if line := strings.TrimSpace(f.Stderr); line != "" {
		return f.Text + ": " + line[strings.LastIndexByte(line, '\n')+1:]
	}
	return f.Text
}

// MarshalJSON returns the failure in the form that the task keeps.
func (f *Failure) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Error  string          `json:"error"`
		Code   int             `json:"exit_code"`
		Stderr string          `json:"stderr,omitempty"`
		Output json.RawMessage `json:"output,omitempty"`
	}{f.Error(), f.Code, f.Stderr, f.Output})
}

// Work runs the command for task and returns the result or the failure.
func (c *Command) Work(ctx context.Context, task *queue.Task) (any, error) {
	out := &head{most: cmp.Or(max(c.MaxOutput, 0), DefaultMaxOutput)}
	errs := &lines{most: maxStderr, line: func(s string) { worker.Logf(ctx, "%s", s) }}
	cmd := exec.CommandContext(ctx, shell, "-c", c.Line) //nolint:gosec // the operator's own command
	cmd.Dir, cmd.Env = c.Dir, c.environ(task)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(string(task.Payload)), out, errs
	cmd.WaitDelay = cmp.Or(max(c.KillAfter, 0), DefaultKillAfter)
	setProcessGroup(cmd)
	// The end of the task is not a fault of the command.
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return nil, &Failure{Text: fmt.Sprintf("stopped: %v", context.Cause(ctx)), Code: -1}
		}
		return nil, c.notStarted(err)
	}

	err := cmd.Wait()
	errs.endLine()
	// Processes that the command left behind end with its task.
	killGroup(cmd)
	if cmd.ProcessState != nil && cmd.ProcessState.Success() {
		// err may still report the context or open pipes.
		return out.encodeJSON(), nil
	}

	if ctx.Err() != nil {
		return nil, &Failure{Text: fmt.Sprintf("stopped: %v", context.Cause(ctx)), Code: -1, Stderr: errs.keptText()}
	}

	// A code of -1 stands for the end by a signal.
	f := &Failure{Text: err.Error(), Code: -1, Stderr: errs.keptText(), Output: out.encodeJSON()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		f.Code = exit.ExitCode()
		f.Kind = c.Kinds[f.Code]
	}

	return nil, c.judgeExitCode(f)
}

// environ returns the environment of the command. The variables of the task begin with PGQUEUE_TASK_, and no program
// of pgqueue reads those, so a pgqueue that the command runs follows its arguments.
func (c *Command) environ(task *queue.Task) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if c.Env == nil && !strings.HasPrefix(name, "PGQUEUE_") || slices.Contains(c.Env, name) {
			env = append(env, kv)
		}
	}

	headers := "{}"
	if b, err := json.Marshal(task.Headers); err == nil && task.Headers != nil {
		headers = string(b)
	}

	env = append(env,
		"PGQUEUE_TASK_ID="+strconv.FormatInt(task.ID, 10),
		"PGQUEUE_NAMESPACE="+task.Namespace,
		"PGQUEUE_TASK_QUEUE="+task.Queue,
		"PGQUEUE_TASK_ATTEMPT="+strconv.Itoa(task.Attempt),
		"PGQUEUE_TASK_RETRIES="+strconv.Itoa(task.Retries),
		"PGQUEUE_TASK_PRIORITY="+strconv.Itoa(int(task.Priority)),
		"PGQUEUE_TASK_KEY="+task.Key,
		"PGQUEUE_TASK_GROUP="+task.Group,
		"PGQUEUE_TASK_CREATED_AT="+formatTime(task.CreatedAt),
		"PGQUEUE_TASK_DIES_AT="+formatTime(task.DiesAt),
		"PGQUEUE_TASK_HEADERS="+headers,
	)
	if c.Server != "" {
		env = append(env, "PGQUEUE_URL="+withoutUser(c.Server))
	}

	if c.Protocol != "" {
		env = append(env, "PGQUEUE_PROTOCOL="+c.Protocol)
	}

	for _, name := range []string{"traceparent", "tracestate", "baggage"} {
		if v, ok := task.Headers[name]; ok {
			env = append(env, strings.ToUpper(name)+"="+v)
		}
	}

	return env
}

// withoutUser returns address without its user and password, which each command could read otherwise.
func withoutUser(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
