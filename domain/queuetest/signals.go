package queuetest

import (
	"os"
	"os/signal"
	"syscall"
)

// DefaultSignals restores the default action of signals in the processes that a test starts. A TestMain calls it when
// its tests send such signals. A process hands down the signals that it ignores, as under nohup or in the background of
// a shell. It hands down a signal that it handles with the default action.
func DefaultSignals() {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig) // without a receiver: this process still ignores it
		}
	}
}
