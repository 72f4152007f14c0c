// Command bench measures pgqueue and its peers in turn on one private PostgreSQL, and reports which targets of the
// project are reached. Run it by make bench (minutes) or make bench-full (hours). It never fails because of a figure.
//
// Each contender plays each scenario in its own process and its own database. The order changes in each round. The
// report explains its purpose and its method.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"syscall"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/contender"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/load"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/report"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/apps/server/run"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "play":
		err = play(ctx, os.Args[2])
	case len(os.Args) > 3 && os.Args[1] == "serve":
		err = serve(os.Args[2], os.Args[3:])
	default:
		err = conduct(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // the process ends, so signals need no handling
	}
}

// play is the process of a player. text is its plan in JSON.
func play(ctx context.Context, text string) (err error) {
	var p plan.Plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, p.Limit())
	defer cancel()
	if p.CPUProfile != "" {
		stop, err := profile(p.CPUProfile)
		if err != nil {
			return err
		}
		defer stop()
	}

	stage := plan.NewStage(os.Stdin, os.Stdout)
	if p.Server != "" {
		return load.Play(ctx, p, stage)
	}
	return contender.Play(ctx, p, stage)
}

// serve runs the server with a CPU profile, which the server binary itself cannot write.
func serve(file string, args []string) error {
	stop, err := profile(file)
	if err != nil {
		return err
	}
	defer stop()

	if code := run.Main(args, "bench", os.Stdout, os.Stderr); code != program.ExitDone {
		return fmt.Errorf("the server ended with code %d", code)
	}
	return nil
}

// profile writes a CPU profile to file until stop is called.
func profile(file string) (stop func(), err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// options are the settings of a benchmark.
type options struct {
	full    bool
	only    *regexp.Regexp // names of scenarios
	who     *regexp.Regexp // names of contenders
	rounds  int
	scale   float64
	profile string
	out     string
	docs    string
	nodeDir string
	server  string
	gue     string
	render  bool
}

// conduct reads the flags, measures and writes the report.
func conduct(ctx context.Context) error {
	var o options
	var only, who string
	flag.BoolVar(&o.full, "full", false, "run every scenario, at full length")
	flag.StringVar(&only, "only", "", "run the scenarios with names that match this `pattern`")
	flag.StringVar(&who, "who", "", "run the contenders with names that match this `pattern`")
	flag.IntVar(&o.rounds, "rounds", 0, "`number` of rounds (default: the scenario's)")
	flag.Float64Var(&o.scale, "scale", 1, "`factor` on all numbers and times, for trying out")
	flag.StringVar(&o.profile, "profile", "", "`folder` for CPU profiles; also notes which statements take PostgreSQL's time")

	flag.StringVar(&o.out, "out", "build/bench/results.json", "`file` for the raw results")
	flag.StringVar(&o.docs, "docs", "", "`folder` for benchmarks.md and its plots; empty = none")
	flag.StringVar(&o.nodeDir, "node", "build/bench/node", "`folder` where the peers that need Node are installed")
	flag.StringVar(&o.server, "server", "", "the server's `binary`; without it the server is left out")
	flag.StringVar(&o.gue, "gue", "build/bench/gue.sql", "`file` with the schema of gue")
	flag.BoolVar(&o.render, "render", false, "measure nothing: write the report of the raw results again")

	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("argument: must be a flag, got %.64q; -h lists the flags", flag.Arg(0))
	}

	var err, err2 error
	o.only, err = regexp.Compile(only)
	o.who, err2 = regexp.Compile(who)
	if err := errors.Join(err, err2); err != nil {
		return err
	}

	results := &report.Results{}
	if o.render {
		text, err := os.ReadFile(o.out)
		if err == nil {
			err = json.Unmarshal(text, results)
		}
		if err != nil {
			return err
		}
	} else if err := measure(ctx, o, results); err != nil {
		return err
	}

	if o.docs != "" {
		if err := results.Write(o.docs); err != nil {
			return err
		}
	}
	return results.Summary(os.Stdout)
}

// keep writes the raw results, so that a failure in a later scenario does not lose them.
func keep(file string, r *report.Results) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
