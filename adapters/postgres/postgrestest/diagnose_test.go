package postgrestest_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// diagnose is what Diagnose finds, by name.
func diagnose(t *testing.T, s *postgres.Store) map[string]queue.Finding {
	t.Helper()
	found, err := s.Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]queue.Finding{}
	for _, f := range found {
		if _, double := byName[f.Name]; double {
			t.Errorf("%s is found twice", f.Name)
		}
		if f.Value == "" || (f.Advice == "") != (f.Level == queue.LevelOK) {
			t.Errorf("%+v: a value always, an advice where something is wrong", f)
		}
		byName[f.Name] = f
	}
	return byName
}

func wantFinding(t *testing.T, found map[string]queue.Finding, name string, level queue.Level, texts ...string) {
	t.Helper()
	f, ok := found[name]
	if !ok || f.Level != level {
		t.Fatalf("%s: found %+v, want level %s", name, f, level)
	}
	for _, text := range texts {
		if !strings.Contains(f.Value+" "+f.Advice, text) {
			t.Errorf("%+v does not say %q", f, text)
		}
	}
}

func TestDiagnose(t *testing.T) {
	t.Parallel()

	t.Run("a healthy store is reported as healthy, line by line", func(t *testing.T) {
		t.Parallel()
		found := diagnose(t, postgrestest.Open(t))
		for _, name := range []string{
			"server_version", "autovacuum", "pooler", "schema", "clock", "size", "dead_rows", "autovacuum_tables", "notify_queue",
			"partitions", "listen", "tickers", "background_work", "times_ahead", "triggers", "audit", "tokens",
		} {
			wantFinding(t, found, name, queue.LevelOK)
		}
		for _, name := range []string{"oldest_snapshot", "connections", "fsync", "full_page_writes", "synchronous_commit"} {
			if _, ok := found[name]; !ok {
				t.Errorf("nothing about %s", name)
			}
		}
		wantFinding(t, found, "listen", queue.LevelOK, "delivers")
		wantFinding(t, found, "audit", queue.LevelOK, "may change and remove entries", "deploy/sql/roles.sql")
	})

	t.Run("a token that expires within 14 days is named", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		admin, ctx := access.NewAdmin(s, access.AdminOptions{}), access.With(t.Context(), access.Owner())
		issued, err := admin.CreateToken(ctx, access.TokenRequest{Name: "a", Grants: []string{"viewer@default"}})
		if err != nil {
			t.Fatal(err)
		}
		wantFinding(t, diagnose(t, s), "tokens", queue.LevelOK, "none expires")
		postgrestest.Advance(t, s, access.DefaultTokenLife-access.ExpiryWarning)
		found := diagnose(t, s)
		wantFinding(t, found, "tokens", queue.LevelWarn, issued.ID, "rotate-token")
	})

	t.Run("a foreign trigger and a foreign rule are named once", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s, conn := open(t, dsn), connect(t, dsn)
		mustQueue(t, s, "mail")
		createMail(t, s, "") // makes a partition, which has its own copy of the trigger
		sql(t, conn, "create function pgqueue.spy() returns trigger language plpgsql as $$ begin return new; end $$",
			"create trigger spy before insert on pgqueue.task for each row execute function pgqueue.spy()",
			"create rule gone as on delete to pgqueue.audit do instead nothing")
		wantFinding(t, diagnose(t, s), "triggers", queue.LevelWarn, "triggers or rules: gone of audit, spy of task", "rights")
	})

	t.Run("durability is what the settings say", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		conn := connect(t, dsn)
		sql(t, conn, "alter database "+value[string](t, conn, "select quote_ident(current_database())")+" set synchronous_commit = off")
		found, err := open(t, dsn).CheckDurability(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != 3 {
			t.Fatalf("found %+v", found)
		}
		for _, f := range found {
			now := value[string](t, conn, "select current_setting($1)", f.Name)
			if f.Name == "synchronous_commit" {
				now = "off" // for new connections
			}
			if f.Value != now || (f.Level == queue.LevelFail) != (now == "off") {
				t.Errorf("found %+v, it is %s", f, now)
			}
		}
	})

	t.Run("a schema that is not there or not of this version is reported with its remedy", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.Empty(t)
		s := open(t, dsn)
		found := diagnose(t, s)
		wantFinding(t, found, "schema", queue.LevelFail, "pgqueue migrate up", "version 0 of")
		wantFinding(t, found, "listen", queue.LevelOK)
		up(t, s)
		next := postgres.SchemaVersion() + 1
		sql(t, connect(t, dsn), fmt.Sprintf("insert into pgqueue.migration (version, name, checksum) values (%d, 'later', 'a')", next))
		wantFinding(t, diagnose(t, s), "schema", queue.LevelWarn, "goes on working", "upgrade the program")
		sql(t, connect(t, dsn), fmt.Sprintf("update pgqueue.migration set compatible_from = %d where version = %[1]d", next))
		wantFinding(t, diagnose(t, s), "schema", queue.LevelFail, "upgrade the program")
	})

	t.Run("the session that holds the oldest snapshot is named", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		holder := connect(t, dsn)
		sql(t, holder, "set application_name = 'a long report'", "begin isolation level repeatable read", "select 1")
		wantFinding(t, diagnose(t, open(t, dsn)), "oldest_snapshot", queue.LevelOK, "session", "a long report",
			fmt.Sprintf("pid %d", holder.PgConn().PID()))
	})

	t.Run("a prepared transaction that no session ends is named", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		conn := connect(t, dsn)
		if value[string](t, conn, "select current_setting('max_prepared_transactions')") == "0" {
			t.Skip("this server has no prepared transactions: max_prepared_transactions is 0")
		}
		id := "pgqueue test " + value[string](t, conn, "select current_database()::text")
		sql(t, conn, "begin", "create table public.t ()", "prepare transaction '"+id+"'")
		t.Cleanup(func() {
			ctx, cancel := cleanupContext(t)
			defer cancel()
			if _, err := conn.Exec(ctx, "rollback prepared '"+id+"'"); err != nil {
				t.Error(err)
			}
		})
		wantFinding(t, diagnose(t, open(t, dsn)), "oldest_snapshot", queue.LevelOK, "prepared transaction", id)
	})

	t.Run("each setting that stops vacuum, or hides damage or lost writes, is named", func(t *testing.T) {
		t.Parallel()
		// The settings of the whole server are here too: doctor reads them from the same view, and its own test has their values.
		named := map[string][2]string{ // finding and value
			"autovacuum": {"autovacuum", "off"}, "track_counts": {"autovacuum", "off"}, "autovacuum_naptime": {"autovacuum", "3600"},
			"fsync": {"fsync", "off"}, "full_page_writes": {"full_page_writes", "off"}, "synchronous_commit": {"synchronous_commit", "off"},
			"zero_damaged_pages": {"damaged_pages", "on"}, "ignore_checksum_failure": {"damaged_pages", "on"},
			"ignore_invalid_pages": {"damaged_pages", "on"}, "data_sync_retry": {"damaged_pages", "on"},
			"old_snapshot_threshold": {"role_settings", "60"},
		}
		harmless := map[string]string{
			"autovacuum_(analyze|vacuum|freeze|multixact).*":              "the hot tables state theirs; the others grow slowly",
			"autovacuum_(max_workers|worker_slots|work_mem)":              "at least one worker, which takes the hot tables in turn",
			"stats_temp_directory":                                        "where a server before 15 keeps the counts while it runs",
			"stats_fetch_consistency|track_.*":                            "what statistics show of queries; vacuum needs only the counts of rows",
			"commit_.*|wal_.*|io_.*|summarize_wal":                        "pace and size of the log; a commit waits for its flush all the same",
			"exit_on_error":                                               "stated by us",
			"recovery_init_sync_method|restart_after_crash|send_abort_.*": "how the server starts again, not what it keeps",
		}

		dsn := postgrestest.URL(t)
		conn := connect(t, dsn)
		for _, name := range value[[]string](t, conn, `select array_agg(name) from pg_settings
				where category in ('Autovacuum', 'Vacuuming / Automatic Vacuuming', 'Error Handling', 'Write-Ahead Log / Settings',
					'Statistics / Cumulative Query and Index Statistics', 'Statistics / Query and Index Statistics Collector')
				and name not like '%.%'`) {
			_, isNamed := named[name]
			isHarmless := false
			for pattern := range harmless {
				isHarmless = isHarmless || regexp.MustCompile("^("+pattern+")$").MatchString(name)
			}
			if !isNamed && !isHarmless {
				t.Errorf("%s: say whether doctor names it, or why it is harmless", name)
			}
		}

		for name, want := range named {
			if !value[bool](t, conn, "select exists (select from pg_settings where name = $1 and context in ('user', 'superuser'))", name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dsn := postgrestest.URL(t)
				admin := connect(t, dsn)
				sql(t, admin, "alter database "+pgx.Identifier{admin.Config().Database}.Sanitize()+" set "+name+" = "+want[1])
				level := queue.LevelWarn
				if name == "synchronous_commit" {
					level = queue.LevelFail
				}
				wantFinding(t, diagnose(t, open(t, dsn)), want[0], level, want[1])
			})
		}
	})

	t.Run("a table without autovacuum is named", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		sql(t, connect(t, dsn), "alter table pgqueue.ready set (autovacuum_enabled = false)")
		wantFinding(t, diagnose(t, open(t, dsn)), "autovacuum_tables", queue.LevelWarn, "ready", "reset (autovacuum_enabled)")
	})

	t.Run("LISTEN that delivers nothing, or cannot connect, is reported with its remedy", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		p := newProxy(t, dsn)
		p.swallow(true)
		s := open(t, dsn, postgres.WithListenURL(p.url))
		wantFinding(t, diagnose(t, s), "listen", queue.LevelFail, "does not deliver", "WithListenURL")
		p.close()
		wantFinding(t, diagnose(t, s), "listen", queue.LevelFail, "connection")
	})

	t.Run("a pool larger than the server allows is reported", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		most := value[int](t, connect(t, dsn), "select current_setting('max_connections')::integer")
		wantFinding(t, diagnose(t, open(t, dsn, postgres.WithMaxConns(most+1))), "connections", queue.LevelWarn, "max_connections")
	})

	t.Run("partitions past every retention are counted", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		sql(t, connect(t, dsn), "insert into pgqueue.part (lower, upper, created_at) select i * 1000, (i + 1) * 1000, "+
			"pgqueue.clock() - interval '1 day' * (100 - i) from generate_series(1, 3) i")
		wantFinding(t, diagnose(t, open(t, dsn)), "partitions", queue.LevelWarn, "3, of which 2", "prun")
	})

	t.Run("a role that may not look gets a finding, not an error", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		conn := connect(t, dsn)
		role := value[string](t, conn, "select 'pgqueue_test_role_' || substr(md5(current_database()), 1, 12)")
		sql(t, conn, "create role "+role+" login password 'secret'")
		t.Cleanup(func() {
			ctx, cancel := cleanupContext(t)
			defer cancel()
			if _, err := conn.Exec(ctx, "drop role "+role); err != nil {
				t.Error(err)
			}
		})
		found := diagnose(t, open(t, withUser(t, dsn, role, "secret")))
		wantFinding(t, found, "schema", queue.LevelWarn, "not known")
		wantFinding(t, found, "partitions", queue.LevelWarn, "not known")
		wantFinding(t, found, "server_version", queue.LevelOK)
	})

	t.Run("a database that is away is an error", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		p := newProxy(t, dsn)
		s := open(t, p.url)
		p.close()
		_, err := s.Diagnose(t.Context())
		wantError(t, err, queue.KindUnavailable)
		_, err = s.CheckDurability(t.Context())
		wantError(t, err, queue.KindUnavailable)
	})

	t.Run("names are stable", func(t *testing.T) {
		t.Parallel()
		found, err := postgrestest.Open(t).Diagnose(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range found {
			names = append(names, f.Name)
		}
		want := []string{
			"server_version", "fsync", "full_page_writes", "synchronous_commit", "pooler", "encoding", "autovacuum", "damaged_pages",
			"role_settings", "schema", "restored_rows", "clock", "oldest_snapshot", "size", "dead_rows", "autovacuum_tables", "notify_queue",
			"connections", "partitions", "tickers", "background_work", "times_ahead", "groups", "triggers", "audit", "contradictions", "tokens", "listen",
		}
		if !slices.Equal(names, want) {
			t.Errorf("names %q", names)
		}
	})
}
