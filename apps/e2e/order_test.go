package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// orderedRun works groups of a FIFO queue with batches, and checks that one task of a group runs at a time, in order.
type orderedRun struct {
	*testing.T
	made map[string][]int64 // ids of each group, in the order of their creates

	mu      sync.Mutex
	running map[string]int
	ended   map[string][]int64 // in the order of their success
	left    int
	half    int           // so many tasks left are half of them
	over    chan struct{} // closed when all tasks have ended
	middle  chan struct{} // closed when half of the tasks have ended
}

// Work fails at random, and otherwise records the end of a task.
func (r *orderedRun) Work(_ context.Context, task *queue.Task) (any, error) {
	r.mu.Lock()
	if r.running[task.Group]++; r.running[task.Group] > 1 {
		r.Errorf("%d tasks of group %s run at once", r.running[task.Group], task.Group)
	}
	r.mu.Unlock()
	time.Sleep(time.Duration(rand.IntN(2_000)) * time.Microsecond) // the work

	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[task.Group]--
	switch n := rand.IntN(20); {
	case n == 0:
		return nil, errors.New("busy")
	case n == 1:
		return nil, worker.Snooze(time.Millisecond)
	case n == 2:
		panic("a bug")
	}

	r.ended[task.Group] = append(r.ended[task.Group], task.ID)
	switch r.left--; r.left {
	case r.half:
		close(r.middle)
	case 0:
		close(r.over)
	}
	return nil, nil
}

// start starts a worker of svc, and returns a function that stops it.
func (r *orderedRun) start(svc queue.Consumer) (stop func()) {
	w := worker.New(svc, worker.WithConcurrency(10), worker.WithInProcess(), worker.WithLogger(slog.New(slog.DiscardHandler)))
	w.Handle("ledger", r)
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			r.Error(err)
		}
	}
}

// create creates tasks of all groups in batches of mixed groups, while the workers run.
func (r *orderedRun) create(svc queue.Service, groups, each int) {
	var all []queue.NewTask
	for g := range groups {
		for range each {
			all = append(all, queue.NewTask{Queue: "ledger", TaskMeta: queue.TaskMeta{Group: fmt.Sprint("g", g)}})
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for batch := range slices.Chunk(all, 40) {
		made, err := svc.CreateTasks(r.Context(), batch)
		if err != nil {
			r.Fatal(err)
		}
		r.mu.Lock()
		for i, c := range made {
			r.made[batch[i].Group] = append(r.made[batch[i].Group], c.ID)
		}
		r.mu.Unlock()
	}
}

// TestBatchesOfAGroupRunInOrder: two workers with a concurrency of 10 work groups in batches of 8, with failures, snoozes and panics,
// and one of them is replaced in the middle. Never do two tasks of a group run at once, each starts when those before it have
// succeeded, and all end. The kind of graphile/worker#621: a prefetch breaks the order without a sign.
func TestBatchesOfAGroupRunInOrder(t *testing.T) {
	const groups, each = 12, 40
	for _, c := range []struct {
		name  string
		store func(t *testing.T) (one, other queue.Store) // of two managers; the same for one
	}{
		{"memory", func(*testing.T) (one, other queue.Store) {
			s := memory.New()
			return s, s
		}},
		{"postgres, one manager", func(t *testing.T) (one, other queue.Store) {
			s := postgrestest.Open(t)
			return s, s
		}},
		{"postgres, two managers", func(t *testing.T) (one, other queue.Store) {
			dsn := postgrestest.URL(t)
			return postgrestest.OpenURL(t, dsn), postgrestest.OpenURL(t, dsn)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			one, other := c.store(t)
			managers := []*manager.Manager{runManager(t, one)}
			if other != one {
				managers = append(managers, runManager(t, other))
			}
			first, last := managers[0], managers[len(managers)-1]

			r := &orderedRun{
				T: t, made: map[string][]int64{}, running: map[string]int{}, ended: map[string][]int64{}, left: groups * each, half: groups * each / 2,
				over: make(chan struct{}), middle: make(chan struct{}),
			}
			_, err := first.CreateQueue(t.Context(), queue.QueueMeta{
				Name: "ledger", Retries: new(1_000), RetryDelay: new(time.Millisecond), RetryMaxDelay: new(2 * time.Millisecond),
				FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO), FIFOBatch: new(8)},
			})
			if err != nil {
				t.Fatal(err)
			}

			stopFirst, stopSecond := r.start(first), r.start(last)
			defer func() { stopSecond() }()
			r.create(first, groups, each)
			r.wait(r.middle)
			stopFirst()
			stopThird := r.start(first)
			defer stopThird()
			r.wait(r.over)

			r.mu.Lock()
			defer r.mu.Unlock()
			for group, ids := range r.made {
				if !slices.Equal(r.ended[group], ids) {
					t.Errorf("group %s ended in the order %v, want %v", group, r.ended[group], ids)
				}
			}
		})
	}
}

// wait waits for an event of the run.
func (r *orderedRun) wait(event chan struct{}) {
	r.Helper()
	select {
	case <-event:
	case <-time.After(2 * time.Minute):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Fatalf("%d tasks have not ended; in hand are %v", r.left, r.running)
	}
}

// runManager runs the manager of a store until the end of the test.
func runManager(t *testing.T, s queue.Store) *manager.Manager {
	t.Helper()
	m, err := manager.New(s, manager.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}
