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
