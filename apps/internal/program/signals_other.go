//go:build !unix

package program

import (
	"os"
	"syscall"
)

var (
	stopSignals   = []os.Signal{os.Interrupt}
	alwaysSignals = []os.Signal{syscall.SIGTERM}
	pipeSignals   = []os.Signal{syscall.SIGPIPE}

	// This system has no signals for the debug lines, a dump and a reload.
	debugSignal, dumpSignal, reloadSignal os.Signal
)

// watchTerminal returns a function that returns false.
func watchTerminal() (lost func() bool) { return func() bool { return false } }
