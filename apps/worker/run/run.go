package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/adapters/telemetry/export"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// usageError is an error of the command line or the settings.
type usageError struct{ error }

// Main runs the program with args and returns its exit code. Its help calls it name, as pgqueue-worker. See program.Signals
// for its signals.
func Main(name, version string, args []string, stdout, stderr io.Writer) int {
	cmd := newCommand(version, stderr, os.LookupEnv)
	cmd.Use = strings.ReplaceAll(cmd.Use, programName, name)
	cmd.Example = strings.ReplaceAll(cmd.Example, programName, name)
	return program.Execute(cmd, args, stdout, stderr, exitCode)
}

// exitCode returns the exit code of an error of a worker: usage, a check, or failed.
func exitCode(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return program.ExitUsage
	}
	if e, ok := errors.AsType[*queue.Error](err); ok && (e.Op == "check" || e.Kind == queue.KindInvalid) {
		return program.ExitCode(err)
	}
	return program.ExitFailed
}

// programName is the name of the program of its own.
const programName = "pgqueue-worker"

func newCommand(version string, stderr io.Writer, getenv func(string) (string, bool)) *cobra.Command {
	c := &config{}
	cmd := &cobra.Command{
		Use:   programName + " --queue NAME (--exec COMMAND | --http URL)",
		Short: "Work the tasks of queues by running a command or calling an URL for each",
		Example: `  pgqueue-worker --queue mail --exec './send.sh' -c 4
  pgqueue-worker --queue hooks --http https://example.com/hook --secret whsec_…
  pgqueue-worker --database-url postgres://localhost/app --config worker.yaml
  pgqueue-worker --queue mail --exec './send.sh' --until-empty=30s --max-tasks 1000`,
		Version: version,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("arguments: must be flags, got %.64q; write a value as --flag=value; see --help", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.asks {
				return c.checkRunningWorker(cmd, getenv)
			}

			if err := c.loadSettings(cmd.Flags(), getenv); err != nil {
				return usageError{err}
			}

			log, err := c.log.Logger(stderr, program.IsTerminal(stderr))
			if err != nil {
				return usageError{err}
			}

			program.WarnUnread(log, cmd.Flags(), ownPrefix)
			return c.runWorker(cmd.Context(), version, log, stderr)
		},
	}

	cmd.Flags().SortFlags = false
	c.addFlags(cmd.Flags())
	return cmd
}

// checkRunningWorker checks the readiness of the worker at --metrics-addr. Without other flags it uses the arguments of the worker
// that runs beside it.
func (c *config) checkRunningWorker(cmd *cobra.Command, getenv func(string) (string, bool)) error {
	if err := program.TakeRunningArgs(cmd.Flags()); err != nil {
		return usageError{err}
	}
	if err := c.loadSettings(cmd.Flags(), getenv); err != nil {
		return usageError{err}
	}
	if c.metricsAddr == "" {
		return usageError{errors.New("--check: must come with --metrics-addr; give it to the worker and to the check")}
	}
	return program.Check(cmd.Context(), c.metricsAddr, false)
}

// runWorker works until a signal, or the end of ctx.
func (c *config) runWorker(ctx context.Context, version string, log *slog.Logger, stderr io.Writer) error {
	signals, unlisten := program.Signals()
	defer unlisten()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var spans []telemetry.Option
	if c.traceParent {
		spans = append(spans, telemetry.WithCreationAsParent())
	}
	tel, flush, err := export.Setup(ctx, export.Config{Service: "pgqueue-worker", Version: version, Logger: log, Options: spans})
	if err != nil {
		return err
	}

	// The last telemetry leaves after the work has ended. flush has its own bound.
	defer func() {
		if err := flush(context.WithoutCancel(ctx)); err != nil {
			log.WarnContext(ctx, "the last telemetry was not sent", "err", err)
		}
	}()

	// Every handler is checked before the service opens, so a wrong setting takes no task.
	handlers, closeHandlers, err := c.makeHandlers(version)
	defer closeHandlers()
	if err != nil {
		return usageError{err}
	}

	stopProfiles, err := program.ServeProfiles(ctx, c.profilesAddr, log)
	if err != nil {
		return asUsage(err)
	}
	defer stopProfiles()

	// Signals are handled before the service opens, because that wait may take long.
	supervisor := program.Supervised(log)
	defer supervisor.Close()
	ending := &drain{stop: stop, supervisor: supervisor, log: log}
	unwatch := program.WatchSignals(signals, program.Reactions{Level: c.log.Level, Dump: stderr, Stop: func(sig os.Signal, atOnce bool) {
		ending.begin(ctx, sig, atOnce)
	}})
	defer unwatch()

	log.DebugContext(ctx, "opening", "at", c.describe())
	svc, closeService, err := openService(ctx, c, log)
	if err != nil {
		if ctx.Err() != nil { // a signal stopped it during the start
			log.InfoContext(ctx, "stopped")
			return nil
		}
		return asUsage(err)
	}
	defer closeService()

	svc = tel.Service(svc)
	w := worker.New(svc, c.workerOptions(log, tel.Observer())...)
	ending.worker.Store(w)
	w.Use(tel.Middleware(), (&failures{log: log}).middleware)
	for i, j := range c.jobs {
		w.Handle(j.Queue, handlers[i], worker.Concurrency(j.Concurrency))
	}

	// Probes start before Ready, so that an orchestrator finds them.
	p := &probes{svc: svc, resting: w.PausedQueues, draining: &ending.begun}
	unserve, err := serveProbes(ctx, c.metricsAddr, c.hosts, p.handler(tel.Handler()), log)
	if err != nil {
		return err
	}
	defer unserve()

	supervisor.Ready()
	log.InfoContext(ctx, "working", "name", w.Name(), "queues", c.queueNames(), "at", c.describe())
	err = w.Run(ctx)
	c.logEnd(ctx, log, err)
	return asUsage(err)
}

// drain ends the work of a process after a signal.
type drain struct {
	begun      atomic.Bool
	worker     atomic.Pointer[worker.Worker] // nil until the service is open: there is no worker to drain before
	stop       func()
	supervisor *program.Supervisor
	log        *slog.Logger
}

// begin ends the intake. With atOnce, for SIGQUIT or a second signal, the running tasks end too.
func (d *drain) begin(ctx context.Context, sig os.Signal, atOnce bool) {
	// The probe of readiness fails before the intake ends, so that it never reports a worker that takes nothing as ready.
	d.begun.Store(true)
	d.supervisor.Stopping()
	d.log.InfoContext(ctx, "stopping", "signal", sig.String(), "drain", !atOnce)

	d.stop()
	if w := d.worker.Load(); w != nil && atOnce {
		w.StopNow()
	}
}

// logEnd logs that the worker has stopped, and whether it ended by itself.
func (c *config) logEnd(ctx context.Context, log *slog.Logger, err error) {
	if err == nil && ctx.Err() == nil {
		log.InfoContext(ctx, "finished", "max_tasks", c.maxTasks, "until_empty", c.ends)
	}
	log.InfoContext(ctx, "stopped")
}

// workerOptions returns the settings of the worker.
func (c *config) workerOptions(log *slog.Logger, observer worker.Observer) []worker.Option {
	opts := []worker.Option{
		worker.WithConcurrency(c.concurrency), worker.WithLease(c.lease), worker.WithDrain(c.drain),
		worker.WithGrace(c.killAfter() + 2*time.Second), worker.WithLogger(log), worker.WithObserver(observer),
	}
	// A stop may cut a waiting retain of a manager in process, because no answer is lost on a network.
	if c.database.URL != "" {
		opts = append(opts, worker.WithInProcess())
	}
	if c.maxTasks > 0 {
		opts = append(opts, worker.WithMaxTasks(c.maxTasks))
	}
	if c.ends {
		opts = append(opts, worker.WithUntilEmpty(c.idle))
	}
	if c.name != "" {
		opts = append(opts, worker.WithName(c.name))
	}
	return opts
}

// makeHandlers returns the handler of each job, and a function that closes those that were made, after an error too.
func (c *config) makeHandlers(version string) (handlers []worker.Handler, closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for _, f := range closers {
			f()
		}
	}

	for _, j := range c.jobs {
		h, closeHandler, err := c.handler(j, version, max(j.Concurrency, c.concurrency))
		if err != nil {
			return nil, closeAll, err
		}
		handlers, closers = append(handlers, h), append(closers, closeHandler)
	}
	return handlers, closeAll, nil
}

// asUsage turns an error of a setting into one of usage.
func asUsage(err error) error {
	if queue.KindOf(err) == queue.KindInvalid {
		return usageError{err}
	}
	return err
}
