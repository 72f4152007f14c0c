package postgrestest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// harness runs the suites on stores that have a database each.
func harness() queuetest.StoreHarness {
	var urls sync.Map
	return queuetest.StoreHarness{
		New: func(t testing.TB) queue.Store {
			url := postgrestest.URL(t)
			s := postgrestest.OpenURL(t, url)
			urls.Store(s, url)
			return s
		},
		Advance: func(t testing.TB, s queue.Store, d time.Duration) {
			t.Helper()
			postgrestest.Advance(t, s.(*postgres.Store), d)
		},
		Peer: func(t testing.TB, s queue.Store) queue.Store {
			t.Helper()
			url, ok := urls.Load(s)
			if !ok {
				t.Fatal("not a store of this harness")
			}
			return postgrestest.OpenURL(t, url.(string))
		},
		Features: queuetest.Features{Listener: true, StatsLister: true, Diagnoser: true, EventsAge: time.Hour},
	}
}

// TestStore holds the store to the contract.
func TestStore(t *testing.T) {
	needsDatabase(t)
	queuetest.TestStore(t, harness())
}

// TestModel makes 6,000 random operations, clock jumps among them, against the model of the domain's table, and recounts
// what is there after each thousand; in the long form after 100,000 that one store has seen.
func TestModel(t *testing.T) {
	needsDatabase(t)
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { queuetest.Model(t, harness(), 1_000, seed) })
	}
	t.Run("a long life", func(t *testing.T) { queuetest.Model(t, harness(), sized(t, 1_000, 100_000), 6) })
}

// TestService holds the manager over the store to the contract.
func TestService(t *testing.T) {
	needsDatabase(t)
	var stores sync.Map
	store := func(t testing.TB, s queue.Service) *postgres.Store {
		t.Helper()
		v, ok := stores.Load(s)
		if !ok {
			t.Fatal("not a service of this harness")
		}
		return v.(*postgres.Store)
	}
	queuetest.TestService(t, queuetest.ServiceHarness{
		New: func(t testing.TB) queue.Service {
			s := postgrestest.Open(t)
			m, err := manager.New(s)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			stores.Store(queue.Service(m), s)
			return m
		},
		Advance: func(t testing.TB, s queue.Service, d time.Duration) { postgrestest.Advance(t, store(t, s), d) },
		Chores:  func(t testing.TB, s queue.Service) { queuetest.Chores(t, store(t, s)) },
	})
}

func needsDatabase(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short runs without PostgreSQL")
	}
}
