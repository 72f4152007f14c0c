package postgrestest_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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
		Shared: func(t testing.TB, s queue.Store, namespace string) queue.Service {
			t.Helper()
			m, err := manager.New(s, manager.WithNamespace(namespace))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = m.Close(context.WithoutCancel(t.Context())) })
			return m
		},
		Lock:         lockHolds,
		LockKey:      lockKey,
		LockReplaced: lockReplaced,
		LockQueue:    lockQueueRow,
		Audit:        audit,
		Features:     queuetest.Features{Listener: true, StatsLister: true, Diagnoser: true, EventsAge: time.Hour},
	}
}

// lockHolds has another transaction lock the lease rows of a task.
func lockHolds(t testing.TB, s queue.Store, id int64) (locked []int64, unlock func()) {
	t.Helper()
	tx, err := s.(*postgres.Store).Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), "select task_ids from pgqueue.lease where $1 = any (task_ids) for update", id)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[[]int64])
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(all...), func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }
}

// lockKey has another transaction create a task with a key and roll back.
func lockKey(t testing.TB, s queue.Store, namespace, name, key string) (unlock func()) {
	t.Helper()
	tx, err := s.(*postgres.Store).Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.(*postgres.Store).InTx(tx, namespace)
	if err == nil {
		_, err = in.CreateTask(t.Context(), name, queue.TaskMeta{Key: key})
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }
}

// lockReplaced has another transaction replace a task.
func lockReplaced(t testing.TB, s queue.Store, namespace string, task queue.NewTask) (end func(commit bool)) {
	t.Helper()
	tx, err := s.(*postgres.Store).Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.(*postgres.Store).InTx(tx, namespace)
	if err == nil {
		_, err = in.CreateTask(t.Context(), task.Queue, task.TaskMeta)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(commit bool) {
		t.Helper()
		if !commit {
			_ = tx.Rollback(context.WithoutCancel(t.Context()))
		} else if err := tx.Commit(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// lockQueueRow has another transaction lock the row of a queue.
func lockQueueRow(t testing.TB, s queue.Store, namespace, name string) (unlock func()) {
	t.Helper()
	tx, err := s.(*postgres.Store).Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var id int32
	err = tx.QueryRow(t.Context(), "select id from pgqueue.queue where namespace = $1 and name = $2 for update", namespace, name).Scan(&id)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }
}

// audit finds rows that contradict each other.
func audit(ctx context.Context, s queue.Store) error {
	found, _, err := s.(*postgres.Store).FindContradictions(ctx)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("the rows contradict each other: %+v", found)
	}
	return err
}

// TestStore holds the store to the contract on databases with all settings turned; in the long form with the defaults too, as
// TestPoolerSuite does in both.
func TestStore(t *testing.T) {
	needsDatabase(t)
	if sized(t, false, true) {
		t.Run("default settings", func(t *testing.T) { queuetest.TestStore(t, harness()) })
	}
	queuetest.TestStore(t, turnedHarness())
}

// TestModel makes 6,000 random operations, clock jumps among them, against the model of the domain's table, and recounts
// what is there after each thousand; in the long form after 100,000 that one store has seen. PGQUEUE_TEST_MODEL names another
// number, in runs of 2,000 (make test-model).
func TestModel(t *testing.T) {
	needsDatabase(t)
	if n, err := strconv.ParseUint(os.Getenv("PGQUEUE_TEST_MODEL"), 10, 64); err == nil {
		for seed := range (n + 1_999) / 2_000 {
			t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { queuetest.Model(t, harness(), 2_000, seed) })
		}
		return
	}
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

func needsDatabase(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short runs without PostgreSQL")
	}
}
