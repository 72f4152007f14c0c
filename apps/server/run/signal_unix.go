//go:build unix

package run

import (
	"os"
	"syscall"
)

// debugSignal turns the log's debug lines on and off.
var debugSignal os.Signal = syscall.SIGUSR1
