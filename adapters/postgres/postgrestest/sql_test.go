package postgrestest_test

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"crypto/sha256"
	stdsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/adapters/sqltx"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// sqlProducer is a service that creates its tasks by the SQL API.
type sqlProducer struct {
	queue.Service
	db     *stdsql.DB
	schema sqltx.Option
	known  *sync.Map // ids that were given before
}

func (p *sqlProducer) In(namespace string) (queue.Service, error) {
	s, err := p.Service.In(namespace)
	if err != nil {
		return nil, err
	}
	return &sqlProducer{s, p.db, p.schema, p.known}, nil
}

func (p *sqlProducer) CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	id, err := repeatSerialized(func() (int64, error) {
		return sqltx.CreateTask(ctx, p.db, name, meta, p.schema, sqltx.WithNamespace(p.Namespace()))
	})
	if err != nil {
		return nil, err
	}
	return p.read(ctx, id)
}

// repeatSerialized repeats a transaction that PostgreSQL ended because of others, as a caller must under a default isolation of
// serializable.
func repeatSerialized[V any](do func() (V, error)) (V, error) {
	for try := 1; ; try++ {
		v, err := do()
		var sent interface {
			error
			SQLState() string
		}
		if !errors.As(err, &sent) || sent.SQLState() != "40001" || try == 50 {
			return v, err
		}
	}
}

func (p *sqlProducer) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	return repeatSerialized(func() ([]*queue.Task, error) { return p.createTasksOnce(ctx, tasks) })
}

func (p *sqlProducer) createTasksOnce(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	ids, err := sqltx.CreateTasks(ctx, tx, tasks, p.schema, sqltx.WithNamespace(p.Namespace()))
	if err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}

	out := make([]*queue.Task, len(ids))
	for i, id := range ids {
		if len(ids) > 1000 { // a get each would take minutes
			out[i] = &queue.Task{ID: id}
			continue
		}
		if out[i], err = p.read(ctx, id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *sqlProducer) read(ctx context.Context, id int64) (*queue.Task, error) {
	t, err := p.GetTask(ctx, id)
	if err == nil {
		_, t.Replayed = p.known.LoadOrStore(id, true)
	}
	return t, err
}

// TestServiceOverSQL holds the SQL API to the sentences of the producer; in the long form the rest of the service too, to tasks
// that the API made.
func TestServiceOverSQL(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	testServiceOverSQL(t, postgres.DefaultSchema, func(_ testing.TB, url string) string { return url },
		sized(t, []string{"produce", "exact JSON", "await", "arguments", "input", "key rules"}, nil))
}

// TestServiceOverSQLInAnotherSchema holds producers to the same sentences in a schema with a name that must be quoted.
func TestServiceOverSQLInAnotherSchema(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	testServiceOverSQL(t, "order", func(_ testing.TB, url string) string { return url },
		sized(t, []string{"produce", "key rules"}, []string{"produce", "exact JSON", "await", "arguments", "input", "key rules"}))
}

// testServiceOverSQL holds producers to the sentences of some topics. caller turns the URL of a database into that of the producers.
func testServiceOverSQL(t *testing.T, schema string, caller func(t testing.TB, url string) string, topics []string) {
	t.Helper()
	var stores sync.Map
	store := func(t testing.TB, s queue.Service) *postgres.Store {
		t.Helper()
		v, _ := stores.Load(s)
		return v.(*postgres.Store)
	}
	queuetest.TestService(t, queuetest.ServiceHarness{
		New: func(t testing.TB) queue.Service {
			url := postgrestest.URL(t)
			s := postgrestest.OpenURL(t, url, postgres.WithSchema(schema))
			firstPartition(t, s)
			m, err := manager.New(s)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			db := openSQL(t, "pgx", caller(t, url))
			p := &sqlProducer{m, db, sqltx.WithSchema(schema), &sync.Map{}}
			stores.Store(queue.Service(p), s)
			return p
		},
		Advance: func(t testing.TB, s queue.Service, d time.Duration) { postgrestest.Advance(t, store(t, s), d) },
		Chores:  func(t testing.TB, s queue.Service) { queuetest.Chores(t, store(t, s)) },
		Topics:  topics,
	})
}

// TestServiceOverSQLTurned holds the producers to the same sentences from a session with all settings turned, which is the
// application's: it states the encoding of its driver alone.
func TestServiceOverSQLTurned(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	testServiceOverSQL(t, postgres.DefaultSchema, func(t testing.TB, url string) string {
		return postgrestest.Turned(t, url, true) + "&client_encoding=UTF8"
	}, sized(t, []string{"produce", "key rules"}, []string{"produce", "exact JSON", "await", "arguments", "input", "key rules"}))
}

// TestDelaysInZones: a day of a delay is 24 hours from a session of a time zone in which the clock changes.
func TestDelaysInZones(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	firstPartition(t, s)
	mustQueue(t, s, "mail")
	db := connect(t, dsn)
	sql(t, db, "set timezone = 'America/St_Johns'")

	wait := func(id int64) time.Duration {
		t.Helper()
		tasks, err := s.GetTasks(t.Context(), queue.DefaultNamespace, []int64{id}, false)
		if err != nil || len(tasks) != 1 {
			t.Fatal(tasks, err)
		}
		return tasks[0].DelayedAt.Sub(tasks[0].CreatedAt)
	}
	const day = 24 * time.Hour
	for days := 30; days < 365; days += 30 { // some of them end behind one change of the clock
		delay := fmt.Sprintf("%d days", days)
		id := value[int64](t, db, "select pgqueue.create_task('mail', '{}'::json, delay => $1::text::interval)", delay)
		if got := wait(id); got != time.Duration(days)*day {
			t.Errorf("a delay of %s is %s longer", delay, got-time.Duration(days)*day)
		}

		const debounced = "select pgqueue.create_task('mail', '{}'::json, key => $1, options => jsonb_build_object('debounce', $1::text, 'debounce_max', $1::text))"
		first := value[int64](t, db, debounced, delay)
		if got := wait(first); got != time.Duration(days)*day {
			t.Errorf("a debounce of %s is %s longer", delay, got-time.Duration(days)*day)
		}
		second := value[int64](t, db, debounced, delay)
		if got := wait(second); got > time.Duration(days)*day || got < time.Duration(days)*day-time.Minute {
			t.Errorf("a debounce of at most %s is %s longer", delay, got-time.Duration(days)*day)
		}
	}
	if got := wait(value[int64](t, db, "select pgqueue.create_task('mail', '{}'::json, delay => '1 month')")); got != 30*day {
		t.Errorf("a month is %s", got)
	}
	for _, delay := range []string{"10 years", "3650 days 1 second", "-1 day", "178000000 years"} {
		for _, text := range []string{
			"select pgqueue.create_task('mail', '{}'::json, delay => $1::text::interval)",
			"select pgqueue.create_task('mail', '{}'::json, key => 'long', options => jsonb_build_object('debounce', $1::text))",
		} {
			if _, err := db.Exec(t.Context(), text, delay); err == nil {
				t.Errorf("%s is taken: %s", delay, text)
			} else if code, _ := sqlState(t, err); code != "PQ422" {
				t.Errorf("%s: %v", delay, err)
			}
		}
	}
}

// openSQL opens a database by a driver of database/sql.
func openSQL(t testing.TB, driver, url string) *stdsql.DB {
	t.Helper()
	db, err := stdsql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// firstPartition makes the first partition, which the databases of tests lack.
func firstPartition(t testing.TB, s *postgres.Store) {
	t.Helper()
	queuetest.Chores(t, s)
}

// migrated returns a connection to a database as the migrations leave it, without any server, and its queue mail.
func migrated(t *testing.T, schema string) *pgx.Conn {
	t.Helper()
	dsn := postgrestest.Empty(t)
	s := open(t, dsn, postgres.WithSchema(schema))
	up(t, s)
	mustQueue(t, s, "mail")
	return connect(t, dsn)
}

// sqlState returns the SQLSTATE and the message of an error of PostgreSQL.
func sqlState(t *testing.T, err error) (code, message string) {
	t.Helper()
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		t.Fatalf("got %v, want an error of PostgreSQL", err)
	}
	return e.Code, e.Message
}

func TestCreateTaskForms(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	conn := migrated(t, postgres.DefaultSchema)
	for _, form := range []struct {
		call string
		args []any
		want string // the payload
	}{
		{"create_task('mail')", nil, `{}`},
		{`create_task('mail', '{"a": 1}')`, nil, `{"a": 1}`},
		{`create_task('mail', '{"a": 1}'::json)`, nil, `{"a": 1}`},
		{`create_task('mail', '{"b":1,"a": 1}'::jsonb)`, nil, `{"a": 1, "b": 1}`},
		{"create_task('mail', json_build_object('id', 7))", nil, `{"id" : 7}`},
		{"create_task('mail', jsonb_build_object('id', 7))", nil, `{"id": 7}`},
		{"create_task($1, $2)", []any{"mail", "[1]"}, `[1]`},
		{"create_task($1, $2::jsonb)", []any{"mail", "[1]"}, `[1]`},
		{"create_task(queue => 'mail', key => 'named')", nil, `{}`},
		{"create_task(queue => ' MAIL ', payload => 'null', priority => 5, namespace => 'default', options => '{}')", nil, `null`},
		{"create_task('mail', null::json)", nil, `{}`},
		{"create_task('mail', '1', delay => '1 hour', headers => '{\"a\": \"b\"}')", nil, `1`},
		{"create_tasks('mail', array['1', '2'])", nil, `1`},
		{"create_tasks('mail', array['1']::json[])", nil, `1`},
		{"create_tasks('mail', array['1']::jsonb[], priority => -3)", nil, `1`},
		{"create_tasks($1, $2::text[])", []any{"mail", []string{"[2]"}}, `[2]`},
		{"create_task('mail'::varchar, '[3]'::varchar, priority => 5::smallint, delay => '5 min')", nil, `[3]`}, // as JDBC sends texts
		{"create_task('mail', row_to_json((select x from (select 1 as a) x)), headers => jsonb_build_object('a', 'b')::json)", nil, `{"a":1}`},
		{"create_tasks('mail', '[0:1]={4,5}'::json[])", nil, `4`},
		{"create_tasks('mail', array[null, '6']::json[])", nil, `{}`},
	} {
		var id int64
		if err := conn.QueryRow(t.Context(), "select pgqueue."+form.call, form.args...).Scan(&id); err != nil {
			t.Errorf("%s: %v", form.call, err)
			continue
		}
		var got string
		if err := conn.QueryRow(t.Context(), "select payload::text from pgqueue.task where id = $1", id).Scan(&got); err != nil || got != form.want {
			t.Errorf("%s has the payload %s, want %s (%v)", form.call, got, form.want, err)
		}
	}
}

func TestBadInputOfSQL(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	conn := migrated(t, postgres.DefaultSchema)
	long := func(n int) string { return fmt.Sprintf("repeat('x', %d)", n) }
	str := func(n int) string { return fmt.Sprintf(`('"' || repeat('x', %d) || '"')`, n-2) }
	nest := func(n int) string { return fmt.Sprintf("(repeat('[', %d) || repeat(']', %d))", n, n) }
	object := func(n, size int) string {
		return fmt.Sprintf("(select json_object_agg('h' || lpad(i::text, 3, '0'), repeat('v', %d)) from generate_series(1, %d) i)", size-4, n)
	}

	if _, err := conn.Exec(t.Context(), "select pgqueue.create_task('mail', '1', key => 'there')"); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../../docs/how-to/sql.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ good, call, code, message string }{
		{"", "create_task(null)", "PQ422", "queue: must be"},
		{"", "create_task('')", "PQ422", "queue: must be"},
		{"", "create_task('a b')", "PQ422", "queue: must be"},
		{"", "create_task(" + long(64) + ")", "PQ422", "queue: must be"},
		{"", "create_task('none')", "PQ404", "queue none: not found"},
		{"", "create_task('mail', namespace => 'other')", "PQ404", "queue mail: not found"},
		{"", "create_task('mail', namespace => 'pgqueue')", "PQ422", "namespace: must be"},
		{"", "create_task('mail', namespace => 'a.b')", "PQ422", "namespace: must be"},
		{"", "create_task('mail', '{')", "PQ422", "payload: must be one JSON value, got '{'"},
		{"", "create_task('mail', ' ')", "PQ422", "payload: must be one JSON value"},
		// PostgreSQL converts the arguments before a function of pgqueue runs.
		{"", "create_task('mail', '{'::json)", "22P02", "invalid input syntax for type json"},
		{"", "create_task('mail', headers => '{')", "22P02", "invalid input syntax for type json"},
		{"", "create_task('mail', priority => 'high')", "22P02", "invalid input syntax for type integer"},
		{"", "create_task('mail', options => 'x')", "22P02", "invalid input syntax for type json"},
		{"", `create_task('mail', '{"a":"\u0000"}'::jsonb)`, "22P05", "unsupported Unicode escape sequence"},
		{"", "create_task('mail', (repeat('[', 100000) || repeat(']', 100000))::jsonb)", "54001", "stack depth limit exceeded"},
		{"", "create_task('mail', " + nest(100000) + ")", "PQ422", "payload: must be one JSON value"}, // a branch of its own in parse_json
		{"", "complete_task(1, 1, " + nest(100000) + ")", "PQ422", "result: must be one JSON value"},
		{"", "create_task('mail', delay => 'soon')", "22007", "invalid input syntax for type interval"},
		{"", "create_task('mail', delayed_at => 'soon')", "22007", "invalid input syntax for type timestamp"},
		{"", "create_task('mail', delayed_at => '2026-13-40')", "22008", "date/time field value out of range"},
		{"", "create_task('mail', priority => '99999999999')", "22003", "value"},
		{"", "create_task('mail', priority => 99999999999)", "42883", "function pgqueue.create_task(unknown, priority => bigint) does not exist"},
		{`create_task('mail', '"\ud83d\ude00 \\ud800"')`, `create_task('mail', '"\ud800"')`, "PQ422", "payload: must have no lone surrogate"},
		{"", `create_task('mail', '"\udc00\ud800"'::json)`, "PQ422", "payload: must have no lone surrogate"},
		{"create_task('mail', " + str(queue.DefaultMaxPayloadBytes) + ")", "create_task('mail', " + str(queue.DefaultMaxPayloadBytes+1) + ")", "PQ413", "payload: must have at most 1048576 bytes, got 1048577"},
		{"create_task('mail', " + nest(queue.MaxJSONDepth) + ")", "create_task('mail', " + nest(queue.MaxJSONDepth+1) + ")", "PQ422", "payload: must be nested at most 128"},
		{"create_task('mail', ('[' || repeat('{\"]\":[]},', 200) || '1]'))", "create_task('mail', repeat('[{\"\\\"\":', 65) || '1' || repeat('}]', 65))", "PQ422", "payload: must be nested at most 128"},
		{"create_task('mail', key => " + long(queue.MaxKeyBytes) + ")", "create_task('mail', key => " + long(queue.MaxKeyBytes+1) + ")", "PQ422", "key: must have at most 255 bytes, got 256"},
		{"create_task('mail', '1', key => 'there')", "create_task('mail', '2', key => 'there')", "PQ409", "key: must be new"},
		{"create_task('mail', priority => 32767)", "create_task('mail', priority => 32768)", "PQ422", "priority: must be a number from -32768 to 32767, got 32768"},
		{"create_task('mail', priority => -32768)", "create_task('mail', priority => -32769)", "PQ422", "priority: must be"},
		{"create_task('mail', delay => '3650 days')", "create_task('mail', delay => '3650 days 1 us')", "PQ422", "delay: must be a duration from 0"},
		{"create_task('mail', delay => '0')", "create_task('mail', delay => '-1 us')", "PQ422", "delay: must be a duration from 0"},
		{"", "create_task('mail', delay => '170000000 years')", "PQ422", "delay: must be a duration from 0"},
		{"", "create_task('mail', delay => '1 s', delayed_at => now())", "PQ422", "delay: must not come with delayed_at"},
		{"create_task('mail', delayed_at => '2020-01-01')", "create_task('mail', delayed_at => 'infinity')", "PQ422", "delayed_at: must be a time"},
		{"", "create_task('mail', delayed_at => '10000-01-01')", "PQ422", "delayed_at: must be a time"},
		{"create_task('mail', headers => '{}')", "create_task('mail', headers => '[]')", "PQ422", "headers: must be a JSON object, got array"},
		{"create_task('mail', headers => 'null')", "create_task('mail', headers => '{\"a\": 1}')", "PQ422", "headers: must have names and texts, got another form at a"},
		{"", "create_task('mail', headers => '{\"\": \"\"}')", "PQ422", "headers: must have names"},
		{"", `create_task('mail', headers => '{"a": "\u0000"}')`, "PQ422", "headers: must not contain NUL"},
		{"create_task('mail', headers => " + object(queue.MaxHeaders, 10) + ")", "create_task('mail', headers => " + object(queue.MaxHeaders+1, 10) + ")", "PQ422", "headers: must be at most 64 headers, got 65"},
		{"create_task('mail', headers => " + object(4, queue.MaxHeadersBytes/4) + ")", "create_task('mail', headers => " + object(4, queue.MaxHeadersBytes/4+1) + ")", "PQ422", "headers: must have at most 16384 bytes together, got 16388"},
		{"create_task('mail', options => null)", "create_task('mail', options => '{\"group\": 1, \"after\": 2}')", "PQ422", "options: must be known to this version (1), got"},
		{"", "create_task('mail', options => '[]')", "PQ422", "options: must be a JSON object"},
		{"", "create_tasks('mail', array['1', '{'])", "PQ422", "payloads[1]: must be one JSON value"},
		{"", `create_tasks('mail', array['1', '2', '"\ud800"']::json[])`, "PQ422", "payloads[2]: must have no lone surrogate"},
		{"create_tasks('mail', array(select '1' from generate_series(1, 10000)))", "create_tasks('mail', array(select '1' from generate_series(1, 10001)))", "PQ422", "payloads: must be at most 10000 tasks, got 10001"},
		{"", "complete_task(1, 1, '{')", "PQ422", "result: must be one JSON value"},
		{"", "complete_task(1, 1, " + str(queue.DefaultMaxPayloadBytes+1) + ")", "PQ413", "result: must have at most"},
		{"", `complete_task(1, 1, '"\ud800"'::json)`, "PQ422", "result: must have no lone surrogate"},
		{"", "complete_task(1, 1, options => '{\"x\": 1}')", "PQ422", "options: must be known"},
		{"", "complete_task(987654321, 256)", "PQ404", "task 987654321: not found"},
		{"", "complete_task(1, null)", "PQ410", "token: must be that of the present lease of task 1"},
		{"", "complete_task(1, 256)", "PQ410", "token: must be that of the present lease of task 1"},
	} {
		if c.good != "" {
			if _, err := conn.Exec(t.Context(), "select pgqueue."+c.good); err != nil {
				t.Errorf("%.100s: %v", c.good, err)
			}
		}

		before := contentOf(t, conn)
		_, err := conn.Exec(t.Context(), "select pgqueue."+c.call)
		if err == nil {
			t.Errorf("%.100s is taken, want %s", c.call, c.code)
			continue
		}
		if code, message := sqlState(t, err); code != c.code || !strings.HasPrefix(message, c.message) {
			t.Errorf("%.100s: %s %s, want %s %s", c.call, code, message, c.code, c.message)
		}
		if !bytes.Contains(page, []byte("`"+c.code+"`")) {
			t.Errorf("docs/how-to/sql.md does not have the SQLSTATE %s", c.code)
		}
		if after := contentOf(t, conn); after != before {
			t.Errorf("%.100s changed the tables: %s, want %s", c.call, after, before)
		}
	}

	t.Run("in an aborted transaction PostgreSQL refuses the call", func(t *testing.T) {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		_, _ = tx.Exec(t.Context(), "select 1/0")
		_, err = tx.Exec(t.Context(), "select pgqueue.create_task('mail')")
		if code, _ := sqlState(t, err); code != "25P02" {
			t.Errorf("SQLSTATE %s, want 25P02", code)
		}
	})
}

// contentOf returns the number of rows of the tables that a create writes.
func contentOf(t *testing.T, conn *pgx.Conn) (rows string) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `select concat_ws(' ', (select count(*) from pgqueue.task), (select count(*) from pgqueue.ready),
		(select count(*) from pgqueue.delayed), (select count(*) from pgqueue.task_key), (select sum(n) from pgqueue.event), (select count(*) from pgqueue.lane))`).Scan(&rows)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// muteOrdered replaces a task of a FIFO queue, and completes one, in transactions that mute NOTIFY.
func muteOrdered(t *testing.T, s *postgres.Store, exec func(t *testing.T, sql string, args ...any)) {
	t.Helper()
	in := pgx.Identifier{s.Schema()}.Sanitize() + "."
	q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{Name: "ordered", FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateQueue(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	create := "select " + in + `create_task('ordered', key => 'k', options => '{"group": "g", "on_conflict": "replace"}')`
	exec(t, "begin; set local pgqueue.notify = off; "+create+"; "+create+"; commit")

	held, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: queue.DefaultNamespace, Queues: []string{"ordered"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})
	if err != nil || len(held[0]) != 1 {
		t.Fatal(held, err)
	}
	exec(t, fmt.Sprintf("begin; set local pgqueue.notify = off; select %scomplete_task(%d, %d, '1'::json); commit", in, held[0][0].ID, held[0][0].Lease.Token))
}

// TestFunctionsAreClosed walks pg_proc: no function of the schema is executable by PUBLIC, and each that runs with the
// rights of its owner, or has a body that is read when it runs, has a search path.
func TestFunctionsAreClosed(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	for _, schema := range []string{postgres.DefaultSchema, "order"} {
		conn := migrated(t, schema)
		rows, err := conn.Query(t.Context(), `
			select p.oid::regprocedure::text, p.prosecdef, p.prosqlbody is null, coalesce(array_to_string(p.proconfig, E'\n'), ''), p.prosrc,
			       exists (select 1 from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0)
			from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = $1`, schema)
		if err != nil {
			t.Fatal(err)
		}
		var name, config, source string
		var definer, text, public bool
		seen, definers := 0, 0
		_, err = pgx.ForEachRow(rows, []any{&name, &definer, &text, &config, &source, &public}, func() error {
			seen++
			if definer {
				definers++
			}
			if public {
				t.Errorf("%s is executable by PUBLIC", name)
			}
			// A definer has a path also where its body is bound when it is made: a later change of its body keeps the path. Of the others,
			// those with a text look up their names at each call. The clock names the schema of all that it calls.
			switch closed := slices.Contains(strings.Split(config, "\n"), "search_path=pg_catalog, pg_temp"); {
			case closed || !definer && !text:
			case !definer && source == "begin return pg_catalog.clock_timestamp(); end":
			default:
				t.Errorf("%s has no search path of pg_catalog and pg_temp alone: %q", name, config)
			}
			return nil
		})
		if err != nil || seen < 25 || definers < 9 {
			t.Fatalf("saw %d functions, %d of them definers, want at least 25 and 9 (%v)", seen, definers, err)
		}
	}
}

// TestPayloadPrints compares the fingerprints of the SQL API with those of the store.
func TestPayloadPrints(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	conn := migrated(t, postgres.DefaultSchema)
	random := rand.New(rand.NewPCG(7, 11))
	var texts []string
	for range 2000 {
		texts = append(texts, randomJSON(random, 4))
	}
	rows, err := conn.Query(t.Context(), "select t, pgqueue.payload_print(t) from unnest($1::text[]) t", texts)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	var hash []byte
	if _, err := pgx.ForEachRow(rows, []any{&text, &hash}, func() error {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(text)); err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		if want := sha256.Sum256(compact.Bytes()); !bytes.Equal(hash, want[:]) {
			t.Errorf("%q has another fingerprint in SQL", text)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// randomJSON returns a JSON text with white space, escapes and separators of lines.
func randomJSON(r *rand.Rand, depth int) string {
	space := func() string { return []string{"", "", " ", "\n", "\r\n\t"}[r.IntN(5)] }
	text := func() string {
		parts := []string{"a", " ", `\"`, `\\`, `\u0000`, `\u2028`, "\u2028", "ö", `\n`, "{", "]", ",", ": "}
		var b strings.Builder
		for range r.IntN(6) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		return `"` + b.String() + `"`
	}
	switch kind := r.IntN(6); {
	case kind == 0 && depth > 0:
		var items []string
		for range r.IntN(4) {
			items = append(items, space()+randomJSON(r, depth-1)+space())
		}
		return "[" + strings.Join(items, ",") + space() + "]"
	case kind <= 2 && depth > 0:
		var items []string
		for range r.IntN(4) {
			items = append(items, space()+text()+space()+":"+space()+randomJSON(r, depth-1))
		}
		return "{" + strings.Join(items, ",") + space() + "}"
	case kind == 3:
		return []string{"1", "-0.5e10", "123456789012345678901234567890", "true", "null"}[r.IntN(5)]
	}
	return text()
}

func TestSQLTransactions(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	url := postgrestest.URL(t)
	s := open(t, url)
	firstPartition(t, s)
	mustQueue(t, s, "mail")
	conn := connect(t, url)
	exec := func(t *testing.T, q string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), q, args...); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	total := func(t *testing.T) (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "select count(*) from pgqueue.tasks").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	exec(t, "create table orders (id int)")

	t.Run("triggers for rows and for statements create tasks, which a rollback takes back", func(t *testing.T) {
		exec(t, `create function each_row() returns trigger language plpgsql as
			$$ begin perform pgqueue.create_task('mail', json_build_object('id', new.id), key => 'order-' || new.id); return new; end $$`)
		exec(t, "create trigger each_row after insert on orders for each row execute function each_row()")
		exec(t, "insert into orders select generate_series(1, 100)")
		if n := total(t); n != 100 {
			t.Fatalf("%d tasks, want 100", n)
		}
		exec(t, "begin; insert into orders select generate_series(101, 200); rollback")
		if n := total(t); n != 100 {
			t.Fatalf("%d tasks after a rollback, want 100", n)
		}
		exec(t, "drop trigger each_row on orders")

		exec(t, `create function all_rows() returns trigger language plpgsql as
			$$ begin perform pgqueue.create_tasks('mail', array(select json_build_object('id', id) from new_rows order by id)); return null; end $$`)
		exec(t, "create trigger all_rows after insert on orders referencing new table as new_rows for each statement execute function all_rows()")
		exec(t, "insert into orders select generate_series(201, 1200)")
		exec(t, "insert into orders select 1 where false")
		if n := total(t); n != 1100 {
			t.Fatalf("%d tasks, want 1100", n)
		}
	})

	t.Run("the view wants as many slots as the domain computes", func(t *testing.T) {
		for _, change := range []string{
			"create queue", "paused = true", "paused = false, concurrency = 7", "concurrency = 0",
		} {
			if change != "create queue" {
				exec(t, "update pgqueue.queue set "+change+" where name = 'mail'")
			}
			stats, err := s.QueueStats(t.Context(), queue.DefaultNamespace, "mail")
			if err != nil {
				t.Fatal(err)
			}
			var wanted float64
			var concurrency int
			err = conn.QueryRow(t.Context(), "select wanted_slots, concurrency from pgqueue.queue_stats where queue = 'mail'").Scan(&wanted, &concurrency)
			want := queue.ScaleQueues(queue.DefaultScaleWithin, stats...).Slots
			if err != nil || wanted != want || concurrency != stats[0].Concurrency {
				t.Errorf("%s: the view wants %v slots of at most %d, the domain %v of at most %d (%v)", change, wanted, concurrency, want, stats[0].Concurrency, err)
			}
		}
	})

	t.Run("the tasks are retained in their order, and counted", func(t *testing.T) {
		stats, err := s.QueueStats(t.Context(), queue.DefaultNamespace, "mail")
		if err != nil || stats[0].Ready != 1100 {
			t.Fatalf("stats are %+v (%v), want 1100 ready tasks", stats, err)
		}
		var ready int64
		if err := conn.QueryRow(t.Context(), "select ready from pgqueue.queue_stats where namespace = 'default' and queue = 'mail'").Scan(&ready); err != nil || ready != 1100 {
			t.Fatalf("the view has %d ready tasks (%v), want 1100", ready, err)
		}
		for at := 0; at < 1100; {
			tasks := retain(t, s, 100)
			if len(tasks) == 0 {
				t.Fatalf("retained no task after %d", at)
			}
			for _, task := range tasks {
				want := at + 1
				if at >= 100 {
					want = at + 101
				}
				var order struct{ ID int }
				if err := json.Unmarshal(task.Payload, &order); err != nil || order.ID != want {
					t.Fatalf("task %d is of order %d, want %d (%v)", at, order.ID, want, err)
				}
				at++
			}
		}
	})

	t.Run("the feed lists each task of a batch with gaps between its ids", func(t *testing.T) {
		last, err := s.LastEvent(t.Context(), "tests")
		if err != nil {
			t.Fatal(err)
		}
		exec(t, `select pgqueue.insert_tasks('mail', array(select '1'::json from generate_series(1, 400)), null, null, null, 0, null, 'default', '{}')`)
		page, err := s.ListEvents(t.Context(), queue.DefaultNamespace, queue.EventFilter{After: last}, 1000)
		if err != nil || len(page.Events) != 400 {
			t.Fatalf("the feed has %d events (%v), want 400", len(page.Events), err)
		}
	})

	t.Run("a create notifies waiting callers when it commits, unless it is muted", func(t *testing.T) {
		listener := connect(t, url)
		if _, err := listener.Exec(t.Context(), "listen pgqueue"); err != nil {
			t.Fatal(err)
		}
		exec(t, "begin; set local pgqueue.notify = off; select pgqueue.create_task('mail'); commit")
		exec(t, "select pgqueue.create_task('mail', delay => '1 h')")
		muteOrdered(t, s, exec)
		exec(t, "begin; select pgqueue.create_task('mail'); select pgqueue.create_task('mail'); commit; select pg_notify('pgqueue', 'end')")
		for _, want := range []string{"- default/mail", "end"} {
			n, err := listener.WaitForNotification(t.Context())
			if err != nil || n.Payload != want {
				t.Fatalf("notified of %+v (%v), want %s", n, err, want)
			}
		}
	})

	t.Run("of two creates with one key the second waits and gets the id of the first", func(t *testing.T) {
		other := connect(t, url)
		exec(t, "begin")
		var first, second int64
		if err := conn.QueryRow(t.Context(), `select pgqueue.create_task('mail', '{"a":1}', key => 'twice')`).Scan(&first); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			done <- other.QueryRow(t.Context(), `select pgqueue.create_task('mail', '{ "a": 1 }', key => 'twice')`).Scan(&second)
		}()
		awaitLockWait(t, conn, other.PgConn().PID())
		exec(t, "commit")
		if err := <-done; err != nil || first != second {
			t.Fatalf("the creates have the ids %d and %d (%v)", first, second, err)
		}
		// Go finds the same task under the key.
		out, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "default", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Key: "twice", Payload: []byte(`{"a":1}`)}}}})
		if err != nil || out[0].Err != nil || out[0].Task.ID != first || !out[0].Task.Replayed {
			t.Fatalf("Go got %+v (%v), want task %d replayed", out, err, first)
		}
	})

	t.Run("a missing partition is PQ503, and the call succeeds once a server has made it", func(t *testing.T) {
		exec(t, "select setval('pgqueue.turn', (select max(upper) from pgqueue.part))")
		_, err := conn.Exec(t.Context(), "select pgqueue.create_task('mail')")
		if code, _ := sqlState(t, err); code != "PQ503" {
			t.Fatalf("SQLSTATE %s, want PQ503", code)
		}
		firstPartition(t, s) // background work makes the next partition
		exec(t, "select pgqueue.create_task('mail')")
	})
}

// awaitLockWait waits until the backend pid waits for a lock.
func awaitLockWait(t *testing.T, conn *pgx.Conn, pid uint32) {
	t.Helper()
	for {
		var waits bool
		if err := conn.QueryRow(t.Context(), "select cardinality(pg_blocking_pids($1)) > 0", int32(pid)).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		if waits {
			return
		}
	}
}

func TestCompleteTask(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	for _, schema := range []string{postgres.DefaultSchema, "order"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			testCompleteTask(t, schema)
		})
	}
}

func testCompleteTask(t *testing.T, schema string) {
	t.Helper()
	url := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, url, postgres.WithSchema(schema))
	firstPartition(t, s)
	in := func(text string) string {
		return strings.ReplaceAll(text, "pgqueue.", pgx.Identifier{schema}.Sanitize()+".")
	}
	complete := func(ctx context.Context, q sqltx.Querier, task *queue.Task, result any) error {
		return sqltx.Complete(ctx, q, task, result, sqltx.WithSchema(schema))
	}
	mustQueue(t, s, "mail")
	conn := connect(t, url)
	db := openSQL(t, "pgx", url)
	create := func(t *testing.T, n int) []*queue.Task {
		t.Helper()
		c := queue.Create{Namespace: "default"}
		for range n {
			c.Tasks = append(c.Tasks, queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte("1")}})
		}
		if _, err := s.CreateTasks(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		tasks := retain(t, s, n)
		if len(tasks) != n {
			t.Fatalf("retained %d tasks, want %d", len(tasks), n)
		}
		return tasks
	}
	get := func(t *testing.T, id int64) *queue.Task {
		t.Helper()
		tasks, err := s.GetTasks(t.Context(), "default", []int64{id}, false)
		if err != nil || len(tasks) == 0 {
			t.Fatalf("task %d is %v (%v)", id, tasks, err)
		}
		return tasks[0]
	}

	t.Run("the tasks of one lease end one by one, each with its result", func(t *testing.T) {
		tasks := create(t, 5)
		for i, task := range tasks {
			if err := complete(t.Context(), db, task, map[string]int{"n": i}); err != nil {
				t.Fatal(err)
			}
			got := get(t, task.ID)
			if got.Status != queue.StatusReleased || string(got.Result) != fmt.Sprintf(`{"n":%d}`, i) || got.Attempt != 1 || got.Worker != "w" || got.FinishedAt.IsZero() {
				t.Fatalf("task is %+v", got)
			}
			for _, other := range tasks[i+1:] {
				if get(t, other.ID).Status != queue.StatusRetained {
					t.Fatalf("task %d ended with its neighbour", other.ID)
				}
			}
		}
		sound(t, s)
	})
	t.Run("a rollback takes the end back, a commit keeps it, a repeat changes nothing", func(t *testing.T) {
		task := create(t, 1)[0]
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := complete(t.Context(), tx, task, nil); err != nil {
			t.Fatal(err)
		}
		_ = tx.Rollback()
		if get(t, task.ID).Status != queue.StatusRetained {
			t.Fatal("the rollback kept the end of the task")
		}
		for range 2 {
			if err := complete(t.Context(), db, task, 1); err != nil {
				t.Fatal(err)
			}
		}
		if got := get(t, task.ID); got.Status != queue.StatusReleased || string(got.Result) != "1" {
			t.Fatalf("task is %+v", got)
		}
		// A release of the same lease by Go is answered as a repeat too.
		out, err := s.ReleaseTasks(t.Context(), "default", []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess}})
		if err != nil || out[0].Err != nil || !out[0].Replayed {
			t.Fatalf("the release is answered by %+v (%v)", out, err)
		}
	})
	t.Run("a stale token changes nothing", func(t *testing.T) {
		task := create(t, 1)[0]
		out, err := s.ReleaseTasks(t.Context(), "default", []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeHandBack}})
		if err != nil || out[0].Err != nil {
			t.Fatal(err, out[0].Err)
		}
		again := retain(t, s, 1)
		if again[0].ID != task.ID {
			t.Fatalf("retained task %d, want %d", again[0].ID, task.ID)
		}
		for _, stale := range []*queue.Task{task, {ID: task.ID, Lease: &queue.Lease{Token: again[0].Lease.Token + 1}}, {ID: task.ID, Lease: &queue.Lease{}}} {
			if err := complete(t.Context(), db, stale, nil); queue.KindOf(err) != queue.KindLeaseLost {
				t.Fatalf("a stale token is answered by %v", err)
			}
		}
		if get(t, task.ID).Status != queue.StatusRetained {
			t.Fatal("a stale token ended the task")
		}
		if err := complete(t.Context(), db, again[0], nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a task that its lease gave back or failed is not completed by that lease, in SQL and in Go", func(t *testing.T) {
		for _, outcome := range []queue.Outcome{queue.OutcomeHandBack, queue.OutcomeFailure, queue.OutcomePermanent} {
			task := create(t, 1)[0]
			out, err := s.ReleaseTasks(t.Context(), "default", []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: outcome}})
			if err != nil || out[0].Err != nil {
				t.Fatal(err, out[0].Err)
			}
			if err := complete(t.Context(), db, task, nil); queue.KindOf(err) != queue.KindLeaseLost {
				t.Errorf("after %s a completion in SQL is answered by %v", outcome, err)
			}
			err = pgx.BeginFunc(t.Context(), s.Pool(), func(tx pgx.Tx) error {
				here, err := s.InTx(tx, "default")
				if err != nil {
					return err
				}
				_, err = here.Complete(t.Context(), task, nil)
				return err
			})
			if queue.KindOf(err) != queue.KindLeaseLost {
				t.Errorf("after %s a completion in Go is answered by %v", outcome, err)
			}
			for _, task := range retain(t, s, 1) { // the task that was handed back
				if err := complete(t.Context(), db, task, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	t.Run("a task with a requested cancellation ends cancelled", func(t *testing.T) {
		tasks := create(t, 2)
		if _, err := s.CancelTasks(t.Context(), "default", selectionOf(tasks[0].ID)); err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if err := complete(t.Context(), db, task, nil); err != nil {
				t.Fatal(err)
			}
		}
		if a, b := get(t, tasks[0].ID).Status, get(t, tasks[1].ID).Status; a != queue.StatusCancelled || b != queue.StatusReleased {
			t.Fatalf("the tasks are %s and %s", a, b)
		}
		sound(t, s)
	})
	t.Run("a completion waits for a heartbeat that splits the lease, and finds the task", func(t *testing.T) {
		tasks := create(t, 3)
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), in("select 1 from pgqueue.lease where $1 = any (task_ids) for update"), tasks[1].ID); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		single := connect(t, url)
		go func() {
			_, err := single.Exec(t.Context(), in("select pgqueue.complete_task($1, $2)"), tasks[1].ID, tasks[1].Lease.Token)
			done <- err
		}()
		other := connect(t, url)
		awaitLockWait(t, other, single.PgConn().PID())
		// The row of the task moves to part 2, as a heartbeat of that task alone does.
		for _, q := range []string{
			`insert into pgqueue.lease (token, part, held, queue_id, retained_at, granted, expires_at, worker, task_ids)
			 select token, 2, 1, queue_id, retained_at, granted, expires_at, worker, array[0, task_ids[2], 0] from pgqueue.lease where $1 = any (task_ids)`,
			"update pgqueue.lease set task_ids[2] = 0, held = 2 where $1 = any (task_ids) and part = 0",
		} {
			if _, err := tx.Exec(t.Context(), in(q), tasks[1].ID); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, task := range []*queue.Task{tasks[0], tasks[2]} {
			if err := complete(t.Context(), db, task, nil); err != nil {
				t.Fatal(err)
			}
		}
		sound(t, s)
	})
}

// sound fails the test when rows of the store contradict each other.
func sound(t *testing.T, s *postgres.Store) {
	t.Helper()
	if err := audit(t.Context(), s); err != nil {
		t.Error(err)
	}
}

func selectionOf(ids ...int64) queue.Selection { return queue.Selection{IDs: ids} }

// TestSQLRoles has the producer's role create tasks by functions alone, in two schemas.
func TestSQLRoles(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	for _, schema := range []string{postgres.DefaultSchema, "order"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			roles := setUpRoles(t, schema)
			server := open(t, roles.login(t, "app"), postgres.WithSchema(schema))
			mustQueue(t, server, "mail")
			in := pgx.Identifier{schema}.Sanitize() + "."
			producer := roles.connect(t, "producer")
			for _, q := range []string{"create_task('mail', key => 'a')", "create_task('mail', '1'::jsonb)", "create_tasks('mail', array['1', '2'])", "api_version()"} {
				if _, err := producer.Exec(t.Context(), "select "+in+q); err != nil {
					t.Errorf("%s: %v", q, err)
				}
			}
			for _, q := range []string{
				"select " + in + "complete_task(1, 256)", "select * from " + in + "tasks", "select payload from " + in + "task",
				"select " + in + "insert_tasks('mail', array['1']::json[], null, null, null, 0, null, 'default', '{}')",
				"select * from " + in + "errors",
			} {
				_, err := producer.Exec(t.Context(), q)
				if code, _ := sqlState(t, err); code != "42501" {
					t.Errorf("%s: SQLSTATE %s, want 42501", q, code)
				}
			}
			testCompletingRole(t, roles, server)
			reader := roles.connect(t, "readonly")
			for _, view := range []string{"tasks", "queues", "queue_stats", "workers", "tickers", "ticks", "errors"} {
				if _, err := reader.Exec(t.Context(), "select * from "+in+view); err != nil {
					t.Errorf("%s: %v", view, err)
				}
			}
			if stats, err := server.QueueStats(t.Context(), "default", "mail"); err != nil || stats[0].Ready != 1 {
				t.Errorf("stats are %+v (%v), want 1 ready task", stats, err)
			}
		})
	}
}

// testCompletingRole has a role with the rights that the page names, USAGE on the schema and EXECUTE on complete_task, end a task,
// once by each type of result, and nothing else.
func testCompletingRole(t *testing.T, roles roleLogins, server *postgres.Store) {
	t.Helper()
	in := pgx.Identifier{roles.schema}.Sanitize() + "."
	name := roles.prefix + "_completer"
	sql(t, roles.admin, "create role "+name+" login password 'p'", "grant usage on schema "+pgx.Identifier{roles.schema}.Sanitize()+" to "+name)
	for _, result := range []string{"json", "jsonb", "text"} {
		sql(t, roles.admin, "grant execute on function "+in+"complete_task(bigint, bigint, "+result+", jsonb) to "+name)
	}
	t.Cleanup(func() {
		for _, q := range []string{"drop owned by " + name, "drop role " + name} {
			if _, err := roles.admin.Exec(context.WithoutCancel(t.Context()), q); err != nil {
				t.Error(err)
			}
		}
	})

	completer := roles.connect(t, "completer")
	held := retain(t, server, 3)
	if len(held) != 3 {
		t.Fatalf("retained %d tasks, want 3", len(held))
	}
	for i, result := range []string{"'1'::json", "'1'::jsonb", "'1'"} {
		if _, err := completer.Exec(t.Context(), "select "+in+"complete_task($1, $2, "+result+")", held[i].ID, held[i].Lease.Token); err != nil {
			t.Errorf("%s: %v", result, err)
		}
		if got := status(t, server, held[i].ID); got != queue.StatusReleased {
			t.Errorf("%s: the task is %s", result, got)
		}
	}
	for _, q := range []string{"select " + in + "create_task('mail')", "select * from " + in + "tasks", "select payload from " + in + "task"} {
		_, err := completer.Exec(t.Context(), q)
		if code, _ := sqlState(t, err); code != "42501" {
			t.Errorf("%s: SQLSTATE %s, want 42501", q, code)
		}
	}
}

// TestSQLChannel has a store of another schema wake up at the NOTIFY of its function.
func TestSQLChannel(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	dsn := postgrestest.Empty(t)
	s := open(t, dsn, postgres.WithSchema("order"))
	up(t, s)
	mustQueue(t, s, "mail")
	wakes := make(chan queue.Wake, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { _ = s.Listen(ctx, func(w queue.Wake) { wakes <- w }) })
	defer done.Wait()
	defer cancel()
	conn := connect(t, dsn)
	for !s.Listening() {
		time.Sleep(time.Millisecond)
	}
	exec := func(t *testing.T, text string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), text, args...); err != nil {
			t.Fatal(err)
		}
	}
	mustQueue(t, s, "muted")
	exec(t, `begin; set local pgqueue.notify = off; select "order".create_task('muted'); commit`)
	muteOrdered(t, s, exec)
	exec(t, `select "order".create_task('mail')`)
	for w := range wakes {
		switch w {
		case queue.Wake{Namespace: "default", Queue: "mail"}:
			return
		case queue.Wake{Namespace: "default", Queue: "muted"}, queue.Wake{Namespace: "default", Queue: "ordered"}:
			t.Errorf("a muted transaction wakes %+v", w)
		}
	}
}

// sqlBlock matches an example of the page about SQL.
var sqlBlock = regexp.MustCompile("(?s)```sql\n(.*?)```")

// TestSQLPage runs the examples of the page about SQL, in their order.
func TestSQLPage(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	conn := migrated(t, postgres.DefaultSchema)
	page, err := os.ReadFile("../../../docs/how-to/sql.md")
	if err != nil {
		t.Fatal(err)
	}
	// Roles belong to the whole server, so the role of the page gets a name of this test's own.
	role := "web_" + strings.ToLower(cryptorand.Text()[:8])
	sql(t, conn, "set search_path = public", "create table orders (id int, email text)", "create role "+role)
	t.Cleanup(func() {
		if _, err := conn.PgConn().Exec(context.WithoutCancel(t.Context()), "drop owned by "+role+"; drop role "+role).ReadAll(); err != nil {
			t.Error(err)
		}
	})

	ran := 0
	for _, m := range sqlBlock.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(m[1], "pgqueue.") { // a signature
			continue
		}
		ran++
		text := strings.ReplaceAll(m[1], "to web;", "to "+role+";")
		if _, err := conn.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}
	sql(t, conn, "insert into orders values (1), (2)", "set role "+role, "select create_mail('1')", "reset role")
	var n int
	if err := conn.QueryRow(t.Context(), "select count(*) from pgqueue.tasks where queue = 'mail'").Scan(&n); err != nil || n != 4 || ran != 3 {
		t.Errorf("%d tasks of %d examples (%v), want 4 of 3", n, ran, err)
	}
}

// TestKeyRulesOverSQL replaces waiting tasks by create_task where the Go store has put them: in runs, delayed, in groups, in retry.
func TestKeyRulesOverSQL(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	firstPartition(t, s)
	db := connect(t, dsn)
	for name, flow := range map[string]queue.FlowMeta{"plain": {}, "ordered": {Order: new(queue.OrderFIFO)}, "narrow": {GroupConcurrency: new(2)}} {
		q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{
			Name: name, Lease: new(time.Hour), Retries: new(3), RetryDelay: new(time.Duration(0)), FlowMeta: flow,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateQueue(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		const n = 96
		tasks := make([]queue.NewTask, n)
		for i := range tasks {
			tasks[i] = queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Key: strconv.Itoa(i), Group: "g" + strconv.Itoa(i%8)}}
			if i%6 == 5 {
				tasks[i].Delay = time.Hour
			}
		}
		made, err := s.CreateTasks(t.Context(), queue.Create{Namespace: queue.DefaultNamespace, Tasks: tasks, Atomic: true})
		if err != nil {
			t.Fatal(err)
		}
		release := func(task *queue.Task, o queue.Outcome) {
			t.Helper()
			r := queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: o}
			if out, err := s.ReleaseTasks(t.Context(), queue.DefaultNamespace, []queue.Release{r}); err != nil || out[0].Err != nil {
				t.Fatal(err, out)
			}
		}
		retain := func(limit int) []*queue.Task {
			t.Helper()
			out, err := s.RetainTasks(t.Context(), queue.Retain{
				Namespace: queue.DefaultNamespace, Queues: []string{name}, Requests: []queue.RetainShare{{Worker: "w", Limit: limit}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return out[0]
		}

		// The first tasks fail once and wait for their retry; others are held.
		for _, task := range retain(4) {
			release(task, queue.OutcomeFailure)
		}
		held := retain(2)

		replaced := map[int64]bool{}
		for i := 0; i < n; i += 2 {
			id := made[i].Task.ID
			if slices.ContainsFunc(held, func(h *queue.Task) bool { return h.ID == id }) {
				continue
			}
			var by int64
			err := db.QueryRow(t.Context(), "select pgqueue.create_task($1, '{}'::json, key => $2, options => jsonb_build_object('on_conflict', 'replace', 'group', $3::text))",
				name, strconv.Itoa(i), tasks[i].Group).Scan(&by)
			if err != nil {
				t.Fatalf("%s, task %d: %v", name, i, err)
			}
			replaced[id] = true
		}
		got, err := s.GetTasks(t.Context(), queue.DefaultNamespace, slices.Collect(maps.Keys(replaced)), true)
		if err != nil || len(got) != len(replaced) {
			t.Fatalf("%d tasks, %v", len(got), err)
		}
		for _, task := range got {
			if last := task.Errors[len(task.Errors)-1]; task.Status != queue.StatusCancelled || !strings.Contains(string(last.Error), "superseded by task") {
				t.Errorf("%s: the replaced task %d is %s with the error %s", name, task.ID, task.Status, last.Error)
			}
		}

		// Each other task runs once, and each new one.
		for _, task := range held {
			release(task, queue.OutcomeSuccess)
		}
		postgrestest.Advance(t, s, 2*time.Hour)
		queuetest.Chores(t, s)
		ran := map[int64]bool{}
		for range n {
			for _, task := range retain(50) {
				if ran[task.ID] || replaced[task.ID] {
					t.Errorf("%s: task %d starts, replaced: %v", name, task.ID, replaced[task.ID])
				}
				ran[task.ID] = true
				release(task, queue.OutcomeSuccess)
			}
		}
		stats, err := s.QueueStats(t.Context(), queue.DefaultNamespace, name)
		if err != nil {
			t.Fatal(err)
		}
		st := stats[0]
		want := map[queue.Status]int64{queue.StatusCancelled: int64(len(replaced)), queue.StatusReleased: n}
		for _, status := range queue.Statuses() {
			if st.Counts[status] != want[status] {
				t.Errorf("%s: %d tasks are %s, want %d", name, st.Counts[status], status, want[status])
			}
		}
		if st.Delayed != 0 || st.GroupWaiting != 0 {
			t.Errorf("%s: %d delayed, %d wait for their group, want none", name, st.Delayed, st.GroupWaiting)
		}
	}
}

// TestFullQueueOverSQL: in a queue that has reached max_waiting create_task answers a repeat of a key with its task, and refuses what
// the Go store refuses.
func TestFullQueueOverSQL(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s := postgrestest.OpenURL(t, dsn)
	firstPartition(t, s)
	db := connect(t, dsn)
	makeFlowQueue(t, s, queue.DefaultNamespace, "full", queue.FlowMeta{MaxWaiting: new(1)})
	create := func(key, options string) (id int64, code string) {
		err := db.QueryRow(t.Context(), "select pgqueue.create_task('full', '{}'::json, key => $1, options => $2)", key, options).Scan(&id)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
			return 0, pg.Code
		}
		return id, ""
	}
	first, code := create("k", "{}")
	if code != "" {
		t.Fatal(code)
	}

	for _, c := range []struct {
		name, key, options string
		id                 int64
		code               string
	}{
		{"a repeat is answered", "k", "{}", first, ""},
		{"a new key is refused", "other", "{}", 0, "PQ429"},
		{"a replacement counts as a create", "k", `{"on_conflict": "replace"}`, 0, "PQ429"},
	} {
		if id, code := create(c.key, c.options); id != c.id || code != c.code {
			t.Errorf("%s: task %d, %q; want %d, %q", c.name, id, code, c.id, c.code)
		}
		tasks := []queue.NewTask{{Queue: "full", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Key: c.key}}}
		if strings.Contains(c.options, "replace") {
			tasks[0].KeyRule = queue.KeyRule{OnConflict: queue.ConflictReplace}
		}
		out, err := s.CreateTasks(t.Context(), queue.Create{Namespace: queue.DefaultNamespace, Tasks: tasks})
		if err != nil || (out[0].Err != nil) != (c.code != "") || c.code == "" && out[0].Task.ID != c.id {
			t.Errorf("%s in Go: %+v, %v", c.name, out, err)
		}
	}
}
