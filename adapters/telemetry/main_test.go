package telemetry_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock stands still but for what a test lets pass, and a microsecond each look.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Microsecond)
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// stack is a decorated manager over a decorated memory store, and what it records.
type stack struct {
	*testing.T
	tel   *telemetry.Telemetry
	clock *clock
	raw   *memory.Store
	store queue.Store
	svc   queue.Service
	spans *tracetest.InMemoryExporter
}

func newStack(t *testing.T, opts ...telemetry.Option) *stack {
	t.Helper()
	s := &stack{T: t, clock: newClock(), spans: tracetest.NewInMemoryExporter()}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(s.spans))
	t.Cleanup(func() { s.ok(provider.Shutdown(context.Background())) })
	var err error
	s.tel, err = telemetry.New(append([]telemetry.Option{telemetry.WithTracerProvider(provider), telemetry.WithStatsAge(0)}, opts...)...)
	s.ok(err)
	s.raw = memory.New(memory.WithClock(s.clock.Now), memory.WithJitter(func() float64 { return .5 }))
	s.store = s.tel.Store(s.raw)
	s.ok(s.tel.WatchQueues(s.store))
	m, err := manager.New(s.store)
	s.ok(err)
	t.Cleanup(func() { s.ok(m.Close(context.Background())) })
	s.svc = s.tel.Service(m)
	return s
}

func (s *stack) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

func (s *stack) queue(name string, meta queue.QueueMeta) {
	s.Helper()
	meta.Name = name
	_, err := s.svc.CreateQueue(s.Context(), meta)
	s.ok(err)
}

func (s *stack) create(name string, n int) []*queue.Task {
	s.Helper()
	batch := make([]queue.NewTask, n)
	for i := range batch {
		batch[i].Queue = name
	}
	made, err := s.svc.CreateTasks(s.Context(), batch)
	s.ok(err)
	return made
}

func (s *stack) retain(name string, n int) []*queue.Task {
	s.Helper()
	got, err := s.svc.RetainTasks(s.Context(), queue.RetainRequest{Worker: "w", Queues: []string{name}, Limit: n})
	s.ok(err)
	if len(got) != n {
		s.Fatalf("retained %d of queue %s, want %d", len(got), name, n)
	}
	return got
}

func (s *stack) release(o queue.Outcome, tasks ...*queue.Task) []queue.Released {
	s.Helper()
	releases := make([]queue.Release, len(tasks))
	for i, t := range tasks {
		releases[i] = queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: o}
		if o == queue.OutcomeSnooze {
			releases[i].Delay = time.Hour
		}
	}
	outs, err := s.svc.ReleaseTasks(s.Context(), releases)
	if len(outs) != len(releases) {
		s.ok(err)
	}
	return outs
}

// chores does what is due.
func (s *stack) chores(kinds ...queue.Chore) {
	s.Helper()
	for _, k := range kinds {
		for more := true; more; {
			done, err := s.store.Maintain(s.Context(), k)
			s.ok(err)
			more = done.More
		}
	}
}

// families are the metrics by name.
func families(t testing.TB, g prometheus.Gatherer) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]*dto.MetricFamily{}
	for _, f := range all {
		by[f.GetName()] = f
	}
	return by
}

// value is the value of the one metric that has the labels (name, value, …): of a histogram the number of observations.
func (s *stack) value(name string, labels ...string) float64 {
	s.Helper()
	f := families(s, s.tel.Registry())[name]
	if f == nil {
		s.Fatalf("there is no metric %s", name)
	}
	sum, found := 0.0, false
	for _, m := range f.GetMetric() {
		if !has(m, labels) {
			continue
		}
		found = true
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			sum += m.GetCounter().GetValue()
		case dto.MetricType_GAUGE:
			sum += m.GetGauge().GetValue()
		default:
			sum += float64(m.GetHistogram().GetSampleCount())
		}
	}
	if !found {
		return 0
	}
	return sum
}

func (s *stack) want(want float64, name string, labels ...string) {
	s.Helper()
	if got := s.value(name, labels...); got != want {
		s.Errorf("%s%v is %v, want %v", name, labels, got, want)
	}
}

func has(m *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

// span is the one span of a name.
func (s *stack) span(name string) tracetest.SpanStub {
	s.Helper()
	var found []tracetest.SpanStub
	for _, sp := range s.spans.GetSpans() {
		if sp.Name == name {
			found = append(found, sp)
		}
	}
	if len(found) != 1 {
		var names []string
		for _, sp := range s.spans.GetSpans() {
			names = append(names, sp.Name)
		}
		s.Fatalf("%d spans are called %q, want 1; there are %q", len(found), name, names)
	}
	return found[0]
}

func attr(sp tracetest.SpanStub, key string) attribute.Value {
	for _, a := range sp.Attributes {
		if string(a.Key) == key {
			return a.Value
		}
	}
	return attribute.Value{}
}
