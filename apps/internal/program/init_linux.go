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

// forwarded are the signals that process 1 passes on.
var forwarded = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
}

// Init does the duties of the first process of a container, when this is that: the program itself runs in a child, to
// which signals are passed on, and every process that loses its parent is reaped. A program that reaped them beside its
// own children would take ends away from those who wait for them. done says that the child has ended, with code; until
// then Init does not return. In any other process it returns at once.
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
		return 0, false // without a child of its own the program runs all the same
	}

	var early []os.Signal // that the child does not handle yet
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
			if code, done := reap(pid); done {
				return code, true // the kernel ends what is left
			}
		}
	}
}

func forward(pid int, sig os.Signal) {
	_ = syscall.Kill(pid, sig.(syscall.Signal)) // it may just have ended
}

// listensVariable names the descriptor that the child of process 1 closes when it handles signals.
const listensVariable = "_" + Prefix + "INIT_DESCRIPTOR" // not one of the settings

// listensTimeout is how long process 1 holds signals back from a child that does not handle them, as one that asks a
// server whether it is ready.
const listensTimeout = 10 * time.Second

// reportListening reports to process 1, when that is this program, that the present process handles signals.
func reportListening() {
	n, err := strconv.Atoi(os.Getenv(listensVariable))
	if err != nil || n < 3 {
		return
	}
	_ = os.Unsetenv(listensVariable) // children have no such descriptor
	_ = syscall.Close(n)
}

// startSelf starts this program again, as it was started. listens is closed when it handles signals.
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
	// A group of its own: a terminal would send its signals to both, and two of them mean more than one.
	attr := &os.ProcAttr{
		Env: append(os.Environ(), listensVariable+"=3"), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, write},
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: term.IsTerminal(0), Ctty: 0},
	}
	p, err := os.StartProcess(exe, os.Args, attr)
	if err != nil && attr.Sys.Foreground { // not the terminal that controls us
		attr.Sys.Foreground = false
		p, err = os.StartProcess(exe, os.Args, attr)
	}
	if err != nil {
		return 0, nil, errors.Join(err, read.Close())
	}

	closed := make(chan struct{})
	_ = read.SetReadDeadline(time.Now().Add(listensTimeout)) // pipes take deadlines
	go func() {
		_, _ = read.Read(make([]byte, 1)) // nothing is written: it ends with the descriptor of the child, or in time
		_ = read.Close()
		close(closed)
	}()
	pid = p.Pid
	return pid, closed, p.Release()
}

// reap takes note of all processes that have ended, and says how child did when it is one of them.
func reap(child int) (code int, done bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR: // never wrapped
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
