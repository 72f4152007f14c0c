// Package report turns the measured results into tables, plots and verdicts.
package report

import (
	"slices"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/host"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// Results holds the results of a whole benchmark.
type Results struct {
	Began, Ended string
	Full         bool
	Machine      host.Facts
	PostgreSQL   string
	Settings     [][2]string
	Versions     [][2]string
	LeftOut      []string
	LoadBefore   float64 // load average of the machine before the first run
	Scale        float64 // factor of all numbers and times; 1 except in trials
	Runs         []Run
}

// Run is one contender in one scenario in one round.
type Run struct {
	// ID names the scenario; Plan is its plan.
	ID        string
	Contender string
	Round     int
	Plan      plan.Plan
	Held      bool // another session held a snapshot
	Phases    []Phase
	// Err is the reason for a missing result.
	Err string `json:",omitempty"`
	// Dead counts the updated and deleted rows; Growth is the growth of the database in bytes.
	Dead, Growth int64
	// Peak is the largest memory of the contender in bytes; ServerPeak is that of the server, if there is one.
	Peak, ServerPeak int64
}

// Statement is an SQL statement with its share of the time.
type Statement struct {
	Query   string
	Calls   int64
	Rows    int64
	Seconds float64
}

// Phase is a measured part of a run.
type Phase struct {
	Name string
	plan.Result
	// CPU time of the contender, of PostgreSQL and of the server if there is one, in seconds.
	ClientCPU, PostgresCPU, ServerCPU float64
	// WAL counts the written bytes of the write-ahead log.
	WAL int64
	// Memory of the contender and of the server at the end of the phase, in bytes.
	Memory, ServerMemory int64
	// Statements are the slowest statements; only a profiled run records them.
	Statements []Statement `json:",omitempty"`
}

// Rate returns the operations of a phase per second.
func (p Phase) Rate() float64 {
	if p.Seconds == 0 {
		return 0
	}
	return float64(p.N) / p.Seconds
}

// Spread holds the median and the ends of several rounds.
type Spread struct {
	Median, Min, Max float64
	N                int
}

// SpreadOf returns the spread of values.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return Spread{Median: mid, Min: v[0], Max: v[len(v)-1], N: len(v)}
}

// of applies take to the phase in each round and returns the spread.
func (r *Results) of(id, contender, phase string, take func(Run, Phase) float64) Spread {
	var values []float64
	for _, run := range r.Runs {
		if run.ID != id || run.Contender != contender || run.Err != "" {
			continue
		}
		for _, p := range run.Phases {
			if p.Name == phase {
				values = append(values, take(run, p))
			}
		}
	}
	return SpreadOf(values)
}

func rate(_ Run, p Phase) float64 { return p.Rate() }

func latency(from string, pick func(plan.Quantiles) float64) func(Run, Phase) float64 {
	return func(_ Run, p Phase) float64 { return pick(p.Latency[from]) }
}

func p50(q plan.Quantiles) float64 { return q.P50 }
func p99(q plan.Quantiles) float64 { return q.P99 }

func perTask(take func(Run, Phase) float64) func(Run, Phase) float64 {
	return func(r Run, p Phase) float64 { return take(r, p) / float64(max(p.N, 1)) }
}

// contenders returns the contenders of a scenario in the order of their first runs.
func (r *Results) contenders(id string) []string {
	var names []string
	for _, run := range r.Runs {
		if run.ID == id && !slices.Contains(names, run.Contender) {
			names = append(names, run.Contender)
		}
	}
	return names
}

// ids returns the scenarios in the order of their first runs.
func (r *Results) ids() []string {
	var ids []string
	for _, run := range r.Runs {
		if !slices.Contains(ids, run.ID) {
			ids = append(ids, run.ID)
		}
	}
	return ids
}
