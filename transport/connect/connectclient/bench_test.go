package connectclient_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// BenchmarkWork is how many tasks one client retains and releases, 256 in flight: by unary calls of one task each, by
// unary calls of what there is, over a stream, and in process.
func BenchmarkWork(b *testing.B) {
	const inFlight = 256
	for _, way := range []struct {
		name string
		of   func(b *testing.B, s *stack) queue.Consumer
	}{
		{"unary", func(b *testing.B, s *stack) queue.Consumer { b.Helper(); return s.client(b) }},
		{"stream", func(b *testing.B, s *stack) queue.Consumer { b.Helper(); return stream(b, s.client(b)) }},
		{"in process", func(_ *testing.B, s *stack) queue.Consumer { return s.svc }},
	} {
		b.Run("calls/"+way.name, func(b *testing.B) {
			s := serve(b)
			c := way.of(b, s)
			fill(b, s.svc, "q", b.N, queue.QueueMeta{})
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range inFlight {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						ts, err := c.RetainTasks(b.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"q"}, Wait: time.Second})
						if err != nil || len(ts) != 1 {
							b.Errorf("got %v, %v", ts, err)
							return
						}
						done, err := c.ReleaseTasks(b.Context(), []queue.Release{{ID: ts[0].ID, Token: ts[0].Lease.Token, Outcome: queue.OutcomeSuccess}})
						if err != nil || done[0].Err != nil {
							b.Errorf("got %v, %v", done, err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
		b.Run("runtime/"+way.name, func(b *testing.B) {
			s := serve(b)
			c := way.of(b, s)
			fill(b, s.svc, "q", b.N, queue.QueueMeta{})
			b.ResetTimer()
			ctx, cancel := context.WithCancel(b.Context())
			var left atomic.Int64
			left.Store(int64(b.N))
			w := worker.New(c, worker.WithConcurrency(inFlight))
			w.HandleFunc("q", func(context.Context, *queue.Task) (any, error) {
				if left.Add(-1) == 0 {
					cancel()
				}
				return nil, nil
			})
			if err := w.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				b.Error(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}
