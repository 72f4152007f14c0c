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

// TestTransientFaults has PostgreSQL refuse writes for reasons that pass. No caller notices a few refusals, a lasting one is
// reported, and nothing is done twice or by halves.
func TestTransientFaults(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	makeQueue(t, s, "tests", "mail")
	makeTask(t, s, "tests", "mail")
	conn := connect(t, dsn)
	// A sequence forgets nothing when its transaction is undone.
	sql(t, conn, "create sequence faults", "create table fault (code text, most int)", "insert into fault values ('', 0)",
		`create function refuse() returns trigger language plpgsql as $$
		begin
			if nextval('faults') <= (select most from fault) then
				raise exception 'not now' using errcode = (select code from fault);
			end if;
			return null;
		end $$`,
		"create trigger refuse after insert on pgqueue.event for each statement execute function refuse()")
	refuse := func(code string, most int) {
		t.Helper()
		sql(t, conn, "alter sequence faults restart", fmt.Sprintf("update fault set code = '%s', most = %d", code, most))
	}
	create := func(n int) error {
		c := queue.Create{Namespace: "tests"}
		for range n {
			c.Tasks = append(c.Tasks, queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}})
		}
		_, err := s.CreateTasks(t.Context(), c)
		return err
	}
	made := int64(1)
	for _, code := range []string{"40001", "40P01", "55P03", "53300"} {
		t.Run(code, func(t *testing.T) {
			for _, n := range []int64{1, 100} { // the latter are copied
				refuse(code, 3)
				if err := create(int(n)); err != nil {
					t.Fatal(err)
				}
				made += n
			}
			refuse(code, 2)
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 7}}})
			if err != nil || len(out[0]) != 7 {
				t.Fatal(len(out[0]), err)
			}
			refuse(code, 2)
			releases := make([]queue.Release, 7)
			for i, task := range out[0] {
				releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomePermanent, Result: []byte(`"no"`)}
			}
			ended, err := s.ReleaseTasks(t.Context(), "tests", releases)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range ended {
				if e.Err != nil || e.Replayed {
					t.Errorf("%v, replayed: %v", e.Err, e.Replayed)
				}
			}
			refuse(code, 1000)
			if err := create(1); queue.KindOf(err) != queue.KindUnavailable {
				t.Errorf("what stays is answered by %v", err)
			}
			refuse("", 0)
			total := totals(t, s)
			if n := total[queue.StatusNew] + total[queue.StatusFailed]; n != made || total[queue.StatusFailed]%7 != 0 {
				t.Errorf("%v of %d tasks", total, made)
			}
			recounted(t, s)
		})
	}
}

// TestCallsEnd holds that no call waits longer than it may for a database that does not answer, whatever its context.
func TestCallsEnd(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := open(t, dsn, postgres.WithCallTimeout(3*time.Second)) // enough for calls that need not wait, on a busy machine
	makeQueue(t, s, "tests", "mail")
	makeTask(t, s, "tests", "mail")
	k := makeTicker(t, s, "tick", time.Hour)
	tables := value[string](t, connect(t, dsn), "select string_agg(oid::regclass::text, ', ') from pg_class where relnamespace = 'pgqueue'::regnamespace and relkind in ('r', 'p')")
	locks, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locks.Exec(t.Context(), "lock table "+tables+" in access exclusive mode", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	ids := queue.Selection{IDs: []int64{1}}
	q, err := queue.NewQueue("tests", queue.QueueMeta{Name: "more"})
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]func(context.Context) error{
		"create": func(ctx context.Context) error {
			_, err := s.CreateTasks(ctx, queue.Create{Namespace: "tests", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}}}})
			return err
		},
		"retain": func(ctx context.Context) error {
			_, err := s.RetainTasks(ctx, queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})
			return err
		},
		"release": func(ctx context.Context) error {
			_, err := s.ReleaseTasks(ctx, "tests", []queue.Release{{ID: 1, Token: 256, Outcome: queue.OutcomeSuccess}})
			return err
		},
		"heartbeat": func(ctx context.Context) error {
			_, err := s.HeartbeatTasks(ctx, "tests", []queue.Heartbeat{{ID: 1, Token: 256}})
			return err
		},
		"get tasks":     func(ctx context.Context) error { return errOf(s.GetTasks(ctx, "tests", []int64{1}, true)) },
		"list tasks":    func(ctx context.Context) error { return errOf(s.ListTasks(ctx, "tests", queue.TaskQuery{})) },
		"cancel":        func(ctx context.Context) error { return errOf(s.CancelTasks(ctx, "tests", ids)) },
		"retry":         func(ctx context.Context) error { return errOf(s.RetryTasks(ctx, "tests", ids)) },
		"delete":        func(ctx context.Context) error { return errOf(s.DeleteTasks(ctx, "tests", ids)) },
		"list workers":  func(ctx context.Context) error { return errOf(s.ListWorkers(ctx, "tests")) },
		"create queue":  func(ctx context.Context) error { return errOf(s.CreateQueue(ctx, q)) },
		"get queue":     func(ctx context.Context) error { return errOf(s.GetQueue(ctx, "tests", "mail")) },
		"list queues":   func(ctx context.Context) error { return errOf(s.ListQueues(ctx, "tests", queue.Page{})) },
		"update queue":  func(ctx context.Context) error { return errOf(s.UpdateQueue(ctx, "tests", "mail", queue.QueueMeta{})) },
		"delete queue":  func(ctx context.Context) error { return errOf(s.DeleteQueue(ctx, "tests", "mail")) },
		"clean queue":   func(ctx context.Context) error { return errOf(s.CleanQueue(ctx, "tests", "mail", 0)) },
		"queue stats":   func(ctx context.Context) error { return errOf(s.QueueStats(ctx, "tests", "")) },
		"all stats":     func(ctx context.Context) error { return errOf(s.AllQueueStats(ctx)) },
		"namespaces":    func(ctx context.Context) error { return errOf(s.ListNamespaces(ctx)) },
		"create ticker": func(ctx context.Context) error { return errOf(s.CreateTicker(ctx, *k)) },
		"get ticker":    func(ctx context.Context) error { return errOf(s.GetTicker(ctx, "tests", "tick")) },
		"list tickers":  func(ctx context.Context) error { return errOf(s.ListTickers(ctx, "tests", queue.Page{})) },
		"update ticker": func(ctx context.Context) error {
			return errOf(s.UpdateTicker(ctx, "tests", "tick", queue.TickerMeta{}, 1<<20))
		},
		"delete ticker": func(ctx context.Context) error { return errOf(s.DeleteTicker(ctx, "tests", "tick")) },
		"run ticker":    func(ctx context.Context) error { return errOf(s.RunTicker(ctx, "tests", "tick")) },
		"list ticks":    func(ctx context.Context) error { return errOf(s.ListTicks(ctx, "tests", "tick", 1)) },
		"take ticks":    func(ctx context.Context) error { _, _, err := s.TakeTicks(ctx, "tests", 1, time.Minute); return err },
		"settle ticks":  func(ctx context.Context) error { return s.SettleTicks(ctx, "tests", []int64{1}, true) },
		"list events":   func(ctx context.Context) error { return errOf(s.ListEvents(ctx, "tests", queue.EventFilter{}, 1)) },
		"recount":       func(ctx context.Context) error { return errOf(s.Recount(ctx, "tests")) },
	}
	for _, c := range queue.Chores() {
		calls["chore "+string(c)] = func(ctx context.Context) error { return errOf(s.Maintain(ctx, c)) }
	}
	var waiting sync.WaitGroup
	for name, call := range calls {
		waiting.Go(func() {
			answered := make(chan error, 1)
			go func() { answered <- call(context.WithoutCancel(t.Context())) }()
			select {
			case err := <-answered:
				// Indeterminate where the commit was to be sent with the statements that wait.
				if !slices.Contains([]queue.Kind{queue.KindDeadline, queue.KindUnavailable, queue.KindIndeterminate}, queue.KindOf(err)) {
					t.Errorf("%s: the call ends with %v", name, err)
				}
			case <-time.After(patience):
				t.Errorf("%s: the call does not end", name)
			}
		})
	}
	waiting.Wait()
	if err := locks.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := calls["create"](t.Context()); err != nil {
		t.Errorf("and after that: %v", err)
	}
}

// errOf leaves the error.
func errOf[T any](_ T, err error) error { return err }

// TestEventsOutOfOrder has transactions commit in another order than they began in: a reader of the feed misses none.
func TestEventsOutOfOrder(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	s := postgrestest.Open(t)
	makeQueue(t, s, "tests", "mail")
	makeTask(t, s, "tests", "mail")
	cursor, err := s.LastEvent(t.Context(), "tests")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]int{}
	read := func() {
		t.Helper()
		for more := true; more; {
			page, err := s.ListEvents(t.Context(), "tests", queue.EventFilter{After: cursor}, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Events {
				seen[e.TaskID]++
			}
			cursor, more = page.Next, page.More
		}
	}
	began := make([]pgx.Tx, 4)
	var made []int64
	for i := range began {
		if began[i], err = s.Pool().Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		q, err := s.InTx(began[i], "tests")
		if err != nil {
			t.Fatal(err)
		}
		task, err := q.CreateTask(t.Context(), "mail", queue.TaskMeta{})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, task.ID)
	}
	for _, i := range []int{2, 0, 3, 1} {
		if err := began[i].Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		read()
		if seen[made[i]] != 1 {
			t.Errorf("the event of the task that was created as number %d was seen %d times, seen are %v of %v", i, seen[made[i]], seen, made)
		}
	}
	if len(seen) != len(made) {
		t.Errorf("seen are %v of %v", seen, made)
	}
}
