package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// compare writes one row for each contender: its figure, and the figure of pgqueue relative to it.
func (r *Results) compare(p *page, id string, phases ...string) {
	head := []string{""}
	for _, phase := range phases {
		head = append(head, phase+", tasks/s", "ours is")
	}

	var rows [][]string
	for _, who := range r.contenders(id) {
		row := []string{who}

		for _, phase := range phases {
			got, own := r.of(id, who, phase, rate), r.of(id, ours, phase, rate)
			ratio := ""
			if who != ours && got.N > 0 && own.N > 0 {
				ratio = fmt.Sprintf("%.2f ×", over(own.Median, got.Median))
			}
			row = append(row, got.String(), ratio)
		}

		rows = append(rows, row)
	}
	if len(rows) > 0 {
		p.table(head, rows)
	}
}

// tasks returns the number of tasks that a scenario inserts.
func (r *Results) tasks(id string) string {
	for _, run := range r.Runs {
		if run.ID == id {
			return number(float64(run.Plan.Tasks))
		}
	}
	return "no"
}

// ran reports whether a scenario has at least one run.
func (r *Results) ran(id string) bool {
	return slices.ContainsFunc(r.Runs, func(run Run) bool { return run.ID == id })
}

// bulkTables writes the scenarios of bulk insert and drain.
func (r *Results) bulkTables(p *page) {
	for _, x := range []struct{ id, title, text string }{
		{"drain", "Bulk insert and drain", "%s tasks of about 10 bytes, inserted in batches of 2,000 by two producers while no worker runs; then drained."},
		{"backlog 1000000", "A backlog of a million", "The same with %s tasks."},
	} {
		if r.ran(x.id) {
			p.say("## %s\n", x.title)
			p.say(x.text+"\n", r.tasks(x.id))
			r.compare(p, x.id, "insert", "drain")
		}
	}
	r.family(p, "queues ", "Many queues", "queues", "insert", "drain")
	r.family(p, "groups ", "One task of each group at a time", "groups", "insert", "drain")
	r.family(p, "one group ", "One group, one task after the other", "tasks", "insert", "drain")
	r.family(p, "payload ", "Payloads", "bytes", "insert", "drain")
}

// family writes scenarios that differ in one number. Each scenario has a row, each contender and phase a column.
func (r *Results) family(p *page, prefix, title, what string, phases ...string) {
	var head []string
	var rows [][]string
	for _, id := range r.ids() {
		size, ok := strings.CutPrefix(id, prefix)
		if !ok {
			continue
		}

		row := []string{size}
		head = []string{what}
		for _, who := range r.contenders(id) {
			for _, phase := range phases {
				head = append(head, who+", "+phase+"/s")
				row = append(row, r.of(id, who, phase, rate).String())
			}
		}

		rows = append(rows, row)
	}
	if len(rows) > 0 {
		p.say("## %s\n", title)
		p.table(head, rows)
	}
}

// busyTables writes the scenarios in which handlers take time.
func (r *Results) busyTables(p *page) {
	var rows [][]string
	for _, x := range busy {
		took := r.of(x.id, x.who, x.phase, func(_ Run, ph Phase) float64 { return ph.Seconds * 1e3 })
		if took.N > 0 {
			rows = append(rows, []string{x.what, took.String(), r.of(x.id, x.who, x.phase, overIdeal).String()})
		}
	}
	if len(rows) == 0 {
		return
	}
	p.say("## Work that takes time\n")
	p.say("From the start of the worker to the last commit. Ideal: the handlers without overhead, all slots busy to the end.\n")
	p.table([]string{"", "took, ms", "over the ideal, %"}, rows)
}

// liveTables writes the scenarios that insert and work at the same time.
func (r *Results) liveTables(p *page) {
	if !r.ran("live") {
		return
	}
	p.say("## Live insert and work\n")
	p.say("Two producers insert batches of 500 as fast as they can while workers work, at most 20,000 tasks ahead. Held: during the")
	p.say("whole run another session holds a snapshot open (repeatable read), so that vacuum can remove nothing.\n")

	var rows [][]string
	for _, who := range r.contenders("live") {
		free, held := r.of("live", who, "live", rate), r.of("live held", who, "live", rate)
		end := r.of("live held", who, "live", func(_ Run, ph Phase) float64 { return lastSeconds(ph.Series) })

		row := []string{who, free.String(), "–", "–", "–", ""}
		if held.N > 0 {
			row[2], row[3], row[4] = held.String(), end.String(), fmt.Sprintf("%.0f %%", 100*over(held.Median, free.Median))
		}

		if own := r.of("live", ours, "live", rate); who != ours && own.N > 0 {
			row[5] = fmt.Sprintf("%.2f ×", over(own.Median, free.Median))
		}
		rows = append(rows, row)
	}

	p.table([]string{"", "free, tasks/s", "held, tasks/s", "held, last quarter", "held of free", "ours, free, is"}, rows)
	if r.ran("live held") {
		p.say("![Tasks a second while a snapshot is held](benchmarks/held.svg)\n")
	}

	rows = nil
	for _, m := range millions {
		free, held := r.of(m.id, ours, m.phase, rate), r.of(m.id+" held", ours, m.phase, rate)
		if free.N > 0 && held.N > 0 {
			rows = append(rows, []string{m.what, free.String(), held.String(), fmt.Sprintf("%.0f %%", 100*over(held.Median, free.Median))})
		}
	}

	if len(rows) > 0 {
		p.say("The same over 1,000,000 tasks, free and held in turns, pgqueue alone:\n")
		p.table([]string{"", "free, tasks/s", "held, tasks/s", "held of free"}, rows)
	}

	for _, id := range r.ids() {
		if n, ok := strings.CutPrefix(id, "delayed "); ok {
			p.say("Beside %s delayed tasks that are not due:\n", n)
			r.compare(p, id, "delay", "live")
		}
	}
}

// lastSeconds returns the mean of the last quarter of a series.
func lastSeconds(series []float64) float64 {
	if len(series) == 0 {
		return 0
	}
	tail := series[len(series)-max(len(series)/4, 1):]
	sum := 0.0
	for _, v := range tail {
		sum += v
	}
	return sum / float64(len(tail))
}

// quantiles writes p50, p95, p99 and the maximum, in milliseconds.
func (r *Results) quantiles(p *page, id, phase, from string) {
	var rows [][]string
	for _, who := range r.contenders(id) {
		row := []string{who}
		for _, pick := range []func(plan.Quantiles) float64{
			p50, func(q plan.Quantiles) float64 { return q.P95 }, p99, func(q plan.Quantiles) float64 { return q.Max },
		} {
			row = append(row, r.of(id, who, phase, latency(from, pick)).String())
		}
		late := r.of(id, who, phase, func(_ Run, ph Phase) float64 { return float64(ph.Errors) })
		rows = append(rows, append(row, late.String()))
	}
	p.table([]string{"", "p50, ms", "p95, ms", "p99, ms", "max, ms", "missing"}, rows)
}

// latencyTables writes the scenarios that measure single tasks.
func (r *Results) latencyTables(p *page) {
	if r.ran("pickup") {
		p.say("## Pickup latency\n")
		p.say("One task into an idle queue, many times. Measured from the answer to its create, after the commit, to the first line of")
		p.say("its handler. The instance of the worker creates it:\n")
		r.quantiles(p, "pickup", "pickup", "commit")

		p.say("Another instance, with its own connections, creates it:\n")
		r.quantiles(p, "pickup", "pickup apart", "commit")
		p.say("Both again, measured from the call of the create, with its commit:\n")
		r.quantiles(p, "pickup", "pickup", "call")
		r.quantiles(p, "pickup", "pickup apart", "call")
		p.say("![Pickup latency](benchmarks/pickup.svg)\n")
	}

	for _, id := range r.ids() {
		if n, ok := strings.CutPrefix(id, "offered "); ok {
			p.say("## %s tasks a second offered\n", n)
			p.say("The bulk call inserts the due tasks every 10 ms and does not wait for earlier ones. Measured from the time at which the")
			p.say("insert is due to the first line of the handler.\n")
			r.quantiles(p, id, "offered", "due")
			p.say("![Latency at %s tasks a second](benchmarks/offered-%s.svg)\n", n, n)
		}
	}
}

// costTables writes the WAL, rows, CPU time and memory of a task.
func (r *Results) costTables(p *page) {
	if r.ran("drain") {
		p.say("## Cost of a task\n")
		p.say("From the runs of bulk insert and drain. Dead rows: updated or deleted rows. Growth: of the database, after both phases.\n")

		// Other load on the machine changes these figures least: they count bytes and rows, not time.
		whole := func(who string, take func(Phase) float64) string {
			var values []float64
			for _, run := range r.Runs {
				if run.ID == "drain" && run.Contender == who && run.Err == "" {
					sum := 0.0
					for _, ph := range run.Phases {
						sum += take(ph) / float64(max(ph.N, 1))
					}
					values = append(values, sum)
				}
			}
			return SpreadOf(values).String()
		}

		var rows [][]string
		for _, who := range r.contenders("drain") {
			run := func(take func(Run) float64) string {
				return r.of("drain", who, "drain", func(run Run, ph Phase) float64 { return take(run) / float64(max(ph.N, 1)) }).String()
			}
			rows = append(rows, []string{
				who, whole(who, func(ph Phase) float64 { return float64(ph.WAL) }),
				run(func(x Run) float64 { return float64(x.Growth) }), run(func(x Run) float64 { return float64(x.Dead) }),
			})
		}

		p.table([]string{"", "WAL, bytes", "growth, bytes", "dead rows"}, rows)

		rows = nil
		for _, who := range r.contenders("drain") {
			row := []string{who}
			for _, phase := range []string{"insert", "drain"} {
				client := r.of("drain", who, phase, perTask(func(_ Run, ph Phase) float64 { return ph.ClientCPU * 1e6 }))
				postgres := r.of("drain", who, phase, perTask(func(_ Run, ph Phase) float64 { return ph.PostgresCPU * 1e6 }))

				bound := over(float64(r.Machine.Cores)*1e6, client.Median+postgres.Median)
				row = append(row, client.String(), postgres.String(), number(bound))
			}
			rows = append(rows, row)
		}

		p.say("CPU time of a task in µs, and the tasks a second at which all cores would be busy:\n")
		p.table([]string{"", "insert: queue", "PostgreSQL", "bound/s", "drain: queue", "PostgreSQL", "bound/s"}, rows)
	}

	p.say("## Memory\n")
	p.say("Memory of the contender's process in MB. At rest: workers started, queue empty. Max: during a whole run.\n")
	var rows [][]string
	for _, who := range r.contenders("drain") {
		peak := r.of("drain", who, "drain", func(run Run, _ Phase) float64 { return float64(run.Peak) / 1e6 })
		rest := r.of("pickup", who, "rest", func(_ Run, ph Phase) float64 { return float64(ph.Memory) / 1e6 })
		live := r.of("live", who, "live", func(run Run, _ Phase) float64 { return float64(run.Peak) / 1e6 })
		rows = append(rows, []string{who, rest.String(), peak.String(), live.String()})
	}

	for _, id := range []string{"rest create 256", "rest pairs 256", "streams"} {
		for _, run := range r.Runs {
			if run.ID == id && run.Err == "" && run.Round == 0 {
				rows = append(rows, []string{server + ", " + id, "–", number(float64(run.ServerPeak) / 1e6), "–"})
			}
		}
	}
	p.table([]string{"", "at rest", "max, insert and drain", "max, live"}, rows)
}

// serverTables writes the scenarios over REST, Connect and worker streams.
func (r *Results) serverTables(p *page) {
	var rows [][]string
	for _, id := range r.ids() {
		if !slices.Contains(r.contenders(id), server) || id == "streams" || id == "stream slots" {
			continue
		}

		for _, phase := range []string{"rest create", "rest pairs", "connect create", "connect pairs", "stream runtime"} {
			got := r.of(id, server, phase, rate)
			if got.N == 0 {
				continue
			}

			cpu := func(take func(Phase) float64) string {
				return r.of(id, server, phase, func(_ Run, ph Phase) float64 { return take(ph) * 1e6 / float64(max(ph.N, 1)) }).String()
			}

			rows = append(rows, []string{
				id, got.String(), r.of(id, server, phase, latency("request", p50)).String(), r.of(id, server, phase, latency("request", p99)).String(),
				r.of(id, server, phase, func(_ Run, ph Phase) float64 { return float64(ph.Errors) }).String(),
				cpu(func(ph Phase) float64 { return ph.ServerCPU }), cpu(func(ph Phase) float64 { return ph.PostgresCPU }), cpu(func(ph Phase) float64 { return ph.ClientCPU }),
			})
		}
	}
	if len(rows) == 0 {
		return
	}

	p.say("## Over the wire\n")
	p.say("The shipped server binary at log level warn. A request carries one task and gets its answer after the commit. The")
	p.say("number counts clients: over REST each has its own connection, over Connect (HTTP/2) all share one. For a worker stream it")
	p.say("counts handlers. Create: one task. Pairs: a retain and a release, two requests. Stream: the worker runtime over a stream.\n")
	p.table([]string{"", "a second", "p50, ms", "p99, ms", "errors", "server CPU, µs", "PostgreSQL CPU, µs", "client CPU, µs"}, rows)

	if r.ran("streams") {
		p.say("1,000 idle streams of server-sent events and 1,000 waiting retains at once:\n")
		mb := r.of("streams", server, "wake", serverMB)
		wake, fan := r.of("streams", server, "wake", latency("commit", p99)), r.of("streams", server, "fan out", latency("commit", p99))
		p.table([]string{"server's memory, MB", "a retain's wake-up, p99, ms", "one event to 1,000 streams, p99, ms"}, [][]string{{mb.String(), wake.String(), fan.String()}})
	}
}
