package postgrestest_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// maintain does all steps of a chore and gathers its faults. Steps that never end fail the test.
func maintain(t *testing.T, s *postgres.Store, chore queue.Chore) []queue.Fault {
	t.Helper()
	var faults []queue.Fault
	for range 1_000 {
		done, err := s.Maintain(t.Context(), chore)
		if err != nil {
			t.Fatalf("%s: %v", chore, err)
		}
		faults = append(faults, done.Faults...)
		if !done.More {
			return faults
		}
	}
	t.Fatalf("%s never ends", chore)
	return nil
}

// refuse has the database refuse each row of a table's operation for which when holds.
func refuse(t *testing.T, conn *pgx.Conn, operation, table, when string) {
	t.Helper()
	record := "old"
	if operation == "insert" {
		record = "new"
	}
	name := "refuse_" + table
	sql(t, conn,
		fmt.Sprintf(`create or replace function pgqueue.%s() returns trigger language plpgsql as
			'begin raise exception ''the row is refused''; end'`, name),
		fmt.Sprintf("create trigger %s before %s on pgqueue.%s for each row when (%s) execute function pgqueue.%[1]s()",
			name, operation, table, strings.ReplaceAll(when, "row.", record+".")))
}

func newTicker(t *testing.T, s *postgres.Store, namespace, name, target string, meta queue.TickerMeta) *queue.Ticker {
	t.Helper()
	meta.Name, meta.Queue = name, &target
	k, err := queue.NewTicker(namespace, meta, queue.DefaultMaxPayloadBytes)
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.CreateTicker(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestBrokenTicker has one ticker of many that cannot fire: the others do, in all namespaces; it is named and can be mended.
func TestBrokenTicker(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, c := range []struct {
		name, says string
		breaks     string // the ticker a of namespace bad
		schedule   bool   // its schedule is at fault, so a schedule mends it; else the database refuses its ticks
	}{
		{
			"with a zone that this host does not know", "time zone database",
			"update pgqueue.ticker set cron = '* * * * *', period = 0, timezone = 'America/Nowhere' where name = 'a'", true,
		},
		{
			"with a cron expression of a newer program", "cron",
			"update pgqueue.ticker set cron = '@fortnightly', period = 0 where name = 'a'", true,
		},
		{
			"with ticks that the database refuses", "refused",
			"", false,
		},
	} {
		for _, target := range []string{"mail", ""} {
			kind := "a queue's ticker"
			if target == "" {
				kind = "a listener's ticker"
			}
			t.Run(kind+" "+c.name+" is named, passed over and mended", func(t *testing.T) {
				t.Parallel()
				dsn := postgrestest.URL(t)
				log := make(signals, 100)
				s := open(t, dsn, postgres.WithLogger(log.logger()))
				conn := connect(t, dsn)
				for _, namespace := range []string{"bad", "good"} {
					makeQueue(t, s, namespace, "mail")
				}
				newTicker(t, s, "bad", "a", target, queue.TickerMeta{Period: new(time.Minute)})
				newTicker(t, s, "bad", "b", target, queue.TickerMeta{Period: new(time.Minute)})
				newTicker(t, s, "good", "c", target, queue.TickerMeta{Cron: new("* * * * *")})
				if c.breaks != "" {
					sql(t, conn, c.breaks)
				} else {
					refuse(t, conn, "insert", "tick", fmt.Sprintf("row.ticker_id = %d", value[int](t, conn, "select id from pgqueue.ticker where name = 'a'")))
				}
				postgrestest.Advance(t, s, 61*time.Second)

				var faults []queue.Fault
				look := func() {
					t.Helper()
					if target != "" {
						faults = maintain(t, s, queue.ChoreTick)
						return
					}
					for _, namespace := range []string{"bad", "good"} {
						if _, _, err := s.TakeTicks(t.Context(), namespace, 10, time.Minute); err != nil {
							t.Fatal(err)
						}
					}
				}
				look()
				ticks := func(namespace, name string) int {
					t.Helper()
					all, err := s.ListTicks(t.Context(), namespace, name, 100)
					if err != nil {
						t.Fatal(err)
					}
					return len(all)
				}
				if b, good := ticks("bad", "b"), ticks("good", "c"); b != 1 || good != 1 {
					t.Errorf("the other tickers fired %d and %d times", b, good)
				}
				if target != "" {
					if len(faults) != 1 || faults[0].Namespace != "bad" || faults[0].Subject != "ticker a" ||
						!strings.Contains(faults[0].Err.Error(), c.says) || faults[0].Known {
						t.Errorf("faults %+v", faults)
					}
				} else {
					log.wait(t, "ticker a")
				}
				get := func() *queue.Ticker {
					t.Helper()
					k, err := s.GetTicker(t.Context(), "bad", "a")
					if err != nil {
						t.Fatal(err)
					}
					return k
				}
				if k := get(); !strings.Contains(k.Fault, c.says) {
					t.Errorf("the ticker's fault is %q", k.Fault)
				}
				if look(); len(faults) != 0 {
					t.Errorf("it is looked at again at once: %+v", faults)
				}
				wantFinding(t, diagnose(t, s), "tickers", queue.LevelFail, "a of bad", c.says)
				postgrestest.Advance(t, s, queue.TickFaultRest+time.Second)
				if look(); target != "" && (len(faults) != 1 || !faults[0].Known) {
					t.Errorf("after its rest: faults %+v", faults)
				}

				update := func(meta queue.TickerMeta) *queue.Ticker {
					t.Helper()
					k, err := s.UpdateTicker(t.Context(), "bad", "a", meta, queue.DefaultMaxPayloadBytes)
					if err != nil {
						t.Fatalf("update %+v: %v", meta, err)
					}
					if k.Fault != "" {
						t.Errorf("after an update its fault is %q", k.Fault)
					}
					return k
				}
				if k := update(queue.TickerMeta{Paused: new(true)}); !k.Paused || !k.NextAt.IsZero() {
					t.Errorf("paused: %+v", k)
				}
				update(queue.TickerMeta{Payload: []byte(`{"n":1}`)})
				mend := queue.TickerMeta{Cron: new("*/2 * * * *"), Timezone: new("UTC")}
				if !c.schedule {
					sql(t, conn, "drop trigger refuse_tick on pgqueue.tick")
				}
				update(mend)
				if k := update(queue.TickerMeta{Paused: new(false)}); k.NextAt.IsZero() {
					t.Errorf("resumed: %+v", k)
				}
				before := ticks("bad", "a")
				postgrestest.Advance(t, s, 2*time.Minute)
				if look(); ticks("bad", "a") != before+1 || get().Fault != "" {
					t.Errorf("after it was mended it has %d more ticks, fault %q", ticks("bad", "a")-before, get().Fault)
				}
			})
		}
	}
	for _, mend := range []struct {
		name string
		do   func(t *testing.T, s *postgres.Store) error
	}{
		{"update --timezone", func(t *testing.T, s *postgres.Store) error {
			_, err := s.UpdateTicker(t.Context(), "bad", "a", queue.TickerMeta{Timezone: new("UTC")}, 1<<20)
			return err
		}},
		{"update --period", func(t *testing.T, s *postgres.Store) error {
			_, err := s.UpdateTicker(t.Context(), "bad", "a", queue.TickerMeta{Period: new(time.Minute)}, 1<<20)
			return err
		}},
		{"update --paused", func(t *testing.T, s *postgres.Store) error {
			_, err := s.UpdateTicker(t.Context(), "bad", "a", queue.TickerMeta{Paused: new(true)}, 1<<20)
			return err
		}},
		{"delete", func(t *testing.T, s *postgres.Store) error {
			_, err := s.DeleteTicker(t.Context(), "bad", "a")
			return err
		}},
		{"run", func(t *testing.T, s *postgres.Store) error {
			_, err := s.RunTicker(t.Context(), "bad", "a")
			return err
		}},
	} {
		t.Run(mend.name+" works on a ticker that is due in an unknown zone", func(t *testing.T) {
			t.Parallel()
			s := postgrestest.Open(t)
			makeQueue(t, s, "bad", "mail")
			newTicker(t, s, "bad", "a", "mail", queue.TickerMeta{Cron: new("* * * * *")})
			if _, err := s.Pool().Exec(t.Context(), "update pgqueue.ticker set timezone = 'America/Nowhere'"); err != nil {
				t.Fatal(err)
			}
			postgrestest.Advance(t, s, time.Minute)
			maintain(t, s, queue.ChoreTick)
			if err := mend.do(t, s); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRequestsAtFault has the database refuse the hand back of one request of many, with and without a lease row that cannot
// be rescued beside it: the others go back, and the one at fault is named, put off, and goes back once it is let through.
func TestRequestsAtFault(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, beside := range []string{"", ", beside a lease row that cannot be rescued"} {
		t.Run("one of many"+beside, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s, conn := open(t, dsn), connect(t, dsn)
			makeQueue(t, s, "tests", "mail")
			makeQueue(t, s, "tests", "lapsed")
			makeTask(t, s, "tests", slices.Repeat([]string{"mail"}, 10)...)

			var first int64
			for i := range 10 {
				id := fmt.Sprintf("r%d", i)
				got, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Queues: []string{"mail"}, Requests: []queue.RetainShare{
					{Worker: "w", Limit: 1, RequestID: id, Arguments: "args", Lease: time.Hour},
				}})
				if err != nil || len(got[0]) != 1 {
					t.Fatalf("%v, %v", got, err)
				}
				if i == 0 {
					first = got[0][0].ID
				}
				if err := s.UndeliveredRequest(t.Context(), "tests", "w", id); err != nil {
					t.Fatal(err)
				}
			}
			refuse(t, conn, "insert", "ready", fmt.Sprintf("row.task_id = %d", first))
			if beside != "" {
				makeTask(t, s, "tests", "lapsed")
				if _, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Queues: []string{"lapsed"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 1, Lease: time.Second}}}); err != nil {
					t.Fatal(err)
				}
				sql(t, conn, `insert into pgqueue.done (task_id, finished_at, token, queue_id, status, attempt)
					select l.task_ids[1], now(), 0, l.queue_id, 4, 1 from pgqueue.lease l join pgqueue.queue q on q.id = l.queue_id where q.name = 'lapsed'`)
			}
			postgrestest.Advance(t, s, queue.RequestTime+time.Second)

			waiting := func() int { return value[int](t, conn, "select coalesce(sum(n), 0)::integer from pgqueue.ready") }
			faults := slices.DeleteFunc(maintain(t, s, queue.ChoreRescue), func(f queue.Fault) bool { return strings.HasPrefix(f.Subject, "lease ") })
			if got := waiting(); got != 9 {
				t.Errorf("%d of the 9 others went back", got)
			}
			if len(faults) != 1 || faults[0].Namespace != "tests" || faults[0].Subject != `request "r0" of worker w` {
				t.Errorf("faults %+v", faults)
			}
			if more := maintain(t, s, queue.ChoreRescue); len(more) != 0 {
				t.Errorf("it is tried again at once: %+v", more)
			}

			sql(t, conn, "drop trigger refuse_ready on pgqueue.ready")
			postgrestest.Advance(t, s, 10*time.Minute+time.Second)
			maintain(t, s, queue.ChoreRescue)
			if got := waiting(); got != 10 {
				t.Errorf("%d of 10 went back once it was let through", got)
			}
		})
	}
}

// TestPoisonedChores has the database refuse one row, or all rows of one queue, to each chore: the work of others goes on,
// and what is refused is named. Once it is let through, it is done as well.
func TestPoisonedChores(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	expired := func(t *testing.T, conn *pgx.Conn, namespace string) int {
		return value[int](t, conn, `select count(*) from pgqueue.done d join pgqueue.queue q on q.id = d.queue_id
			where q.namespace = $1 and d.status = 6`, namespace)
	}
	gone := func(t *testing.T, conn *pgx.Conn, namespace string) int {
		return 30 - value[int](t, conn, "select count(*) from pgqueue.task t join pgqueue.queue q on q.id = t.queue_id where q.namespace = $1", namespace)
	}
	hour := time.Hour
	for _, c := range []struct {
		chore            queue.Chore
		name             string
		operation, table string
		meta             queue.QueueMeta
		delay, ttl       time.Duration
		end              bool   // the tasks end before their retention passes
		equal            bool   // the tasks have the same priority
		column           string // names the refused row; empty = task_id
		plant            string // SQL that makes the rows
		done             func(t *testing.T, conn *pgx.Conn, namespace string) int
	}{
		{
			chore: queue.ChorePromote, name: "promote", operation: "delete", table: "delayed", delay: time.Hour,
			done: func(t *testing.T, conn *pgx.Conn, namespace string) int {
				return value[int](t, conn, "select count(*) from pgqueue.ready r join pgqueue.queue q on q.id = r.queue_id where q.namespace = $1", namespace)
			},
		},
		{chore: queue.ChoreExpire, name: "expire of ready tasks", operation: "delete", table: "ready", meta: queue.QueueMeta{TTL: &hour}, done: expired},
		{
			chore: queue.ChoreExpire, name: "expire of delayed tasks", operation: "delete", table: "delayed", meta: queue.QueueMeta{TTL: &hour},
			delay: 30 * time.Minute, done: expired,
		},
		{chore: queue.ChorePrune, name: "prune of finished tasks", operation: "delete", table: "done", meta: queue.QueueMeta{Retention: &hour}, end: true, done: gone},
		{
			chore: queue.ChoreExpire, name: "expire of tasks that wait for their group", operation: "delete", table: "group_waiting", equal: true,
			meta: queue.QueueMeta{TTL: &hour, FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO)}}, done: expired,
		},
		{
			chore: queue.ChorePromote, name: "planned looks at groups", operation: "delete", table: "group_wake", column: "grp",
			meta: queue.QueueMeta{FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}},
			plant: `insert into pgqueue.group_wake (due_at, queue_id, grp)
				select '2020-01-01', q.id, pgqueue.hash_group('g' || i) from pgqueue.queue q cross join generate_series(1, 30) i on conflict do nothing`,
			done: func(t *testing.T, conn *pgx.Conn, namespace string) int {
				return value[int](t, conn, `select count(distinct r.grp) from pgqueue.ready r join pgqueue.queue q on q.id = r.queue_id
					where q.namespace = $1 and r.n = 0`, namespace)
			},
		},
	} {
		for _, whole := range []bool{false, true} {
			what := "one row"
			if whole {
				what = "a whole queue"
			}
			t.Run(c.name+", refused "+what, func(t *testing.T) {
				t.Parallel()
				dsn := postgrestest.URL(t)
				s, conn := open(t, dsn), connect(t, dsn)
				// The bad ones come first in every order.
				for _, namespace := range []string{"bad", "good"} {
					meta := c.meta
					meta.Name = "mail"
					q, err := queue.NewQueue(namespace, meta)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := s.CreateQueue(t.Context(), q); err != nil {
						t.Fatal(err)
					}
					for i := range 30 { // one by one, so that none share a run
						task := queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Priority: int16(i), Delay: c.delay}}
						if c.equal {
							task.Priority = 0
						}
						if _, err := s.CreateTasks(t.Context(), queue.Create{Namespace: namespace, Tasks: []queue.NewTask{task}, Atomic: true}); err != nil {
							t.Fatal(err)
						}
					}
					if c.end {
						if _, err := s.CancelTasks(t.Context(), namespace, queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}}); err != nil {
							t.Fatal(err)
						}
					}
				}
				column := cmp.Or(c.column, "task_id")
				if c.plant != "" {
					sql(t, conn, c.plant)
				}
				first := value[int](t, conn, fmt.Sprintf("select min(%s) from pgqueue.%s", column, c.table))
				bad := value[int](t, conn, "select id from pgqueue.queue where namespace = 'bad'")
				when := fmt.Sprintf("row.queue_id = %d", bad)
				refused := 30
				if !whole {
					when, refused = fmt.Sprintf("row.%s = %d and row.queue_id = %d", column, first, bad), 1
				}
				refuse(t, conn, c.operation, c.table, when)
				postgrestest.Advance(t, s, 3*time.Hour)

				faults := maintain(t, s, c.chore)
				if n := c.done(t, conn, "good"); n != 30 {
					t.Errorf("the chore did %d of 30 of the other namespace", n)
				}
				if n := c.done(t, conn, "bad"); n != 30-refused {
					t.Errorf("the chore did %d of the namespace with the refused rows, want %d", n, 30-refused)
				}
				if len(faults) == 0 || faults[0].Namespace != "bad" || !strings.Contains(faults[0].Subject, "queue mail") ||
					!strings.Contains(faults[0].Err.Error(), "refused") {
					t.Errorf("faults are %+v", faults)
				}
				sql(t, conn, fmt.Sprintf("drop trigger refuse_%s on pgqueue.%[1]s", c.table))
				maintain(t, open(t, dsn), c.chore) // another process has passed over nothing
				if n := c.done(t, conn, "bad"); n != 30 {
					t.Errorf("once it is mended, the chore did %d of 30", n)
				}
			})
		}
	}

	t.Run("prune goes on where a step of it fails", func(t *testing.T) {
		for _, step := range []struct{ name, operation, table, subject string }{
			{"deleted queues", "delete", "queue", "deleted queue"},
			{"old partitions", "delete", "part", "old partitions"},
			{"events", "delete", "event", "events"},
			{"ticks", "delete", "tick", "ticks"},
		} {
			t.Run(step.name, func(t *testing.T) {
				t.Parallel()
				dsn := postgrestest.URL(t)
				s, conn := open(t, dsn, postgres.WithPartitionSize(1024)), connect(t, dsn)
				for _, namespace := range []string{"bad", "good"} {
					q, err := queue.NewQueue(namespace, queue.QueueMeta{Name: "mail", Retention: &hour})
					if err != nil {
						t.Fatal(err)
					}
					if _, err := s.CreateQueue(t.Context(), q); err != nil {
						t.Fatal(err)
					}
				}
				for _, name := range []string{"d1", "d2"} {
					makeQueue(t, s, "bad", name)
					if _, err := s.DeleteQueue(t.Context(), "bad", name); err != nil {
						t.Fatal(err)
					}
				}
				newTicker(t, s, "bad", "t", "mail", queue.TickerMeta{Period: new(time.Hour)})
				for range 120 {
					if _, err := s.RunTicker(t.Context(), "bad", "t"); err != nil {
						t.Fatal(err)
					}
				}
				makeTask(t, s, "good", slices.Repeat([]string{"mail"}, 100)...)
				for _, namespace := range []string{"bad", "good"} {
					if _, err := s.CancelTasks(t.Context(), namespace, queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}}); err != nil {
						t.Fatal(err)
					}
				}
				sql(t, conn, "select setval('pgqueue.turn', 1030)")
				makeTask(t, s, "good", "mail")
				when := "true"
				if step.table == "queue" {
					when = "row.name = 'd1'"
				}
				refuse(t, conn, step.operation, step.table, when)
				postgrestest.Advance(t, s, 50*time.Hour)

				// The pruner reaches an event only when no older transaction of the server runs, those of other tests included.
				var faults []queue.Fault
				waitFor(t, func() (bool, string) {
					faults = maintain(t, s, queue.ChorePrune)
					return len(faults) > 0, "the pruner reports no fault"
				})
				if !strings.HasPrefix(faults[0].Subject, step.subject) {
					t.Errorf("faults are %+v", faults)
				}
				left := func() map[string]int {
					return map[string]int{
						"deleted queues": value[int](t, conn, "select count(*) from pgqueue.queue where deleted_at is not null"),
						"old partitions": value[int](t, conn, "select count(*) from pgqueue.part where lower = 1"),
						"events":         value[int](t, conn, "select count(*) from pgqueue.event where at < pgqueue.clock() - interval '2 h'"),
						"ticks":          max(0, value[int](t, conn, "select count(*)::integer - 100 from pgqueue.tick")),
					}
				}
				// Events stay while a transaction anywhere on the server may not have seen them, and partitions while another
				// session looks at them.
				waitFor(t, func() (bool, string) {
					maintain(t, s, queue.ChorePrune)
					all := left()
					for what, n := range all {
						if what != step.name && n > 0 {
							return false, fmt.Sprint(all)
						}
					}
					return true, ""
				})
				if n := left()[step.name]; n == 0 || step.table == "queue" && n != 1 {
					t.Errorf("%d %s are left of what is refused", n, step.name)
				}
				finished := value[int](t, conn, "select count(*) from pgqueue.done")
				if finished != 0 {
					t.Errorf("%d finished tasks are left", finished)
				}
			})
		}
	})
}

// TestPoisonedHistory has the database refuse the history of one queue: the counts and the history of the others go on, the queue is
// named, and its next row contains what it has missed.
func TestPoisonedHistory(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, table := range []string{"queue_history", "queue_count"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s, conn := open(t, dsn), connect(t, dsn)
			for _, namespace := range []string{"bad", "good", "tests"} {
				makeQueue(t, s, namespace, "mail")
			}
			maintain(t, s, queue.ChoreFold)
			operation, when := "insert", "select id from pgqueue.queue where namespace = 'bad'"
			if table == "queue_count" {
				operation = "update"
			}
			bad := value[int](t, conn, when)
			when = fmt.Sprintf("row.queue_id = %d", bad)
			if operation == "update" { // the fold itself passes
				when += " and new.created_kept <> old.created_kept"
			}
			created := func(namespace string) int {
				return value[int](t, conn, `select coalesce(sum(h.created), 0)::integer from pgqueue.queue_history h join pgqueue.queue q on q.id = h.queue_id
					where q.namespace = $1 and not h.hourly`, namespace)
			}
			minute := func(s *postgres.Store) (named []string) {
				t.Helper()
				for _, namespace := range []string{"bad", "good", "tests"} {
					makeTask(t, s, namespace, "mail")
				}
				postgrestest.Advance(t, s, time.Minute)
				for _, f := range maintain(t, s, queue.ChoreFold) {
					named = append(named, f.Namespace+", "+f.Subject)
				}
				return named
			}

			refuse(t, conn, operation, table, when)
			if got, want := minute(s), []string{"bad, history of queue mail"}; !slices.Equal(got, want) {
				t.Errorf("faults name %q, want %q", got, want)
			}
			if got := minute(s); len(got) > 0 {
				t.Errorf("the passed queue is named again: %q", got)
			}
			if good, bad := created("good"), created("bad"); good != 2 || bad != 0 {
				t.Errorf("the history has %d and %d created tasks, want 2 and 0", good, bad)
			}
			recounted(t, s)

			sql(t, conn, fmt.Sprintf("drop trigger refuse_%s on pgqueue.%[1]s", table))
			if got := minute(open(t, dsn)); len(got) > 0 { // another process has passed over nothing
				t.Errorf("faults name %q", got)
			}
			if good, bad := created("good"), created("bad"); good != 3 || bad != 3 {
				t.Errorf("the history has %d and %d created tasks, want 3 and 3", good, bad)
			}
		})
	}
}

// TestPoisonedTicks has the database refuse the removal of the ticks of one ticker: those of the others go, and it is named.
func TestPoisonedTicks(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	for _, namespace := range []string{"bad", "good"} {
		makeQueue(t, s, namespace, "mail")
		newTicker(t, s, namespace, "t", "mail", queue.TickerMeta{Period: new(time.Hour)})
	}
	sql(t, conn, `insert into pgqueue.tick (ticker_id, at, fired_at)
		select k.id, pgqueue.clock() - i * interval '1 min', pgqueue.clock() from pgqueue.ticker k cross join generate_series(1, 130) i`)
	refuse(t, conn, "delete", "tick", fmt.Sprintf("row.ticker_id = %d", value[int](t, conn, "select id from pgqueue.ticker where namespace = 'bad'")))

	faults := maintain(t, s, queue.ChorePrune)
	if len(faults) != 1 || faults[0].Namespace != "bad" || faults[0].Subject != "ticks of ticker t" {
		t.Errorf("faults are %+v", faults)
	}
	left := func(namespace string) int {
		return value[int](t, conn, "select count(*) from pgqueue.tick i join pgqueue.ticker k on k.id = i.ticker_id where k.namespace = $1", namespace)
	}
	if good, bad := left("good"), left("bad"); good != 100 || bad != 130 {
		t.Errorf("%d and %d ticks are left, want 100 and 130", good, bad)
	}
	sql(t, conn, "drop trigger refuse_tick on pgqueue.tick")
	maintain(t, open(t, dsn), queue.ChorePrune) // another process has passed over nothing
	if bad := left("bad"); bad != 100 {
		t.Errorf("%d ticks are left once they may go, want 100", bad)
	}
}

// foldAtSearch takes the lock of the fold when the search for refused counts begins.
type foldAtSearch struct{ lock func() }

func (f *foldAtSearch) TraceQueryStart(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	if strings.Contains(query.SQL, "select q.id, q.namespace, q.name from pgqueue.queue q") {
		f.lock()
	}
	return ctx
}

func (*foldAtSearch) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestRefusedCountsBesideAnotherFolder has another process get the lock of the fold while this one looks for the refused
// queue: the look ends without a fault.
func TestRefusedCountsBesideAnotherFolder(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	conn, other := connect(t, dsn), connect(t, dsn)
	searches := 0
	search := &foldAtSearch{lock: func() {
		if searches++; searches == 1 {
			sql(t, other, "begin", "select from pgqueue.fold for update")
		}
	}}
	s := open(t, dsn, postgres.WithTracer(search))
	makeQueue(t, s, "tests", "mail")
	makeTask(t, s, "tests", "mail")
	refuse(t, conn, "insert", "queue_count", "true")

	if done, err := s.Maintain(t.Context(), queue.ChoreFold); err != nil || len(done.Faults) > 0 || done.More {
		t.Errorf("beside another folder the fold reports %+v, %v", done, err)
	}
	if searches != 1 {
		t.Errorf("the fold searched %d times, want once", searches)
	}
	sql(t, other, "rollback")
	if faults := maintain(t, s, queue.ChoreFold); len(faults) != 1 {
		t.Errorf("the next fold reports %+v, want the refused queue", faults)
	}
}

// TestRefusedCounts has the database refuse the count rows of some queues: the others are folded, and all counts stay right.
func TestRefusedCounts(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	for i := range 7 {
		makeQueue(t, s, "tests", fmt.Sprintf("queue%d", i))
	}
	change := func() {
		for i := range 7 {
			makeTask(t, s, "tests", fmt.Sprintf("queue%d", i))
		}
	}
	folded := func() string {
		return value[string](t, conn, `select coalesce(string_agg(q.name || '=' || c.new, ' ' order by q.name), '')
			from pgqueue.queue_count c join pgqueue.queue q on q.id = c.queue_id`)
	}
	ids := value[string](t, conn, "select string_agg(id::text, ', ') from pgqueue.queue where name in ('queue0', 'queue4')")
	refuse(t, conn, "insert", "queue_count", "row.queue_id in ("+ids+")")

	change()
	var named []string
	for _, fault := range maintain(t, s, queue.ChoreFold) {
		named = append(named, fault.Namespace+", "+fault.Subject)
	}
	if want := []string{"tests, counts of queue queue0", "tests, counts of queue queue4"}; !slices.Equal(named, want) {
		t.Errorf("faults name %q, want %q", named, want)
	}
	if got, want := folded(), "queue1=1 queue2=1 queue3=1 queue5=1 queue6=1"; got != want {
		t.Errorf("folded %s, want %s", got, want)
	}
	recounted(t, s)

	// Transactions that begin after a fold's and commit before it are in no order with the rows that it writes again.
	for range 20 {
		change()
		done := make(chan error, 1)
		go func() {
			_, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "tests", Tasks: []queue.NewTask{
				{Queue: "queue0", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}},
			}})
			done <- err
		}()
		if faults := maintain(t, s, queue.ChoreFold); len(faults) > 0 {
			t.Errorf("the passed-over queues are named again: %+v", faults)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		recounted(t, s)
	}

	sql(t, conn, "drop trigger refuse_queue_count on pgqueue.queue_count")
	maintain(t, open(t, dsn), queue.ChoreFold) // another process passes over nothing
	if got, want := folded(), "queue0=41 queue1=21 queue2=21 queue3=21 queue4=21 queue5=21 queue6=21"; got != want {
		t.Errorf("folded %s, want %s", got, want)
	}
	recounted(t, s)
}

// TestFoldThatFailsOnlyAsAWhole: a fold that the database refuses although each part of it passes returns the error.
func TestFoldThatFailsOnlyAsAWhole(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	for i := range 7 {
		name := fmt.Sprintf("queue%d", i)
		makeQueue(t, s, "tests", name)
		makeTask(t, s, "tests", name)
	}
	sql(t, conn,
		`create function pgqueue.cancel_large_fold() returns trigger language plpgsql as 'begin
			if (select count(*) from added) > 4 then raise exception ''too slow'' using errcode = ''query_canceled''; end if;
			return null; end'`,
		`create trigger cancel_large_fold after insert on pgqueue.queue_count referencing new table as added
			for each statement execute function pgqueue.cancel_large_fold()`)

	done, err := s.Maintain(t.Context(), queue.ChoreFold)
	if err == nil || !strings.Contains(err.Error(), "too slow") || done.More {
		t.Errorf("the fold answers %+v, %v, want the error of the database", done, err)
	}
	recounted(t, s)

	sql(t, conn, "drop trigger cancel_large_fold on pgqueue.queue_count")
	maintain(t, s, queue.ChoreFold)
	recounted(t, s)
}

// TestPoisonedPlans has the database refuse the new plan of one ticker after the clock went back: the others of all namespaces are
// planned from now, it is named once, and it follows when it is mended.
func TestPoisonedPlans(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	for _, namespace := range []string{"bad", "good", "tests"} {
		makeQueue(t, s, namespace, "mail")
		newTicker(t, s, namespace, "t", "mail", queue.TickerMeta{Period: new(time.Hour)})
	}
	const ahead = "planned_at > pgqueue.clock() + interval '1 h'"
	sql(t, conn, `update pgqueue.ticker set planned_at = planned_at + interval '2 days', next_at = next_at + interval '2 days',
		due_at = due_at + interval '2 days', anchor = anchor + interval '2 days'`)
	refuse(t, conn, "update", "ticker", fmt.Sprintf("row.id = %d", value[int](t, conn, "select id from pgqueue.ticker where namespace = 'bad'")))

	faults := maintain(t, s, queue.ChorePrune)
	if len(faults) != 1 || faults[0].Namespace != "bad" || faults[0].Subject != "plan of ticker t" || faults[0].Known || !strings.Contains(faults[0].Err.Error(), "refused") {
		t.Errorf("faults are %+v", faults)
	}
	if n := value[int](t, conn, "select count(*) from pgqueue.ticker where "+ahead); n != 1 {
		t.Errorf("%d tickers are planned ahead, want 1", n)
	}
	postgrestest.Advance(t, s, time.Hour+time.Second)
	if done, err := s.Maintain(t.Context(), queue.ChoreTick); err != nil || len(done.Ticks) != 2 {
		t.Errorf("the other tickers fired %d times, want 2: %v", len(done.Ticks), err)
	}
	if faults := maintain(t, s, queue.ChorePrune); len(faults) != 1 || !faults[0].Known {
		t.Errorf("a minute later faults are %+v", faults)
	}

	sql(t, conn, "drop trigger refuse_ticker on pgqueue.ticker")
	if faults := maintain(t, open(t, dsn), queue.ChorePrune); len(faults) > 0 {
		t.Errorf("once it is mended, faults are %+v", faults)
	}
	if n := value[int](t, conn, "select count(*) from pgqueue.ticker where "+ahead); n != 0 {
		t.Errorf("%d tickers are planned ahead, want none", n)
	}
}

// TestPoisonedGroups has the database refuse what the auditor of groups writes for one queue: it mends the groups of the others, and
// names the queue.
func TestPoisonedGroups(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, c := range []struct{ name, plant, operation, table, first, left string }{
		{
			"states that limits no longer need",
			`insert into pgqueue.group_state (queue_id, grp, version, holders, rate_state) select q.id, hashtextextended(g::text, 0), 1, '{}', 0 from pgqueue.queue q cross join generate_series(1, 4) g`,
			"delete", "group_state", "select min(s.grp) from pgqueue.group_state s where s.holders = '{}' and s.queue_id = $1",
			"select count(*) from pgqueue.group_state s where s.holders = '{}' and s.queue_id = $1",
		},
		{
			"groups that could go on and have no marker",
			"with gone as (delete from pgqueue.group_state) delete from pgqueue.ready where n = 0",
			"insert", "ready", "select min(w.grp) from pgqueue.group_waiting w where w.queue_id = $1",
			"select 4 - count(distinct r.grp) from pgqueue.ready r where r.n = 0 and r.queue_id = $1",
		},
	} {
		for _, whole := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, all of a queue are refused: %t", c.name, whole), func(t *testing.T) {
				t.Parallel()
				dsn := postgrestest.URL(t)
				s, conn := open(t, dsn), connect(t, dsn)
				for _, namespace := range []string{"bad", "good", "tests"} {
					makeFlowQueue(t, s, namespace, "mail", queue.FlowMeta{GroupConcurrency: new(1)})
					for _, group := range []string{"a", "b", "c", "d"} {
						makeGroupTask(t, s, namespace, "mail", group, 3)
					}
					if _, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: namespace, Requests: []queue.RetainShare{{Worker: "w", Limit: 20}}}); err != nil {
						t.Fatal(err)
					}
				}
				id := func(namespace string) int {
					return value[int](t, conn, "select id from pgqueue.queue where namespace = $1", namespace)
				}
				sql(t, conn, c.plant)
				when, refused := fmt.Sprintf("row.queue_id = %d", id("bad")), 4
				if !whole {
					when += fmt.Sprintf(" and row.grp = %d", value[int64](t, conn, c.first, id("bad")))
					refused = 1
				}
				refuse(t, conn, c.operation, c.table, when)

				s = open(t, dsn) // its auditor begins at once
				faults := maintain(t, s, queue.ChorePrune)
				if len(faults) != refused {
					t.Errorf("%d faults, want %d", len(faults), refused)
				}
				for _, f := range faults {
					if f.Namespace != "bad" || f.Subject != "groups of queue mail" || !strings.Contains(f.Err.Error(), "refused") {
						t.Errorf("got the fault %+v", f)
					}
				}
				left := func(namespace string) int { return value[int](t, conn, c.left, id(namespace)) }
				if bad, good, other := left("bad"), left("good"), left("tests"); bad != refused || good != 0 || other != 0 {
					t.Errorf("%d, %d and %d groups are left, want %d, 0 and 0", bad, good, other, refused)
				}
				sql(t, conn, fmt.Sprintf("drop trigger refuse_%s on pgqueue.%[1]s", c.table))
				maintain(t, open(t, dsn), queue.ChorePrune) // another process has passed over nothing
				if n := left("bad"); n != 0 {
					t.Errorf("%d groups are left once it is mended, want none", n)
				}
			})
		}
	}
}
