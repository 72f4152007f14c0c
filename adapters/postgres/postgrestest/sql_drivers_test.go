package postgrestest_test

import (
	"context"
	stdsql "database/sql"
	"errors"
	neturl "net/url"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq" // the driver "postgres" of database/sql
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest/internal/sqlcorders"
	"github.com/pgqueue/pgqueue/adapters/sqltx"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// inTransaction runs f in a transaction of a library, which commits when f returns nil.
type inTransaction func(ctx context.Context, f func(q sqltx.Querier) error) error

// TestSQLDrivers creates and completes tasks in transactions of the drivers and libraries that the page about SQL names.
func TestSQLDrivers(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	for _, schema := range []string{postgres.DefaultSchema, "order"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			testSQLDrivers(t, schema)
		})
	}
}

func testSQLDrivers(t *testing.T, schema string) {
	t.Helper()
	url := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, url, postgres.WithSchema(schema))
	firstPartition(t, s)
	mustQueue(t, s, "mail")

	plain := func(db *stdsql.DB) inTransaction {
		return func(ctx context.Context, f func(q sqltx.Querier) error) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if err := f(tx); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		}
	}
	byPgx, byPq := openSQL(t, "pgx", url), openSQL(t, "postgres", url)
	byGorm, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: byPgx}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	byBun := bun.NewDB(byPgx, pgdialect.New())
	if _, err := byPgx.ExecContext(t.Context(), "create table orders (id bigint generated always as identity, email text not null)"); err != nil {
		t.Fatal(err)
	}

	for name, in := range map[string]inTransaction{
		"pgx":    plain(byPgx),
		"lib/pq": plain(byPq),
		"a connection": func(ctx context.Context, f func(q sqltx.Querier) error) error {
			conn, err := byPgx.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := conn.ExecContext(ctx, "begin"); err != nil {
				return err
			}
			end := "commit"
			if err = f(conn); err != nil {
				end = "rollback"
			}
			_, ended := conn.ExecContext(ctx, end)
			return errors.Join(err, ended)
		},
		"sqlx": func(ctx context.Context, f func(q sqltx.Querier) error) error {
			tx, err := sqlx.NewDb(byPq, "postgres").BeginTxx(ctx, nil)
			if err != nil {
				return err
			}
			if err := f(tx); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		},
		"GORM": func(ctx context.Context, f func(q sqltx.Querier) error) error {
			return byGorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return f(tx.Statement.ConnPool) })
		},
		"bun": func(ctx context.Context, f func(q sqltx.Querier) error) error {
			return byBun.RunInTx(ctx, nil, func(_ context.Context, tx bun.Tx) error { return f(tx.Tx) })
		},
		"sqlc": func(ctx context.Context, f func(q sqltx.Querier) error) error {
			tx, err := byPgx.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			var q sqlcorders.DBTX = tx
			if err := errors.Join(sqlcorders.New(q).InsertOrder(ctx, "ann@example.org"), f(q)); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		},
	} {
		t.Run(name, func(t *testing.T) { testSQLDriver(t, s, in) })
	}
}

// errUndo rolls a transaction back.
var errUndo = errors.New("undo")

func testSQLDriver(t *testing.T, s *postgres.Store, in inTransaction) {
	t.Helper()
	ctx := t.Context()
	schema := sqltx.WithSchema(s.Schema())
	create := func(meta queue.TaskMeta, undo error) (id int64, err error) {
		err = in(ctx, func(q sqltx.Querier) error {
			var err error
			if id, err = sqltx.CreateTask(ctx, q, "mail", meta, schema); err != nil {
				return err
			}
			return undo
		})
		return id, err
	}
	get := func(id int64) *queue.Task {
		tasks, err := s.GetTasks(ctx, queue.DefaultNamespace, []int64{id}, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(tasks) == 0 {
			return nil
		}
		return tasks[0]
	}

	full := queue.TaskMeta{
		Payload: []byte(`{"a": "ö\u0000"}`), Key: "k-" + t.Name(), Priority: -7, Headers: map[string]string{"Ünï": "ö"},
		DelayedAt: time.Date(2020, 1, 2, 3, 4, 5, 678901000, time.FixedZone("", 3600)),
	}
	if id, err := create(full, errUndo); !errors.Is(err, errUndo) || get(id) != nil {
		t.Fatalf("after a rollback task %d is there (%v)", id, err)
	}
	id, err := create(full, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(id); string(got.Payload) != string(full.Payload) || got.Key != full.Key || got.Priority != -7 || got.Headers["Ünï"] != "ö" || !got.DelayedAt.Equal(full.DelayedAt) {
		t.Fatalf("task is %+v", got)
	}
	if again, err := create(full, nil); err != nil || again != id {
		t.Fatalf("a repeat gives task %d (%v), want %d", again, err, id)
	}
	full.Payload = []byte("2")
	if _, err := create(full, nil); queue.KindOf(err) != queue.KindKeyReused {
		t.Fatalf("a key with another payload is answered by %v", err)
	}
	if err := in(ctx, func(q sqltx.Querier) error {
		_, err := sqltx.CreateTask(ctx, q, "none", queue.TaskMeta{}, schema)
		return err
	}); queue.KindOf(err) != queue.KindNotFound {
		t.Fatalf("an unknown queue is answered by %v", err)
	}

	// Neighbours that are alike travel together; the order stays.
	var ids []int64
	if err := in(ctx, func(q sqltx.Querier) error {
		var err error
		ids, err = sqltx.CreateTasks(ctx, q, []queue.NewTask{
			{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte("1")}},
			{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(`"2, ]"`)}},
			{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte("3"), Delay: time.Hour}},
		}, schema)
		return err
	}); err != nil || len(ids) != 3 {
		t.Fatalf("the batch has the ids %v (%v)", ids, err)
	}
	for i, want := range []string{"1", `"2, ]"`, "3"} {
		if got := get(ids[i]); string(got.Payload) != want || got.DelayedAt.IsZero() != (i < 2) {
			t.Fatalf("task %d of the batch is %+v", i, got)
		}
	}

	held := retain(t, s, 10)
	for _, task := range held {
		if err := in(ctx, func(q sqltx.Querier) error {
			return sqltx.Complete(ctx, q, task, map[string]bool{"sent": true}, schema)
		}); err != nil {
			t.Fatal(err)
		}
		if got := get(task.ID); got.Status != queue.StatusReleased || string(got.Result) != `{"sent":true}` {
			t.Fatalf("task is %+v", got)
		}
		stale := *task
		stale.Lease = &queue.Lease{Token: task.Lease.Token + 256}
		if err := in(ctx, func(q sqltx.Querier) error { return sqltx.Complete(ctx, q, &stale, nil, schema) }); queue.KindOf(err) != queue.KindLeaseLost {
			t.Fatalf("another token is answered by %v", err)
		}
	}
}

// TestSQLPool gives CreateTasks a pool in place of a transaction, which runs each statement on another connection: all tasks are
// there, or none.
func TestSQLPool(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	url := postgrestest.URL(t)
	s := open(t, url)
	firstPartition(t, s)
	mustQueue(t, s, "mail")
	byPgx := openSQL(t, "pgx", url)
	pools := map[string]sqltx.Querier{"pgx": byPgx, "lib/pq": openSQL(t, "postgres", url), "sqlx": sqlx.NewDb(byPgx, "pgx")}
	tasks := []queue.NewTask{{Queue: "mail"}, {Queue: "mail", TaskMeta: queue.TaskMeta{Priority: 1}}, {Queue: "none"}}
	for name, q := range pools {
		t.Run(name, func(t *testing.T) { testPool(t, s, q, tasks) })
	}

	t.Run("a pool with transactions of another type", func(t *testing.T) {
		before := readyTasks(t, s)
		_, err := sqltx.CreateTasks(t.Context(), bun.NewDB(byPgx, pgdialect.New()), tasks[:2])
		if e, ok := errors.AsType[*queue.Error](err); !ok || e.Kind != queue.KindInvalid || e.Field != "q" || readyTasks(t, s) != before {
			t.Errorf("%v, %d tasks are there, want %d", err, readyTasks(t, s), before)
		}
	})
}

// TestSQLBehindAPooler leads the same calls through a pooler in transaction mode, by drivers that prepare nothing by name.
func TestSQLBehindAPooler(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	through := startPooler(t, url)
	s := open(t, url)
	firstPartition(t, s)
	mustQueue(t, s, "mail")
	tasks := []queue.NewTask{{Queue: "mail"}, {Queue: "mail", TaskMeta: queue.TaskMeta{Priority: 1}}, {Queue: "none"}}
	for driver, setting := range map[string]string{"pgx": "default_query_exec_mode=exec", "postgres": "binary_parameters=yes"} {
		t.Run(driver, func(t *testing.T) {
			db := openSQL(t, driver, withParameter(t, through(url), setting))
			testPool(t, s, db, tasks)
			testSQLDriver(t, s, func(ctx context.Context, f func(q sqltx.Querier) error) error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				if err := f(tx); err != nil {
					return errors.Join(err, tx.Rollback())
				}
				return tx.Commit()
			})
		})
	}
}

// withParameter adds a parameter to a connection string.
func withParameter(t *testing.T, dsn, parameter string) string {
	t.Helper()
	u, err := neturl.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+parameter, "&")
	return u.String()
}

// testPool creates tasks of which the last one is refused, then all but that one.
func testPool(t *testing.T, s *postgres.Store, q sqltx.Querier, tasks []queue.NewTask) {
	t.Helper()
	before := readyTasks(t, s)
	if _, err := sqltx.CreateTasks(t.Context(), q, tasks); queue.KindOf(err) != queue.KindNotFound {
		t.Errorf("an unknown queue is answered by %v", err)
	}
	if after := readyTasks(t, s); after != before {
		t.Errorf("a refused call left %d tasks", after-before)
	}
	good := tasks[:len(tasks)-1]
	if ids, err := sqltx.CreateTasks(t.Context(), q, good); err != nil || len(ids) != len(good) || readyTasks(t, s) != before+int64(len(good)) {
		t.Errorf("the tasks %v are there (%v)", ids, err)
	}
}

// readyTasks returns the number of ready tasks of the queue mail.
func readyTasks(t *testing.T, s *postgres.Store) int64 {
	t.Helper()
	stats, err := s.QueueStats(t.Context(), queue.DefaultNamespace, "mail")
	if err != nil {
		t.Fatal(err)
	}
	return stats[0].Ready
}
