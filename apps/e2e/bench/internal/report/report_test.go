package report_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/report"
)

// runs returns rounds of a drain at these rates.
func runs(who string, drains ...int) []report.Run {
	var all []report.Run
	for round, n := range drains {
		all = append(all, report.Run{
			ID: "drain", Contender: who, Round: round, Growth: 1000, Peak: 5e7, Plan: plan.Plan{Tasks: n},
			Phases: []report.Phase{
				{Name: "insert", Result: plan.Result{N: n, Seconds: 1}, WAL: int64(100 * n)},
				{Name: "drain", Result: plan.Result{N: n, Seconds: 1}, WAL: int64(200 * n)},
			},
		})
	}
	return all
}

func find(t *testing.T, targets []report.Target, what, want string) report.Target {
	t.Helper()
	for _, x := range targets {
		if x.What == what && strings.Contains(x.Want, want) {
			return x
		}
	}
	t.Fatalf("no target %q %q", what, want)
	return report.Target{}
}

func TestTargets(t *testing.T) {
	r := &report.Results{Runs: append(runs("pgqueue", 90_000, 130_000, 110_000), runs("River", 30_000, 20_000, 1)...)}
	r.Runs = append(r.Runs, report.Run{ID: "drain", Contender: "raw SQL", Err: "it broke"})
	for _, busy := range []report.Run{
		{ID: "slots", Contender: "pgqueue", Plan: plan.Plan{Workers: 100, HandlerMillis: 50}, Phases: []report.Phase{{Name: "drain"}}},
		{ID: "stream slots", Contender: "pgqueue server", Plan: plan.Plan{Workers: 500, Clients: 100, HandlerMillis: 50}, Phases: []report.Phase{{Name: "stream runtime"}}},
	} {
		busy.Phases[0].Result = plan.Result{N: 1000, Seconds: 0.5625}
		r.Runs = append(r.Runs, busy)
	}
	for _, x := range []struct{ what, want, verdict, got string }{
		{"drain", "River's", "yes", "5.50 × (110,000 of 20,000)"}, // medians
		{"drain, tasks/s", "100,000", "yes", "110,000"},
		{"drain", "raw SQL's", "not measured", "–"}, // a failed run has no figure
		{"WAL a task, insert + work", "River's", "yes", "1.00 × (300 B of 300)"},
		{"1,000 tasks of 50 ms, 100 at once, in process: % over the ideal time", "10", "no", "12.5"},
		{"1,000 tasks of 50 ms, 100 at once, worker stream: % over the ideal time", "10", "no", "12.5"},
		{"REST creates/s, 32 clients", "10,000", "not measured", "–"},
	} {
		got := find(t, r.Targets(), x.what, x.want)
		if got.Verdict != x.verdict || got.Got != x.got {
			t.Errorf("%s %s: %+v", x.what, x.want, got)
		}
	}
	r.Runs = append(runs("pgqueue", 79_000), runs("River", 20_000)...)
	if got := find(t, r.Targets(), "drain", "River's"); got.Verdict != "no" {
		t.Errorf("3.95 times is %+v", got)
	}
}

func TestSpread(t *testing.T) {
	for want, values := range map[string][]float64{
		"–": nil, "12.3": {12.34}, "2 (1–3)": {3, 1, 2}, "1,500 (1,000–2,000)": {2000, 1000}, "0.25": {0.25},
	} {
		if got := report.SpreadOf(values).String(); got != want {
			t.Errorf("%v is %q, want %q", values, got, want)
		}
	}
}

func TestWrite(t *testing.T) {
	r := &report.Results{Runs: append(runs("pgqueue", 100), runs("River", 50)...), LeftOut: []string{"one: reason"}}
	for _, who := range []string{"pgqueue", "River", "one that has no colour yet"} {
		q := plan.Quantiles{N: 3, P50: 1, P99: 3, Max: 3, Curve: []float64{0.5, 1, 3, 20}}
		r.Runs = append(
			r.Runs,
			report.Run{ID: "pickup", Contender: who, Phases: []report.Phase{{Name: "pickup", Result: plan.Result{N: 3, Latency: map[string]plan.Quantiles{"commit": q}}}}},
			report.Run{ID: "live", Contender: who, Phases: []report.Phase{{Name: "live", Result: plan.Result{N: 30, Seconds: 3, Series: []float64{9, 10, 11}}}}},
			report.Run{ID: "live held", Contender: who, Phases: []report.Phase{{Name: "live", Result: plan.Result{N: 15, Seconds: 3, Series: []float64{7, 5, 3}}}}},
		)
	}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Left out: one: reason.", "| River | 50 | 2.00 × | 50 | 2.00 × |", "| River | 10 | 5 | 3 | 50 % | 1.00 × |", "benchmarks/held.svg"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	for _, name := range []string{"held.svg", "pickup.svg"} {
		svg, err := os.ReadFile(filepath.Join(dir, "benchmarks", name))
		if err != nil || !strings.HasPrefix(string(svg), "<svg") || !strings.Contains(string(svg), "River") {
			t.Errorf("%s: %v, %.80s", name, err, svg)
		}
	}
}
