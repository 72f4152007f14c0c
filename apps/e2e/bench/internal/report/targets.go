package report

import "fmt"

// Target is one figure with the value that the project wants to reach.
type Target struct {
	What, Want, Got string
	// Verdict is "yes", "no" or "not measured".
	Verdict string
}

// These names must match the scenarios and contenders of the benchmark.
const (
	ours, river, raw = "pgqueue", "River", "raw SQL"
	server           = "pgqueue server"
)

// millions are the scenarios of a million tasks, which compare runs with and without a held snapshot.
var millions = []struct{ id, phase, what string }{
	{"million", "drain", "drain of 1,000,000"},
	{"million live", "live", "live insert + work of 1,000,000"},
}

// busy are the scenarios in which handlers take time, in process and over a worker stream.
var busy = []struct{ id, who, phase, what string }{
	{"slots", ours, "drain", "1,000 tasks of 50 ms, 100 at once, in process"},
	{"stream slots", server, "stream runtime", "1,000 tasks of 50 ms, 100 at once, worker stream"},
}

// overIdeal returns the time of a phase above the ideal time, in percent.
func overIdeal(run Run, p Phase) float64 {
	slots := run.Plan.Workers
	if run.Plan.Clients > 0 {
		slots = run.Plan.Clients
	}
	return 100 * (over(p.Seconds, run.Plan.Ideal(p.N, slots).Seconds()) - 1)
}

// Targets compares the results with the targets of the project. A missed target fails no build.
func (r *Results) Targets() []Target {
	t := targets{r: r}

	drain := t.spread("drain", ours, "drain")
	t.ratio("drain", drain, t.spread("drain", river, "drain"), 4, "River's")
	t.ratio("drain", drain, t.spread("drain", raw, "drain"), 0.6, "raw SQL's")
	t.atLeast("drain, tasks/s", drain, 100_000)
	t.ratio("bulk insert", t.spread("drain", ours, "insert"), t.spread("drain", river, "insert"), 2, "River's COPY")

	live := t.spread("live", ours, "live")
	t.ratio("live insert + work", live, t.spread("live", river, "live"), 4, "River's")
	t.ratio("live with a snapshot held", t.spread("live held", ours, "live"), live, 0.9, "our own free rate")
	for _, m := range millions {
		t.ratio(m.what+", with a snapshot held", t.spread(m.id+" held", ours, m.phase), t.spread(m.id, ours, m.phase), 0.9, "our own free rate")
	}

	pick := r.of("pickup", ours, "pickup", latency("commit", p50))
	t.atMostRatio("pickup p50", pick, r.of("pickup", river, "pickup", latency("commit", p50)), 0.5, "River's", "ms")
	t.atMost("pickup p50, ms", pick, 1.5)
	t.atMost("pickup p99, ms", r.of("pickup", ours, "pickup", latency("commit", p99)), 4)
	t.atMostRatio("WAL a task, insert + work", t.wal(ours), t.wal(river), 1, "River's", "B")

	for _, x := range busy {
		t.atMost(x.what+": % over the ideal time", r.of(x.id, x.who, x.phase, overIdeal), 10)
	}

	for _, clients := range []int{32, 256} {
		create, pairs := fmt.Sprintf("rest create %d", clients), fmt.Sprintf("rest pairs %d", clients)
		t.atLeast(fmt.Sprintf("REST creates/s, %d clients", clients), t.spread(create, server, "rest create"), 10_000)
		t.atLeast(fmt.Sprintf("REST retain + release pairs/s, %d clients", clients), t.spread(pairs, server, "rest pairs"), 5_000)
		t.atMost(fmt.Sprintf("REST errors, %d clients", clients), t.errors(create, "rest create", pairs, "rest pairs"), 0)
		if clients == 32 {
			t.atMost("REST create p99, ms, 32 clients", r.of(create, server, "rest create", latency("request", p99)), 100)
			t.atMost("REST retain, release p99, ms, 32 clients", r.of(pairs, server, "rest pairs", latency("request", p99)), 100)
		}
	}

	t.atMost("1,000 streams + 1,000 waiting retains: memory, MB", r.of("streams", server, "wake", serverMB), 200)
	t.atMost("1,000 streams + 1,000 waiting retains: wake-up p99, ms", r.of("streams", server, "wake", latency("commit", p99)), 50)

	stream := t.spread("stream 256", server, "stream runtime")
	t.ratio("worker stream, 256 in flight", stream, t.spread("connect pairs 256", server, "connect pairs"), 3, "unary retain + release")
	t.ratio("worker stream, 256 in flight", stream, t.spread("drain 256", ours, "drain"), 0.7, "in process")
	return t.all
}

// serverMB returns the memory of the server in MB.
func serverMB(_ Run, p Phase) float64 { return float64(p.ServerMemory) / 1e6 }

// targets collects the rows of the table of targets.
type targets struct {
	r   *Results
	all []Target
}

// spread returns the rates of one phase over all rounds.
func (t *targets) spread(id, contender, phase string) Spread {
	return t.r.of(id, contender, phase, rate)
}

// wal returns the WAL bytes of a task over both phases of a drain run.
func (t *targets) wal(contender string) Spread {
	insert := t.r.of("drain", contender, "insert", perTask(walBytes))
	work := t.r.of("drain", contender, "drain", perTask(walBytes))
	if insert.N == 0 || work.N == 0 {
		return Spread{}
	}
	return Spread{Median: insert.Median + work.Median, N: work.N}
}

// walBytes returns the WAL bytes of a phase.
func walBytes(_ Run, p Phase) float64 { return float64(p.WAL) }

// errors sums the errors of pairs of scenario and phase. A failed run counts as one error.
func (t *targets) errors(pairs ...string) Spread {
	var s Spread
	for i := 0; i < len(pairs); i += 2 {
		one := t.r.of(pairs[i], server, pairs[i+1], func(_ Run, p Phase) float64 { return float64(p.Errors) })
		s.Median, s.N = s.Median+one.Max, s.N+one.N
		for _, run := range t.r.Runs {
			if run.ID == pairs[i] && run.Err != "" {
				s.Median++
			}
		}
	}
	return s
}

// add appends a target with its verdict.
func (t *targets) add(what, want, got string, measured, reached bool) {
	verdict := "not measured"
	switch {
	case measured && reached:
		verdict = "yes"
	case measured:
		verdict = "no"
	}
	if !measured {
		got = "–"
	}
	t.all = append(t.all, Target{what, want, got, verdict})
}

// atLeast adds a target with a smallest value.
func (t *targets) atLeast(what string, got Spread, want float64) {
	t.add(what, "≥ "+number(want), number(got.Median), got.N > 0, got.Median >= want)
}

// atMost adds a target with a largest value.
func (t *targets) atMost(what string, got Spread, want float64) {
	t.add(what, "≤ "+number(want), number(got.Median), got.N > 0, got.Median <= want)
}

// ratio adds a target with a smallest ratio.
func (t *targets) ratio(what string, got, of Spread, want float64, whose string) {
	ratio := over(got.Median, of.Median)
	t.add(what, fmt.Sprintf("≥ %s × %s", number(want), whose),
		fmt.Sprintf("%.2f × (%s of %s)", ratio, number(got.Median), number(of.Median)), got.N > 0 && of.N > 0, ratio >= want)
}

// atMostRatio adds a target with a largest ratio.
func (t *targets) atMostRatio(what string, got, of Spread, want float64, whose, unit string) {
	ratio := over(got.Median, of.Median)
	t.add(what, fmt.Sprintf("≤ %s × %s", number(want), whose),
		fmt.Sprintf("%.2f × (%s %s of %s)", ratio, number(got.Median), unit, number(of.Median)), got.N > 0 && of.N > 0, ratio <= want)
}

// over divides a by b; it returns 0 for b = 0.
func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
