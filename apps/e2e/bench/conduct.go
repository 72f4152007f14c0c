package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/contender"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/host"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/report"
	"github.com/pgqueue/pgqueue/domain/access"
)

// measure runs all scenarios of o and fills r. It saves the results after each scenario.
func measure(ctx context.Context, o options, r *report.Results) error {
	r.Began, r.Full, r.Scale = time.Now().UTC().Format(time.DateTime), o.full, o.scale
	r.Machine, r.LoadBefore = host.Describe(), host.Load()

	c := &conductor{options: o, results: r, print: os.Stdout}
	var err error
	if c.self, err = os.Executable(); err != nil {
		return err
	}

	// A missing peer leaves gaps in the report but does not stop the benchmark.
	if c.node, err = findNode(ctx, o.nodeDir); err != nil {
		r.LeftOut = append(r.LeftOut, fmt.Sprintf("%s and %s: %v", graphile, pgBoss, err))
	}
	if o.server == "" {
		r.LeftOut = append(r.LeftOut, "the server: its binary was not given")
	}
	schema, err := os.ReadFile(o.gue)
	if c.schema = string(schema); err != nil {
		r.LeftOut = append(r.LeftOut, fmt.Sprintf("%s: its schema is missing: %v", contender.Gue, err))
	}

	r.Versions = versions(c.node)
	if c.db, err = startDatabase(ctx, o.profile != ""); err != nil {
		return err
	}
	defer c.db.stop(ctx)
	if err := c.db.describe(ctx, r); err != nil {
		return err
	}

	fmt.Fprintf(c.print, "%s, %d cores, load %.2f; PostgreSQL %s\n", r.Machine.CPU, r.Machine.Cores, r.LoadBefore, r.PostgreSQL)
	for _, s := range r.Settings {
		fmt.Fprintf(c.print, "  %s = %s\n", s[0], s[1])
	}

	for _, s := range scenarios(o.full) {
		if !o.only.MatchString(s.id) {
			continue
		}
		if err := c.scenario(ctx, s); err != nil {
			return errors.Join(err, keep(o.out, r))
		}

		r.Ended = time.Now().UTC().Format(time.DateTime)
		if err := keep(o.out, r); err != nil {
			return err
		}
	}
	return nil
}

// conductor runs every contender in every scenario.
type conductor struct {
	options
	results *report.Results
	db      *database
	node    *nodePeers
	self    string
	schema  string // schema of gue
	print   io.Writer
}

// scenario runs all rounds of one scenario with the available contenders.
func (c *conductor) scenario(ctx context.Context, s scenario) error {
	var who []string
	for _, name := range s.who {
		_, needsNode := scripts[name]
		if c.who.MatchString(name) && !(needsNode && c.node == nil) && !(isServer(name) && c.server == "") && !(name == contender.Gue && c.schema == "") {
			who = append(who, name)
		}
	}

	rounds := s.rounds
	if c.rounds > 0 {
		rounds = c.rounds
	}

	for round := range rounds {
		for i := range who {
			name := who[(i+round)%len(who)] // the first contender has an idle but cold machine

			ways := []bool{s.held}
			if s.both {
				ways = []bool{round%2 == 1, round%2 == 0}
			}

			for _, held := range ways {
				id := s.id
				if s.both && held {
					id += " held"
				}
				if err := c.one(ctx, report.Run{ID: id, Contender: name, Round: round, Held: held, Plan: fill(s.plan, c.scale)}); err != nil {
					return err
				}
			}
		}
	}
	c.printRatio(s.id)
	return nil
}

// isServer reports whether clients reach the contender called name over the network.
func isServer(name string) bool { return name == server || name == closedServer }

// printRatio prints the median over the rounds of the rate of a closed server in parts of that of an open one.
func (c *conductor) printRatio(id string) {
	rates := map[int]map[string]float64{}
	for _, run := range c.results.Runs {
		if run.ID == id && len(run.Phases) > 0 {
			if rates[run.Round] == nil {
				rates[run.Round] = map[string]float64{}
			}
			rates[run.Round][run.Contender] = run.Phases[len(run.Phases)-1].Rate()
		}
	}

	var ratios []float64
	for _, pair := range rates {
		if pair[server] > 0 && pair[closedServer] > 0 {
			ratios = append(ratios, pair[closedServer]/pair[server])
		}
	}
	if len(ratios) == 0 {
		return
	}
	slices.Sort(ratios)
	median := (ratios[(len(ratios)-1)/2] + ratios[len(ratios)/2]) / 2
	fmt.Fprintf(c.print, "%-18s median ratio of a closed server to an open one over %d pairs: %.3f\n", id, len(ratios), median)
}

// one records the result of one run. A failed run is a result; only the end of ctx is an error.
func (c *conductor) one(ctx context.Context, run report.Run) error {
	run.Plan.Contender = run.Contender
	if c.profile != "" {
		if err := os.MkdirAll(c.profile, 0o755); err != nil {
			return err
		}
		run.Plan.CPUProfile = filepath.Join(c.profile, strings.ReplaceAll(fmt.Sprintf("%s-%s-%d.pprof", run.ID, run.Contender, run.Round), " ", "-"))
	}

	if err := c.run(ctx, &run); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		run.Err = err.Error()
	}

	c.results.Runs = append(c.results.Runs, run)
	c.printRun(run)
	return nil
}

// printRun prints one line for each phase of a run, with its statements.
func (c *conductor) printRun(r report.Run) {
	if r.Err != "" {
		fmt.Fprintf(c.print, "%-18s %d %-16s FAILED: %s\n", r.ID, r.Round+1, r.Contender, r.Err)
	}

	for _, p := range r.Phases {
		fmt.Fprintf(c.print, "%-18s %d %-16s %-14s %9.0f/s", r.ID, r.Round+1, r.Contender, p.Name, p.Rate())
		for _, from := range slices.Sorted(maps.Keys(p.Latency)) {
			q := p.Latency[from]
			fmt.Fprintf(c.print, "  %s p50 %.2f p99 %.2f ms", from, q.P50, q.P99)
		}

		if p.Errors > 0 {
			fmt.Fprintf(c.print, "  %d ERRORS %s", p.Errors, p.Error)
		}
		fmt.Fprintln(c.print)
		for _, s := range p.Statements {
			fmt.Fprintf(c.print, "    %7.3f s %6.2f µs a task %8d calls %9d rows  %.150s\n",
				s.Seconds, s.Seconds*1e6/float64(max(p.N, 1)), s.Calls, s.Rows, s.Query)
		}
	}
}

// run lets one contender play one scenario in an empty database.
func (c *conductor) run(ctx context.Context, run *report.Run) (err error) {
	ctx, cancel := context.WithTimeout(ctx, run.Plan.Limit()+time.Minute)
	defer cancel()

	url, err := c.db.fresh(ctx)
	if err != nil {
		return err
	}

	run.Plan.URL = url
	if run.Contender == contender.Gue {
		run.Plan.Schema = c.schema
	}
	defer func() { run.Plan.URL, run.Plan.Schema, run.Plan.Token = "", "", "" }() // the report must not contain secrets

	var app *process
	if isServer(run.Contender) {
		if run.Contender == closedServer {
			run.Plan.Token = access.NewSecret().Reveal()
		}
		if app, err = c.startServer(ctx, url, run.Plan.CPUProfile, run.Plan.Token); err != nil {
			return err
		}
		if run.Plan.Server = app.url; run.Plan.CPUProfile != "" { // the server writes the first file
			run.Plan.CPUProfile = strings.TrimSuffix(run.Plan.CPUProfile, ".pprof") + "-client.pprof"
		}

		defer func() {
			usage := app.stop()
			run.ServerPeak = usage.Peak
			run.Plan.Server = "the server"
		}()
	}

	if run.Held {
		release, err := c.db.hold(ctx, url)
		if err != nil {
			return err
		}
		defer release()
	}

	size, err := c.db.size(ctx)
	if err != nil {
		return err
	}

	if err := c.play(ctx, run, app); err != nil {
		return err
	}

	after, err := c.db.size(ctx)
	if err != nil {
		return err
	}
	run.Growth = after - size
	run.Dead, err = c.db.dead(ctx)
	return err
}

// play runs the process of the player. It reads the clocks at the beginning and the end of each phase.
func (c *conductor) play(ctx context.Context, run *report.Run, app *process) error {
	text, err := json.Marshal(run.Plan)
	if err != nil {
		return err
	}

	name, args := c.self, []string{"play", string(text)}
	if script, ok := scripts[run.Contender]; ok {
		name, args = c.node.binary, []string{filepath.Join(c.node.dir, script), string(text)}
	}

	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second
	// The settings of the caller, such as GOMAXPROCS or PGHOST, must not favour a contender.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}

	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}

	if err := cmd.Start(); err != nil {
		return err
	}

	var before clocks
	listenErr := plan.Listen(out, in, func(string) (err error) {
		if c.profile != "" {
			if err := c.db.forget(ctx); err != nil {
				return err
			}
		}
		before, err = c.read(ctx, cmd.Process.Pid, app)
		return err
	}, func(phase string, r plan.Result) error {
		now, err := c.read(ctx, cmd.Process.Pid, app)
		if err != nil {
			return err
		}

		p := report.Phase{
			Name: phase, Result: r, WAL: now.wal - before.wal,
			ClientCPU:   (now.client - before.client).Seconds(),
			PostgresCPU: (now.postgres - before.postgres).Seconds(), ServerCPU: (now.server - before.server).Seconds(),
		}
		p.Memory, _ = host.Memory(cmd.Process.Pid)
		if app != nil {
			p.ServerMemory, _ = host.Memory(app.pid())
		}

		if c.profile != "" {
			if p.Statements, err = c.db.slowest(ctx); err != nil {
				return err
			}
		}

		run.Phases = append(run.Phases, p)
		return nil
	})

	// A player that breaks the protocol could wait for input without end.
	if listenErr != nil {
		_ = cmd.Process.Kill()
	}

	waitErr := cmd.Wait()
	run.Peak = host.UsageOf(cmd.ProcessState).Peak
	if err := errors.Join(listenErr, waitErr); err != nil {
		return fmt.Errorf("%w: %s", err, last(complaints.String(), 400))
	}
	return nil
}

// clocks are the readings at the beginning or the end of a phase.
type clocks struct {
	client, postgres, server time.Duration
	wal                      int64
}

// read reads the clocks of the player, of PostgreSQL and of the server.
func (c *conductor) read(ctx context.Context, player int, app *process) (clocks, error) {
	wal, err := c.db.wal(ctx)
	if err != nil {
		return clocks{}, err
	}
	k := clocks{client: host.CPU(player), postgres: host.FamilyCPU(c.db.postmaster), wal: wal}
	if app != nil {
		k.server = host.CPU(app.pid())
	}
	return k, nil
}

// last returns at most n bytes from the end of s.
func last(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) > n {
		s = "… " + s[len(s)-n:]
	}
	return s
}
