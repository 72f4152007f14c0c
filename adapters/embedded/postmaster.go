package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// quitTimeout limits an immediate shutdown. The postmaster itself waits 5 s for its children before it kills
	// them.
	quitTimeout = 8 * time.Second
	// killTimeout limits the wait after SIGKILL. Only a process that is stuck in the kernel outlives it.
	killTimeout = 5 * time.Second
	// logGrace limits the reading of the log after the end of the postmaster.
	logGrace = 2 * time.Second
)

var (
	errBind      = errors.New("could not listen")
	errSurvivors = errors.New("processes of an older PostgreSQL still live")
)

// postmaster is a running PostgreSQL with its two goroutines. One waits for its end, the other reads its log. Both
// end with the process.
type postmaster struct {
	cmd    *exec.Cmd
	log    *logTail
	exited chan struct{} // closes when the process has ended and its log is read
	state  error         // result of the process; read it after exited
}

// launchPostmaster starts the process and returns when it runs or failed to start.
func launchPostmaster(cmd *exec.Cmd, logger *slog.Logger) (*postmaster, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("embedded: starting PostgreSQL: %w", err)
	}

	cmd.Stdout, cmd.Stderr = w, w
	p := &postmaster{cmd: cmd, log: &logTail{logger: logger}, exited: make(chan struct{})}

	started := make(chan error, 1)
	go p.watchProcess(r, w, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("embedded: starting PostgreSQL: %w", err)
	}
	return p, nil
}

// watchProcess starts the process and stays on its thread until the process ends; endAtParentsDeath has the reason.
func (p *postmaster) watchProcess(r, w *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() { _ = r.Close() }()

	err := p.cmd.Start()
	_ = w.Close() // the children have their own copies
	started <- err
	if err != nil {
		return
	}

	read := make(chan struct{})
	go func() {
		defer close(read)
		p.log.followLog(r)
	}()
	p.state = p.cmd.Wait()

	// A backend that outlives the postmaster keeps the pipe open, so the reader needs a deadline.
	if err := r.SetReadDeadline(time.Now().Add(logGrace)); err != nil {
		_ = r.Close()
	}
	<-read
	close(p.exited)
}

// waitReady returns nil when postmaster.pid reports that the server accepts connections.
func (p *postmaster) waitReady(ctx context.Context, f *folder) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()

	for {
		select {
		case <-p.exited:
			return p.startError()
		case <-ctx.Done():
			return fmt.Errorf("embedded: PostgreSQL was not ready in time (%w); it last said %q: allow it more time with WithStartTimeout",
				context.Cause(ctx), p.log.findReason())
		case <-tick.C:
			if f.isReady(p.cmd.Process.Pid) {
				return nil
			}
		}
	}
}

// isReady reports whether the pid file belongs to process pid and has the status "ready" in line 8.
func (f *folder) isReady(pid int) bool {
	b, err := f.root.ReadFile(clusterName + "/postmaster.pid")
	if err != nil {
		return false
	}

	lines := strings.Split(string(b), "\n")
	return len(lines) >= 8 && strings.TrimSpace(lines[0]) == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

// startError turns the last log lines of a failed start into an error.
func (p *postmaster) startError() error {
	switch {
	case p.log.hasSaid("could not create any TCP/IP sockets"):
		return errBind
	case p.log.hasSaid("pre-existing shared memory block"):
		return errSurvivors
	case p.log.hasSaid(`lock file "postmaster.pid" already exists`):
		return fmt.Errorf("embedded: %w: %s", ErrInUse, p.log.findReason())
	}
	return fmt.Errorf("embedded: PostgreSQL did not start (%w): %s", endedBy(p.state), p.log.findReason())
}

// endedBy describes the end of a process that should still run.
func endedBy(state error) error {
	if state == nil {
		return errors.New("exit status 0")
	}
	return state
}

// stopProcess ends the process with a fast shutdown until ctx ends, then with an immediate one. It reports whether the
// shutdown was clean. It returns an error when the process outlives SIGKILL.
func (p *postmaster) stopProcess(ctx context.Context) (clean bool, err error) {
	_ = p.cmd.Process.Signal(syscall.SIGINT) // an error means that it has ended, as the wait shows
	select {
	case <-p.exited:
		return p.state == nil, nil
	case <-ctx.Done():
	}

	for _, step := range []struct {
		sig  syscall.Signal
		wait time.Duration
	}{{syscall.SIGQUIT, quitTimeout}, {syscall.SIGKILL, killTimeout}} {
		_ = p.cmd.Process.Signal(step.sig)

		timer := time.NewTimer(step.wait)
		select {
		case <-p.exited:
			timer.Stop()
			return false, nil
		case <-timer.C:
		}
	}
	return false, fmt.Errorf("embedded: PostgreSQL (process %d) does not end; kill it", p.cmd.Process.Pid)
}

// logTail passes PostgreSQL's log to the logger and keeps the last lines for error messages.
type logTail struct {
	logger *slog.Logger

	mu    sync.Mutex
	lines []string // the last tailLines
}

const (
	tailLines   = 40
	maxLogBytes = 16 << 10 // a longer line is split
)

// followLog reads until r ends or its deadline passes.
func (t *logTail) followLog(r io.Reader) {
	br := bufio.NewReaderSize(r, maxLogBytes)

	level := slog.LevelDebug
	for {
		b, err := br.ReadSlice('\n')
		if line := strings.TrimRight(string(b), "\r\n"); line != "" {
			level = lineLevel(line, level)
			t.logger.Log(context.Background(), level, line, "source", "postgres")

			t.mu.Lock()
			if t.lines = append(t.lines, line); len(t.lines) > tailLines {
				t.lines = t.lines[1:]
			}
			t.mu.Unlock()
		}

		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// lineLevel maps PostgreSQL's severities to levels. A line without severity, such as DETAIL, has the level of the
// line before it. FATAL ends a session and not the server, so it is a warning.
func lineLevel(line string, before slog.Level) slog.Level {
	for _, s := range []struct {
		severity string
		level    slog.Level
	}{
		{"PANIC:  ", slog.LevelError},
		{"FATAL:  ", slog.LevelWarn},
		{"ERROR:  ", slog.LevelWarn},
		{"WARNING:  ", slog.LevelWarn},
		{"LOG:  ", slog.LevelDebug},
		{"NOTICE:  ", slog.LevelDebug},
		{"INFO:  ", slog.LevelDebug},
		{"DEBUG:  ", slog.LevelDebug},
	} {
		if strings.Contains(line, s.severity) {
			return s.level
		}
	}
	return before
}

// hasSaid reports whether one of the last lines contains text.
func (t *logTail) hasSaid(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range t.lines {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// findReason returns the most useful message of the last lines.
func (t *logTail) findReason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return findReasonIn(t.lines)
}

// findReasonIn returns the most useful message in the output of PostgreSQL. That is the last failure with its lines of
// detail, else the last line.
func findReasonIn(lines []string) string {
	for i, line := range slices.Backward(lines) {
		for _, severity := range []string{"PANIC:  ", "FATAL:  ", "ERROR:  ", "error: "} {
			_, text, found := strings.Cut(line, severity)
			if !found {
				continue
			}

			for _, more := range lines[i+1:] {
				if _, detail, ok := strings.Cut(more, "DETAIL:  "); ok {
					text += " (" + detail + ")"
				}
			}
			return oneLine(text)
		}
	}

	if len(lines) == 0 {
		return "it said nothing"
	}
	return oneLine(lines[len(lines)-1])
}
