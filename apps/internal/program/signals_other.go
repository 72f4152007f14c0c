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
)

// IsDebug returns false: this system has no signal for the debug lines.
func IsDebug(os.Signal) bool { return false }

// IsDump returns false: this system has no signal for a dump.
func IsDump(os.Signal) bool { return false }

// isReload returns false: this system has no signal for a reload.
func isReload(os.Signal) bool { return false }

// watchTerminal returns a function that returns false.
func watchTerminal() (lost func() bool) { return func() bool { return false } }
