package postgrestest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// TestPredecessor is those of the contract's section 10 that a suite over any store cannot show. Each sub-test's name is
// the defect.
func TestPredecessor(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	t.Run("release ran on the task's own cancelled context, so a timeout lost the task", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		m, err := manager.New(s, manager.WithNamespace("tests"), manager.WithWorkers(4))
		if err != nil {
			t.Fatal(err)
		}
		lease, retries := time.Second, 0
		began := make(chan int64, 10)
		_, err = m.RegisterQueueWorker(t.Context(), queue.QueueMeta{Name: "mail", Lease: &lease, Retries: &retries},
			worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
				if string(task.Payload) == `"timeout"` {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Millisecond)
					defer cancel()
				}
				began <- task.ID
				<-ctx.Done()
				return nil, ctx.Err()
			}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx) }()
		defer func() {
			end()
			if err := errorsOf(<-ran, m.Close(context.WithoutCancel(ctx))); err != nil {
				t.Error(err)
			}
		}()
		ended := func(payload string, meanwhile func(id int64)) *queue.Task {
			t.Helper()
			task, err := m.CreateTask(ctx, "mail", queue.TaskMeta{Payload: []byte(payload)})
			if err != nil {
				t.Fatal(err)
			}
			<-began
			meanwhile(task.ID)
			if task, err = m.AwaitTask(ctx, task.ID, patience); err != nil {
				t.Fatal(err)
			}
			return task
		}
		task := ended(`"timeout"`, func(int64) {})
		if task.Status != queue.StatusFailed || !strings.Contains(string(task.Result), context.DeadlineExceeded.Error()) {
			t.Errorf("after its handler's timeout it is %s with %s", task.Status, task.Result)
		}
		task = ended(`"cancel"`, func(id int64) {
			if _, err := m.CancelTasks(ctx, queue.Selection{IDs: []int64{id}}); err != nil {
				t.Fatal(err)
			}
		})
		if task.Status != queue.StatusCancelled || task.FinishedAt.IsZero() {
			t.Errorf("after it was cancelled while it ran it is %s", task.Status)
		}
	})
	t.Run("one NOTIFY per row", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s := open(t, dsn)
		makeQueue(t, s, "tests", "mail")
		conn := connect(t, dsn)
		sql(t, conn, "listen pgqueue")
		makeTask(t, s, "tests", slices.Repeat([]string{"mail"}, 1000)...)
		s.Close() // sends the notifications that it still had
		send(t, connect(t, dsn), "pgqueue", "- last/one")
		n := 0
		for receive(t, conn) != "last/one" {
			n++
		}
		if n == 0 || n > 3 {
			t.Errorf("1,000 tasks made %d notifications", n)
		}
	})
	t.Run("cleanup removed at most 100 tasks a queue an hour, in one namespace only, regardless of age", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t, postgres.WithPartitionSize(1000))
		for _, namespace := range []string{"tests", "others"} {
			makeQueue(t, s, namespace, "mail")
		}
		finish := func(namespace string, n int) {
			t.Helper()
			for ; n > 0; n -= 500 {
				makeTask(t, s, namespace, slices.Repeat([]string{"mail"}, min(n, 500))...)
				out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: namespace, Requests: []queue.RetainShare{{Worker: "w", Limit: 500}}})
				if err != nil || len(out[0]) != min(n, 500) {
					t.Fatal(len(out[0]), err)
				}
				var releases []queue.Release
				for _, task := range out[0] {
					releases = append(releases, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true})
				}
				if _, err := s.ReleaseTasks(t.Context(), namespace, releases); err != nil {
					t.Fatal(err)
				}
			}
		}
		prune := func() {
			t.Helper()
			for more := true; more; {
				m, err := s.Maintain(t.Context(), queue.ChorePrune)
				if err != nil {
					t.Fatal(err)
				}
				more = m.More
			}
		}
		count := func(query string) (n int) {
			t.Helper()
			if err := s.Pool().QueryRow(t.Context(), query).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		const partitions = "select count(*) from pg_inherits where inhparent = 'pgqueue.task'::regclass"
		finish("tests", 2500)
		finish("others", 1500)
		before := count(partitions)
		if before < 3 {
			t.Fatalf("4,000 tasks are in %d partitions", before)
		}
		prune()
		if n := count("select count(*) from pgqueue.task"); n != 4000 || totals(t, s)[queue.StatusReleased] != 2500 {
			t.Fatalf("%d tasks are left before their retention is over", n)
		}
		postgrestest.Advance(t, s, 7*24*time.Hour+25*time.Hour) // and what a full partition may be late
		makeTask(t, s, "tests", "mail")
		prune()
		if after := count(partitions); after >= before-1 {
			t.Errorf("of %d partitions %d are left", before, after)
		}
		for _, table := range []string{"task", "done"} { // but for the one that waits
			if n := count("select count(*) from pgqueue." + table); n > 1 {
				t.Errorf("%d rows are left of %s", n, table)
			}
		}
		if total := totals(t, s); total[queue.StatusReleased] != 0 || total[queue.StatusNew] != 1 {
			t.Errorf("counted are %v", total)
		}
		recounted(t, s)
		// Row by row, in the partition that is in use: beside a task that is not finished.
		finish("tests", 500)
		young := count(partitions)
		postgrestest.Advance(t, s, 7*24*time.Hour+time.Minute)
		prune()
		if n := count("select count(*) from pgqueue.task"); count(partitions) < min(young, 1) || n > 500 {
			t.Errorf("%d tasks are left", n)
		}
		recounted(t, s)
	})
}

// TestSnapshotHeldOpen has another session hold a snapshot, so that no row which is gone can be vacuumed: it costs the
// retains that follow nothing.
func TestSnapshotHeldOpen(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	const deciles, batch = 10, 200
	n := sized(t, 40_000, 1_000_000)
	dsn := postgrestest.URL(t)
	s := open(t, dsn, postgres.WithMaxConns(2))
	makeQueue(t, s, "tests", "mail")
	conn, snapshot := connect(t, dsn), connect(t, dsn)
	// Nor does a vacuum in between touch buffers in vain.
	for _, table := range []string{"ready", "delayed", "lease", "state", "event"} {
		sql(t, conn, "alter table pgqueue."+table+" set (autovacuum_enabled = off)")
	}
	for range n / 1000 {
		makeTask(t, s, "tests", slices.Repeat([]string{"mail"}, 1000)...)
	}
	// It has written something too: it holds back what snapshots begin with.
	sql(t, snapshot, "begin isolation level repeatable read", "select count(*) from pgqueue.queue", "select pg_current_xact_id()")
	seen := value[string](t, conn, "select pg_current_snapshot()::text")

	p := newPlanner(t, connect(t, tuned(t, dsn)))
	mail := value[int](t, conn, "select id from pgqueue.queue where name = 'mail'")
	var from, behind []int64
	var last int64
	pick := func(turn int64) int64 {
		t.Helper()
		return p.explain(t, "retain.pick", true, fmt.Sprintf("array[%d]", mail), fmt.Sprintf("array[%d]", batch),
			"'{}'", fmt.Sprintf("array[%d]", mail), "array[0::smallint]", fmt.Sprintf("array[%d::bigint]", turn), strconv.Itoa(batch)).buffers()
	}
	touched := func() int64 {
		t.Helper()
		s.Pool().Reset() // connections report their statistics at their end
		waitFor(t, func() (bool, string) {
			left := value[int](t, conn, "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pgqueue'")
			return left == 0, strconv.Itoa(left)
		})
		return value[int64](t, conn, "select blks_hit + blks_read from pg_stat_database where datname = current_database()")
	}
	var each []float64
	for range deciles {
		from, behind = append(from, pick(last)), append(behind, pick(0))
		before := touched()
		for range n / deciles / batch {
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: batch, Lease: time.Hour}}})
			if err != nil || len(out[0]) != batch {
				t.Fatal(len(out[0]), err)
			}
			releases := make([]queue.Release, batch)
			for i, task := range out[0] {
				last = max(last, task.ID)
				releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}
			}
			answers, err := s.ReleaseTasks(t.Context(), "tests", releases)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range answers {
				if a.Err != nil {
					t.Fatal(a.Err)
				}
			}
		}
		each = append(each, float64(touched()-before)/float64(n/deciles))
	}
	t.Logf("buffers of a pick of %d, decile by decile: %v from the cursor, %v from the start", batch, from, behind)
	t.Logf("buffers of all that happens to a task: %.1f", each)
	if most := slices.Max(from[1:]); float64(most) > 1.2*float64(from[0])+20 {
		t.Errorf("a pick touches %d buffers, %d in the first decile", most, from[0])
	}
	// Sweeps from the start are paced by the time they take; a decile without one shows what a task costs.
	if least := slices.Min(each[deciles-3:]); least > 1.3*each[0] {
		t.Errorf("a task touches %.1f buffers in the last deciles, %.1f in the first", least, each[0])
	}
	// Rows that the counts have seen, or a reader of the feed has, are not read again.
	if _, err := s.Maintain(t.Context(), queue.ChoreFold); err != nil {
		t.Fatal(err)
	}
	rows := value[int](t, conn, "select count(*) from pgqueue.event")
	end := value[string](t, conn, "select pg_current_snapshot()::text")
	events := func(snapshot string) int64 {
		return p.explain(t, "event.list", true, "'"+end+"'", "'"+snapshot+"'", "'tests'", "''", "'0'", "0", "'{}'", "100").buffers()
	}
	for name, n := range map[string]int64{
		"the counts": p.explain(t, "counts", true, "''", "''").buffers(), "a page of the feed": events(seen), "a look at its end": events(end),
	} {
		if t.Logf("%s: %d buffers, %d event rows", name, n, rows); n > 300 {
			t.Errorf("%s touches %d buffers while another transaction is open", name, n)
		}
	}
	recounted(t, s)
}

// tuned is dsn with the parameters that Open gives its connections.
func tuned(t *testing.T, dsn string) string {
	t.Helper()
	s := open(t, dsn)
	params := s.Pool().Config().ConnConfig.RuntimeParams
	s.Close()
	for name, v := range params {
		if name != "application_name" {
			dsn += "&" + name + "=" + v
		}
	}
	if !strings.Contains(dsn, "enable_seqscan=off") {
		t.Fatal(errors.New("its connections are not tuned"))
	}
	return dsn
}

// TestPlansOfAnOlderSchema: a migration beside a program that runs gives its prepared statements other result types
// (0A000), and a pooler without --pooler loses them (26000). Calls go on or fail as unavailable, never as internal.
func TestPlansOfAnOlderSchema(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn, postgres.WithMaxConns(1))
	mustQueue(t, s, "mail")
	admin := connect(t, dsn)
	call := func() error {
		out, err := s.CreateTasks(t.Context(), queue.Create{Namespace: queue.DefaultNamespace, Tasks: []queue.NewTask{{
			Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte("{}")},
		}}})
		if err == nil {
			err = out[0].Err
		}
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}

	t.Run("a column that becomes wider passes", func(t *testing.T) {
		if _, err := s.ListQueues(t.Context(), queue.DefaultNamespace, queue.Page{Limit: 10}); err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			"drop view pgqueue.queues, pgqueue.queue_stats, pgqueue.count_now", // a view keeps the types of its columns
			"alter table pgqueue.queue alter column retries type bigint", "alter table pgqueue.queue alter column retries type integer",
		} {
			if _, err := admin.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ListQueues(t.Context(), queue.DefaultNamespace, queue.Page{Limit: 10}); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
			if err := call(); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
		}
	})
	t.Run("statements that a pooler lost", func(t *testing.T) {
		for range 3 {
			if _, err := s.Pool().Exec(t.Context(), "deallocate all"); err != nil {
				t.Fatal(err)
			}
			if err := call(); err != nil && queue.KindOf(err) != queue.KindUnavailable {
				t.Errorf("%v is of kind %s", err, queue.KindOf(err))
			}
			if err := call(); err != nil {
				t.Errorf("the next call: %v", err)
			}
		}
	})
}
