//go:build unix

package program

import (
	"os"
	"syscall"
)

var (
	// stopSignals ask for a stop, unless they were ignored at the start.
	stopSignals = []os.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT}
	// alwaysSignals are listened to in any case.
	alwaysSignals = []os.Signal{syscall.SIGTERM, syscall.SIGUSR1}
	// pipeSignals tell of a write that nothing reads.
	pipeSignals = []os.Signal{syscall.SIGPIPE}
)

// IsDebug says that sig turns the log's debug lines on and off.
func IsDebug(sig os.Signal) bool { return sig == syscall.SIGUSR1 }

// IsDump says that sig asks for what all goroutines do, and a stop at once.
func IsDump(sig os.Signal) bool { return sig == syscall.SIGQUIT }
