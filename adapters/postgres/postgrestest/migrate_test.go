package postgrestest_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func open(t *testing.T, dsn string, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func up(t *testing.T, s *postgres.Store) []postgres.Migration {
	t.Helper()
	done, err := s.MigrateUp(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func down(t *testing.T, s *postgres.Store, to int) []postgres.Migration {
	t.Helper()
	done, err := s.MigrateDown(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// wantError checks the kind of an error and that it says each of texts.
func wantError(t *testing.T, err error, kind queue.Kind, texts ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got error %v of kind %q, want kind %q", err, queue.KindOf(err), kind)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

// things are all objects of a schema with their definitions: equal texts, equal schemas.
func things(t *testing.T, conn *pgx.Conn, schema string) []string {
	t.Helper()
	sql(t, conn, "set search_path = ''") // or names come unqualified where the role is called like the schema
	rows, err := conn.Query(t.Context(), `
		select format('%s %s', c.relkind, c.relname) from pg_class c where c.relnamespace = $1::regnamespace and c.relkind <> 'i'
		union all
		select format('%s.%s %s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
		              pg_get_expr(d.adbin, d.adrelid))
		from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
		where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'p', 'v')
		union all
		select indexdef from pg_indexes where schemaname = $2
		union all
		select format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint where connamespace = $1::regnamespace
		union all
		select pg_get_functiondef(oid) from pg_proc where pronamespace = $1::regnamespace
		union all
		select definition from pg_views where schemaname = $2
		order by 1`, pgx.Identifier{schema}.Sanitize(), schema)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sameThings compares what two calls of things gave.
func sameThings(t *testing.T, want, got []string) {
	t.Helper()
	for _, thing := range want {
		if !slices.Contains(got, thing) {
			t.Errorf("missing: %s", thing)
		}
	}
	for _, thing := range got {
		if !slices.Contains(want, thing) {
			t.Errorf("not expected: %s", thing)
		}
	}
}

// statements are the single statements of a text of postgres.Statements, ready to be prepared. Those about one partition
// are a pattern for its bounds, and several.
func statements(text string) []string {
	var all []string
	for part := range strings.SplitSeq(strings.NewReplacer("{lower}", "1", "{upper}", "1000").Replace(text), ";\n") {
		if strings.TrimSpace(part) != "" {
			all = append(all, part)
		}
	}
	return all
}

func TestMigrations(t *testing.T) {
	t.Parallel()

	t.Run("an empty database becomes one of this program's version", func(t *testing.T) {
		t.Parallel()
		s := open(t, postgrestest.Empty(t))
		wantError(t, s.Ping(t.Context()), queue.KindUnavailable, "pgqueue migrate up")
		wantError(t, s.ValidateMigrations(t.Context()), queue.KindUnavailable, "pgqueue migrate up")

		done := up(t, s)
		if len(done) != postgres.SchemaVersion() || done[0].Version != 1 || done[0].Name != "initial" || done[0].AppliedAt.IsZero() {
			t.Fatalf("applied %+v", done)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.ValidateMigrations(t.Context()); err != nil {
			t.Fatal(err)
		}
		if again := up(t, s); len(again) != 0 {
			t.Fatalf("the second time applied %+v", again)
		}
		all, err := s.MigrationStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != postgres.SchemaVersion() || slices.ContainsFunc(all, func(m postgres.Migration) bool { return m.State != postgres.MigrationApplied }) {
			t.Fatalf("status %+v", all)
		}
	})

	t.Run("a clone of the template is migrated", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		if err := errors.Join(s.Ping(t.Context()), s.ValidateMigrations(t.Context())); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("down to nothing leaves the empty schema, and up again is as before", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Empty(t)
		s, conn := open(t, dsn), connect(t, dsn)
		up(t, s)
		before := things(t, conn, "pgqueue")
		done := down(t, s, 0)
		if len(done) != postgres.SchemaVersion() || done[len(done)-1].Version != 1 {
			t.Fatalf("undid %+v", done)
		}
		if left := things(t, conn, "pgqueue"); len(left) != 0 {
			t.Fatalf("left behind: %q", left)
		}
		up(t, s)
		sameThings(t, before, things(t, conn, "pgqueue"))
	})

	t.Run("from every version up and back leads to the same schema", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Empty(t)
		s, conn := open(t, dsn), connect(t, dsn)
		up(t, s)
		latest := things(t, conn, "pgqueue")
		for version := postgres.SchemaVersion() - 1; version >= 0; version-- {
			down(t, s, version)
			if version > 0 {
				wantError(t, s.Ping(t.Context()), queue.KindUnavailable, "older", "pgqueue migrate up")
			}
			if done := up(t, s); len(done) != postgres.SchemaVersion()-version {
				t.Fatalf("from version %d applied %+v", version, done)
			}
			sameThings(t, latest, things(t, conn, "pgqueue"))
		}
	})

	t.Run("a version that there is not is refused", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		for _, version := range []int{-1, postgres.SchemaVersion() + 1} {
			_, err := s.MigrateDown(t.Context(), version)
			wantError(t, err, queue.KindInvalid)
		}
	})

	t.Run("20 installers at once apply each migration once", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Empty(t)
		// Under this default a transaction that waited for the lock would still not see what the one before it did.
		conn := connect(t, dsn)
		name := value[string](t, conn, "select quote_ident(current_database())")
		sql(t, conn, "alter database "+name+" set default_transaction_isolation = 'serializable'")
		var (
			mu   sync.Mutex
			done []postgres.Migration
			wg   sync.WaitGroup
		)
		for range 20 {
			wg.Go(func() {
				s, err := postgres.Open(t.Context(), dsn, postgres.WithMaxConns(1))
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				mine, err := s.MigrateUp(t.Context())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				done = append(done, mine...)
			})
		}
		wg.Wait()
		if len(done) != postgres.SchemaVersion() {
			t.Fatalf("applied %+v", done)
		}
		if err := open(t, dsn).ValidateMigrations(t.Context()); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("another schema name gets the same objects, and both live side by side", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		other := open(t, dsn, postgres.WithSchema("jobs_2"))
		wantError(t, other.Ping(t.Context()), queue.KindUnavailable, "pgqueue migrate up")
		up(t, other)
		if err := errors.Join(other.Ping(t.Context()), open(t, dsn).Ping(t.Context())); err != nil {
			t.Fatal(err)
		}
		conn := connect(t, dsn)
		// The databases of tests have no partition.
		sql(t, conn, "drop table jobs_2.task_p1, jobs_2.done_p1")
		want := things(t, conn, "pgqueue")
		got := things(t, conn, "jobs_2")
		hash := sha256.Sum256([]byte("jobs_2"))
		channel := fmt.Sprintf("'pgqueue_%x'", hash[:16])
		for i := range got {
			got[i] = strings.NewReplacer(`"jobs_2".`, "pgqueue.", "jobs_2.", "pgqueue.", channel, "'pgqueue'").Replace(got[i])
		}
		sameThings(t, want, got)
		down(t, other, 0)
		if err := open(t, dsn).Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("a migration that was changed is found, and nothing is done", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s, conn := open(t, dsn), connect(t, dsn)
		sql(t, conn, "update pgqueue.migration set checksum = 'other' where version = 1")
		before := things(t, conn, "pgqueue")

		wantError(t, s.ValidateMigrations(t.Context()), queue.KindConflict, "migration 1 initial", "append-only")
		_, err := s.MigrateUp(t.Context())
		wantError(t, err, queue.KindConflict)
		_, err = s.MigrateDown(t.Context(), 0)
		wantError(t, err, queue.KindConflict)
		all, err := s.MigrationStatus(t.Context())
		if err != nil || all[0].State != postgres.MigrationChanged || all[0].Checksum != "other" {
			t.Fatalf("status %+v, %v", all, err)
		}
		sameThings(t, before, things(t, conn, "pgqueue"))
	})

	t.Run("a newer schema with migrations that only add is usable and not touched", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s, conn := open(t, dsn), connect(t, dsn)
		newer := postgres.SchemaVersion() + 2
		sql(t, conn, fmt.Sprintf("insert into pgqueue.migration (version, name, checksum) values (%d, 'later', 'a'), (%d, 'latest', 'b')", newer-1, newer))
		before := things(t, conn, "pgqueue")
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("an older program is not ready: %v", err)
		}
		if done, err := s.MigrateUp(t.Context()); err != nil || len(done) > 0 {
			t.Errorf("the start of an older program applied %+v, %v", done, err)
		}
		if todo, err := s.MigrateUp(t.Context(), postgres.DryRun()); err != nil || len(todo) > 0 {
			t.Errorf("it would apply %+v, %v", todo, err)
		}
		const says = "schema is newer than this program"
		wantError(t, s.ValidateMigrations(t.Context()), queue.KindUnavailable, says)
		for _, opts := range [][]postgres.MigrateOption{nil, {postgres.DryRun()}} {
			_, err := s.MigrateDown(t.Context(), 0, opts...)
			wantError(t, err, queue.KindUnavailable, says)
		}
		sameThings(t, before, things(t, conn, "pgqueue"))
	})

	t.Run("a newer schema that is not for this program is refused and not touched", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s, conn := open(t, dsn), connect(t, dsn)
		newer := postgres.SchemaVersion() + 2
		sql(t, conn,
			// The last one only adds; the one before it does not.
			fmt.Sprintf("insert into pgqueue.migration (version, name, checksum, compatible_from) values (%d, 'later', 'a', %[1]d), (%d, 'latest', 'b', 1)",
				newer-1, newer),
			// A newer program may even have changed what the old ones read.
			"alter table pgqueue.task rename to task_of_tomorrow")
		before := things(t, conn, "pgqueue")
		says := fmt.Sprintf("schema is newer than this program (version %d > %d); upgrade the program", newer, postgres.SchemaVersion())

		wantError(t, s.Ping(t.Context()), queue.KindUnavailable, says)
		wantError(t, s.ValidateMigrations(t.Context()), queue.KindUnavailable, says)
		_, err := s.MigrateUp(t.Context())
		wantError(t, err, queue.KindUnavailable, says)
		_, err = s.MigrateDown(t.Context(), 0)
		wantError(t, err, queue.KindUnavailable, says)
		all, err := s.MigrationStatus(t.Context())
		if err != nil || all[len(all)-1].State != postgres.MigrationUnknown || all[len(all)-1].Name != "latest" {
			t.Fatalf("status %+v, %v", all, err)
		}
		sameThings(t, before, things(t, conn, "pgqueue"))
	})

	t.Run("a role that may not create gets an error with the needed grant, and nothing is left behind", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Empty(t)
		conn := connect(t, dsn)
		role := value[string](t, conn, "select 'pgqueue_test_role_' || substr(md5(current_database()), 1, 12)")
		sql(t, conn, "create role "+role+" login password 'secret'")
		t.Cleanup(func() {
			// Its rights went with the database; the role itself belongs to the server.
			ctx, cancel := cleanupContext(t)
			defer cancel()
			_, _ = conn.Exec(ctx, "drop owned by "+role+" cascade")
			if _, err := conn.Exec(ctx, "drop role "+role); err != nil {
				t.Error(err)
			}
		})
		s := open(t, withUser(t, dsn, role, "secret"))

		_, err := s.MigrateUp(t.Context())
		wantError(t, err, queue.KindDenied, `create schema "pgqueue" authorization "`+role+`"`)
		_, err = s.MigrateUp(t.Context(), postgres.DryRun())
		wantError(t, err, queue.KindDenied, `create schema "pgqueue" authorization`)
		if value[bool](t, conn, "select exists (select 1 from pg_namespace where nspname = 'pgqueue')") {
			t.Fatal("the schema was left behind")
		}

		sql(t, conn, "create schema pgqueue")
		_, err = s.MigrateUp(t.Context())
		wantError(t, err, queue.KindDenied, `grant create, usage on schema "pgqueue" to "`+role+`"`)
		if left := things(t, conn, "pgqueue"); len(left) != 0 {
			t.Fatalf("left behind: %q", left)
		}

		// The remedy of the error is enough.
		sql(t, conn, "grant create, usage on schema pgqueue to "+role)
		up(t, s)
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("a migration that fails half-way leaves nothing behind", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Empty(t)
		s, conn := open(t, dsn), connect(t, dsn)
		// The last thing that the first migration makes is in the way.
		sql(t, conn, "create schema pgqueue", "create view pgqueue.task_now as select 1")
		if _, err := s.MigrateUp(t.Context()); err == nil {
			t.Fatal("there was no error")
		}
		if left := things(t, conn, "pgqueue"); !slices.ContainsFunc(left, func(s string) bool { return s == "v task_now" }) || len(left) != 3 {
			t.Fatalf("left behind: %q", left)
		}
		sql(t, conn, "drop view pgqueue.task_now")
		up(t, s)
	})

	t.Run("a dry run reports its steps and does nothing", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Empty(t)
		s, conn := open(t, dsn), connect(t, dsn)
		todo, err := s.MigrateUp(t.Context(), postgres.DryRun())
		if err != nil || len(todo) != postgres.SchemaVersion() || todo[0].State != postgres.MigrationPending {
			t.Fatalf("%+v, %v", todo, err)
		}
		if value[bool](t, conn, "select exists (select 1 from pg_namespace where nspname = 'pgqueue')") {
			t.Fatal("the schema was made")
		}
		up(t, s)
		todo, err = s.MigrateDown(t.Context(), 0, postgres.DryRun())
		if err != nil || len(todo) != postgres.SchemaVersion() {
			t.Fatalf("%+v, %v", todo, err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("the script for psql does what the program does", func(t *testing.T) {
		t.Parallel()
		for _, schema := range []string{"pgqueue", "elsewhere"} {
			dsn := postgrestest.Empty(t)
			s, conn := open(t, dsn, postgres.WithSchema(schema)), connect(t, dsn)
			up(t, s)
			want := things(t, conn, schema)
			if _, err := conn.PgConn().Exec(t.Context(), s.MigrationSQL(false)).ReadAll(); err != nil {
				t.Fatal(err)
			}
			if left := things(t, conn, schema); len(left) != 0 {
				t.Fatalf("left behind: %q", left)
			}
			if _, err := conn.PgConn().Exec(t.Context(), s.MigrationSQL(true)).ReadAll(); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.ValidateMigrations(t.Context()), s.Ping(t.Context())); err != nil {
				t.Fatal(err)
			}
			sameThings(t, want, things(t, conn, schema))
		}
	})

	t.Run("an installer waits for a lock in pieces and gets there", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		conn, blocker := connect(t, dsn), connect(t, dsn)
		sql(t, blocker, "begin", "lock table pgqueue.queue in access share mode")
		// The installer gives up after its lock_timeout and is waiting again: the second wait is the signal to let go.
		waits := make(signals, 16)
		s := open(t, dsn, postgres.WithLogger(waits.logger()))
		var undone []postgres.Migration
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { undone, err = s.MigrateDown(t.Context(), 0) })
		waits.wait(t, "a migration had to wait")
		// Meanwhile no session waits behind it.
		_ = value[int](t, conn, "select count(*) from pgqueue.queue")
		sql(t, blocker, "rollback")
		wg.Wait()
		if err != nil || len(undone) != postgres.SchemaVersion() {
			t.Fatalf("undid %+v, %v", undone, err)
		}
	})

	t.Run("settings of the role do not bend a migration", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Empty(t)
		conn := connect(t, dsn)
		// Functions that are found before the real ones.
		sql(t, conn, "create schema trap",
			"create function trap.pg_current_snapshot() returns pg_snapshot language sql as $$ select null::pg_snapshot $$",
			"create function trap.pg_snapshot_xmin(pg_snapshot) returns xid8 language sql as $$ select null::xid8 $$")
		name := value[string](t, conn, "select quote_ident(current_database())")
		sql(t, conn, "alter database "+name+" set search_path = trap, pg_catalog")
		s := open(t, dsn)
		up(t, s)
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// prepareAll has PostgreSQL look at every statement of the adapter.
func prepareAll(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	all := postgres.Statements(postgres.DefaultSchema)
	if len(all) < 20 {
		t.Fatalf("only %d statements", len(all))
	}
	sql(t, conn, statements(all["part.create"])...) // some are about one partition
	for name, text := range all {
		t.Run("PostgreSQL accepts "+name, func(t *testing.T) {
			for _, part := range statements(text) {
				if _, err := conn.Prepare(t.Context(), "", part); err != nil {
					t.Errorf("%v\n%s", err, part)
				}
			}
		})
	}
}

func TestStatements(t *testing.T) {
	t.Parallel()
	prepareAll(t, connect(t, postgrestest.URL(t)))
}

func TestOtherServers(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL; -short leaves it out")
	}
	for dir := range strings.SplitSeq(os.Getenv("PGQUEUE_TEST_BINDIRS"), string(os.PathListSeparator)) {
		if dir == "" {
			continue // none are named: make test-full names them
		}
		t.Run("migrations and statements work with "+dir, func(t *testing.T) {
			dsn := startServer(t, dir)
			s, conn := open(t, dsn), connect(t, dsn)
			up(t, s)
			if err := errors.Join(s.Ping(t.Context()), s.ValidateMigrations(t.Context())); err != nil {
				t.Fatal(err)
			}
			prepareAll(t, conn)
			findings, err := s.Diagnose(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				if strings.HasPrefix(f.Value, "not known") || f.Name == "listen" && f.Level != queue.LevelOK {
					t.Errorf("%+v", f)
				}
			}
			t.Log(value[string](t, conn, "select version()"))
			down(t, s, 0)
		})
	}
}
