package postgrestest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestOneConnection holds the queue in callers' transactions to "takes no connection of the pool": with as many callers as
// connections each finds all others taken.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, conns := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d callers on a pool of %d", conns, conns), func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			mustQueue(t, postgrestest.OpenURL(t, dsn), "mail")
			admin := connect(t, dsn)
			s := postgrestest.OpenURL(t, dsn, postgres.WithMaxConns(conns), postgres.WithPartitionSize(2048))
			// All hold their connections before the first creates, so that none is free.
			round := func(t *testing.T, level pgx.TxIsoLevel, tasks int) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				var began, ended sync.WaitGroup
				began.Add(conns)
				for range conns {
					ended.Go(func() {
						err := pgx.BeginTxFunc(ctx, s.Pool(), pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
							var one int
							err := tx.QueryRow(ctx, "select 1").Scan(&one) // the snapshot, at the levels that have one
							began.Done()
							began.Wait()
							if err == nil {
								err = createIn(ctx, s, tx, tasks)
							}
							return err
						})
						if err != nil {
							t.Error(err)
						}
					})
				}
				ended.Wait()
				if n := s.Pool().Stat().MaxConns(); int(n) != conns {
					t.Fatalf("the pool has %d connections", n)
				}
			}
			t.Run("the first use of a database makes its first partition", func(t *testing.T) { round(t, pgx.ReadCommitted, 1) })
			t.Run("the end of a partition that came by a leap is passed", func(t *testing.T) {
				for range 3 {
					sql(t, admin, "select setval('pgqueue.turn', (select max(upper) from pgqueue.part) - 1)")
					round(t, pgx.ReadCommitted, 1)
				}
			})
			t.Run("at repeatable read as well, with a snapshot that has not seen the new partition", func(t *testing.T) {
				sql(t, admin, "select setval('pgqueue.turn', (select max(upper) from pgqueue.part) - 1)")
				round(t, pgx.RepeatableRead, 1)
			})
			t.Run("a create larger than a partition makes all that it needs", func(t *testing.T) { round(t, pgx.ReadCommitted, 5000) })
			t.Run("the next partition is made ahead of need", func(t *testing.T) {
				before := value[int64](t, admin, "select max(upper) from pgqueue.part")
				sql(t, admin, "select setval('pgqueue.turn', (select max(upper) from pgqueue.part) - 20)")
				round(t, pgx.ReadCommitted, 1)
				for deadline := time.Now().Add(patience); value[int64](t, admin, "select max(upper) from pgqueue.part") <= before; {
					if time.Now().After(deadline) {
						t.Fatal("it is not made")
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		})
	}
	t.Run("a database that was emptied behind the store's back gives an error, and is usable after a new migration", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s := postgrestest.OpenURL(t, dsn, postgres.WithMaxConns(1))
		mustQueue(t, s, "mail")
		create := func() error {
			return pgx.BeginFunc(t.Context(), s.Pool(), func(tx pgx.Tx) error { return createIn(t.Context(), s, tx, 1) })
		}
		if err := create(); err != nil {
			t.Fatal(err)
		}
		sql(t, connect(t, dsn), "drop table pgqueue.task_p1, pgqueue.done_p1", "delete from pgqueue.part")
		if err := create(); queue.KindOf(err) != queue.KindUnavailable {
			t.Errorf("answered by %v", err)
		}
		if err := create(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a closed store says so", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		mustQueue(t, postgrestest.OpenURL(t, dsn), "mail")
		s := postgrestest.OpenURL(t, dsn)
		conn := connect(t, dsn)
		s.Close()
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error { return createIn(t.Context(), s, tx, 1) })
		if queue.KindOf(err) != queue.KindUnavailable {
			t.Errorf("answered by %v", err)
		}
	})
}

func createIn(ctx context.Context, s *postgres.Store, tx pgx.Tx, n int) error {
	q, err := s.InTx(tx, "")
	if err != nil {
		return err
	}
	tasks := make([]queue.NewTask, n)
	for i := range tasks {
		tasks[i].Queue = "mail"
	}
	_, err = q.CreateTasks(ctx, tasks)
	return err
}

// TestTwoInstallations holds two schemas of one database to "none waits for the other".
func TestTwoInstallations(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	here := postgrestest.OpenURL(t, dsn)
	there := postgrestest.OpenURL(t, dsn, postgres.WithSchema("order"), postgres.WithPartitionSize(1024)) // a word of SQL
	for _, s := range []*postgres.Store{here, there} {
		q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{Name: "mail", Concurrency: new(1)})
		if err == nil {
			_, err = s.CreateQueue(t.Context(), q)
		}
		if err != nil {
			t.Fatal(err)
		}
		makeTask(t, s, "default", "mail")
	}
	// All that the first holds for itself, and for as long as the test: the statements are those of the store.
	conn := connect(t, dsn)
	all := postgres.Statements(postgres.DefaultSchema)
	sql(t, conn, "begin", all["part.lock"])
	if _, err := conn.Exec(t.Context(), all["retain.gate"], []int32{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := there.RetainTasks(ctx, queue.Retain{Namespace: "default", Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})
	if err != nil || len(out[0]) != 1 {
		t.Errorf("a retain of the other: %v, %v", out, err)
	}
	tasks := make([]queue.NewTask, 3000) // of several partitions
	for i := range tasks {
		tasks[i].Queue, tasks[i].Payload = "mail", queue.EmptyJSON
	}
	if _, err := there.CreateTasks(ctx, queue.Create{Namespace: "default", Tasks: tasks}); err != nil {
		t.Errorf("partitions of the other: %v", err)
	}
	held := value[[]string](t, conn, `select array_agg(c.relname::text order by c.relname) from (
			select distinct classid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
		) l join pg_class c on c.oid = l.classid and c.relnamespace = 'pgqueue'::regnamespace`)
	if !slices.Equal(held, []string{"part", "queue"}) {
		t.Errorf("an operator reads the locks as %v", held)
	}
}

// TestOneConnectionPool holds calls to "a transaction takes no second connection of the pool": with one connection and a
// catalog that is not loaded yet, such a call would wait for itself. It was seen to fail: with findQueues in place of
// readQueuesByName, cancel and retry by id, the run of a ticker and its move to another queue wait until their deadline. The
// calls by filter load the catalog before their transaction, and are here so that they keep to that.
func TestOneConnectionPool(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	setup := postgrestest.OpenURL(t, dsn)
	mustQueue(t, setup, "mail")
	mustQueue(t, setup, "print")
	for _, name := range []string{"run", "update"} {
		meta := queue.TickerMeta{Name: name, Period: new(time.Hour), Queue: new("mail")}
		ticker, err := queue.NewTicker("default", meta, queue.DefaultMaxPayloadBytes)
		if err == nil {
			_, err = setup.CreateTicker(t.Context(), ticker)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	byID := func() queue.Selection {
		made, err := setup.CreateTasks(t.Context(), queue.Create{Namespace: "default", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}}}})
		if err != nil || made[0].Err != nil {
			t.Fatal(err, made)
		}
		return queue.Selection{IDs: []int64{made[0].Task.ID}}
	}
	byFilter := func() queue.Selection {
		makeTask(t, setup, "default", "mail")
		return queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}}
	}
	canceled := func(selection queue.Selection) queue.Selection {
		if _, err := setup.CancelTasks(t.Context(), "default", selection); err != nil {
			t.Fatal(err)
		}
		return selection
	}
	moved := func(b queue.Bulk, err error) error {
		if err == nil && b.Moved == 0 {
			err = fmt.Errorf("nothing moved: %v", b.Errs)
		}
		return err
	}
	for name, call := range map[string]func(context.Context, *postgres.Store) error{
		"cancel by id": func(ctx context.Context, s *postgres.Store) error {
			return moved(s.CancelTasks(ctx, "default", byID()))
		},
		"cancel by filter": func(ctx context.Context, s *postgres.Store) error {
			return moved(s.CancelTasks(ctx, "default", byFilter()))
		},
		"retry by id": func(ctx context.Context, s *postgres.Store) error {
			return moved(s.RetryTasks(ctx, "default", canceled(byID())))
		},
		"retry by filter": func(ctx context.Context, s *postgres.Store) error {
			return moved(s.RetryTasks(ctx, "default", canceled(byFilter())))
		},
		"run a ticker": func(ctx context.Context, s *postgres.Store) error {
			_, err := s.RunTicker(ctx, "default", "run")
			return err
		},
		"move a ticker to another queue": func(ctx context.Context, s *postgres.Store) error {
			_, err := s.UpdateTicker(ctx, "default", "update", queue.TickerMeta{Queue: new("print")}, queue.DefaultMaxPayloadBytes)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := call(ctx, postgrestest.OpenURL(t, dsn, postgres.WithMaxConns(1))); err != nil {
				t.Error(err)
			}
		})
	}
}
