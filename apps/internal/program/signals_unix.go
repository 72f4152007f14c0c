//go:build unix

package program

import (
	"os"
	"syscall"
)

var (
	// stopSignals request a stop, unless they were ignored at the start.
	stopSignals = []os.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT}
	// alwaysSignals are handled in every case.
	alwaysSignals = []os.Signal{syscall.SIGTERM, syscall.SIGUSR1}
	// pipeSignals report a write to a closed pipe.
	pipeSignals = []os.Signal{syscall.SIGPIPE}

	// debugSignal turns the debug lines of the log on and off.
	debugSignal os.Signal = syscall.SIGUSR1
	// dumpSignal requests the stacks of all goroutines and a stop at once.
	dumpSignal os.Signal = syscall.SIGQUIT
	// reloadSignal requests that the files of the settings are read again.
	reloadSignal os.Signal = syscall.SIGHUP
)

// watchTerminal returns a function that reports whether the terminal that the process has now is gone. A terminal that closes
// sends SIGHUP, as does a request for a reload.
func watchTerminal() (lost func() bool) {
	if !hasTerminal() {
		return func() bool { return false }
	}
	return func() bool { return !hasTerminal() }
}

// hasTerminal reports whether the process has a controlling terminal.
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}
