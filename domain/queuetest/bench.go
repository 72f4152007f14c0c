package queuetest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// benchQueue is the queue of every benchmark.
const benchQueue = "bench"

// BenchStore measures the hot path of the stores of h: creates, retain with release, and both by many goroutines at
// once, with one task a call and with a hundred. Names and figures (tasks/s beside the usual ones) are those of
// BenchService, so that benchstat compares one stack with another. A release leaves the task finished: a run grows the
// store.
func BenchStore(b *testing.B, h StoreHarness) {
	b.Helper()
	benchAll(b, func(b *testing.B) work {
		s := h.New(b)
		q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{Name: benchQueue})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.CreateQueue(b.Context(), q); err != nil {
			b.Fatal(err)
		}
		return work{
			create: func(tasks []queue.NewTask) error {
				out, err := s.CreateTasks(b.Context(), queue.Create{Namespace: queue.DefaultNamespace, Tasks: tasks, Atomic: true})
				if err == nil && len(out) != len(tasks) {
					err = fmt.Errorf("%d answers to %d creates", len(out), len(tasks))
				}
				return err
			},
			retain: func(limit int) ([]*queue.Task, error) {
				out, err := s.RetainTasks(b.Context(), queue.Retain{
					Namespace: queue.DefaultNamespace, Queues: []string{benchQueue},
					Requests: []queue.RetainShare{{Worker: "bench", Limit: limit}},
				})
				if err != nil {
					return nil, err
				}
				return out[0], nil
			},
			release: func(r []queue.Release) ([]queue.Released, error) {
				return s.ReleaseTasks(b.Context(), queue.DefaultNamespace, r)
			},
		}
	})
}

// BenchService measures the same as BenchStore on the services of h.
func BenchService(b *testing.B, h ServiceHarness) {
	b.Helper()
	benchAll(b, func(b *testing.B) work {
		s := h.New(b)
		if _, err := s.CreateQueue(b.Context(), queue.QueueMeta{Name: benchQueue}); err != nil {
			b.Fatal(err)
		}
		return work{
			create: func(tasks []queue.NewTask) error {
				if len(tasks) == 1 {
					_, err := s.CreateTask(b.Context(), tasks[0].Queue, tasks[0].TaskMeta)
					return err
				}
				_, err := s.CreateTasks(b.Context(), tasks)
				return err
			},
			retain: func(limit int) ([]*queue.Task, error) {
				return s.RetainTasks(b.Context(), queue.RetainRequest{Worker: "bench", Queues: []string{benchQueue}, Limit: limit})
			},
			release: func(r []queue.Release) ([]queue.Released, error) { return s.ReleaseTasks(b.Context(), r) },
		}
	})
}

// work holds the operations that both ports have.
type work struct {
	create  func(tasks []queue.NewTask) error
	retain  func(limit int) ([]*queue.Task, error)
	release func(r []queue.Release) ([]queue.Released, error)
}

func benchAll(b *testing.B, open func(b *testing.B) work) {
	b.Helper()
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("create/batch=%d", n), func(b *testing.B) {
			w, batch := open(b), benchTasks(n)
			for b.Loop() {
				if err := w.create(batch); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b, n*b.N)
		})
		b.Run(fmt.Sprintf("retain+release/batch=%d", n), func(b *testing.B) {
			w := open(b)
			stock := 0
			for b.Loop() {
				if stock < n {
					b.StopTimer()
					stock += w.fill(b, max(n, 5_000))
					b.StartTimer()
				}
				done, err := w.cycle(n)
				if err != nil || done != n {
					b.Fatalf("retained %d of %d: %v", done, n, err)
				}
				stock -= n
			}
			perSecond(b, n*b.N)
		})
		b.Run(fmt.Sprintf("contended/batch=%d", n), func(b *testing.B) {
			w, batch := open(b), benchTasks(n)
			var worked atomic.Int64
			b.SetParallelism(16)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := w.create(batch); err != nil {
						b.Error(err)
						return
					}
					done, err := w.cycle(n)
					if err != nil {
						b.Error(err)
						return
					}
					worked.Add(int64(done))
				}
			})
			perSecond(b, int(worked.Load()))
		})
	}
}

// fill creates n tasks.
func (w work) fill(b *testing.B, n int) int {
	b.Helper()
	for made := 0; made < n; made += 1000 {
		if err := w.create(benchTasks(min(1000, n-made))); err != nil {
			b.Fatal(err)
		}
	}
	return n
}

// cycle retains up to n tasks and releases them.
func (w work) cycle(n int) (int, error) {
	tasks, err := w.retain(n)
	if err != nil || len(tasks) == 0 {
		return 0, err
	}
	releases := make([]queue.Release, len(tasks))
	for i, t := range tasks {
		releases[i] = queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess}
	}
	out, err := w.release(releases)
	if err != nil {
		return 0, err
	}
	for _, r := range out {
		if r.Err != nil {
			return 0, r.Err
		}
	}
	return len(tasks), nil
}

func benchTasks(n int) []queue.NewTask {
	batch := make([]queue.NewTask, n)
	for i := range batch {
		batch[i] = queue.NewTask{Queue: benchQueue, TaskMeta: queue.TaskMeta{Payload: []byte(`{"n":1}`)}}
	}
	return batch
}

func perSecond(b *testing.B, tasks int) {
	b.Helper()
	b.ReportMetric(float64(tasks)/b.Elapsed().Seconds(), "tasks/s")
}
