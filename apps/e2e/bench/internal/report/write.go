package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// page collects the Markdown of the report.
type page struct{ bytes.Buffer }

// say writes a formatted line.
func (p *page) say(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// table writes rows below a head.
func (p *page) table(head []string, rows [][]string) {
	p.say("| %s |", strings.Join(head, " | "))
	p.say("|%s", strings.Repeat("---|", len(head)))
	for _, row := range rows {
		p.say("| %s |", strings.Join(row, " | "))
	}
	p.say("")
}

// Write writes benchmarks.md and its plots into folder. It overwrites older files.
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

// intro writes the method, the contenders and the machine.
func (r *Results) intro(p *page) {
	length, again := "the quick run, of minutes", "make bench"
	if r.Full {
		length, again = "the full run, of one to two hours", "make bench-full"
	}

	p.say("# Benchmarks\n")
	p.say("`%s` wrote this page (%s) from %s to %s UTC. Run it again before you rely on it.", again, length, r.Began, r.Ended)
	p.say("PostgreSQL, the contender and the load generator share one machine, so compare figures only within a table.\n")

	p.say("Method: each contender runs each scenario by its public API, in its own process and an empty database. All use the same")
	p.say("PostgreSQL with full durability, after a checkpoint. Rounds are interleaved, and each begins with another contender. A")
	p.say("figure is the median of the rounds, with the smallest and the largest in brackets; without brackets there was one round.")
	p.say("A task counts as done when the queue has committed its end. Handlers do nothing, so the figures measure the queue.\n")

	p.say("- **pgqueue**: in process, worker runtime over manager over the PostgreSQL store, 500 handlers at once.")
	p.say("- **River**: `InsertManyFast` (COPY), 2,000 workers, a fetch every 2 ms. Done = its own event of completion.")
	p.say("- **Graphile Worker**: `add_jobs`, a local queue of 500, completions in batches, notifications and a poll every 20 ms.")
	p.say("  It deletes done tasks. Done in a live run = handled.")
	p.say("- **pg-boss**: `insert`, `fetch` and `complete` in batches of 500 by four pollers every 2 ms.")
	p.say("- **gue**: `EnqueueBatch`, 8 workers with a connection each, a poll every 2 ms. It deletes done tasks. Done = its hook,")
	p.say("  which runs just before the delete.")
	p.say("- **raw SQL**: hand-written statements for batches of 500 over narrow rows, on two connections; the client only reads the")
	p.say("  tasks. It is the ceiling of such a storage on this machine, not a queue.\n")

	for _, left := range r.LeftOut {
		p.say("Left out: %s.\n", left)
	}
	p.say("Machine: %s, %d cores, %.0f GB, Linux %s, %s; load average before: %.2f.", r.Machine.CPU, r.Machine.Cores,
		float64(r.Machine.Memory)/1e9, r.Machine.Kernel, r.Machine.Go, r.LoadBefore)

	// A load above 1.5 means that other programs used the cores before the first run.
	if r.LoadBefore > 1.5 || r.Scale != 1 {
		p.say("\n**The machine was busy, or the numbers were scaled by %v: use this page only to try the benchmark.**\n", r.Scale)
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

// targetTable writes one row for each target.
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
	p.table([]string{"figure", "wanted", "measured", "reached"}, rows)
}

// failures lists the runs without a result.
func (r *Results) failures(p *page) {
	said := false
	for _, run := range r.Runs {
		if run.Err == "" {
			continue
		}

		if !said {
			p.say("## Failures\n")
			said = true
		}
		p.say("- %s, %s, round %d: %s", run.ID, run.Contender, run.Round+1, strings.ReplaceAll(run.Err, "\n", " "))
	}
}

// Summary prints the failed runs and one line for each target.
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
