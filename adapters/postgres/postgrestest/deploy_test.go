package postgrestest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// runAll runs a script as psql would.
func runAll(t *testing.T, conn *pgx.Conn, text string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

// TestScripts: what lies in deploy/sql is what the program writes for the default schema.
func TestScripts(t *testing.T) {
	needsDatabase(t)
	s := postgrestest.Open(t)
	for name, want := range map[string]string{"roles.sql": s.RolesSQL(), "after-restore.sql": s.AfterRestoreSQL()} {
		b, err := os.ReadFile("../../../deploy/sql/" + name)
		if err != nil || string(b) != want {
			t.Errorf("%s is not what the program writes: %v", name, err)
		}
	}
}

// inSchema is a test's statement, written for the default schema, for another.
func inSchema(schema string) func(string) string {
	quoted := pgx.Identifier{schema}.Sanitize()
	return strings.NewReplacer("pgqueue.", quoted+".", "schema pgqueue", "schema "+quoted).Replace
}

// TestRoles holds the script of roles to "least privileges, and the store works with the server's role alone".
func TestRoles(t *testing.T) {
	needsDatabase(t)
	for _, schema := range []string{postgres.DefaultSchema, "order"} { // the latter is a word of SQL
		t.Run(schema, func(t *testing.T) { testRoles(t, schema) })
	}
}

// roleLogins are the roles of the script under names of one test, which may log in.
type roleLogins struct {
	admin  *pgx.Conn
	dsn    string // of admin
	schema string
	prefix string
}

// login returns the connection string of a role of the script, as "server".
func (r roleLogins) login(t *testing.T, role string) string {
	t.Helper()
	return withUser(t, r.dsn, r.prefix+"_"+role, "p")
}

// connect returns a connection as a role of the script.
func (r roleLogins) connect(t *testing.T, role string) *pgx.Conn {
	t.Helper()
	return connect(t, r.login(t, role))
}

// setUpRoles runs the script as its head says: before the first migration, and again after it. The role app acts as the
// server's.
func setUpRoles(t *testing.T, schema string) roleLogins {
	t.Helper()
	r := roleLogins{dsn: postgrestest.Empty(t), schema: schema}
	r.admin = connect(t, r.dsn)
	// Roles belong to the whole server, so these are this test's own.
	r.prefix = "pgq_" + strings.ToLower(rand.Text()[:8])
	names := []string{"owner", "server", "definer", "readonly", "producer"}
	var pairs []string
	for _, name := range names {
		pairs = append(pairs, "pgqueue_"+name, r.prefix+"_"+name)
	}
	text := strings.NewReplacer(pairs...).Replace(open(t, r.dsn, postgres.WithSchema(schema)).RolesSQL())
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, name := range append([]string{"app"}, names...) {
			for _, q := range []string{"drop owned by %s cascade", "drop role if exists %s"} {
				if _, err := r.admin.Exec(ctx, fmt.Sprintf(q, r.prefix+"_"+name)); err != nil {
					t.Error(err)
				}
			}
		}
	})

	runAll(t, r.admin, text)
	for _, name := range names {
		sql(t, r.admin, "alter role "+r.prefix+"_"+name+" login password 'p'")
	}
	sql(t, r.admin, "create role "+r.prefix+"_app login password 'p' in role "+r.prefix+"_server",
		"alter role "+r.prefix+"_app set role = "+r.prefix+"_server")
	up(t, open(t, r.login(t, "owner"), postgres.WithSchema(schema)))
	runAll(t, r.admin, text)
	runAll(t, r.admin, text)
	return r
}

func testRoles(t *testing.T, schema string) {
	t.Helper()
	in := inSchema(schema)
	roles := setUpRoles(t, schema)
	dsn := roles.dsn
	admin := roles.admin

	s := open(t, roles.login(t, "app"), postgres.WithPartitionSize(1000), postgres.WithSchema(schema))
	ctx := t.Context()
	chores := func() {
		t.Helper()
		for _, c := range queue.Chores() {
			for more := true; more; {
				m, err := s.Maintain(ctx, c)
				if err != nil {
					t.Fatalf("%s: %v", c, err)
				}
				more = m.More
			}
		}
	}
	oldest := func() int64 { return value[int64](t, admin, in("select min(lower) from pgqueue.part")) }

	t.Run("the store works with the server's role alone", func(t *testing.T) {
		if err := s.Ping(ctx); err != nil {
			t.Fatal(err)
		}
		if done, err := s.MigrateUp(ctx); err != nil || len(done) > 0 {
			t.Fatal(done, err)
		}
		mustQueue(t, s, "mail")
		tasks := make([]queue.NewTask, 1500)
		for i := range tasks {
			tasks[i].Queue = "mail"
			tasks[i].Payload = queue.EmptyJSON
		}
		tasks[0].Key = "k"
		for range 2 {
			if _, err := s.CreateTasks(ctx, queue.Create{Namespace: "default", Tasks: tasks, Atomic: true}); err != nil {
				t.Fatal(err)
			}
			tasks[0].Key = ""
		}
		held := retain(t, s, 10)
		if _, err := s.HeartbeatTasks(ctx, "default", []queue.Heartbeat{{ID: held[0].ID, Token: held[0].Lease.Token, Progress: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
		var releases []queue.Release
		for i, o := range []queue.Outcome{queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomePermanent, queue.OutcomeHandBack} {
			releases = append(releases, queue.Release{ID: held[i].ID, Token: held[i].Lease.Token, Outcome: o})
		}
		out, err := s.ReleaseTasks(ctx, "default", releases)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}
		if _, err := s.RetryTasks(ctx, "default", queue.Selection{IDs: []int64{held[2].ID}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CancelTasks(ctx, "default", queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.DeleteTasks(ctx, "default", queue.Selection{IDs: []int64{held[0].ID}}); err != nil {
			t.Fatal(err)
		}
		tk, err := queue.NewTicker("default", queue.TickerMeta{Name: "tick", Period: new(time.Hour), Queue: new("mail")}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateTicker(ctx, tk); err != nil {
			t.Fatal(err)
		}
		if _, err := s.RunTicker(ctx, "default", "tick"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.DeleteTicker(ctx, "default", "tick"); err != nil { // or it would go on making tasks
			t.Fatal(err)
		}
		chores()
		if _, err := s.Diagnose(ctx); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("and drops partitions that are past retention", func(t *testing.T) {
		// The migration made the first partition, by another role. It is nearly full.
		sql(t, admin, in("select setval('pgqueue.turn', (select max(upper) from pgqueue.part) - 500)"))
		before := oldest()
		tasks := make([]queue.NewTask, 2000) // on to the next partition
		for i := range tasks {
			tasks[i].Queue, tasks[i].Payload = "mail", queue.EmptyJSON
		}
		for range 2 {
			if _, err := s.CreateTasks(ctx, queue.Create{Namespace: "default", Tasks: tasks, Atomic: true}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.CancelTasks(ctx, "default", queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // first what is held is rescued, then that is past retention too
			postgrestest.Advance(t, open(t, dsn, postgres.WithSchema(schema)), 30*24*time.Hour)
			chores()
		}
		if after := oldest(); after <= before {
			t.Errorf("the oldest partition began at %d before, at %d after", before, after)
		}
	})

	denied := func(t *testing.T, dsn string, statements ...string) {
		t.Helper()
		conn := connect(t, dsn)
		for _, q := range statements {
			_, err := conn.Exec(ctx, in(q))
			if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
				t.Errorf("%s: %v", q, err)
			}
		}
	}
	t.Run("the server's role changes no table, function or record of migrations", func(t *testing.T) {
		denied(t, roles.login(t, "app"),
			"drop table pgqueue.queue", "alter table pgqueue.ready add column x int", "update pgqueue.migration set name = 'x'",
			"create or replace function pgqueue.clock() returns timestamptz language sql as 'select now()'",
			"drop schema pgqueue cascade", "create schema other")
	})
	t.Run("the read-only role reads and does not write", func(t *testing.T) {
		viewer := roles.login(t, "readonly")
		conn := connect(t, viewer)
		if n := value[int64](t, conn, in("select count(*) from pgqueue.event")); n == 0 {
			t.Error("it sees nothing")
		}
		value[int64](t, conn, in("select count(*) from pgqueue.task_now"))
		denied(t, viewer, "delete from pgqueue.task", "insert into pgqueue.lane values (1, 1)", "create table pgqueue.x (i int)")
	})
}

// TestAfterRestore holds the script, and the command that runs it, to "counts and feed go on after a dump was restored
// elsewhere".
func TestAfterRestore(t *testing.T) {
	needsDatabase(t)
	for _, schema := range []string{postgres.DefaultSchema, "select"} {
		t.Run(schema+" by the script", func(t *testing.T) {
			testAfterRestore(t, schema, func(admin *pgx.Conn, s *postgres.Store) { runAll(t, admin, "begin;"+s.AfterRestoreSQL()+"commit;") })
		})
		t.Run(schema+" by the command", func(t *testing.T) {
			testAfterRestore(t, schema, func(_ *pgx.Conn, s *postgres.Store) {
				if err := s.AfterRestore(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func testAfterRestore(t *testing.T, schema string, run func(admin *pgx.Conn, s *postgres.Store)) {
	t.Helper()
	in := inSchema(schema)
	dsn := postgrestest.URL(t)
	admin := connect(t, dsn)
	s := open(t, dsn, postgres.WithSchema(schema))
	if schema != postgres.DefaultSchema {
		up(t, s)
	}
	ctx := t.Context()
	mustQueue(t, s, "mail")
	create := func(n int) {
		t.Helper()
		tasks := make([]queue.NewTask, n)
		for i := range tasks {
			tasks[i].Queue, tasks[i].Payload = "mail", queue.EmptyJSON
		}
		if _, err := s.CreateTasks(ctx, queue.Create{Namespace: "default", Tasks: tasks, Atomic: true}); err != nil {
			t.Fatal(err)
		}
	}
	fold := func() {
		t.Helper()
		if _, err := s.Maintain(ctx, queue.ChoreFold); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int64 {
		t.Helper()
		st, err := s.QueueStats(ctx, "default", "mail")
		if err != nil {
			t.Fatal(err)
		}
		return st[0].Counts[queue.StatusNew]
	}
	create(3)
	fold()
	create(2) // not folded when the dump is made
	lost := retain(t, s, 1)[0]
	fillGroups(t, s, "order", queue.FlowMeta{Order: new(queue.OrderFIFO)})
	groups := func() *queue.QueueStats {
		t.Helper()
		st, err := s.QueueStats(ctx, "order", "mail")
		if err != nil {
			t.Fatal(err)
		}
		return st[0]
	}
	waiting := groups()
	// A dump of a cluster that has seen a billion transactions more.
	sql(t, admin, in(`update pgqueue.event set xid = (xid::text::bigint + 1000000000)::text::xid8`),
		in(`update pgqueue.fold set seen = format('%1$s:%1$s:', pg_snapshot_xmax(seen)::text::bigint + 1000000000)::pg_snapshot`))

	t.Run("a restore alone loses count of what comes next", func(t *testing.T) { // else the script is not needed
		before := count()
		create(1)
		if n := count(); n != before {
			t.Error("counts go on without it")
		}
	})
	// The task above came before its time: no server runs before the script.
	sql(t, admin, in("delete from pgqueue.event where xid < '1000000000'"))

	// Of the moment before that retain, and of a replication, which carries no sequences along.
	sql(t, admin, in("select setval('pgqueue.token', 1, false), setval('pgqueue.turn', 1, false), setval('pgqueue.number', 1, false)"))
	run(admin, s)
	t.Run("tokens of the time that was lost are not given out again", func(t *testing.T) {
		if after := retain(t, s, 1)[0]; after.Lease.Token <= lost.Lease.Token {
			t.Errorf("token %d, after %d before", after.Lease.Token, lost.Lease.Token)
		}
	})
	t.Run("rows that the dump had not folded are counted", func(t *testing.T) {
		if n := count(); n != 3 {
			t.Errorf("%d new tasks, want 3", n)
		}
		if st := groups(); waiting.GroupWaiting < 5 || st.GroupWaiting != waiting.GroupWaiting || st.Ready != waiting.Ready || !maps.Equal(st.Counts, waiting.Counts) {
			t.Errorf("tasks that wait for their group: %+v, want %+v", st, waiting)
		}
	})
	t.Run("counts and feed go on", func(t *testing.T) {
		after, err := s.LastEvent(ctx, "tests")
		if err != nil {
			t.Fatal(err)
		}
		create(4)
		fold()
		fold()
		if n := count(); n != 7 {
			t.Errorf("%d new tasks, want 7", n)
		}
		page, err := s.ListEvents(ctx, "default", queue.EventFilter{After: after}, 100)
		if err != nil || len(page.Events) != 4 {
			t.Errorf("%d events, want 4: %v", len(page.Events), err)
		}
	})
	t.Run("ids go on, and queues can be made", func(t *testing.T) {
		mustQueue(t, s, "other")
		made, err := s.CreateTasks(ctx, queue.Create{Namespace: "default", Tasks: []queue.NewTask{{Queue: "other", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}}}})
		if err != nil || made[0].Task.ID <= 6 {
			t.Errorf("%+v, %v", made, err)
		}
	})
}
