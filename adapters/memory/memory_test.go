package memory_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// maxEvents bounds the feed of the stores under test: small, so that a test can fill it.
const maxEvents = 2_000

// harness runs the suites on stores with a clock that stands still between jumps.
func harness() queuetest.StoreHarness {
	var clocks sync.Map
	return queuetest.StoreHarness{
		New: func(testing.TB) queue.Store {
			c := &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
			s := memory.New(memory.WithClock(c.Now), memory.WithMaxEvents(maxEvents))
			clocks.Store(s, c)
			return s
		},
		Advance: func(t testing.TB, s queue.Store, d time.Duration) {
			t.Helper()
			c, ok := clocks.Load(s)
			if !ok {
				t.Fatal("not a store of this harness")
			}
			c.(*clock).Advance(d)
		},
		Shared: func(t testing.TB, s queue.Store, namespace string) queue.Service {
			t.Helper()
			m, err := manager.New(s, manager.WithNamespace(namespace))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = m.Close(context.WithoutCancel(t.Context())) })
			return m
		},
		Features: queuetest.Features{Listener: true, StatsLister: true, Diagnoser: true, MaxEvents: maxEvents},
	}
}

// clock is a time that passes by Advance alone. Each look moves it by a microsecond, because two steps of a database are
// never at the same time.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Microsecond)
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestStore(t *testing.T) {
	queuetest.CheckGoroutines(t)
	queuetest.TestStore(t, harness())
}

// TestStoreDecorated holds a store behind a decorator to the same: nothing of it is hidden.
func TestStoreDecorated(t *testing.T) {
	if testing.Short() {
		t.Skip("the same suite again: run it without -short")
	}
	inner := harness()
	h := inner
	h.New = func(t testing.TB) queue.Store { return queuetest.NewFaulty(inner.New(t)) }
	h.Advance = func(t testing.TB, s queue.Store, d time.Duration) {
		t.Helper()
		inner.Advance(t, s.(queue.Unwrapper).Unwrap(), d)
	}
	queuetest.TestStore(t, h)
}
