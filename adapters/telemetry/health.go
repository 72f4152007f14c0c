package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of a Health.
const (
	// CheckTimeout bounds each check.
	CheckTimeout = 3 * time.Second
	// checkAge is how old an answer may be: probes in that time share one round of checks.
	checkAge = time.Second
	// FailingChores is after how many failures in a row of one chore its check fails: one may be chance.
	FailingChores = 5
)

// ErrDraining is why a process that stops is not ready.
var ErrDraining = errors.New("draining")

// Check reports whether one dependency of a process works. It must honour ctx.
type Check func(ctx context.Context) error

// Health answers whether a process can work. It lives as long as it answers at all; it is ready when every check that it
// needs is well and it is not draining. Other checks appear in the report and decide nothing. Its methods are safe for
// concurrent use.
type Health struct {
	mu       sync.Mutex
	checks   []namedCheck
	draining bool
	last     []CheckResult
	asked    time.Time
	running  chan struct{} // closed when the round of checks under way ends; nil when none is
}

type namedCheck struct {
	name   string
	needed bool
	check  Check
}

// CheckResult is the outcome of one check.
type CheckResult struct {
	Name string
	// Needed says that the process is not ready while the check fails.
	Needed bool
	// Took is how long it took.
	Took time.Duration
	// Err is why it is not well; nil = well.
	Err error
}

// NewHealth is a Health without checks.
func NewHealth() *Health { return &Health{} }

// Add adds a check that the process must pass to be ready, under a name that is stable: it is a label.
func (h *Health) Add(name string, c Check) { h.addCheck(namedCheck{name, true, c}) }

// AddNotice adds a check of something that all processes share, such as background work. It appears in the report, in
// /readyz?verbose and in the metrics. It never turns readiness off: all replicas would go at once, though all can answer.
func (h *Health) AddNotice(name string, c Check) { h.addCheck(namedCheck{name, false, c}) }

func (h *Health) addCheck(c namedCheck) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, c)
	// The last answer lacks the new check, so no probe may share it.
	h.last = nil
}

// Drain makes the process not ready from now on: the first thing a stop does.
func (h *Health) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
}

// Ready is nil when the process can work, else the failed checks. It has the form that servers take.
func (h *Health) Ready(ctx context.Context) error {
	results, err := h.Report(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range results {
		if r.Needed && r.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.Name, r.Err))
		}
	}
	return errors.Join(errs...)
}

// Report is the outcome of every check, at most a second old. Its error is ErrDraining, without looking further, or that
// of ctx.
func (h *Health) Report(ctx context.Context) ([]CheckResult, error) {
	for {
		h.mu.Lock()
		switch {
		case h.draining:
			h.mu.Unlock()
			return nil, ErrDraining
		case h.last != nil && time.Since(h.asked) < checkAge, len(h.checks) == 0:
			last := h.last
			h.mu.Unlock()
			return last, nil
		case h.running == nil:
			h.running = make(chan struct{})
			// In a goroutine of its own: a probe that leaves must not cut the answer that others wait for.
			go h.runChecks(h.checks)
		}
		running := h.running
		h.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// runChecks runs all checks at once; it ends with the slowest of them, or soon after CheckTimeout.
func (h *Health) runChecks(checks []namedCheck) {
	ctx, cancel := context.WithTimeout(context.Background(), CheckTimeout)
	defer cancel()
	results := make([]CheckResult, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			start := time.Now()
			err := runCheckSafely(ctx, c.check)
			results[i] = CheckResult{Name: c.name, Needed: c.needed, Took: time.Since(start), Err: err}
		})
	}

	wg.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.asked = results, time.Now()
	close(h.running)
	h.running = nil
}

func runCheckSafely(ctx context.Context, c Check) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c(ctx)
}

// Livez answers 200 as long as the process answers at all: a restart does not help while the database is down.
func (h *Health) Livez() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeAnswer(w, http.StatusOK, "ok\n") })
}

// Readyz answers 200 when the process is ready, else 503 with what is wrong; with ?verbose every check as JSON.
func (h *Health) Readyz() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		results, err := h.Report(r.Context())
		status := http.StatusOK
		var wrong []string
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		for _, c := range results {
			if c.Needed && c.Err != nil {
				wrong = append(wrong, c.Name+": "+RedactText(c.Err.Error()))
			}
		}
		if len(wrong) > 0 {
			status = http.StatusServiceUnavailable
		}
		// The status is the same in both forms: orchestrators read it alone.
		if r.URL.Query().Has("verbose") {
			w.Header().Set("Content-Type", "application/json")
			writeAnswer(w, status, formatReport(results, err))
			return
		}
		if len(wrong) > 0 {
			writeAnswer(w, status, strings.Join(wrong, "\n")+"\n")
			return
		}
		writeAnswer(w, status, "ok\n")
	})
}

func writeAnswer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Cache-Control", "no-store")
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// formatReport reads {"status":"ready","checks":[{"name":"store","needed":true,"status":"ok","took_seconds":0.001}]}.
func formatReport(results []CheckResult, err error) string {
	type check struct {
		Name   string  `json:"name"`
		Needed bool    `json:"needed"`
		Status string  `json:"status"`
		Took   float64 `json:"took_seconds"`
		Error  string  `json:"error,omitempty"`
	}

	report := struct {
		Status string  `json:"status"`
		Checks []check `json:"checks"`
	}{Status: "ready", Checks: []check{}}
	switch {
	case errors.Is(err, ErrDraining):
		report.Status = "draining"
	case err != nil:
		report.Status = "not ready"
	}

	for _, r := range results {
		c := check{Name: r.Name, Needed: r.Needed, Status: "ok", Took: r.Took.Seconds()}
		if r.Err != nil {
			c.Status, c.Error = "failed", RedactText(r.Err.Error())
			if r.Needed {
				report.Status = "not ready"
			}
		}
		report.Checks = append(report.Checks, c)
	}

	b, merr := json.MarshalIndent(report, "", "  ")
	if merr != nil { // strings and numbers always marshal
		return "{}"
	}

	return string(b) + "\n"
}

// maxListedFaults bounds the faults of one kind of background work that the check lists.
const maxListedFaults = 10

// describeFault names what a fault is about.
func describeFault(f queue.Fault) string {
	if f.Namespace == "" {
		return f.Subject
	}
	return f.Subject + " of namespace " + f.Namespace
}

// ChoresCheck is a check of the background work that a manager does in this process.
func ChoresCheck(health func() []manager.ChoreHealth) Check {
	return func(context.Context) error {
		var errs []error
		for _, h := range health() {
			if h.Failing >= FailingChores {
				errs = append(errs, fmt.Errorf("background work %q has failed %d times in a row: %w", h.Chore, h.Failing, h.LastError))
			}
			for i, f := range h.Faults {
				if i == maxListedFaults {
					errs = append(errs, fmt.Errorf("background work %q passes over %d more", h.Chore, len(h.Faults)-i))
					break
				}
				errs = append(errs, fmt.Errorf("background work %q passes over %s: %w", h.Chore, describeFault(f), f.Err))
			}
		}
		return errors.Join(errs...)
	}
}

var (
	descReadyNow = prometheus.NewDesc("pgqueue_ready", "1 while the process is ready, by the last round of checks.", nil, nil)
	descCheck    = prometheus.NewDesc("pgqueue_health_check", "1 while the check is well, by the last round.", []string{"check"}, nil)
)

// WatchHealth adds the outcome of the last round of checks to the metrics; a scrape starts one when there is none yet.
func (t *Telemetry) WatchHealth(h *Health) error {
	if t.m == nil {
		return nil
	}
	return t.registry.Register(&healthCollector{h})
}

type healthCollector struct{ h *Health }

func (*healthCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descReadyNow
	ch <- descCheck
}

func (c *healthCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), CheckTimeout)
	defer cancel()
	results, err := c.h.Report(ctx)
	ready := boolToFloat(err == nil)
	for _, r := range results {
		well := boolToFloat(r.Err == nil)
		if r.Needed {
			ready = min(ready, well)
		}
		ch <- prometheus.MustNewConstMetric(descCheck, prometheus.GaugeValue, well, r.Name)
	}
	ch <- prometheus.MustNewConstMetric(descReadyNow, prometheus.GaugeValue, ready)
}

func boolToFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
