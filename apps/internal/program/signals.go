package program

import (
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
)

// Signals returns the signals that control a long-running program:
//
//	SIGTERM, SIGINT, SIGHUP   stop gracefully; a second one, at once
//	SIGQUIT                   write the stacks of all goroutines to the log, then stop at once
//	SIGUSR1                   turn the debug lines of the log on and off
//
// SIGHUP, SIGINT and SIGQUIT stay ignored if they were ignored at the start: nohup and shells do that for background
// programs. A closed reader of standard output or error does not end the program; later output is lost. Child
// processes receive all signals with their defaults.
func Signals() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 4)
	for _, sig := range stopSignals {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
	signal.Notify(c, alwaysSignals...)
	// The channel is never read: the registration turns the signal into a write error.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, pipeSignals...)
	reportListening()
	return c, func() {
		signal.Stop(c)
		signal.Stop(pipes)
	}
}

// WatchSignals handles the signals until unwatch is called. It toggles the debug lines of level, writes stacks to
// dump, and calls stop for each signal that requests a stop. atOnce is true for SIGQUIT and from the second such
// signal on.
func WatchSignals(
	signals <-chan os.Signal, level *slog.LevelVar, dump io.Writer, stop func(sig os.Signal, atOnce bool),
) (unwatch func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for stopping := false; ; {
			select {
			case <-done:
				return
			case sig := <-signals:
				if IsDebug(sig) {
					Toggle(level)
					continue
				}

				if IsDump(sig) {
					DumpGoroutines(dump)
				}

				stop(sig, stopping || IsDump(sig))
				stopping = true
			}
		}
	})

	return func() {
		close(done)
		watching.Wait()
	}
}

// maxDump bounds the text of DumpGoroutines.
const maxDump = 16 << 20

// DumpGoroutines writes the stacks of all goroutines.
func DumpGoroutines(w io.Writer) {
	for size := 1 << 20; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= maxDump {
			// A broken log must not prevent the stop.
			_, _ = w.Write(append(b[:n], '\n'))
			return
		}
	}
}
