package queuetest

import (
	"os"
	"os/signal"
	"syscall"
)

// DefaultSignals is called by a TestMain whose tests send signals to processes that they start. What the test itself was
// started with ignored, as by nohup or in the background of a shell, it would hand down; a signal that a program handles it
// hands down with the default action.
func DefaultSignals() {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig) // and nobody listens: here it stays ignored
		}
	}
}
