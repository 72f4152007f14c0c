package postgrestest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// flowBench is a queue with a flow, in process: worker over manager over store.
type flowBench struct {
	b    *testing.B
	dsn  string
	m    *manager.Manager
	done atomic.Int64
	worker.NoObserver
}

// Released counts the tasks that have ended.
func (f *flowBench) Released(n int, _ time.Duration, err error) {
	if err == nil {
		f.done.Add(int64(n))
	}
}

func newFlowBench(b *testing.B, meta queue.QueueMeta) *flowBench {
	b.Helper()
	f := &flowBench{b: b, dsn: postgrestest.URL(b)}
	m, err := manager.New(postgrestest.OpenURL(b, f.dsn))
	if err != nil {
		b.Fatal(err)
	}
	f.m = m
	meta.Name = "q"
	if _, err := m.RegisterQueue(b.Context(), meta); err != nil {
		b.Fatal(err)
	}
	return f
}

// fill creates n tasks, in calls of 5,000.
func (f *flowBench) fill(n int, groupOf func(int) string) {
	f.b.Helper()
	for at := 0; at < n; at += 5000 {
		tasks := make([]queue.NewTask, min(5000, n-at))
		for i := range tasks {
			tasks[i] = queue.NewTask{Queue: "q", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Group: groupOf(at + i)}}
		}
		if _, err := f.m.CreateTasks(f.b.Context(), tasks); err != nil {
			f.b.Fatal(err)
		}
	}
}

// work runs a worker until the returned function is called.
func (f *flowBench) work(concurrency int, handle func(t *queue.Task)) (stop func()) {
	w := worker.New(f.m, worker.WithConcurrency(concurrency), worker.WithObserver(f), worker.WithInProcess(), worker.WithDrain(time.Second),
		worker.WithGrace(time.Second))
	w.HandleFunc("q", func(_ context.Context, t *queue.Task) (any, error) {
		handle(t)
		return nil, nil
	})
	ctx, cancel := context.WithCancel(f.b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.m.Run(ctx) })
	wg.Go(func() { _ = w.Run(ctx) })
	return func() {
		cancel()
		wg.Wait()
		if err := f.m.Close(context.Background()); err != nil {
			f.b.Error(err)
		}
	}
}

// drain works n tasks and reports their rate.
func (f *flowBench) drain(n int) {
	began := time.Now()
	stop := f.work(500, func(*queue.Task) {})
	for f.done.Load() < int64(n) && time.Since(began) < 2*time.Minute {
		time.Sleep(2 * time.Millisecond)
	}
	f.b.ReportMetric(float64(f.done.Load())/time.Since(began).Seconds(), "tasks/s")
	stop()
}

// holdSnapshot keeps the dead rows of a database until the end of the benchmark.
func (f *flowBench) holdSnapshot() {
	f.b.Helper()
	conn, err := pgx.Connect(f.b.Context(), f.dsn)
	if err != nil {
		f.b.Fatal(err)
	}
	f.b.Cleanup(func() { _ = conn.Close(context.Background()) })
	for _, command := range []string{"begin isolation level repeatable read", "select count(*) from pgqueue.queue"} {
		if _, err := conn.Exec(f.b.Context(), command); err != nil {
			f.b.Fatal(err)
		}
	}
}

// BenchmarkFlow measures what shares, limits and order cost, with figures of their own: run it with -benchtime 1x.
func BenchmarkFlow(b *testing.B) {
	own := func(i int) string { return fmt.Sprint("g", i) }
	of := func(n int) func(int) string { return func(i int) string { return fmt.Sprint("g", i%n) } }
	one := func(int) string { return "g" }
	for _, c := range []struct {
		name    string
		flow    queue.FlowMeta
		n       int
		groupOf func(int) string
	}{
		{"no flow", queue.FlowMeta{}, 200_000, of(1000)},
		{"light groups, concurrency 10", queue.FlowMeta{GroupConcurrency: new(10)}, 200_000, of(50_000)},
		{"light groups, rate", queue.FlowMeta{GroupRateLimit: new(1000), GroupRateBurst: new(100)}, 200_000, of(50_000)},
		{"fair, 1,000 groups", queue.FlowMeta{Fair: new(true)}, 200_000, of(1000)},
		{"fair, 1,000,000 groups", queue.FlowMeta{Fair: new(true)}, 1_000_000, own},
		{"fifo, own groups", queue.FlowMeta{Order: new(queue.OrderFIFO)}, 100_000, own},
		{"fifo, one group", queue.FlowMeta{Order: new(queue.OrderFIFO)}, 3_000, one},
		{"fifo, one group, batch 8", queue.FlowMeta{Order: new(queue.OrderFIFO), FIFOBatch: new(8)}, 12_000, one},
	} {
		for _, held := range []bool{false, true} {
			name := c.name
			if held {
				name += ", snapshot held"
			}
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					f := newFlowBench(b, queue.QueueMeta{FlowMeta: c.flow})
					f.fill(c.n, c.groupOf)
					if held {
						f.holdSnapshot()
					}
					f.drain(c.n)
				}
			})
		}
	}
	b.Run("quiet groups beside a loud one", benchmarkQuietGroups)
	b.Run("weights", benchmarkWeights)
	b.Run("freed places", benchmarkFreedPlaces)
}

// reportQuantiles reports the median and the 99th percentile in milliseconds.
func reportQuantiles(b *testing.B, waits []time.Duration) {
	b.Helper()
	slices.Sort(waits)
	if len(waits) == 0 {
		b.Fatal("nothing was measured")
	}
	at := func(q float64) float64 { return float64(waits[int(q*float64(len(waits)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(float64(len(waits)), "samples")
}

// benchmarkQuietGroups: one group has 1,000,000 waiting tasks and keeps all workers busy; tasks of 999 others come now and then.
func benchmarkQuietGroups(b *testing.B) {
	for b.Loop() {
		f := newFlowBench(b, queue.QueueMeta{FlowMeta: queue.FlowMeta{Fair: new(true)}})
		f.fill(1_000_000, func(int) string { return "loud" })
		var mu sync.Mutex
		began := map[int64]time.Time{}
		stop := f.work(100, func(t *queue.Task) {
			if t.Group != "loud" {
				mu.Lock()
				began[t.ID] = time.Now()
				mu.Unlock()
			}
			time.Sleep(20 * time.Millisecond)
		})
		time.Sleep(2 * time.Second)

		made := map[int64]time.Time{}
		for range 1000 {
			t, err := f.m.CreateTask(b.Context(), "q", queue.TaskMeta{Group: fmt.Sprint("quiet", rand.IntN(999))})
			if err != nil {
				b.Fatal(err)
			}
			made[t.ID] = time.Now()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		stop()

		waits := make([]time.Duration, 0, len(made))
		for id, at := range made {
			start, ok := began[id]
			if !ok {
				b.Errorf("task %d of a quiet group has not started", id)
			}
			waits = append(waits, max(0, start.Sub(at)))
		}
		reportQuantiles(b, waits)
	}
}

// benchmarkWeights reports the shares of groups with the weights 1, 2 and 4, which all have more tasks than workers take.
func benchmarkWeights(b *testing.B) {
	for b.Loop() {
		f := newFlowBench(b, queue.QueueMeta{FlowMeta: queue.FlowMeta{Fair: new(true)}})
		weights := []int{1, 2, 4}
		for _, w := range weights {
			if _, err := f.m.UpdateGroup(b.Context(), "q", fmt.Sprint("g", w), queue.GroupMeta{Weight: &w}); err != nil {
				b.Fatal(err)
			}
		}
		f.fill(300_000, func(i int) string { return fmt.Sprint("g", weights[i%3]) })
		var started [5]atomic.Int64
		stop := f.work(100, func(t *queue.Task) {
			started[t.Group[1]-'0'].Add(1)
			time.Sleep(2 * time.Millisecond)
		})
		for f.done.Load() < 100_000 {
			time.Sleep(time.Millisecond)
		}
		total := float64(started[1].Load() + started[2].Load() + started[4].Load())
		for _, w := range weights {
			b.ReportMetric(100*float64(started[w].Load())/total/(100*float64(w)/7), fmt.Sprintf("share-%d", w))
		}
		stop()
	}
}

// benchmarkFreedPlaces reports how long a place of a group stays free between the end of a task and the start of the next one.
func benchmarkFreedPlaces(b *testing.B) {
	for b.Loop() {
		f := newFlowBench(b, queue.QueueMeta{FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}})
		f.fill(4000, func(i int) string { return fmt.Sprint("g", i%20) })
		var mu sync.Mutex
		ended := map[string]time.Time{}
		var waits []time.Duration
		stop := f.work(100, func(t *queue.Task) {
			now := time.Now()
			mu.Lock()
			if at, ok := ended[t.Group]; ok {
				waits = append(waits, now.Sub(at))
			}
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			ended[t.Group] = time.Now()
			mu.Unlock()
		})
		for f.done.Load() < 4000 {
			time.Sleep(time.Millisecond)
		}
		stop()
		reportQuantiles(b, waits)
	}
}
