package telemetry_test

import (
	"context"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

const maxEvents = 2_000

// full is a Telemetry with everything on.
func full(t testing.TB) *telemetry.Telemetry {
	t.Helper()
	provider := sdktrace.NewTracerProvider()
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	tel, err := telemetry.New(telemetry.WithTracerProvider(provider))
	if err != nil {
		t.Fatal(err)
	}
	return tel
}

// TestStore holds a decorated store to the contract: telemetry changes nothing.
func TestStore(t *testing.T) {
	var clocks sync.Map
	queuetest.TestStore(t, queuetest.StoreHarness{
		New: func(t testing.TB) queue.Store {
			t.Helper()
			c := newClock()
			s := full(t).Store(memory.New(memory.WithClock(c.Now), memory.WithMaxEvents(maxEvents)))
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
		Features: queuetest.Features{Listener: true, StatsLister: true, Diagnoser: true, MaxEvents: maxEvents},
	})
}

// service is a harness of a decorated manager over a decorated store, or of plain ones.
func serviceHarness(decorate func(testing.TB) *telemetry.Telemetry) queuetest.ServiceHarness {
	type stack struct {
		store queue.Store
		clock *offset
	}
	var stacks sync.Map
	find := func(t testing.TB, s queue.Service) stack {
		t.Helper()
		v, ok := stacks.Load(s)
		if !ok {
			t.Fatal("not a service of this harness")
		}
		return v.(stack)
	}
	return queuetest.ServiceHarness{
		New: func(t testing.TB) queue.Service {
			t.Helper()
			c := &offset{}
			tel := decorate(t)
			store := tel.Store(memory.New(memory.WithClock(c.Now)))
			m, err := manager.New(store)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			svc := tel.Service(m)
			stacks.Store(svc, stack{store, c})
			return svc
		},
		Advance: func(t testing.TB, s queue.Service, d time.Duration) { t.Helper(); find(t, s).clock.Advance(d) },
		Chores:  func(t testing.TB, s queue.Service) { t.Helper(); queuetest.Chores(t, find(t, s).store) },
	}
}

// TestService holds a decorated service to the contract.
func TestService(t *testing.T) { queuetest.TestService(t, serviceHarness(full)) }

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
