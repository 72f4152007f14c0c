//go:build unix

package telemetry_test

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// levels of telemetry to compare: the same work on each.
var levels = []struct {
	name string
	opts func(testing.TB) []telemetry.Option
}{
	{"off", func(testing.TB) []telemetry.Option { return []telemetry.Option{telemetry.WithMetrics(false)} }},
	{"metrics", func(testing.TB) []telemetry.Option { return nil }},
	{"metrics and 1 % of traces", some(.01)},
	{"metrics and all traces", some(1)},
}

func some(share float64) func(testing.TB) []telemetry.Option {
	return func(tb testing.TB) []telemetry.Option { tb.Helper(); return []telemetry.Option{tracing(tb, share)} }
}

func tracing(b testing.TB, share float64) telemetry.Option {
	b.Helper()
	p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))),
		sdktrace.WithBatcher(discard{}))
	b.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return telemetry.WithTracerProvider(p)
}

// discard exports to nowhere.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

func benchStack(b *testing.B, opts func(testing.TB) []telemetry.Option) queue.Service {
	b.Helper()
	var store queue.Store = memory.New()
	var tel *telemetry.Telemetry
	if opts != nil {
		var err error
		if tel, err = telemetry.New(opts(b)...); err != nil {
			b.Fatal(err)
		}
		store = tel.Store(store)
	}
	m, err := manager.New(store)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = m.Close(context.Background()) })
	var svc queue.Service = m
	if tel != nil {
		svc = tel.Service(m)
	}
	if _, err := svc.CreateQueue(b.Context(), queue.QueueMeta{Name: "q", Events: new(false)}); err != nil {
		b.Fatal(err)
	}
	return svc
}

// BenchmarkOverhead creates, retains and releases tasks, in batches and by 64 callers one by one, on a plain stack and a
// decorated one in turn, and reports by how much more CPU time the decorated one takes: the median over the rounds. Time
// on the wall would include the machine's other work.
func BenchmarkOverhead(b *testing.B) {
	for _, size := range []struct {
		name            string
		callers, n, per int
	}{{"batches of 100", 1, 100, 20}, {"64 callers", 64, 1, 20}} {
		for _, l := range levels {
			b.Run(size.name+"/"+l.name, func(b *testing.B) {
				plain, decorated := benchStack(b, nil), benchStack(b, l.opts)
				var ratios []float64
				var all time.Duration
				for b.Loop() {
					var took [2]time.Duration
					first := len(ratios) % 2 // the first stack changes with the round
					for k := range 2 {
						i := (first + k) % 2
						svc := []queue.Service{plain, decorated}[i]
						runtime.GC()
						start := cpu(b)
						var wg sync.WaitGroup
						for range size.callers {
							wg.Go(func() { cycles(b, svc, size.n, size.per) })
						}
						wg.Wait()
						took[i] = cpu(b) - start
						if _, err := svc.CleanQueue(b.Context(), "q"); err != nil {
							b.Fatal(err)
						}
					}
					ratios = append(ratios, float64(took[1])/float64(took[0]))
					all += took[0]
				}
				slices.Sort(ratios)
				b.ReportMetric((ratios[len(ratios)/2]-1)*100, "%overhead")
				b.ReportMetric(float64(all.Nanoseconds())/float64(len(ratios)*size.callers*size.n*size.per), "plain-cpu-ns/task")
			})
		}
	}
}

// cycles does per cycles of n tasks each.
func cycles(b *testing.B, svc queue.Service, n, per int) {
	b.Helper()
	ctx := b.Context()
	batch := make([]queue.NewTask, n)
	for i := range batch {
		batch[i] = queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Payload: []byte(`{"to":"a@example.org"}`)}}
	}
	releases := make([]queue.Release, n)
	for range per {
		if _, err := svc.CreateTasks(ctx, batch); err != nil {
			b.Error(err)
			return
		}
		got, err := svc.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Limit: n})
		if err != nil || len(got) != n {
			b.Errorf("retained %d: %v", len(got), err)
			return
		}
		for i, t := range got {
			releases[i] = queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess}
		}
		if _, err := svc.ReleaseTasks(ctx, releases); err != nil {
			b.Error(err)
			return
		}
	}
}

// cpu is the CPU time of the process so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkService is the suite's, decorated, to compare with other stacks.
func BenchmarkService(b *testing.B) { queuetest.BenchService(b, serviceHarness(full)) }

// BenchmarkScrape reads the gauges of 1,000 queues of 10 namespaces and writes them out.
func BenchmarkScrape(b *testing.B) {
	tel, err := telemetry.New(telemetry.WithStatsAge(0))
	if err != nil {
		b.Fatal(err)
	}
	s := thousandQueues(b)
	if err := tel.WatchQueues(s); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		scrape(b, tel)
	}
}

func thousandQueues(tb testing.TB) queue.Store {
	tb.Helper()
	s := memory.New()
	for i := range 1000 {
		q, err := queue.NewQueue("ns"+string(rune('a'+i%10)), queue.QueueMeta{Name: "queue" + strconv.Itoa(i)})
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := s.CreateQueue(tb.Context(), q); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}
