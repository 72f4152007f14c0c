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

// TestService holds the manager over this store to the contract.
func TestService(t *testing.T) {
	type stack struct {
		store queue.Store
		clock *offset
	}
	var stacks sync.Map
	find := func(s queue.Service) stack {
		v, ok := stacks.Load(s)
		if !ok {
			t.Fatal("not a service of this harness")
		}
		return v.(stack)
	}
	queuetest.TestService(t, queuetest.ServiceHarness{
		New: func(t testing.TB) queue.Service {
			c := &offset{}
			store := memory.New(memory.WithClock(c.Now))
			m, err := manager.New(store)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			stacks.Store(queue.Service(m), stack{store, c})
			return m
		},
		Advance: func(_ testing.TB, s queue.Service, d time.Duration) { find(s).clock.Advance(d) },
		Chores:  func(t testing.TB, s queue.Service) { queuetest.Chores(t, find(s).store) },
	})
}

// offset is the real time and a number of jumps.
type offset struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (o *offset) Now() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Add(o.ahead)
}

func (o *offset) Advance(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ahead += d
}
