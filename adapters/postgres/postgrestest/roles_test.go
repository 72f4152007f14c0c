package postgrestest_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// roleRights are the rights of each role of deploy/sql/roles.sql on each table: S(elect), I(nsert), U(pdate), D(elete),
// T(runcate). A small letter is a right on some columns only.
var roleRights = map[string]struct{ server, readonly, producer string }{
	"access_token":   {"SIU", "", ""},
	"audit":          {"Si", "S", ""},
	"cell":           {"S", "", ""},
	"count_now":      {"S", "S", "S"},
	"delayed":        {"SIUD", "S", "I"},
	"done":           {"SIUDT", "S", ""},
	"done_p":         {"SIUDT", "S", ""},
	"errors":         {"S", "S", ""},
	"event":          {"SIUD", "S", "I"},
	"event_snapshot": {"SIUD", "S", ""},
	"fold":           {"SIUD", "S", ""},
	"group_policy":   {"SIUD", "S", "S"},
	"group_state":    {"SIUD", "S", ""},
	"group_waiting":  {"SIUD", "S", "I"},
	"group_wake":     {"SIUD", "S", ""},
	"home":           {"S", "S", ""},
	"lane":           {"SIUD", "S", "sI"},
	"lease":          {"SIUD", "S", ""},
	"lease_beat":     {"SIUD", "S", ""},
	"migration":      {"S", "S", ""},
	"part":           {"SIUD", "S", "S"},
	"place":          {"SI", "S", ""},
	"queue":          {"SIUD", "S", "S"},
	"queue_count":    {"SIUD", "S", ""},
	"queue_history":  {"SIUD", "S", ""},
	"queue_stats":    {"S", "S", ""},
	"queues":         {"S", "S", ""},
	"ready":          {"SIUD", "S", "I"},
	"request":        {"SIUD", "S", ""},
	"session":        {"SIUD", "", ""},
	"state":          {"SIUD", "S", ""},
	"task":           {"SIUDT", "S", "I"},
	"task_error":     {"SIUD", "S", ""},
	"task_key":       {"SIUD", "S", "sI"},
	"task_now":       {"S", "S", ""},
	"task_p":         {"SIUDT", "S", ""},
	"tasks":          {"S", "S", ""},
	"tick":           {"SIUD", "S", ""},
	"ticker":         {"SIUD", "S", ""},
	"tickers":        {"S", "S", ""},
	"ticks":          {"S", "S", ""},
	"workers":        {"S", "S", ""},
}

// partitionNumber ends the name of a partition.
var partitionNumber = regexp.MustCompile(`_p\d+$`)

// TestTriggersOfServersHaveNoMoreRights: servers own the table of tasks, and so can give it a trigger. It runs with their rights when
// create_task inserts, not with those of the owner of the functions.
func TestTriggersOfServersHaveNoMoreRights(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	roles := setUpRoles(t, postgres.DefaultSchema)
	server := open(t, roles.login(t, "app"), postgres.WithSchema(roles.schema))
	mustQueue(t, server, "mail")
	createMail(t, server, "") // makes the first partition
	conn := roles.connect(t, "server")
	sql(t, conn, `create function pgqueue.spy() returns trigger language plpgsql as $$
		begin
			delete from pgqueue.audit;
			return new;
		end $$`,
		"create trigger spy before insert on pgqueue.task for each row execute function pgqueue.spy()")
	for _, role := range []string{"server", "producer"} {
		_, err := roles.connect(t, role).Exec(t.Context(), "select pgqueue.create_task('mail', '{}'::json)")
		if err == nil || !strings.Contains(err.Error(), "permission denied for table audit") {
			t.Errorf("a trigger of the server, run by create_task of the role %s: %v, want no right on audit", role, err)
		}
	}
	// The remedies of docs/security.md: a repair by a server's role, and a look at what is there.
	if found, err := server.Diagnose(t.Context()); err != nil || !slices.ContainsFunc(found, func(f queue.Finding) bool {
		return f.Name == "triggers" && f.Level == queue.LevelWarn && strings.Contains(f.Value, "spy of task")
	}) {
		t.Errorf("a server finds %+v, %v", found, err)
	} else if !slices.ContainsFunc(found, func(f queue.Finding) bool {
		return f.Name == "audit" && f.Level == queue.LevelOK && strings.Contains(f.Value, "can only add entries")
	}) {
		t.Errorf("a server says of its rights to the audit %+v", found)
	}

	sql(t, conn, "drop trigger spy on pgqueue.task",
		"insert into pgqueue.done (task_id, finished_at, token, queue_id, status, attempt) select task_id, now(), 0, queue_id, 4, 1 from pgqueue.ready limit 1")
	if repaired, err := server.RepairContradictions(t.Context()); err != nil || len(repaired) == 0 {
		t.Errorf("a repair of a server: %v, %v", repaired, err)
	}
	for _, role := range []string{"server", "producer"} {
		if _, err := roles.connect(t, role).Exec(t.Context(), "select pgqueue.create_task('mail', '{}'::json)"); err != nil {
			t.Errorf("create_task of the role %s: %v", role, err)
		}
	}
}

// TestRoleRights tries each right of each role on each table, and compares with the table above.
func TestRoleRights(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	for _, schema := range []string{postgres.DefaultSchema, "order"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			testRoleRights(t, setUpRoles(t, schema))
		})
	}
}

func testRoleRights(t *testing.T, roles roleLogins) {
	t.Helper()
	// The server makes partitions of its own.
	server := open(t, roles.login(t, "app"), postgres.WithSchema(roles.schema))
	mustQueue(t, server, "mail")
	createMail(t, server, "")

	tables := map[string][]string{} // the columns of each table and view
	views := map[string]bool{}
	rows, err := roles.admin.Query(t.Context(), `select c.relname, c.relkind = 'v', array_agg(a.attname::text order by a.attnum)
		from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		where c.relnamespace = (select oid from pg_namespace where nspname = $1) and c.relkind in ('r', 'p', 'v') group by 1, 2`, roles.schema)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	var isView bool
	var columns []string
	if _, err := pgx.ForEachRow(rows, []any{&name, &isView, &columns}, func() error {
		tables[name] = columns
		views[name] = isView
		columns = nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	seen := map[string]bool{}
	for _, role := range []string{"server", "readonly", "producer"} {
		conn := roles.connect(t, role)
		for _, name := range slices.Sorted(maps.Keys(tables)) {
			kind := partitionNumber.ReplaceAllString(name, "_p")
			seen[kind] = true
			row, known := roleRights[kind]
			if !known {
				t.Fatalf("the table of this test has no row for %s", kind)
			}
			want := map[string]string{"server": row.server, "readonly": row.readonly, "producer": row.producer}[role]
			if got := tryRights(t, conn, roles.schema, name, tables[name], views[name]); got != want {
				t.Errorf("%s has %q on %s, want %q", role, got, name, want)
			}
		}
	}
	for kind := range roleRights {
		if !seen[kind] {
			t.Errorf("the schema has no table %s", kind)
		}
	}
}

// tryRights returns the rights of the role of conn on a table, by statements that PostgreSQL plans and does not run; a
// truncate is rolled back.
func tryRights(t *testing.T, conn *pgx.Conn, schema, name string, columns []string, isView bool) string {
	t.Helper()
	table := pgx.Identifier{schema, name}.Sanitize()
	quoted := make([]string, len(columns))
	values := make([]string, len(columns))
	sets := make([]string, len(columns))
	for i, column := range columns {
		quoted[i] = pgx.Identifier{column}.Sanitize()
		values[i] = "default"
		sets[i] = quoted[i] + " = default"
	}

	may := func(statement string) bool {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(t.Context(), statement)
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		pg, ok := errors.AsType[*pgconn.PgError](err)
		return err == nil || ok && pg.Code != "42501"
	}

	var rights strings.Builder
	for _, right := range []struct {
		letter string
		form   string // %[1]s = the table, %[2]s = columns, %[3]s = values, %[4]s = assignments
		pieces int    // the number of columns; 0 for a right on whole tables
	}{
		{"S", "explain select %[2]s from %[1]s", len(columns)},
		{"I", "explain insert into %[1]s (%[2]s) values (%[3]s)", len(columns)},
		{"U", "explain update %[1]s set %[4]s", len(columns)},
		{"D", "explain delete from %[1]s", 0},
		{"T", "truncate %[1]s", 0},
	} {
		whole := fmt.Sprintf(right.form, table, strings.Join(quoted, ", "), strings.Join(values, ", "), strings.Join(sets, ", "))
		if right.letter != "S" && isView {
			continue // its tables have the rights that count
		}
		if may(whole) {
			rights.WriteString(right.letter)
			continue
		}
		for i := range right.pieces {
			if may(fmt.Sprintf(right.form, table, quoted[i], values[i], sets[i])) {
				rights.WriteString(strings.ToLower(right.letter))
				break
			}
		}
	}
	return rights.String()
}

// createMail creates a task with a marked payload.
func createMail(t *testing.T, s *postgres.Store, key string) {
	t.Helper()
	task := queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(`"MARKED"`), Key: key, Headers: map[string]string{"h": "MARKED"}}}
	if _, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "default", Tasks: []queue.NewTask{task}}); err != nil {
		t.Fatal(err)
	}
}

// TestProducerRole: the producer's role is enough for creates in a caller's transaction, and for no more.
func TestProducerRole(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	roles := setUpRoles(t, postgres.DefaultSchema)
	server := open(t, roles.login(t, "app"))
	mustQueue(t, server, "mail")
	createMail(t, server, "taken")
	producer := open(t, roles.login(t, "producer"))
	conn := roles.connect(t, "producer")

	inTx := func(t *testing.T, tasks ...queue.NewTask) ([]*queue.Task, error) {
		t.Helper()
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		x, err := producer.InTx(tx, "default")
		if err != nil {
			t.Fatal(err)
		}
		made, err := x.CreateTasks(t.Context(), tasks)
		if err == nil {
			err = tx.Commit(t.Context())
		}
		return made, err
	}
	newMail := func(meta queue.TaskMeta) queue.NewTask {
		meta.Payload = []byte(`"own"`)
		return queue.NewTask{Queue: "mail", TaskMeta: meta}
	}

	t.Run("it creates tasks: few, many, delayed, with a priority, with a key", func(t *testing.T) {
		many := make([]queue.NewTask, 500)
		for i := range many {
			many[i] = newMail(queue.TaskMeta{})
		}
		for name, tasks := range map[string][]queue.NewTask{
			"one":      {newMail(queue.TaskMeta{})},
			"many":     many,
			"delayed":  {newMail(queue.TaskMeta{Delay: time.Hour})},
			"priority": {newMail(queue.TaskMeta{Priority: 7})},
			"key":      {newMail(queue.TaskMeta{Key: "new", Headers: map[string]string{"a": "b"}})},
		} {
			made, err := inTx(t, tasks...)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got, err := server.GetTasks(t.Context(), "default", []int64{made[len(made)-1].ID}, false); err != nil || string(got[0].Payload) != `"own"` {
				t.Errorf("%s: the server reads %v, %v", name, got, err)
			}
		}
	})

	t.Run("a key that exists is refused, because the answer is the task of that key with its content", func(t *testing.T) {
		for _, key := range []string{"new", "taken"} {
			_, err := inTx(t, newMail(queue.TaskMeta{Key: key}))
			if err == nil || !strings.Contains(err.Error(), "privilege") || strings.Contains(err.Error(), "MARKED") {
				t.Errorf("the key %s: %v", key, err)
			}
		}
	})

	t.Run("it reads no content, token or entry of the audit", func(t *testing.T) {
		if err := server.RecordAudit(t.Context(), access.AuditEntry{Operation: "MARKED"}); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{
			"select payload from pgqueue.task", "select headers from pgqueue.task", "select payload from pgqueue.task_now",
			"select result, progress, headers from pgqueue.task_now", "select result from pgqueue.done", "select result from pgqueue.state",
			"select error from pgqueue.task_error", "select payload from pgqueue.ticker", "select payload from pgqueue.tick",
			"select fingerprint from pgqueue.task_key", "select digest from pgqueue.access_token", "select id from pgqueue.access_token", "select digest from pgqueue.session", "select id from pgqueue.audit",
			"insert into pgqueue.task (queue_id, id, payload, created_at, priority, retries) values (1, 1, '1', now(), 1, 1) returning payload",
			"select pgqueue.prune_audit(0, 1)", "select * from pgqueue.done", "delete from pgqueue.task_key",
			"update pgqueue.queue set paused = true", "create table pgqueue.x (i int)",
		} {
			_, err := conn.Exec(t.Context(), q)
			if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
				t.Errorf("%s: %v", q, err)
			}
		}
	})
}

// TestAuditRights: a server appends to the audit and can change nothing of it: neither an entry, nor its time, nor its end
// before the least retention.
func TestAuditRights(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	roles := setUpRoles(t, postgres.DefaultSchema)
	server := open(t, roles.login(t, "app"))
	if err := server.RecordAudit(t.Context(), access.AuditEntry{Operation: "kept"}); err != nil {
		t.Fatal(err)
	}
	conn := roles.connect(t, "app")

	for _, q := range []string{
		"update pgqueue.audit set operation = 'x'", "delete from pgqueue.audit", "truncate pgqueue.audit", "drop table pgqueue.audit",
		"alter table pgqueue.audit disable trigger all", "create rule r as on insert to pgqueue.audit do instead nothing",
		"create trigger r before insert on pgqueue.audit for each row execute function suppress_redundant_updates_trigger()",
		"select * from pgqueue.audit for update",
		"insert into pgqueue.audit (at) values (now())", "insert into pgqueue.audit (id) overriding system value values (1)",
		"alter function pgqueue.prune_audit(bigint, integer) security invoker",
		"create or replace function pgqueue.nanos(n bigint) returns interval language sql as 'select interval ''1 s'''",
	} {
		_, err := conn.Exec(t.Context(), q)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
			t.Errorf("%s: %v", q, err)
		}
	}

	// Neither a small nor a negative age, nor a function of the caller's own, removes a recent entry.
	postgrestest.Advance(t, open(t, roles.dsn), access.MinAuditRetention-time.Hour)
	if _, err := conn.Exec(t.Context(), "create schema mine"); err == nil {
		t.Error("the server's role may make schemas")
	}
	for _, age := range []int64{0, 1, -1 << 62} {
		if n := value[int64](t, conn, "select pgqueue.prune_audit($1, 1000)", age); n != 0 {
			t.Errorf("age %d removed %d", age, n)
		}
	}
	if page, err := server.ListAudit(t.Context(), access.AuditFilter{}); err != nil || len(page.Entries) != 1 {
		t.Errorf("got %v, %v", page, err)
	}

	// The readers of tables may not call it, and nothing gives the function to the public.
	for _, role := range []string{"readonly", "producer"} {
		_, err := roles.connect(t, role).Exec(t.Context(), "select pgqueue.prune_audit(0, 1)")
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
			t.Errorf("%s: %v", role, err)
		}
	}

	// Past the retention the server removes it with these rights.
	postgrestest.Advance(t, open(t, roles.dsn), access.DefaultAuditRetention)
	pruneAll(t, server)
	if page, err := server.ListAudit(t.Context(), access.AuditFilter{}); err != nil || len(page.Entries) != 0 {
		t.Errorf("past the retention: %v, %v", page, err)
	}
}
