package program

import (
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/term"
)

// forwarded are the signals that process 1 forwards.
var forwarded = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
}

// Init does the work of process 1 of a container: it runs the program in a child, forwards signals to it, and reaps
// every orphan. A program that reaped orphans itself would also collect the exits of its own children. done reports
// that the child has ended with code; until then Init does not return. In any other process it returns at once.
func Init() (code int, done bool) {
	if os.Getpid() != 1 {
		return 0, false
	}

	signals := make(chan os.Signal, 64)
	for _, sig := range forwarded {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}

	signal.Notify(signals, syscall.SIGCHLD)
	pid, listens, err := startSelf()
	if err != nil {
		signal.Reset()
		// Without a child the program runs in this process.
		return 0, false
	}

	// early holds the signals that the child does not handle yet.
	var early []os.Signal
	for {
		select {
		case <-listens:
			for _, sig := range early {
				forward(pid, sig)
			}
			early, listens = nil, nil

		case sig := <-signals:
			switch {
			case sig == syscall.SIGCHLD:
			case listens != nil:
				early = append(early, sig)
			default:
				forward(pid, sig)
			}

			if code, done := reapChildren(pid); done {
				// The kernel ends the remaining processes.
				return code, true
			}
		}
	}
}

func forward(pid int, sig os.Signal) {
	// The child may just have ended.
	_ = syscall.Kill(pid, sig.(syscall.Signal))
}

// listensVariable names the descriptor that the child of process 1 closes when it handles signals.
const listensVariable = "_" + Prefix + "INIT_DESCRIPTOR" // not a setting

// listensTimeout is the longest time for which process 1 delays signals to a child that does not handle them, such as
// a check of a server.
const listensTimeout = 10 * time.Second

// reportListening reports to a process 1 of this program that the present process handles signals.
func reportListening() {
	n, err := strconv.Atoi(os.Getenv(listensVariable))
	if err != nil || n < 3 {
		return
	}
	// Children have no such descriptor.
	_ = os.Unsetenv(listensVariable)
	_ = syscall.Close(n)
}

// startSelf starts this program again with the same arguments. listens is closed when the child handles signals.
func startSelf() (pid int, listens <-chan struct{}, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer write.Close()
	// The child gets its own group. A terminal would otherwise send its signals to both processes, and two signals
	// mean more than one.
	attr := &os.ProcAttr{
		Env: append(os.Environ(), listensVariable+"=3"), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, write},
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: term.IsTerminal(0), Ctty: 0},
	}
	p, err := os.StartProcess(exe, os.Args, attr)
	if err != nil && attr.Sys.Foreground {
		// The terminal is not the controlling one.
		attr.Sys.Foreground = false
		p, err = os.StartProcess(exe, os.Args, attr)
	}
	if err != nil {
		return 0, nil, errors.Join(err, read.Close())
	}

	closed := make(chan struct{})
	// Pipes support deadlines.
	_ = read.SetReadDeadline(time.Now().Add(listensTimeout))
	go func() {
		// The pipe stays empty: the read ends with the descriptor of the child or at the deadline.
		_, _ = read.Read(make([]byte, 1))
		_ = read.Close()
		close(closed)
	}()
	pid = p.Pid
	return pid, closed, p.Release()
}

// reapChildren collects all processes that have ended. If child is one of them, it returns its exit code.
func reapChildren(child int) (code int, done bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		// EINTR is never wrapped.
		case err == syscall.EINTR:
		case err != nil || pid <= 0:
			return code, done
		case pid != child:
		case status.Signaled():
			code, done = 128+int(status.Signal()), true
		default:
			code, done = status.ExitStatus(), true
		}
	}
}
