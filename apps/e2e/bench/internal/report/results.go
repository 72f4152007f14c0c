// Package report makes tables, plots and a verdict of what was measured.
package report

import (
	"slices"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/host"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// Results of a whole run of the benchmark.
type Results struct {
	Began, Ended string
	Full         bool
	Machine      host.Facts
	PostgreSQL   string
	Settings     [][2]string
	Versions     [][2]string
	LeftOut      []string
	LoadBefore   float64 // load average of the machine before
	Scale        float64 // of all numbers and times; 1 but for trying out
	Runs         []Run
}

// Run is one contender in one scenario in one round.
type Run struct {
	// ID of the scenario, and its plan.
	ID        string
	Contender string
	Round     int
	Plan      plan.Plan
	Held      bool // another session held a snapshot
	Phases    []Phase
	// Err says why there is no result.
	Err string `json:",omitempty"`
	// Dead rows made (updated or deleted), and bytes that the database grew.
	Dead, Growth int64
	// Peak memory of the contender, bytes; ServerPeak of the server when there is one.
	Peak, ServerPeak int64
}

// Statement is one that took time.
type Statement struct {
	Query   string
	Calls   int64
	Rows    int64
	Seconds float64
}

// Phase of a run.
type Phase struct {
	Name string
	plan.Result
	// CPU seconds of the contender, of PostgreSQL, and of the server when there is one.
	ClientCPU, PostgresCPU, ServerCPU float64
	// WAL bytes written.
	WAL int64
	// Memory of the contender and of the server at the end of the phase, bytes.
	Memory, ServerMemory int64
	// Statements that took the database's time, where it was asked to note that.
	Statements []Statement `json:",omitempty"`
}

// Rate of a phase in things a second.
func (p Phase) Rate() float64 {
	if p.Seconds == 0 {
		return 0
	}
	return float64(p.N) / p.Seconds
}

// Spread is the middle and the ends of some rounds.
type Spread struct {
	Median, Min, Max float64
	N                int
}

// SpreadOf tells the spread of values.
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

// of gathers what take says of each round's phase.
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

// contenders of a scenario in the order in which they first played.
func (r *Results) contenders(id string) []string {
	var names []string
	for _, run := range r.Runs {
		if run.ID == id && !slices.Contains(names, run.Contender) {
			names = append(names, run.Contender)
		}
	}
	return names
}

// ids of the scenarios in the order in which they first ran.
func (r *Results) ids() []string {
	var ids []string
	for _, run := range r.Runs {
		if !slices.Contains(ids, run.ID) {
			ids = append(ids, run.ID)
		}
	}
	return ids
}
