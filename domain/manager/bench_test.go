package manager

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// instant is a Store with calls of a fixed duration and no other cost.
type instant struct {
	queue.Store
	cost  time.Duration
	calls atomic.Int64
	ids   atomic.Int64
}

func (s *instant) CreateTasks(_ context.Context, c queue.Create) ([]queue.Created, error) {
	s.calls.Add(1)
	if s.cost > 0 {
		time.Sleep(s.cost)
	}
	out := make([]queue.Created, len(c.Tasks))
	tasks := make([]queue.Task, len(c.Tasks))
	last := s.ids.Add(int64(len(tasks)))
	for i := range tasks {
		tasks[i] = queue.Task{ID: last - int64(i), Namespace: c.Namespace, Queue: c.Tasks[i].Queue, Payload: c.Tasks[i].Payload}
		out[i].Task = &tasks[i]
	}
	return out, nil
}

func (s *instant) RetainTasks(_ context.Context, r queue.Retain) ([][]*queue.Task, error) {
	s.calls.Add(1)
	return make([][]*queue.Task, len(r.Requests)), nil
}

// BenchmarkCreateTask measures the cost of batching: 256 goroutines, one task a call.
func BenchmarkCreateTask(b *testing.B) {
	for _, cost := range []time.Duration{0, 2 * time.Millisecond} {
		b.Run("store="+cost.String(), func(b *testing.B) {
			const goroutines = 256
			s := &instant{cost: cost}
			m, err := New(s)
			if err != nil {
				b.Fatal(err)
			}
			meta := queue.TaskMeta{Payload: []byte(`{"to":"a@b.c"}`)}
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := m.CreateTask(context.Background(), "mail", meta); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
			b.ReportMetric(float64(b.N)/float64(s.calls.Load()), "creates/call")
			if err := m.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkParkedRetain measures the cost of a thousand waiting retains: the memory of each, and Store calls a second.
func BenchmarkParkedRetain(b *testing.B) {
	for b.Loop() {
		const parked = 1000
		s := &instant{}
		m, err := New(s)
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var wg sync.WaitGroup
		for range parked {
			wg.Go(func() { _, _ = m.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Wait: time.Minute}) })
		}
		time.Sleep(500 * time.Millisecond)
		runtime.GC()
		runtime.ReadMemStats(&after)
		calls, began := s.calls.Load(), time.Now()
		time.Sleep(2 * time.Second)
		b.ReportMetric(float64(s.calls.Load()-calls)/time.Since(began).Seconds(), "calls/s")
		b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/parked, "B/parked")
		cancel()
		wg.Wait()
		if err := m.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
