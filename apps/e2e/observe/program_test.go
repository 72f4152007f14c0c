package observe_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	metricpb "go.opentelemetry.io/proto/otlp/metrics/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/adapters/telemetry/export"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// collector receives OTLP.
type collector struct {
	mu      sync.Mutex
	spans   []*spanpb.Span
	metrics map[string]*metricpb.Metric // last metric of each name
	err     error
}

func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = errors.Join(c.err, c.take(r))
}

func (c *collector) take(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	switch r.URL.Path {
	case "/v1/traces":
		var m tracepb.ExportTraceServiceRequest
		if err := proto.Unmarshal(b, &m); err != nil {
			return err
		}
		for _, res := range m.GetResourceSpans() {
			for _, scope := range res.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	case "/v1/metrics":
		var m metricspb.ExportMetricsServiceRequest
		if err := proto.Unmarshal(b, &m); err != nil {
			return err
		}
		for _, res := range m.GetResourceMetrics() {
			for _, scope := range res.GetScopeMetrics() {
				for _, k := range scope.GetMetrics() {
					c.metrics[k.GetName()] = k
				}
			}
		}
	}
	return nil
}

// lacks returns a family that no call has sent yet, or "" when all are sent.
func (c *collector) lacks(families map[string]*dto.MetricFamily) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range families {
		if c.metrics[name] == nil {
			return name
		}
	}
	return ""
}

// last returns the last value of each metric.
func (c *collector) last() map[string]*metricpb.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.metrics)
}

// logOf is a log that the test can read.
type logOf struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logOf) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *logOf) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(l.String(), "\n")
}

// TestProgram tests the shipped server on PostgreSQL through its OTLP. One trace leads from a create over REST to its
// statements, and over the worker's stream to the handler. The metrics equal the scraped ones, and the log line of
// the request names the trace.
func TestProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("-short runs without PostgreSQL")
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	got := &collector{metrics: map[string]*metricpb.Metric{}}
	receiver := httptest.NewServer(got)
	defer receiver.Close()
	for _, name := range []string{"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_SAMPLER"} {
		t.Setenv(name, "")
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL)
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
	ctx := t.Context()
	log := &logOf{}
	s, err := run.Start(ctx, run.Config{
		Database: program.Database{URL: postgrestest.URL(t)}, Addr: "127.0.0.1:0", Log: telemetry.NewLogger(log, telemetry.LogOptions{JSON: true}),
	})
	ok(err)
	defer func() { _ = s.Stop(context.WithoutCancel(ctx)) }()
	// The worker is a separate program with its own telemetry.
	tel, shutdown, err := export.Setup(ctx, export.Config{Service: "worker", Options: []telemetry.Option{telemetry.WithCreationAsParent()}})
	ok(err)
	defer func() { _ = shutdown(context.WithoutCancel(ctx)) }()

	producer, err := restclient.New(s.URL()+"/api", restclient.WithHTTPClient(&http.Client{Transport: tracedTransport{}}))
	ok(err)
	defer producer.Close()
	_, err = producer.CreateQueue(ctx, queue.QueueMeta{Name: "mail"})
	ok(err)
	rooted, root := tel.TracerProvider().Tracer("shop").Start(ctx, "shop")
	task, err := producer.CreateTask(rooted, "mail", queue.TaskMeta{Payload: []byte(`{"card":"4111111111111111"}`)})
	ok(err)
	root.End()

	c, err := connectclient.New(s.URL())
	ok(err)
	defer c.Close()
	stream := connectclient.NewStream(c)
	w := worker.New(stream, worker.WithWait(50*time.Millisecond), worker.WithLogger(slog.New(slog.DiscardHandler)), worker.WithObserver(tel.Observer()))
	w.Use(tel.Middleware())
	worked := make(chan struct{})
	w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) { close(worked); return nil, nil })
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(working) }()
	<-worked
	stop()
	ok(<-ended)
	stream.Close()
	done, err := producer.AwaitTask(ctx, task.ID, 10*time.Second)
	if err != nil || done.Status != queue.StatusReleased {
		t.Fatalf("%+v, %v", done, err)
	}
	// A scrape may show stats from before the queue existed.
	families := scrapedFrom(t, s.URL()+"/api/metrics")
	for end := time.Now().Add(20 * time.Second); families["queue_tasks"] == nil && time.Now().Before(end); {
		time.Sleep(telemetry.DefaultStatsAge / 10)
		families = scrapedFrom(t, s.URL()+"/api/metrics")
	}
	ok(shutdown(context.WithoutCancel(ctx)))
	got.mu.Lock()
	clear(got.metrics) // drops the worker's metrics; the next ones come from the server
	got.mu.Unlock()
	for end := time.Now().Add(20 * time.Second); got.lacks(families) != "" && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	sent := got.last()
	ok(s.Stop(context.WithoutCancel(ctx))) // sends the remaining traces

	got.mu.Lock()
	defer got.mu.Unlock()
	ok(got.err)
	id := root.SpanContext().TraceID()
	trace := map[string]*spanpb.Span{}
	for _, sp := range got.spans {
		if bytes.Equal(sp.GetTraceId(), id[:]) {
			trace[sp.GetName()] = sp
		}
	}
	t.Run("one trace from the producer to the handler", func(t *testing.T) {
		path := []string{"shop", "POST /api/task", "send mail", "process mail"}
		for i, name := range path {
			if trace[name] == nil {
				t.Fatalf("the trace has no %q; it has %v", name, keys(trace))
			}
			if i > 0 && !bytes.Equal(trace[name].GetParentSpanId(), trace[path[i-1]].GetSpanId()) {
				t.Errorf("%q is not a child of %q", name, path[i-1])
			}
		}
	})
	t.Run("it has the statements of the store", func(t *testing.T) {
		has := func(sp *spanpb.Span, key string) bool {
			for _, a := range sp.GetAttributes() {
				if a.GetKey() == key {
					return true
				}
			}
			return false
		}
		statements := 0
		for _, sp := range got.spans {
			if has(sp, "db.query.text") || has(sp, "db.statement") || has(sp, "db.operation.name") {
				statements++
			}
		}
		if statements == 0 {
			t.Errorf("there is no span of a statement among %v", keys(trace))
		}
	})
	t.Run("the metrics are those that are scraped", func(t *testing.T) {
		for name := range families {
			if sent[name] == nil {
				t.Errorf("%s is not sent", name)
			}
		}
		created := sent["pgqueue_tasks_created_total"].GetSum()
		if !created.GetIsMonotonic() || len(created.GetDataPoints()) != 1 || created.GetDataPoints()[0].GetAsDouble() != 1 {
			t.Errorf("created is sent as %v", created)
		}
		if n := sent["queue_tasks"].GetGauge().GetDataPoints(); len(n) != len(queue.Statuses()) {
			t.Errorf("tasks are sent as %v", n)
		}
		if n := sent["pgqueue_task_wait_seconds"].GetHistogram().GetDataPoints(); len(n) != 1 || n[0].GetCount() != 1 {
			t.Errorf("waits are sent as %v", n)
		}
	})
	t.Run("the request's line names its trace, and no payload", func(t *testing.T) {
		lines := log.lines()
		if !slices.ContainsFunc(lines, func(l string) bool {
			return strings.Contains(l, `"msg":"request"`) && strings.Contains(l, `"path":"/api/task"`) && strings.Contains(l, `"trace_id":"`+id.String()+`"`)
		}) {
			t.Errorf("no line of the create has the trace %v:\n%s", id, strings.Join(lines, "\n"))
		}
		for _, l := range lines {
			if strings.Contains(l, "4111") {
				t.Errorf("a payload is in the log: %s", l)
			}
		}
	})
}
