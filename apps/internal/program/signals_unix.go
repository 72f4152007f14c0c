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
)

// IsDebug reports whether sig turns the debug lines of the log on and off.
func IsDebug(sig os.Signal) bool { return sig == syscall.SIGUSR1 }

// IsDump reports whether sig requests the stacks of all goroutines and a stop at once.
func IsDump(sig os.Signal) bool { return sig == syscall.SIGQUIT }

// isReload reports whether sig requests that the files of the settings are read again.
func isReload(sig os.Signal) bool { return sig == syscall.SIGHUP }

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
