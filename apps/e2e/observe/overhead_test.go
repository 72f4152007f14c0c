//go:build unix

package observe_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/adapters/telemetry/export"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// Work of one round of BenchmarkOverhead.
const (
	drained = 20_000 // tasks, in batches of 500
	singly  = 6_400  // by 64 callers, a call a task
	overt   = 1_600  // by 32 clients over REST, a request a task
)

// BenchmarkOverhead measures the share of the throughput that telemetry costs. A plain stack and an observed one do
// the same work in turn. The benchmark reports the median of the rounds' ratios, for wall time and for the CPU time
// of this process. Disabled telemetry costs nothing, because the decorators return their argument;
// TestOffCostsNothing checks that. Run it on an idle machine:
//
//	go run ./adapters/postgres/postgrestest/cmd/testdb -- go test -run '^$' -bench Overhead/postgres -benchtime 12x ./apps/e2e/observe
//
// The server for tests does not wait for its disk. So the measured share of telemetry is rather too large than too
// small.
func BenchmarkOverhead(b *testing.B) {
	stores := []struct {
		name string
		open func(b *testing.B) func() queue.Store // opens the same store again
	}{
		{"postgres", func(b *testing.B) func() queue.Store {
			b.Helper()
			dsn := postgrestest.URL(b)
			return func() queue.Store { return postgrestest.OpenURL(b, dsn) }
		}},
		{"memory", func(*testing.B) func() queue.Store {
			s := memory.New()
			return func() queue.Store { return s }
		}},
	}
	for _, st := range stores {
		for _, work := range []struct {
			name string
			n    int
			do   func(*observed, *testing.B)
		}{
			{"batches and workers", drained, (*observed).drain}, {"single calls", singly, (*observed).single}, {"requests", overt, (*observed).request},
		} {
			for _, level := range []struct {
				name string
				opts func(*testing.B) []telemetry.Option
			}{
				{"metrics", func(*testing.B) []telemetry.Option { return nil }},
				{"metrics and traces", func(b *testing.B) []telemetry.Option { return traced(b, export.Sampler(export.DefaultTraces)) }},
				{"metrics and 1 % of traces", func(b *testing.B) []telemetry.Option {
					return traced(b, sdktrace.ParentBased(sdktrace.TraceIDRatioBased(.01)))
				}},
				{"metrics and all traces", func(b *testing.B) []telemetry.Option { return traced(b, sdktrace.AlwaysSample()) }},
			} {
				b.Run(fmt.Sprintf("%s/%s/%s", st.name, work.name, level.name), func(b *testing.B) {
					open := st.open(b)
					pair := []*observed{newObserved(b, open(), "plain", nil), newObserved(b, open(), "watched", level.opts(b))}
					for _, o := range pair {
						work.do(o, b) // warms up connections, statements and pages
					}
					var wall, cpu []float64
					var rate time.Duration
					for b.Loop() {
						var took, used [2]time.Duration
						for k := range 2 {
							i := (len(wall) + k) % 2 // the order alternates
							runtime.GC()
							start, before := time.Now(), processCPU(b)
							work.do(pair[i], b)
							took[i], used[i] = time.Since(start), processCPU(b)-before
						}
						wall = append(wall, float64(took[1])/float64(took[0]))
						cpu = append(cpu, float64(used[1])/float64(used[0]))
						rate += took[0]
					}
					b.ReportMetric((1-1/median(wall))*100, "%less-throughput")
					b.ReportMetric((median(cpu)-1)*100, "%more-cpu")
					b.ReportMetric(float64(work.n*len(wall))/rate.Seconds(), "plain-tasks/s")
					b.ReportMetric(0, "ns/op") // the time of both together has no meaning
				})
			}
		}
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// traced records the traces that sampler selects, for an exporter that discards them.
func traced(b *testing.B, sampler sdktrace.Sampler) []telemetry.Option {
	b.Helper()
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithBatcher(nowhere{}))
	b.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return []telemetry.Option{telemetry.WithTracerProvider(p)}
}

type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }

// processCPU returns the CPU time of this process so far, without that of PostgreSQL.
func processCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// observed is a manager, a worker runtime and a server with their own queue, observed or plain.
type observed struct {
	worker.Observer // observer of the worker; telemetry gets the calls without an override
	queue           string
	svc             queue.Service
	middleware      func(worker.Handler) worker.Handler
	clients         []*restclient.Client
	released        atomic.Int64
}

// newObserved builds a stack like the server. With opts nil it is plain; otherwise it is observed, with opts added to
// the default.
func newObserved(b *testing.B, store queue.Store, name string, opts []telemetry.Option) *observed {
	b.Helper()
	ok := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	if name == "plain" {
		opts = []telemetry.Option{telemetry.WithMetrics(false)}
	}
	tel, err := telemetry.New(opts...)
	ok(err)
	m, err := manager.New(tel.Store(store))
	ok(err)
	ctx, end := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }()
	o := &observed{Observer: tel.Observer(), queue: name, svc: tel.Service(m), middleware: tel.Middleware()}
	_, err = o.svc.RegisterQueue(b.Context(), queue.QueueMeta{Name: name})
	ok(err)
	rest, err := restserver.New(restserver.Config{Service: o.svc, Logger: slog.New(slog.DiscardHandler)})
	ok(err)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = restserver.NewHTTPServer(tel.HTTP(rest), restserver.Timeouts{})
	srv.Start()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	for range 32 {
		c, err := restclient.New(srv.URL+"/api", restclient.WithHTTPClient(&http.Client{Transport: transport}))
		ok(err)
		o.clients = append(o.clients, c)
	}
	b.Cleanup(func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		transport.CloseIdleConnections()
		ok(rest.Shutdown(closing))
		srv.Close()
		end()
		ok(<-ran)
		ok(m.Close(closing))
	})
	return o
}

// Released counts the tasks with a final release.
func (o *observed) Released(n int, took time.Duration, err error) {
	o.Observer.Released(n, took, err)
	if err == nil {
		o.released.Add(int64(n))
	}
}

// drain creates tasks in batches and lets the worker runtime work them.
func (o *observed) drain(b *testing.B) {
	b.Helper()
	batch := make([]queue.NewTask, 500)
	for i := range batch {
		batch[i] = queue.NewTask{Queue: o.queue, TaskMeta: queue.TaskMeta{Payload: []byte(`{"to":"a@example.org"}`)}}
	}
	for range drained / len(batch) {
		if _, err := o.svc.CreateTasks(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	until := o.released.Load() + drained
	w := worker.New(o.svc, worker.WithConcurrency(500), worker.WithObserver(o), worker.WithInProcess(), worker.WithLogger(slog.New(slog.DiscardHandler)))
	w.Use(o.middleware)
	w.HandleFunc(o.queue, func(context.Context, *queue.Task) (any, error) { return nil, nil })
	ctx, end := context.WithCancel(b.Context())
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	for look := time.NewTicker(time.Millisecond); o.released.Load() < until; {
		<-look.C
	}
	end()
	if err := <-ran; err != nil {
		b.Fatal(err)
	}
}

// single calls the manager from callers in this process.
func (o *observed) single(b *testing.B) {
	b.Helper()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() { cycles(b, o.svc, o.queue, singly/64) })
	}
	wg.Wait()
}

// request calls the server from its clients.
func (o *observed) request(b *testing.B) {
	b.Helper()
	var wg sync.WaitGroup
	for _, c := range o.clients {
		wg.Go(func() { cycles(b, c, o.queue, overt/len(o.clients)) })
	}
	wg.Wait()
}

// caller has the operations of a cycle.
type caller interface {
	CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error)
	RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error)
	ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error)
}

// cycles creates, retains and releases n tasks, one after the other.
func cycles(b *testing.B, svc caller, name string, n int) {
	b.Helper()
	for range n {
		if _, err := svc.CreateTask(b.Context(), name, queue.TaskMeta{Payload: []byte(`{"to":"a@example.org"}`)}); err != nil {
			b.Error(err)
			return
		}
		// Callers take the tasks of other callers, so each waits for a task.
		got, err := svc.RetainTasks(b.Context(), queue.RetainRequest{Worker: "w", Queues: []string{name}, Limit: 1, Wait: time.Minute})
		if err != nil || len(got) != 1 {
			b.Errorf("retained %d: %v", len(got), err)
			return
		}
		if _, err := svc.ReleaseTasks(b.Context(), []queue.Release{{ID: got[0].ID, Token: got[0].Lease.Token, Outcome: queue.OutcomeSuccess}}); err != nil {
			b.Error(err)
			return
		}
	}
}
