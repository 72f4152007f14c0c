package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Main is the program pgqueue-server: it runs a server until a signal and returns the exit code.
func Main(args []string, version string, stderr *os.File) int {
	if code, done := program.Init(); done { // before anything is written: the child writes it
		return code
	}
	var cfg Config
	var lc program.LogConfig
	fs := pflag.NewFlagSet("pgqueue-server", pflag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(stderr, "Run a pgqueue server: REST, Connect RPC and background work.\n\nUsage:\n  pgqueue-server [URL] [flags]\n\n"+
			"Without a URL it starts an embedded PostgreSQL that keeps its data between runs.\n"+
			"Every flag has an environment variable, as PGQUEUE_ADDR; URL is --database-url, PGQUEUE_DATABASE_URL.\n\nFlags:\n%s", fs.FlagUsages())
	}
	Flags(fs, &cfg)
	fs.StringVar(&cfg.Namespace, "namespace", cfg.Namespace, "`namespace` of requests that name none")
	program.FromEnvironment(fs, "namespace")
	program.LogFlags(fs, &lc)
	showVersion := fs.Bool("version", false, "print the version and end")
	check := fs.Bool("check", false, "ask the server at --addr whether it is ready, and end: 0 = it is, 5 = it is not")
	fail := func(err error) int {
		fmt.Fprintln(stderr, "pgqueue-server:", program.OneLine(err))
		return program.ExitCode(err)
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return program.ExitDone
		}
		return fail(queue.Invalid("", err.Error()))
	}
	if *showVersion {
		fmt.Fprintln(stderr, "pgqueue-server", version)
		return program.ExitDone
	}
	if err := program.RefuseEmpty(fs, fs.Args()); err != nil {
		return fail(err)
	}
	if err := program.Environ(fs, os.LookupEnv); err != nil {
		return fail(err)
	}
	if *check {
		if err := lookWhere(fs, args); err != nil {
			return fail(err)
		}
		if err := program.Check(context.Background(), cfg.Addr); err != nil {
			return fail(err)
		}
		return program.ExitDone
	}
	var err error
	if err = cfg.Argument(fs.Args()); err != nil {
		return fail(err)
	}
	log, err := lc.Logger(stderr, program.IsTerminal(stderr))
	if err != nil {
		return fail(err)
	}
	program.WarnUnread(log, fs)
	cfg.Log, cfg.Version = log, version
	if err := UntilSignal(context.Background(), cfg, lc.Level, nil); err != nil {
		return fail(err)
	}
	return program.ExitDone
}

// lookWhere makes a check without other flags look at the address where the server beside it listens: the arguments of
// that server may name another address than the environment that both have.
func lookWhere(fs *pflag.FlagSet, args []string) error {
	if len(args) > 1 {
		return nil
	}
	first := program.RunningArgs()
	if first == nil {
		return nil
	}
	if err := fs.Parse(first); err != nil {
		return queue.Invalid("", "the arguments of the running server: "+err.Error())
	}
	return nil
}

// UntilSignal runs a server until a signal asks for its end, as program.Signals says, or until ctx ends, and stops it
// gracefully within its deadline. A supervisor is told when it is ready and when it stops. Up to 64 MB of garbage may
// gather in the process's heap, unless GOGC is set in its environment. started, when set, is called once the server is
// ready.
func UntilSignal(ctx context.Context, cfg Config, level *slog.LevelVar, started func(*Server)) error {
	signals, unlisten := program.Signals()
	defer unlisten()
	stop := roomForGarbage(os.LookupEnv)
	defer stop()
	supervisor := program.Supervised(cfg.Log)
	defer supervisor.Close()
	return untilSignal(ctx, cfg, level, func(s *Server) {
		supervisor.Ready()
		s.first("tell the supervisor", func(context.Context) error { supervisor.Stopping(); return nil })
		if started != nil {
			started(s)
		}
	}, signals)
}

func untilSignal(ctx context.Context, cfg Config, level *slog.LevelVar, started func(*Server), signals <-chan os.Signal) error {
	type result struct {
		server *Server
		err    error
	}
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	came := make(chan result, 1)
	go func() {
		server, err := Start(starting, cfg)
		came <- result{server, err}
	}()
	var server *Server
	var done <-chan struct{}
	asked, atOnce := false, false
	for !asked {
		select {
		case r := <-came:
			if r.err != nil {
				return r.err
			}
			server, done = r.server, r.server.Done()
			if started != nil {
				started(server)
			}
		case <-done:
			asked = true
		case <-ctx.Done():
			asked = true
		case sig := <-signals:
			switch {
			case program.IsDebug(sig):
				program.Toggle(level)
				continue
			case program.IsDump(sig):
				program.DumpGoroutines(os.Stderr)
				atOnce = true
			}
			asked = true
		}
	}
	if server == nil { // asked to stop while starting
		cancel()
		r := <-came
		if r.err != nil {
			return nil // it did not start because it was told not to
		}
		server = r.server
	}
	return errorsOf(server, stopGracefully(server, signals, atOnce))
}

// stopGracefully stops within the deadline, or at once when that is asked for, now or by another signal.
func stopGracefully(server *Server, signals <-chan os.Signal, atOnce bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), server.cfg.StopTimeout)
	defer cancel()
	if atOnce {
		cancel()
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Stop(ctx) }()
	for {
		select {
		case err := <-stopped:
			return err
		case sig := <-signals:
			if program.IsDump(sig) {
				program.DumpGoroutines(os.Stderr)
			}
			if !program.IsDebug(sig) {
				server.log.WarnContext(ctx, "stopping at once")
				cancel()
			}
		}
	}
}

// errorsOf prefers why the server ended by itself to how its stop went.
func errorsOf(server *Server, stop error) error {
	if err := server.Err(); err != nil {
		return err
	}
	return stop
}
