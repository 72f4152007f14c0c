package rest_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// jumpingClock runs as the real one does, ahead of it by the sum of its jumps.
type jumpingClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *jumpingClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *jumpingClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// TestService holds client → server → manager → memory to the contract.
func TestService(t *testing.T) {
	type behind struct {
		clock *jumpingClock
		store *memory.Store
	}
	var mu sync.Mutex
	stacks := map[queue.Service]behind{}
	of := func(s queue.Service) behind {
		mu.Lock()
		defer mu.Unlock()
		return stacks[s]
	}
	queuetest.TestService(t, queuetest.ServiceHarness{
		New: func(tb testing.TB) queue.Service {
			tb.Helper()
			t, isTest := tb.(*testing.T)
			if !isTest {
				tb.Fatal("not a test")
			}
			b := behind{clock: &jumpingClock{}}
			b.store = memory.New(memory.WithClock(b.clock.Now))
			m, err := manager.New(b.store)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = m.Close(context.Background()) })
			c := serve(t, m).client
			mu.Lock()
			defer mu.Unlock()
			stacks[c] = b
			return c
		},
		Advance: func(_ testing.TB, s queue.Service, d time.Duration) { of(s).clock.Advance(d) },
		Chores: func(t testing.TB, s queue.Service) {
			t.Helper()
			queuetest.Chores(t, of(s).store)
		},
	})
}

// TestManyClientsAtOnce is the predecessor's worst: 32 concurrent HTTP clients hung its server for good.
func TestManyClientsAtOnce(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	const clients, each = 64, 20
	var done atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				if _, err := s.client.CreateTask(t.Context(), "q", queue.TaskMeta{}); err != nil {
					t.Error(err)
					return
				}
				held, err := s.client.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Wait: time.Minute})
				if err != nil || len(held) != 1 {
					t.Error(held, err)
					return
				}
				out, err := s.client.ReleaseTasks(t.Context(), []queue.Release{{ID: held[0].ID, Token: held[0].Lease.Token, Outcome: queue.OutcomeSuccess}})
				if err != nil || out[0].Err != nil {
					t.Error(out, err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	stats := ok[*queue.QueueStats](t)(s.client.QueueStats(t.Context(), "q"))
	if done.Load() != clients*each || stats.Counts[queue.StatusReleased] != clients*each {
		t.Error(done.Load(), stats.Counts)
	}
}
