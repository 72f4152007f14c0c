package postgrestest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// countLocks counts the statements that ask for a lock which everything waits behind.
type countLocks struct{ n atomic.Int32 }

func (c *countLocks) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (c *countLocks) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *countLocks) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		if strings.Contains(q.SQL, "access exclusive") {
			c.n.Add(1)
		}
	}
	return ctx
}

func (c *countLocks) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *countLocks) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// beforeBatch runs a function once, before a batch with a statement that contains a text: the first, or one after skip.
type beforeBatch struct {
	text string
	skip int32
	seen atomic.Int32
	run  func()
	once sync.Once
	done atomic.Bool
}

func (b *beforeBatch) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (b *beforeBatch) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (b *beforeBatch) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		if strings.Contains(q.SQL, b.text) && b.seen.Add(1) > b.skip {
			b.once.Do(func() { b.run(); b.done.Store(true) })
		}
	}
	return ctx
}

func (b *beforeBatch) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (b *beforeBatch) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// finishPartition makes n tasks with keys that end in the first partition, of 1,024 ids a thousand, and goes on in the next.
func finishPartition(t *testing.T, s *postgres.Store, conn *pgx.Conn, n int, upper int64) {
	t.Helper()
	hour := time.Hour
	q, err := queue.NewQueue("tests", queue.QueueMeta{Name: "mail", Retention: &hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateQueue(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	c := queue.Create{Namespace: "tests", Atomic: true}
	for i := range n {
		c.Tasks = append(c.Tasks, queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Key: fmt.Sprint(i)}})
	}
	if _, err := s.CreateTasks(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CancelTasks(t.Context(), "tests", queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}}); err != nil {
		t.Fatal(err)
	}
	sql(t, conn, fmt.Sprintf("select setval('pgqueue.turn', %d)", upper+10))
	makeTask(t, s, "tests", "mail")
}

// maintainOnce runs one step of the pruner.
func maintainOnce(t *testing.T, s *postgres.Store) {
	t.Helper()
	if _, err := s.Maintain(t.Context(), queue.ChorePrune); err != nil {
		t.Fatal(err)
	}
}

// deletePast deletes tasks past retention, which a caller finds only while the retention of their queue is longer.
func deletePast(t *testing.T, s *postgres.Store, conn *pgx.Conn, ids ...int64) {
	t.Helper()
	const retain = "update pgqueue.queue set retention = $1"
	if _, err := conn.Exec(t.Context(), retain, int64(24*time.Hour)); err != nil {
		t.Error(err)
	}

	done, err := s.DeleteTasks(t.Context(), "tests", queue.Selection{IDs: ids})
	if err != nil || done.Moved != int64(len(ids)) {
		t.Errorf("%d of %d tasks are deleted: %v", done.Moved, len(ids), err)
	}

	if _, err := conn.Exec(t.Context(), retain, int64(time.Hour)); err != nil {
		t.Error(err)
	}
}

func TestDropPartition(t *testing.T) {
	t.Parallel()
	needsDatabase(t)

	t.Run("a session that reads the tables for long holds up nothing, and is not asked for its lock again and again", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		locks := &countLocks{}
		s, conn := open(t, dsn, postgres.WithPartitionSize(1024), postgres.WithTracer(locks)), connect(t, dsn)
		finishPartition(t, s, conn, 100, 1025)
		postgrestest.Advance(t, s, 62*time.Minute)

		dump := connect(t, dsn)
		sql(t, dump, "begin", "lock table pgqueue.task in access share mode") // as pg_dump
		for range 3 {
			if faults := maintain(t, s, queue.ChorePrune); len(faults) > 0 {
				t.Errorf("faults %+v", faults)
			}
		}
		if n := locks.n.Load(); n != 1 {
			t.Errorf("three prunes asked for the lock %d times", n)
		}
		if n := value[int](t, conn, "select count(*) from pgqueue.part where lower = 1"); n != 1 {
			t.Fatalf("%d first partitions", n)
		}
		// A new partition needs no lock that it would wait for.
		sql(t, conn, "select setval('pgqueue.turn', (select max(upper) from pgqueue.part))")
		makeTask(t, s, "tests", "mail")

		sql(t, dump, "commit")
		waitFor(t, func() (bool, string) {
			maintain(t, open(t, dsn), queue.ChorePrune) // another process rests from nothing
			n := value[int](t, conn, "select count(*) from pgqueue.part where lower = 1")
			return n == 0, "the partition is still there"
		})
		if n := value[int](t, conn, "select count(*) from pgqueue.task_key"); n != 0 {
			t.Errorf("%d keys are left", n)
		}
		recounted(t, s)
	})

	t.Run("what belongs to a partition goes in steps, as small as a timeout asks for, and other tasks do not wait", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		conn := connect(t, dsn)
		makeQueue(t, open(t, dsn), "others", "mail")
		sql(t, conn, "update pgqueue.queue set retention = 3600000000000")
		s := open(t, dsn, postgres.WithPartitionSize(1024))
		finishPartition(t, s, conn, 1000, 1025)
		makeTask(t, s, "others", "mail")
		if _, err := s.CancelTasks(t.Context(), "others", queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}}); err != nil {
			t.Fatal(err)
		}
		postgrestest.Advance(t, s, 62*time.Minute)
		// Each key costs 2 ms: all of them more than the timeout, some hundred of them less.
		sql(t, conn,
			"create function pgqueue.slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.002); return old; end'",
			"create trigger slow before delete on pgqueue.task_key for each row execute function pgqueue.slow()",
			"do $$ begin execute format('alter database %I set statement_timeout = ''1s''', current_database()); end $$")
		slow := open(t, dsn, postgres.WithPartitionSize(1024))
		if got := value[string](t, connect(t, dsn), "show statement_timeout"); got != "1s" {
			t.Fatalf("statement_timeout is %s", got)
		}
		waitFor(t, func() (bool, string) {
			_, err := slow.Maintain(t.Context(), queue.ChorePrune) // a loaded machine may be too slow for any other statement
			parts := value[int](t, conn, "select count(*) from pgqueue.part where lower = 1")
			others := value[int](t, conn, "select count(*) from pgqueue.done d join pgqueue.queue q on q.id = d.queue_id where q.namespace = 'others'")
			return parts == 0 && others == 0, fmt.Sprintf("%d first partitions, %d tasks of others: %v", parts, others, err)
		})
		recounted(t, s)
	})

	t.Run("a partition that takes longer to read than a call or a step may last goes all the same", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s, conn := open(t, dsn, postgres.WithPartitionSize(1024)), connect(t, dsn)
		finishPartition(t, s, conn, 1000, 1025)
		postgrestest.Advance(t, s, 62*time.Minute)
		// Each task costs 1 ms: all of them more than a call may last, some hundred of them less.
		sql(t, conn, `create or replace function pgqueue.stay(retention bigint, ttl bigint) returns interval language plpgsql immutable
			as 'begin perform pg_sleep(0.001); return interval ''1 hour''; end'`)

		brief := open(t, dsn, postgres.WithPartitionSize(1024), postgres.WithCallTimeout(500*time.Millisecond))
		waitFor(t, func() (bool, string) {
			ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
			defer cancel()
			_, err := brief.Maintain(ctx, queue.ChorePrune) // a loaded machine may be too slow for any other statement
			n := value[int](t, conn, "select count(*) from pgqueue.part where lower = 1")
			return n == 0, fmt.Sprintf("the partition is still there: %v", err)
		})
		recounted(t, s)
	})

	t.Run("while another process drops, this one prunes all the rest", func(t *testing.T) {
		t.Parallel()

		dsn := postgrestest.URL(t)
		s, conn := open(t, dsn, postgres.WithPartitionSize(1024)), connect(t, dsn)
		finishPartition(t, s, conn, 10, 1025)
		makeTask(t, s, "tests", "mail", "mail", "mail")
		if _, err := s.CancelTasks(t.Context(), "tests", queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}}); err != nil {
			t.Fatal(err)
		}
		postgrestest.Advance(t, s, 62*time.Minute)

		sql(t, conn, "begin", "select pg_advisory_xact_lock('pgqueue.part'::regclass::oid::integer, 1)")
		prune := func() {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := s.Maintain(ctx, queue.ChorePrune); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			prune()
		}
		if n := value[int](t, conn, "select count(*) from pgqueue.task where id > 1024"); n != 0 {
			t.Errorf("%d finished tasks of the other partition are left", n)
		}
		if n := value[int](t, conn, "select count(*) from pgqueue.part where lower = 1"); n != 1 {
			t.Error("the partition is gone beside the lock: this shows nothing")
		}

		sql(t, conn, "commit")
		waitFor(t, func() (bool, string) {
			prune()
			n := value[int](t, conn, "select count(*) from pgqueue.part where lower = 1")
			return n == 0, "the partition is still there"
		})
	})

	t.Run("a task that came back to life keeps its partition", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s, conn := open(t, dsn, postgres.WithPartitionSize(1024)), connect(t, dsn)
		finishPartition(t, s, conn, 10, 1025)
		id := value[int64](t, conn, "select min(id) from pgqueue.task")
		if b, err := s.RetryTasks(t.Context(), "tests", queue.Selection{IDs: []int64{id}}); err != nil {
			t.Fatal(b, err)
		}
		postgrestest.Advance(t, s, 62*time.Minute)
		maintain(t, s, queue.ChorePrune)
		if n := value[int](t, conn, "select count(*) from pgqueue.task where id = $1", id); n != 1 {
			t.Error("the task is gone")
		}
	})

	for _, c := range []struct {
		change  string
		before  string
		skip    int32 // the first freeze begins the count, the second drops
		retry   bool
		restore bool
	}{
		{"its queue keeps finished tasks longer", "count", 0, false, false},
		{"one of its tasks waits again", "count", 0, true, true},
		{"its queue keeps finished tasks longer", "drop", 1, false, false},
		{"one of its tasks waits again", "drop", 1, true, true},
	} {
		t.Run("between the last look at its tasks and its "+c.before+" "+c.change+": it stays", func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			other, conn := open(t, dsn), connect(t, dsn)
			retain := func(d time.Duration) {
				if _, err := conn.Exec(t.Context(), "update pgqueue.queue set retention = $1", int64(d)); err != nil {
					t.Error(err)
				}
			}

			change := &beforeBatch{text: "in share mode", skip: c.skip, run: func() {
				retain(24 * time.Hour)
				if c.retry {
					id := value[int64](t, conn, "select min(id) from pgqueue.task")
					if b, err := other.RetryTasks(t.Context(), "tests", queue.Selection{IDs: []int64{id}}); err != nil {
						t.Error(b, err)
					}
				}
				if c.restore {
					retain(time.Hour)
				}
			}}
			s := open(t, dsn, postgres.WithPartitionSize(1024), postgres.WithTracer(change))
			finishPartition(t, s, conn, 10, 1025)
			postgrestest.Advance(t, s, 62*time.Minute)

			waitFor(t, func() (bool, string) {
				maintain(t, s, queue.ChorePrune)
				return change.done.Load(), "no drop was tried"
			})
			for range 3 {
				maintain(t, s, queue.ChorePrune)
			}
			if n := value[int](t, conn, "select count(*) from pgqueue.part where lower = 1"); n != 1 {
				t.Fatal("the partition is dropped")
			}
		})
	}

	for _, before := range []int32{0, 1} { // the begin of the count, and the drop
		name := fmt.Sprintf("its finished tasks are counted once, though a caller deletes one before freeze %d", before+1)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			other, conn := open(t, dsn), connect(t, dsn)
			clean := &beforeBatch{text: "in share mode", skip: before, run: func() {
				id := value[int64](t, conn, "select min(id) from pgqueue.task")
				deletePast(t, other, conn, id)
			}}
			s := open(t, dsn, postgres.WithPartitionSize(1024), postgres.WithTracer(clean))
			finishPartition(t, s, conn, 10, 1025)
			postgrestest.Advance(t, s, 62*time.Minute)

			waitFor(t, func() (bool, string) {
				maintain(t, s, queue.ChorePrune)
				n := value[int](t, conn, "select count(*) from pgqueue.part where lower = 1")
				return n == 0, "the partition is still there"
			})
			if !clean.done.Load() {
				t.Error("no caller has deleted a task: this shows nothing")
			}
			recounted(t, s)
		})
	}

	t.Run("its finished tasks are counted in bounded steps, and once, though a process ends between two and tasks go", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		first, conn := open(t, dsn, postgres.WithPartitionSize(65_536)), connect(t, dsn)
		finishPartition(t, first, conn, 10, 65_537)
		mail := value[int](t, conn, "select id from pgqueue.queue where name = 'mail'")
		sql(t, conn,
			fmt.Sprintf(`insert into pgqueue.task (id, created_at, queue_id, priority, retries, payload)
				select i, pgqueue.clock(), %d, 0, 0, '{}' from generate_series(1001, 46000) i`, mail),
			fmt.Sprintf(`insert into pgqueue.done (task_id, finished_at, token, queue_id, status, attempt)
				select i, pgqueue.clock(), 0, %d, 4, 1 from generate_series(1001, 46000) i`, mail),
			fmt.Sprintf(`insert into pgqueue.event (at, queue_id, kind, was, "is", n) values (pgqueue.clock(), %d, 0, 0, 4, 45000)`, mail))
		postgrestest.Advance(t, first, 62*time.Minute)

		// counted returns the tasks that the saved steps have counted, or -1 without a count.
		counted := func() int {
			return value[int](t, conn, `select coalesce((select sum((s->>'tasks')::integer) from jsonb_array_elements(counted->'sums') s),
				case when counted is null then -1 else 0 end) from pgqueue.part where lower = 1`)
		}
		waitFor(t, func() (bool, string) {
			maintainOnce(t, first)
			return counted() > 0, "no step is counted"
		})
		n := counted()
		if n != 20_000 {
			t.Errorf("one step counted %d tasks, want 20,000", n)
		}

		// The counts of the queue change with the drop alone, and another process goes on at the same task.
		stats, err := first.QueueStats(t.Context(), "tests", "mail")
		if err != nil {
			t.Fatal(err)
		}
		if n := stats[0].Counts[queue.StatusReleased]; n != 45_000 {
			t.Errorf("after one step the queue counts %d released tasks, want 45,000", n)
		}

		next := open(t, dsn)
		maintainOnce(t, next)
		if n := counted(); n != 40_000 {
			t.Errorf("after the step of another process %d tasks are counted, want 40,000", n)
		}

		// A deletion between two steps begins the count again.
		deletePast(t, next, conn, 1001, 45_999)
		if n := counted(); n != -1 {
			t.Errorf("after a deletion %d tasks are counted still", n)
		}
		waitFor(t, func() (bool, string) {
			maintain(t, next, queue.ChorePrune)
			n := value[int](t, conn, "select count(*) from pgqueue.part where lower = 1")
			return n == 0, "the partition is still there"
		})
		recounted(t, next)
	})

	t.Run("a create that took its ids before the partition closed takes others", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		conn := connect(t, dsn)
		s := open(t, dsn, postgres.WithPartitionSize(1024))
		finishPartition(t, s, conn, 10, 1025)
		postgrestest.Advance(t, s, 62*time.Minute)

		// A reader of the parent table alone lets the partition close and keeps it from being dropped.
		reader := connect(t, dsn)
		sql(t, reader, "begin", "lock table only pgqueue.task in access share mode")
		waitFor(t, func() (bool, string) {
			maintain(t, open(t, dsn), queue.ChorePrune)
			n := value[int](t, conn, "select count(*) from pg_constraint where conname = 'closed'")
			return n == 1, fmt.Sprintf("%d closed partitions", n)
		})

		sql(t, conn, "select setval('pgqueue.turn', 500)")
		later := &beforeBatch{text: "insert into pgqueue.task ", run: func() { sql(t, conn, "select setval('pgqueue.turn', 2000)") }}
		makeTask(t, open(t, dsn, postgres.WithTracer(later)), "tests", "mail")
		if id := value[int](t, conn, "select task_id from pgqueue.ready order by turn desc limit 1"); id <= 2000 {
			t.Errorf("the task has id %d", id)
		}
		sql(t, reader, "commit")
	})
}
