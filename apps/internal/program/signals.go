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
//	SIGTERM, SIGINT           stop gracefully; a second one, at once
//	SIGHUP                    read the files of the settings again, in a program that can; else stop gracefully
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

// Reactions are what signals do. Stop is required.
type Reactions struct {
	// Level has the debug lines that SIGUSR1 turns on and off.
	Level *slog.LevelVar
	// Dump receives the stacks of all goroutines.
	Dump io.Writer
	// Reload reads the files of the settings again; nil = SIGHUP stops the program.
	Reload func()
	// Stop is called for each signal that requests a stop. atOnce is true for SIGQUIT and from the second such signal on.
	Stop func(sig os.Signal, atOnce bool)
}

// WatchSignals handles the signals until unwatch is called. A SIGHUP that comes because the terminal of the program has
// closed requests a stop in every program.
func WatchSignals(signals <-chan os.Signal, r Reactions) (unwatch func()) {
	done := make(chan struct{})
	lost := watchTerminal()
	var watching sync.WaitGroup
	watching.Go(func() {
		for stopping := false; ; {
			select {
			case <-done:
				return
			case sig := <-signals:
				switch {
				case sig == debugSignal:
					toggleDebug(r.Level)
					continue
				case sig == reloadSignal && r.Reload != nil && !lost():
					r.Reload()
					continue
				case sig == dumpSignal:
					dumpGoroutines(r.Dump)
				}

				r.Stop(sig, stopping || sig == dumpSignal)
				stopping = true
			}
		}
	})

	return func() {
		close(done)
		watching.Wait()
	}
}

// maxDump bounds the text of dumpGoroutines.
const maxDump = 16 << 20

// dumpGoroutines writes the stacks of all goroutines.
func dumpGoroutines(w io.Writer) {
	for size := 1 << 20; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= maxDump {
			// A broken log must not prevent the stop.
			_, _ = w.Write(append(b[:n], '\n'))
			return
		}
	}
}
