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

// IsDebug says that sig turns the log's debug lines on and off: there is no such signal here.
func IsDebug(os.Signal) bool { return false }

// IsDump says that sig asks for what all goroutines do: there is no such signal here.
func IsDump(os.Signal) bool { return false }
