package program

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// forwarded are the signals that the first process passes on.
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
	pid, err := startSelf()
	if err != nil {
		signal.Reset()
		return 0, false // without a child of its own the program runs all the same
	}

	for sig := range signals {
		if sig != syscall.SIGCHLD {
			_ = syscall.Kill(pid, sig.(syscall.Signal)) // it may just have ended
		}
		if code, done := reap(pid); done {
			return code, true // the kernel ends what is left
		}
	}
	return ExitFailed, true
}

// startSelf starts this program again, as it was started.
func startSelf() (pid int, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	// A group of its own: a terminal would send its signals to both, and two of them mean more than one.
	attr := &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: term.IsTerminal(0), Ctty: 0},
	}
	p, err := os.StartProcess(exe, os.Args, attr)
	if err != nil && attr.Sys.Foreground { // not the terminal that controls us
		attr.Sys.Foreground = false
		p, err = os.StartProcess(exe, os.Args, attr)
	}
	if err != nil {
		return 0, err
	}
	pid = p.Pid
	return pid, p.Release()
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
