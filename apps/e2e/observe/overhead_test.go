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

// BenchmarkOverhead says how much of the throughput telemetry costs: the same work is done on a plain stack and on one that
// is observed, in turns, and what is reported is the median of the rounds' ratios, of the time on the wall and of this
// process's CPU. That telemetry that is off costs nothing needs no measuring: the decorators give back what they got, which
// TestOffCostsNothing holds them to. On a machine with nothing else to do:
//
//	go run ./adapters/postgres/postgrestest/cmd/testdb -- go test -run '^$' -bench Overhead/postgres -benchtime 12x ./apps/e2e/observe
//
// The server for tests does not wait for its disk, so that the share of telemetry is rather too large than too small.
func BenchmarkOverhead(b *testing.B) {
	stores := []struct {
		name string
		open func(b *testing.B) func() queue.Store // which opens the same store once more
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
						work.do(o, b) // connections, statements, pages
					}
					var wall, cpu []float64
					var rate time.Duration
					for b.Loop() {
						var took, used [2]time.Duration
						for k := range 2 {
							i := (len(wall) + k) % 2 // who goes first changes
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
					b.ReportMetric(0, "ns/op") // of both together: says nothing
				})
			}
		}
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// traced records the traces that sampler chooses, for an exporter that throws them away.
func traced(b *testing.B, sampler sdktrace.Sampler) []telemetry.Option {
	b.Helper()
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithBatcher(nowhere{}))
	b.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return []telemetry.Option{telemetry.WithTracerProvider(p)}
}

type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }

// processCPU is the CPU time of this process so far; PostgreSQL's is its own.
func processCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// observed is manager, worker runtime and server on a queue of their own, observed or plain.
type observed struct {
	worker.Observer // of the worker; what is not overridden goes to telemetry
	queue           string
	svc             queue.Service
	middleware      func(worker.Handler) worker.Handler
	clients         []*restclient.Client
	released        atomic.Int64
}

// newObserved puts a stack together as the server does. opts nil = plain; else it is observed, with opts beside the default.
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

// Released counts what is done for good.
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

// single is callers of the manager in this process.
func (o *observed) single(b *testing.B) {
	b.Helper()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() { cycles(b, o.svc, o.queue, singly/64) })
	}
	wg.Wait()
}

// request is clients of the server.
func (o *observed) request(b *testing.B) {
	b.Helper()
	var wg sync.WaitGroup
	for _, c := range o.clients {
		wg.Go(func() { cycles(b, c, o.queue, overt/len(o.clients)) })
	}
	wg.Wait()
}

// caller is what a cycle needs.
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
		// Callers take each other's tasks, so each waits until there is one.
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
