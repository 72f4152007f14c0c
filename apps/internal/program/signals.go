package program

import (
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
)

// Signals is how the surroundings speak to a program that runs for long:
//
//	SIGTERM, SIGINT, SIGHUP   stop gracefully; a second one, at once
//	SIGQUIT                   write what all goroutines do to the log, then stop at once
//	SIGUSR1                   turn the log's debug lines on and off
//
// SIGHUP, SIGINT and SIGQUIT that were ignored when the program was started stay so: nohup and shells do that for what is
// to go on in the background. A reader of standard output or error that goes away does not end the program: what is
// written from then on is lost. Children get all signals as if nothing had been set here.
func Signals() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 4)
	for _, sig := range stopSignals {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
	signal.Notify(c, alwaysSignals...)
	pipes := make(chan os.Signal, 1) // never read: that it is asked for makes a write fail instead of ending the process
	signal.Notify(pipes, pipeSignals...)
	reportListening()
	return c, func() {
		signal.Stop(c)
		signal.Stop(pipes)
	}
}

// WatchSignals handles what Signals receives, until the function that it returns is called: it turns the debug lines of
// level on and off, writes stacks to dump, and calls stop for each signal that asks for a stop. atOnce is true from the
// second of them on, and for SIGQUIT.
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

// DumpGoroutines writes what all goroutines do.
func DumpGoroutines(w io.Writer) {
	for size := 1 << 20; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= maxDump {
			_, _ = w.Write(append(b[:n], '\n')) // a log that cannot be written must not keep the program from stopping
			return
		}
	}
}
