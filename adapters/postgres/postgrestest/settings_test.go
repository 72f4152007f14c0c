package postgrestest_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestSettings holds the table of settings to those that a role or a database may have on this server: one that is not in it
// fails, so that its effect is decided.
func TestSettings(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	known := map[string]postgres.Setting{}
	for _, s := range postgres.Settings() {
		if _, double := known[strings.ToLower(s.Name)]; double || s.Why == "" {
			t.Errorf("%s is there twice, or without a reason", s.Name)
		}
		known[strings.ToLower(s.Name)] = s
	}
	names := value[[]string](t, connect(t, dsn), "select array_agg(name) from pg_settings where context in ('user', 'superuser') and name not like '%.%'")
	if len(names) < 100 {
		t.Fatalf("%d settings are not all", len(names))
	}
	for _, name := range names {
		if _, ok := known[strings.ToLower(name)]; !ok {
			t.Errorf("%s: say in settings.go whether it is stated, harmless or refused", name)
		}
	}
	t.Run("a stated setting holds on each connection, against role and database", func(t *testing.T) {
		s := postgrestest.OpenURL(t, postgrestest.Turned(t, dsn, false))
		for _, stated := range postgres.Settings() {
			if stated.Class != postgres.SettingStated || !slices.Contains(names, stated.Name) {
				continue
			}
			var got string
			if err := s.Pool().QueryRow(t.Context(), "select current_setting($1)", stated.Name).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got, _, _ = strings.Cut(got, ","); got != stated.Value { // DateStyle adds the order of days and months
				t.Errorf("%s is %q, want %q", stated.Name, got, stated.Value)
			}
		}
	})
	t.Run("the suites run with each setting turned, or its reason is known", func(t *testing.T) {
		conn := connect(t, postgrestest.Turned(t, dsn, true))
		fixed := postgrestest.FixedSettings()
		same := value[[]string](t, conn, `select coalesce(array_agg(name), '{}') from pg_settings
			where context in ('user', 'superuser') and name not like '%.%' and source <> 'user' and (min_val is null or min_val <> max_val) and cardinality(enumvals) is distinct from 1`)
		for _, name := range same {
			why := fixed[name]
			if why == "" && !strings.HasPrefix(name, "lc_") { // turned only where the server has another locale
				t.Errorf("%s is not turned, and FixedSettings does not have it", name)
			}
			t.Logf("%s is not turned: %s", name, why)
		}
		if turned := len(names) - len(same); turned < 150 {
			t.Errorf("%d settings are turned", turned)
		}
	})
	t.Run("the connection string may give timeouts", func(t *testing.T) {
		s := postgrestest.OpenURL(t, dsn+"&statement_timeout=12345&datestyle=German&Client_Encoding=latin1")
		var timeout, style, encoding string
		err := s.Pool().QueryRow(t.Context(), "select current_setting('statement_timeout'), current_setting('datestyle'), current_setting('client_encoding')").
			Scan(&timeout, &style, &encoding)
		if err != nil || timeout != "12345ms" || !strings.HasPrefix(style, "ISO") || encoding != "UTF8" {
			t.Errorf("%s, %s, %s, %v", timeout, style, encoding, err)
		}
	})
}

// TestTurnedSettings tries what the suite of TestStore, which runs on databases with all settings turned, does not.
func TestTurnedSettings(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	t.Run("migrations", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Turned(t, postgrestest.Empty(t), false)
		s := postgrestest.OpenURL(t, dsn)
		up(t, s)
		all, err := s.MigrationStatus(t.Context())
		if err != nil || all[0].AppliedAt.IsZero() || time.Since(all[0].AppliedAt).Abs() > time.Hour {
			t.Errorf("%+v, %v", all, err)
		}
		if _, err := s.MigrateDown(t.Context(), 0); err != nil {
			t.Error(err)
		}
	})
	t.Run("on a pool of the caller's, which states nothing but the encoding", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Turned(t, postgrestest.Empty(t), false)
		cfg, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		cfg.ConnConfig.RuntimeParams = map[string]string{"client_encoding": "UTF8", "statement_timeout": "0", "lock_timeout": "0", "transaction_timeout": "0", "standard_conforming_strings": "on"}
		if value[int](t, connect(t, dsn+"&statement_timeout=0"), "select current_setting('server_version_num')::integer") < 170000 {
			delete(cfg.ConnConfig.RuntimeParams, "transaction_timeout")
		}
		pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		s, err := postgres.New(pool)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		up(t, s)
		mustQueue(t, s, "mail")
		makeTask(t, s, "default", "mail")
		if task := retain(t, s, 1)[0]; time.Since(task.StartedAt).Abs() > time.Hour {
			t.Errorf("started at %v", task.StartedAt)
		}
	})
	t.Run("a pool of another encoding is refused by name, also in a caller's transaction", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		ours := postgrestest.OpenURL(t, dsn)
		pool, err := pgxpool.New(t.Context(), dsn+"&client_encoding=latin1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		s, err := postgres.New(pool)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		_, err = s.CreateTasks(t.Context(), queue.Create{Namespace: "default", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(`"é"`)}}}})
		if !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "client_encoding") {
			t.Errorf("a create is answered by %v", err)
		}
		err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { _, err := ours.InTx(tx, ""); return err })
		if !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "client_encoding") {
			t.Errorf("a caller's transaction is answered by %v", err)
		}
	})
}

// turnedHarness is the harness of stores on databases with all settings turned.
func turnedHarness() queuetest.StoreHarness {
	h := harness()
	var urls sync.Map
	h.New = func(t testing.TB) queue.Store {
		dsn := postgrestest.Turned(t, postgrestest.URL(t), false)
		s := postgrestest.OpenURL(t, dsn)
		urls.Store(queue.Store(s), dsn)
		return s
	}
	h.Peer = func(t testing.TB, s queue.Store) queue.Store {
		t.Helper()
		dsn, ok := urls.Load(s)
		if !ok {
			t.Fatal("not a store of this harness")
		}
		return postgrestest.OpenURL(t, dsn.(string))
	}
	return h
}

// TestIsolation holds a queue's limit at any default of the role: a retain that waited for another sees what that has taken.
func TestIsolation(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			admin := connect(t, dsn)
			sql(t, admin, fmt.Sprintf("alter database %s set default_transaction_isolation = '%s'",
				pgx.Identifier{admin.Config().Database}.Sanitize(), level))
			s := postgrestest.OpenURL(t, dsn)
			q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{Name: "mail", Concurrency: new(1)})
			if err == nil {
				_, err = s.CreateQueue(t.Context(), q)
			}
			if err != nil {
				t.Fatal(err)
			}
			makeTask(t, s, "default", "mail", "mail")
			// Another retain: it holds the gate, and has not yet written its lease.
			all := postgres.Statements(postgres.DefaultSchema)
			sql(t, admin, "begin isolation level read committed")
			if _, err := admin.Exec(t.Context(), all["retain.gate"], []int32{1}); err != nil {
				t.Fatal(err)
			}
			got := make(chan int, 1)
			go func() { got <- len(retain(t, s, 1)) }()
			waiting := "select exists (select 1 from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database()))"
			for deadline := time.Now().Add(patience); !value[bool](t, admin, waiting); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("it does not wait for the gate")
				}
			}
			sql(t, admin, `insert into pgqueue.lease (token, queue_id, retained_at, expires_at, granted, worker, held, task_ids)
				values (nextval('pgqueue.token'), 1, now(), now() + interval '1 h', 0, 'other', 1, array[1])`, "commit")
			if n := <-got; n != 0 {
				t.Errorf("%d tasks more than the limit of 1 are held", n)
			}
		})
	}
}

// TestRotatedPassword has a role's password change while a store lives: the pass file is read again for each connection.
func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	admin := connect(t, dsn)
	role := admin.Config().Database + "_r"
	role = role[max(0, len(role)-60):]
	sql(t, admin, "create role "+role+" login superuser password 'old'")
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		for _, q := range []string{"reassign owned by " + role + " to current_user", "drop role " + role} {
			if _, err := admin.Exec(ctx, q); err != nil {
				t.Error(err)
			}
		}
	})
	file := filepath.Join(t.TempDir(), "pgpass")
	pass := func(password string) {
		if err := os.WriteFile(file, []byte("*:*:*:*:"+password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pass("old")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	q := u.Query()
	q.Set("passfile", file)
	u.RawQuery = q.Encode()
	s := postgrestest.OpenURL(t, u.String())
	mustQueue(t, s, "mail")

	sql(t, admin, "alter role "+role+" password 'new'")
	end := func() {
		t.Helper()
		if _, err := admin.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", role); err != nil {
			t.Fatal(err)
		}
	}
	end()
	// With the old password: the server refuses the store, not the callers.
	create := func() error {
		_, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "default", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}}}})
		return err
	}
	for err = create(); err != nil && refusal(err) == ""; err = create() { // connections that were ended under it
		time.Sleep(10 * time.Millisecond)
	}
	if refusal(err) == "" {
		t.Fatal("this server lets roles in without a password")
	}
	e, _ := errors.AsType[*queue.Error](err)
	if queue.KindOf(err) != queue.KindUnavailable || strings.Contains(e.Msg, "password") || !strings.Contains(err.Error(), "password") {
		t.Errorf("answered by %v, callers get %q", err, e.Msg)
	}
	pass("new")
	if err := create(); err != nil {
		t.Errorf("with the new password in the file: %v", err)
	}
}

// refusal is the SQLSTATE of class 28 that err has.
func refusal(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(pg.Code, "28") {
		return pg.Code
	}
	return ""
}

// TestSearchPath gives a database a path that leads to other operators and functions first: functions of ours keep
// their meaning.
func TestSearchPath(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	admin := connect(t, dsn)
	sql(t, admin, "create schema other",
		"create function other.wrong(bigint, double precision) returns double precision language sql immutable as 'select 1::float8'",
		"create operator other./ (leftarg = bigint, rightarg = double precision, function = other.wrong)",
		"create function other.never(bigint, bigint) returns boolean language sql immutable as 'select false'",
		"create function other.never(bigint, integer) returns boolean language sql immutable as 'select false'",
		"create operator other.> (leftarg = bigint, rightarg = bigint, function = other.never)",
		"create operator other.> (leftarg = bigint, rightarg = integer, function = other.never)",
		"alter database "+pgx.Identifier{admin.Config().Database}.Sanitize()+" set search_path = other, pg_catalog")
	conn := connect(t, dsn)
	if got := value[string](t, conn, "select pgqueue.nanos(60000000000)::text"); got != "00:01:00" {
		t.Errorf("a minute is %s", got)
	}
	if got := value[string](t, conn, "select pgqueue.stay(3600000000000, 60000000000)::text"); got != "01:00:00" {
		t.Errorf("a retention of an hour is %s", got)
	}
}

// TestCollations: no index depends on the order of a language, which changes with the operating system.
func TestCollations(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	conn := connect(t, postgrestest.URL(t))
	if bad := value[[]string](t, conn, `select coalesce(array_agg(i.indexrelid::regclass::text), '{}')
		from pg_index i join pg_class c on c.oid = i.indexrelid and c.relnamespace = 'pgqueue'::regnamespace
		cross join lateral unnest(i.indcollation::oid[]) x (coll)
		where coll not in (0, '"C"'::regcollation)`); len(bad) > 0 {
		t.Errorf("%q", bad)
	}
}

// TestSessionLocks: behind a transaction pooler a lock of a session stays on the pooler's connection for good.
func TestSessionLocks(t *testing.T) {
	lock := regexp.MustCompile(`pg_\w*advisory\w*lock\w*`)
	for name, text := range postgres.Statements(postgres.DefaultSchema) {
		for _, function := range lock.FindAllString(text, -1) {
			if function != "pg_advisory_xact_lock" && function != "pg_try_advisory_xact_lock" {
				t.Errorf("%s calls %s; its lock does not end with the transaction", name, function)
			}
		}
	}
}

// TestQueueChangedByHand: a store remembers the rows of queues, and notices that one was changed in SQL without a new version.
func TestQueueChangedByHand(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	makeQueue(t, s, "acme", "mail")

	for _, retries := range []int{1, 2} {
		sql(t, conn, fmt.Sprintf("update pgqueue.queue set retries = %d", retries))
		made, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "acme", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}}}})
		if err != nil || made[0].Err != nil || made[0].Task.Retries != retries {
			t.Fatalf("a create with %d retries: %+v, %v", retries, made, err)
		}
	}

	// Two changes in one transaction have one xmin.
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, retries := range []int{3, 4} {
		if _, err := tx.Exec(t.Context(), fmt.Sprintf("update pgqueue.queue set retries = %d", retries)); err != nil {
			t.Fatal(err)
		}
		in, err := s.InTx(tx, "acme")
		if err != nil {
			t.Fatal(err)
		}
		if made, err := in.CreateTask(t.Context(), "mail", queue.TaskMeta{}); err != nil || made.Retries != retries {
			t.Fatalf("a create in the transaction with %d retries: %+v, %v", retries, made, err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	held, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "acme", Queues: []string{"mail"}, Requests: []queue.RetainShare{{Worker: "w", Lease: time.Hour, Limit: 2}}})
	if err != nil || len(held[0]) != 2 {
		t.Fatal(held, err)
	}
	for i, delay := range []time.Duration{time.Hour, 2 * time.Hour} {
		sql(t, conn, fmt.Sprintf("update pgqueue.queue set backoff = 'constant', retry_max_delay = 0, retry_delay = %d", delay))
		task := held[0][i]
		done, err := s.ReleaseTasks(t.Context(), "acme", []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeFailure}})
		if err != nil || done[0].Err != nil {
			t.Fatal(done, err)
		}
		if wait := time.Until(done[0].Task.DelayedAt); wait < delay/2 || wait > 3*delay/2 { // with jitter
			t.Errorf("the retry waits %v after a change to %v", wait, delay)
		}
	}
}
