package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// endless is a consumer with tasks until left is 0; each call takes trip.
type endless struct {
	left, ended    atomic.Int64
	trip           time.Duration
	done           chan struct{}
	total          int64
	retains, flush atomic.Int64
}

func (e *endless) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	e.retains.Add(1)
	if e.trip > 0 {
		time.Sleep(e.trip)
	}
	left := e.left.Add(-int64(r.Limit))
	n := min(int64(r.Limit), left+int64(r.Limit))
	if n <= 0 && r.Wait == 0 {
		return nil, nil
	}
	if n <= 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	type taskAndLease struct {
		t queue.Task
		l queue.Lease
	}
	slab := make([]taskAndLease, n)
	tasks := make([]*queue.Task, n)
	for i := range tasks {
		slab[i].t = queue.Task{ID: left + int64(i) + 1<<40, Queue: "noop", Payload: queue.EmptyJSON}
		slab[i].l = queue.Lease{Token: 1, Duration: time.Minute}
		slab[i].t.Lease = &slab[i].l
		tasks[i] = &slab[i].t
	}
	return tasks, nil
}

func (e *endless) HeartbeatTasks(context.Context, []queue.Heartbeat) ([]queue.Beat, error) {
	return nil, queue.ErrUnavailable
}

func (e *endless) ReleaseTasks(_ context.Context, rs []queue.Release) ([]queue.Released, error) {
	e.flush.Add(1)
	if e.trip > 0 {
		time.Sleep(e.trip)
	}
	if e.ended.Add(int64(len(rs))) == e.total {
		close(e.done)
	}
	return make([]queue.Released, len(rs)), nil
}

// BenchmarkNoop measures the cost of a task in the runtime. The handler does nothing. The consumer costs next to
// nothing, or answers after the time that PostgreSQL takes for a batch.
func BenchmarkNoop(b *testing.B) {
	for _, c := range []struct {
		name string
		trip time.Duration
	}{{"instant", 0}, {"calls of 4 ms", 4 * time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			e := &endless{trip: c.trip, done: make(chan struct{}), total: int64(b.N)}
			e.left.Store(int64(b.N))
			w := newWorker(e, worker.WithConcurrency(100), worker.WithInProcess())
			w.HandleFunc("noop", func(context.Context, *queue.Task) (any, error) { return nil, nil })
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			start := time.Now()
			go func() { done <- w.Run(ctx) }()
			<-e.done
			took := time.Since(start)
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/took.Seconds(), "tasks/s")
			b.ReportMetric(float64(b.N)/float64(e.retains.Load()), "tasks/retain")
			b.ReportMetric(float64(b.N)/float64(e.flush.Load()), "tasks/release")
		})
	}
}
