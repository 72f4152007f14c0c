package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// page writes Markdown.
type page struct{ bytes.Buffer }

func (p *page) say(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// table writes rows under a head.
func (p *page) table(head []string, rows [][]string) {
	p.say("| %s |", strings.Join(head, " | "))
	p.say("|%s", strings.Repeat("---|", len(head)))
	for _, row := range rows {
		p.say("| %s |", strings.Join(row, " | "))
	}
	p.say("")
}

// Write writes benchmarks.md and its plots into folder.
func (r *Results) Write(folder string) error {
	plots := filepath.Join(folder, "benchmarks")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	p := &page{}
	r.intro(p)
	r.targetTable(p)
	r.bulkTables(p)
	r.busyTables(p)
	r.liveTables(p)
	r.latencyTables(p)
	r.costTables(p)
	r.serverTables(p)
	r.failures(p)
	for _, x := range r.plots() {
		var svg bytes.Buffer
		if err := x.plot.svg(&svg); err != nil {
			return fmt.Errorf("plot %s: %w", x.file, err)
		}
		if err := os.WriteFile(filepath.Join(plots, x.file), svg.Bytes(), 0o644); err != nil {
			return err
		}
	}
	text := append(bytes.TrimRight(p.Bytes(), "\n"), '\n')
	return os.WriteFile(filepath.Join(folder, "benchmarks.md"), text, 0o644)
}

func (r *Results) intro(p *page) {
	length, again := "the quick run, of minutes", "make bench"
	if r.Full {
		length, again = "the full run, of one to two hours", "make bench-full"
	}
	p.say("# Benchmarks\n")
	p.say("Written by `%s` (%s) from %s to %s UTC; run it again before you believe it. Everything is on one", again, length, r.Began, r.Ended)
	p.say("machine: PostgreSQL, the contender, and whoever puts load on it. Compare within a table only.\n")
	p.say("How it is measured: every contender plays every scenario by its public API in a process and an empty database of its")
	p.say("own, on the same PostgreSQL with the same, full durability, after a checkpoint. Rounds are interleaved and the order is")
	p.say("turned on in each. Figures are medians over the rounds, with the least and the most in brackets; those without had one")
	p.say("round. A task counts as done when the queue has committed that it is. Handlers do nothing; what is measured is the queue.\n")
	p.say("- **pgqueue**: in process, worker runtime over manager over the PostgreSQL store, 500 handlers at once.")
	p.say("- **River**: `InsertManyFast` (COPY), 2,000 workers, fetching every 2 ms. Done = its own event of completion.")
	p.say("- **Graphile Worker**: `add_jobs`, a local queue of 500, completions in batches, polling every 20 ms beside notifications.")
	p.say("  It deletes what is done. Done in a live run = handled.")
	p.say("- **pg-boss**: `insert`, `fetch` and `complete` in batches of 500 by four pollers every 2 ms.")
	p.say("- **gue**: `EnqueueBatch`, 8 workers with a connection each, polling every 2 ms. It deletes what is done. Done = its hook,")
	p.say("  which is called just before that.")
	p.say("- **raw SQL**: hand-written statements for batches of 500 over narrow rows, two connections, a client that does nothing:")
	p.say("  the ceiling of such a storage on this machine, not a queue.\n")
	for _, left := range r.LeftOut {
		p.say("Left out: %s.\n", left)
	}
	p.say("Machine: %s, %d cores, %.0f GB, Linux %s, %s; load average before: %.2f.", r.Machine.CPU, r.Machine.Cores,
		float64(r.Machine.Memory)/1e9, r.Machine.Kernel, r.Machine.Go, r.LoadBefore)
	if r.LoadBefore > 1.5 || r.Scale != 1 {
		p.say("\n**The machine was busy with other things, or the numbers were scaled by %v: good for nothing but trying out.**\n", r.Scale)
	}
	var all []string
	for _, s := range r.Settings {
		all = append(all, fmt.Sprintf("`%s = %s`", s[0], s[1]))
	}
	p.say("PostgreSQL %s with %s.", r.PostgreSQL, strings.Join(all, ", "))
	all = nil
	for _, v := range r.Versions {
		all = append(all, v[0]+" "+v[1])
	}
	p.say("Versions: %s.\n", strings.Join(all, ", "))
}

func (r *Results) targetTable(p *page) {
	p.say("## Targets\n")
	var rows [][]string
	for _, t := range r.Targets() {
		verdict := t.Verdict
		if verdict == "no" {
			verdict = "**no**"
		}
		rows = append(rows, []string{t.What, t.Want, t.Got, verdict})
	}
	p.table([]string{"what", "wanted", "measured", "reached"}, rows)
}

func (r *Results) failures(p *page) {
	said := false
	for _, run := range r.Runs {
		if run.Err == "" {
			continue
		}
		if !said {
			p.say("## What failed\n")
			said = true
		}
		p.say("- %s, %s, round %d: %s", run.ID, run.Contender, run.Round+1, strings.ReplaceAll(run.Err, "\n", " "))
	}
}

// Summary prints the verdict.
func (r *Results) Summary(w io.Writer) error {
	fmt.Fprintln(w)
	for _, run := range r.Runs {
		if run.Err != "" {
			fmt.Fprintf(w, "FAILED: %s, %s, round %d: %s\n", run.ID, run.Contender, run.Round+1, run.Err)
		}
	}
	for _, t := range r.Targets() {
		_, err := fmt.Fprintf(w, "%-62s %-26s %-38s %s\n", t.What, t.Want, t.Got, t.Verdict)
		if err != nil {
			return err
		}
	}
	return nil
}
