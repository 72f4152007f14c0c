package telemetry

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of the options.
const (
	// DefaultMaxQueues is how many queues have a label of their own in counters and histograms.
	DefaultMaxQueues = 200
	// DefaultMaxGaugeQueues is how many queues have a label of their own in gauges such as queue_tasks.
	DefaultMaxGaugeQueues = 10_000
	// DefaultStatsAge is how old the stats of a scrape may be.
	DefaultStatsAge = time.Second
	// DefaultStatsTimeout bounds reading the stats for a scrape.
	DefaultStatsTimeout = 5 * time.Second
)

// Other is the label of the queues beyond a limit.
const Other = "other"

// Telemetry is what the decorators of one process record to. Its methods are safe for concurrent use.
type Telemetry struct {
	registry *prometheus.Registry
	m        *meters      // nil when metrics are off
	tracer   trace.Tracer // nil when traces are off
	cfg      config
	handlers handlerTraces
}

type config struct {
	registry       *prometheus.Registry
	metrics        bool
	provider       trace.TracerProvider
	parentCreation bool
	maxQueues      int
	maxGaugeQueues int
	statsAge       time.Duration
	statsTimeout   time.Duration
	version        string
}

// Option configures a Telemetry.
type Option func(*config) error

// WithRegistry registers the metrics with r, which [Telemetry.Handler] then serves. Default: a registry of its own. One
// registry takes the metrics of one Telemetry.
func WithRegistry(r *prometheus.Registry) Option {
	return func(c *config) error {
		if r == nil {
			return queue.Invalid("registry", "must be a registry, got nil")
		}
		c.registry = r
		return nil
	}
}

// WithMetrics says whether anything is counted. Default true.
func WithMetrics(on bool) Option { return func(c *config) error { c.metrics = on; return nil } }

// WithTracerProvider records spans with p. Default: none, and tracing costs nothing. A no-op provider means the same.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) error { c.provider = p; return nil }
}

// WithCreationAsParent makes the span of a handler a child of the span that created its task, so that both are of one
// trace. Default: it begins a trace of its own that is linked to the creation, as the conventions ask for: a task may
// be worked long after, and several times.
func WithCreationAsParent() Option {
	return func(c *config) error { c.parentCreation = true; return nil }
}

// WithMaxQueues sets how many queues have a label of their own in counters and histograms, 1 to 10,000. The others
// share the label "other". Each costs up to some 60 time series.
func WithMaxQueues(n int) Option {
	return func(c *config) error {
		c.maxQueues = n
		return queue.CheckInt("max_queues", n, 1, 10_000)
	}
}

// WithMaxGaugeQueues sets how many queues have a label of their own in gauges, 1 to 100,000. The others are added up
// under the label "other". Each costs 11 time series.
func WithMaxGaugeQueues(n int) Option {
	return func(c *config) error {
		c.maxGaugeQueues = n
		return queue.CheckInt("max_gauge_queues", n, 1, 100_000)
	}
}

// WithStatsAge sets how old the stats of a scrape may be, 0 to 1 min: scrapes within that time share one reading.
func WithStatsAge(d time.Duration) Option {
	return func(c *config) error {
		c.statsAge = d
		if d < 0 || d > time.Minute {
			return queue.Invalid("stats_age", fmt.Sprintf("must be a duration from 0 to 1 min, got %v", d))
		}
		return nil
	}
}

// WithVersion is the program's version in pgqueue_build_info.
func WithVersion(v string) Option { return func(c *config) error { c.version = v; return nil } }

// New is a Telemetry. It starts nothing.
func New(opts ...Option) (*Telemetry, error) {
	c := config{
		metrics: true, maxQueues: DefaultMaxQueues, maxGaugeQueues: DefaultMaxGaugeQueues,
		statsAge: DefaultStatsAge, statsTimeout: DefaultStatsTimeout, version: "dev",
	}

	for _, o := range opts {
		if err := o(&c); err != nil {
			return nil, queue.WithOp("new telemetry", err)
		}
	}

	if c.registry == nil {
		c.registry = prometheus.NewRegistry()
	}

	t := &Telemetry{registry: c.registry, cfg: c}
	if c.provider != nil {
		if _, off := c.provider.(noop.TracerProvider); !off {
			t.tracer = c.provider.Tracer(ScopeName, trace.WithInstrumentationVersion(c.version), trace.WithSchemaURL(schemaURL))
		}
	}

	if c.metrics {
		m, err := newMeters(c)
		if err != nil {
			return nil, &queue.Error{Op: "new telemetry", Kind: queue.KindConflict, Msg: "the registry has such metrics already; use one registry for each telemetry", Err: err}
		}
		t.m = m
	}

	return t, nil
}

// Tracing reports whether spans are recorded.
func (t *Telemetry) Tracing() bool { return t.tracer != nil }

// TracerProvider is where spans go, for instrumentation of others; a no-op one when tracing is off.
func (t *Telemetry) TracerProvider() trace.TracerProvider {
	if t.tracer == nil {
		return noop.NewTracerProvider()
	}
	return t.cfg.provider
}

// Registry has the metrics; it also takes others' collectors.
func (t *Telemetry) Registry() *prometheus.Registry { return t.registry }

// Handler serves the metrics in Prometheus's formats. A collector that fails does not keep the others' metrics back.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true, MaxRequestsInFlight: 8, Registry: t.registry,
	})
}

func (t *Telemetry) isOff() bool { return t.m == nil && t.tracer == nil }
