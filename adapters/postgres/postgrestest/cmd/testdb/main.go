// Command testdb runs a command with a PostgreSQL for tests: one server for all test binaries of a run, instead of one
// for each.
//
//	testdb -- go test ./...
//
// The command finds the server in PGQUEUE_TEST_URL. Where that is set already, testdb only runs the command. Databases
// of failed tests are kept, and testdb prints how to open them: with -data FOLDER, which starts the server on that folder
// and sets PGHOST and its kin for psql. The exit code is the command's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest/internal/server"
)

func main() { os.Exit(run()) }

func run() int {
	dataDir := flag.String("data", "", "start the server on a `folder` that an earlier run kept")
	binDir := flag.String("bin", "", "use the server binaries of `folder`")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: testdb [flags] -- command [arguments]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		return 2
	}
	// Taken from the start on, so that no signal ends this program and leaves the server's folder behind.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)

	code, err := withServer(*dataDir, *binDir, func(env []string) (int, error) {
		return command(flag.Args(), env, signals)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "testdb:", err)
		code = max(code, 1)
	}
	return code
}

// withServer runs do with the environment that leads to a server.
func withServer(dataDir, binDir string, do func(env []string) (int, error)) (code int, err error) {
	if dataDir == "" && binDir == "" && os.Getenv(server.URLEnv) != "" {
		return do(nil)
	}
	log := func(format string, args ...any) { fmt.Fprintf(os.Stderr, "testdb: "+format+"\n", args...) }
	s, err := server.Start(context.Background(), server.Options{DataDir: dataDir, BinDir: binDir, Log: log})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	env := []string{server.URLEnv + "=" + s.URL}
	if dataDir != "" {
		cfg, err := pgx.ParseConfig(s.URL)
		if err != nil {
			return 1, err
		}
		env = append(env, "PGHOST="+cfg.Host, fmt.Sprintf("PGPORT=%d", cfg.Port), "PGUSER="+cfg.User,
			"PGPASSWORD="+cfg.Password, "PGDATABASE="+cfg.Database, "PGSSLMODE=disable")
	}
	return do(env)
}

// command runs args to its end, whatever signals come: they are passed on.
func command(args, env []string, signals <-chan os.Signal) (int, error) {
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			_ = cmd.Process.Signal(sig)
		case err := <-ended:
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				if code := exit.ExitCode(); code >= 0 {
					return code, nil
				}
				return 1, err // ended by a signal
			}
			return 0, err
		}
	}
}
