package observe_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// server is REST and Connect over one decorated manager, assembled like the server app.
type server struct {
	url string
	tel *telemetry.Telemetry
}

func start(t *testing.T, tel *telemetry.Telemetry) *server {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	raw := memory.New()
	ok(tel.WatchQueues(raw))
	m, err := manager.New(tel.Store(raw))
	ok(err)
	svc := tel.Service(m)
	rest, err := restserver.New(restserver.Config{Service: svc, Logger: slog.New(slog.DiscardHandler)})
	ok(err)
	rpc, err := connectserver.New(svc, connectserver.WithLogger(slog.New(slog.DiscardHandler)))
	ok(err)
	mux := http.NewServeMux()
	mux.Handle("/", rest)
	for _, path := range rpc.Paths() {
		mux.Handle(path, rpc)
	}
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = restserver.NewHTTPServer(tel.HTTP(mux), restserver.Timeouts{})
	srv.Start()
	t.Cleanup(func() {
		rpc.Drain()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ok(rest.Shutdown(ctx))
		srv.Close()
		ok(m.Close(ctx))
	})
	return &server{url: srv.URL, tel: tel}
}

// tracedTransport sends the trace of a request's context, like an instrumented HTTP client.
type tracedTransport struct{}

func (tracedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	propagation.TraceContext{}.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
	return http.DefaultTransport.RoundTrip(r)
}

// TestOneTrace creates a task over REST, works it over Connect, and finds both ends and the server in one trace.
func TestOneTrace(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	defer func() { _ = provider.Shutdown(context.Background()) }()
	tel, err := telemetry.New(telemetry.WithTracerProvider(provider), telemetry.WithCreationAsParent())
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, tel)
	ctx, root := provider.Tracer("test").Start(t.Context(), "shop")

	producer, err := restclient.New(s.url+"/api", restclient.WithHTTPClient(&http.Client{Transport: tracedTransport{}}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := producer.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	task, err := producer.CreateTask(ctx, "mail", queue.TaskMeta{})
	if err != nil {
		t.Fatal(err)
	}
	root.End()

	consumer, err := connectclient.New(s.url)
	if err != nil {
		t.Fatal(err)
	}
	worked := make(chan trace.SpanContext, 1)
	w := worker.New(consumer, worker.WithWait(50*time.Millisecond), worker.WithLogger(slog.New(slog.DiscardHandler)),
		worker.WithObserver(tel.Observer()))
	w.Use(tel.Middleware())
	w.HandleFunc("mail", func(ctx context.Context, _ *queue.Task) (any, error) {
		worked <- trace.SpanContextFromContext(ctx)
		return nil, nil
	})
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	handler := <-worked
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	done, err := producer.AwaitTask(t.Context(), task.ID, 10*time.Second)
	if err != nil || done.Status != queue.StatusReleased {
		t.Fatalf("%+v, %v", done, err)
	}

	if handler.TraceID() != root.SpanContext().TraceID() {
		t.Errorf("the handler runs in trace %v, the creation is of %v", handler.TraceID(), root.SpanContext().TraceID())
	}
	byName := map[string]tracetest.SpanStub{}
	for _, sp := range spans.GetSpans() {
		if sp.SpanContext.TraceID() == root.SpanContext().TraceID() {
			byName[sp.Name] = sp
		}
	}
	parents := []string{"shop", "POST /api/task", "send mail", "process mail"}
	for i, name := range parents {
		sp, ok := byName[name]
		if !ok {
			t.Fatalf("the trace has no %q; it has %v", name, keys(byName))
		}
		if i > 0 && sp.Parent.SpanID() != byName[parents[i-1]].SpanContext.SpanID() {
			t.Errorf("%q is not a child of %q", name, parents[i-1])
		}
	}
	if k := byName["process mail"].SpanKind; k != trace.SpanKindConsumer {
		t.Errorf("the handler's span is a %v", k)
	}
}

func keys[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// exposedMetrics returns the names of the series that a server and a worker expose after some work.
func exposedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	tel, err := telemetry.New()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, tel)
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none") // it connects only on the first use
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	h := telemetry.NewHealth()
	for _, err := range []error{tel.WatchPool(func() telemetry.PoolStat { return pool.Stat() }), tel.WatchHealth(h), tel.WatchTokens(memory.New())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := restclient.New(s.url + "/api")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := c.CreateQueue(ctx, queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateQueue(ctx, queue.QueueMeta{Name: "paused", Paused: new(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateTask(ctx, "paused", queue.TaskMeta{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetQueue(ctx, "none"); !errors.Is(err, queue.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := c.RegisterTicker(ctx, queue.TickerMeta{Name: "t", Period: new(time.Hour), Queue: new("mail")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RunTicker(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	got, err := c.RetainTasks(ctx, queue.RetainRequest{Worker: "w"})
	if err != nil || len(got) != 1 {
		t.Fatal(len(got), err)
	}
	for _, token := range []int64{got[0].Lease.Token + 1, got[0].Lease.Token} {
		if _, err := c.ReleaseTasks(ctx, []queue.Release{{ID: got[0].ID, Token: token, Outcome: queue.OutcomeSuccess}}); err != nil && !errors.Is(err, queue.ErrLeaseLost) {
			t.Fatal(err)
		}
	}
	obs := tel.Observer()
	held := worker.Held{ID: got[0].ID, Namespace: got[0].Namespace, Queue: got[0].Queue, Attempt: got[0].Attempt}
	obs.TaskStarted(held, 0)
	obs.TaskFinished(held, worker.Finished{Outcome: queue.OutcomeSuccess})
	tel.AccessRefused(queue.ActionTaskCreate, queue.KindDenied)
	all, err := tel.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range all {
		names[f.GetName()] = true
		if f.GetMetric()[0].GetHistogram() != nil {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				names[f.GetName()+suffix] = true
			}
		}
	}
	return names
}
