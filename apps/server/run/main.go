package run

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// Main runs the program pgqueue-server until a signal and returns its exit code.
func Main(args []string, version string, stdout, stderr *os.File) int {
	return program.Execute(newCommand(version, stderr), args, stdout, stderr, program.ExitCode)
}

func newCommand(version string, stderr *os.File) *cobra.Command {
	cfg := Config{Version: version}
	var logging program.LogConfig
	var check bool
	cmd := &cobra.Command{
		Use:   "pgqueue-server [URL]",
		Short: "Run a pgqueue server: REST, Connect RPC and background work",
		Long: "Run a pgqueue server: REST, Connect RPC and background work.\n\n" +
			"Without a URL it starts an embedded PostgreSQL that keeps its data between runs.\n" +
			"Every flag has an environment variable, as PGQUEUE_ADDR; URL is --database-url, PGQUEUE_DATABASE_URL.",
		Version: version,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			flags := cmd.Flags()
			if err := program.RefuseEmpty(flags, args); err != nil {
				return err
			}

			if check {
				return checkRunning(cmd, &cfg)
			}

			if err := program.Environ(flags, os.LookupEnv); err != nil {
				return err
			}

			if err := cfg.Argument(args); err != nil {
				return err
			}

			if err := cfg.RefuseClientURL(os.LookupEnv); err != nil {
				return err
			}

			if cfg.Log, err = logging.Logger(stderr, program.IsTerminal(stderr)); err != nil {
				return err
			}

			program.WarnUnread(cfg.Log, flags)
			return UntilSignal(cmd.Context(), cfg, logging.Level, nil)
		},
	}

	cmd.SetVersionTemplate("pgqueue-server {{.Version}}\n")

	flags := cmd.Flags()
	Flags(flags, &cfg)
	flags.StringVar(&cfg.Namespace, "namespace", cfg.Namespace, "`namespace` of requests that name none")
	program.FromEnvironment(flags, "namespace")
	program.LogFlags(flags, &logging)
	program.CheckFlag(flags, &check, "server", "addr")
	// cobra handles this flag.
	flags.Bool("version", false, "print the version and end")
	return cmd
}

// checkRunning checks the readiness of the running server.
func checkRunning(cmd *cobra.Command, cfg *Config) error {
	if err := program.TakeRunningArgs(cmd.Flags()); err != nil {
		return err
	}
	if err := program.Environ(cmd.Flags(), os.LookupEnv); err != nil {
		return err
	}
	return program.Check(cmd.Context(), cfg.Addr, cfg.TLSCertFile != "")
}

// UntilSignal runs a server until a signal requests its end, see program.Signals, or until ctx ends. It then stops
// the server gracefully within its deadline. SIGHUP calls [Server.Reload]. The supervisor gets the readiness and the stop. Up to 64 MB of garbage
// may collect in the heap of the process, unless GOGC is set in its environment. If started is set, UntilSignal calls
// it when the server is ready.
func UntilSignal(ctx context.Context, cfg Config, level *slog.LevelVar, started func(*Server)) error {
	signals, unlisten := program.Signals()
	defer unlisten()
	stop := roomForGarbage(os.LookupEnv)
	defer stop()
	supervisor := program.Supervised(cfg.Log)
	defer supervisor.Close()
	return untilSignal(ctx, cfg, level, func(s *Server) {
		supervisor.Ready()
		s.prependStep("notify the supervisor", func(context.Context) error { supervisor.Stopping(); return nil })
		if started != nil {
			started(s)
		}
	}, signals)
}

func untilSignal(ctx context.Context, cfg Config, level *slog.LevelVar, started func(*Server), signals <-chan os.Signal) error {
	// running ends with the first signal, also during the start.
	running, stop := context.WithCancel(ctx)
	defer stop()
	// graceful ends when the stop must not wait.
	graceful, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	// present is nil until the server runs: its start reads all files.
	var present atomic.Pointer[Server]
	unwatch := program.WatchSignals(signals, program.Reactions{
		Level: level, Dump: os.Stderr,
		Reload: func() {
			if s := present.Load(); s != nil {
				s.Reload(running)
			}
		},
		Stop: func(_ os.Signal, atOnce bool) {
			stop()
			if atOnce {
				cut()
			}
		},
	})
	defer unwatch()

	server, err := Start(running, cfg)
	if err != nil {
		if running.Err() != nil {
			// A signal stopped it before it was ready.
			return nil
		}
		return err
	}
	present.Store(server)
	if started != nil {
		started(server)
	}
	select {
	case <-server.Done():
	case <-running.Done():
	}

	ctx, cancel := context.WithTimeout(graceful, server.cfg.StopTimeout)
	defer cancel()
	silence := context.AfterFunc(graceful, func() { server.log.WarnContext(graceful, "stopping at once") })
	defer silence() // before cut
	return errorsOf(server, server.Stop(ctx))
}

// errorsOf returns the error that ended the server, or else the error of its stop.
func errorsOf(server *Server, stop error) error {
	if err := server.Err(); err != nil {
		return err
	}
	return stop
}
