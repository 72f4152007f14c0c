package postgrestest_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestRestoredInPart has a database come back without some of its rows, as from a dump of the structure alone or from a
// replication: it is noticed, and put right where it can be known what is right.
func TestRestoredInPart(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	finding := func(t *testing.T, s *postgres.Store, name string) queue.Finding {
		t.Helper()
		found, err := s.Diagnose(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Name == name {
				return f
			}
		}
		t.Fatalf("doctor says nothing of %s", name)
		return queue.Finding{}
	}
	t.Run("tables without a record of their version are refused by name", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		sql(t, connect(t, dsn), "delete from pgqueue.migration", "delete from pgqueue.fold")
		s := open(t, dsn)
		_, err := s.MigrateUp(t.Context())
		wantError(t, err, queue.KindConflict, "no record of their version")
		_, err = s.MigrateUp(t.Context(), postgres.DryRun())
		wantError(t, err, queue.KindConflict, "no record of their version")
		wantError(t, s.Ping(t.Context()), queue.KindConflict, "no record of their version")
		if f := finding(t, s, "schema"); f.Level != queue.LevelFail || !strings.Contains(f.Advice, "without data") {
			t.Errorf("doctor: %+v", f)
		}
	})
	t.Run("an empty database is none of these", func(t *testing.T) {
		t.Parallel()
		s := open(t, postgrestest.Empty(t))
		wantError(t, s.Ping(t.Context()), queue.KindUnavailable, "no tables of pgqueue yet")
		up(t, s)
		if f := finding(t, s, "restored_rows"); f.Level != queue.LevelOK {
			t.Errorf("doctor: %+v", f)
		}
	})

	// filled is a store with tasks in all places, and its counts.
	filled := func(t *testing.T) (string, *postgres.Store, map[queue.Status]int64) {
		t.Helper()
		dsn := postgrestest.URL(t)
		s := open(t, dsn, postgres.WithPartitionSize(1024))
		mustQueue(t, s, "mail")
		makeTask(t, s, "default", strings.Fields(strings.Repeat("mail ", 1500))...)
		c := queue.Create{Namespace: "default", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Delay: 1e12}}}}
		if _, err := s.CreateTasks(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		held := retain(t, s, 20)
		var releases []queue.Release
		for i, o := range []queue.Outcome{queue.OutcomeSuccess, queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomePermanent, queue.OutcomeHandBack} {
			releases = append(releases, queue.Release{ID: held[i].ID, Token: held[i].Lease.Token, Outcome: o})
		}
		if _, err := s.ReleaseTasks(t.Context(), "default", releases); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CancelTasks(t.Context(), "default", queue.Selection{IDs: []int64{100, 101}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Maintain(t.Context(), queue.ChoreFold); err != nil {
			t.Fatal(err)
		}
		return dsn, s, stats(t, s).Counts
	}
	// grouped is the statistics of queues with tasks that wait for their group.
	grouped := func(t *testing.T, s *postgres.Store) (all []queue.QueueStats) {
		t.Helper()
		for _, namespace := range []string{"places", "order"} {
			st, err := s.QueueStats(t.Context(), namespace, "mail")
			if err != nil || st[0].GroupWaiting < 5 {
				t.Fatalf("%+v, %v", st, err)
			}
			all = append(all, queue.QueueStats{Counts: st[0].Counts, Ready: st[0].Ready, GroupWaiting: st[0].GroupWaiting})
		}
		return all
	}
	for name, c := range map[string]struct{ harm, says string }{
		"the row of fold":                      {"delete from pgqueue.fold", "fold"},
		"the row of fold, counts and events":   {"truncate pgqueue.fold, pgqueue.queue_count, pgqueue.event", "fold"},
		"fold, and events of another cluster":  {"delete from pgqueue.fold; update pgqueue.event set xid = (xid::text::bigint + 1000000000)::text::xid8", "fold"},
		"rows of part":                         {"delete from pgqueue.part", "part"},
		"a row of part, and a partition":       {"delete from pgqueue.part where lower = 1; insert into pgqueue.part values (900000001, 900001025, now())", "part"},
		"the sequence of ids":                  {"alter sequence pgqueue.turn restart", "turn"},
		"the sequence of tokens":               {"alter sequence pgqueue.token restart", "token"},
		"a token that is not a multiple (X1)":  {"select setval('pgqueue.token', 1000000)", "token"},
		"the sequence of queues":               {"alter sequence pgqueue.number restart", "number"},
		"the sequence of markers":              {"alter sequence pgqueue.marker restart", "marker"},
		"the sequence of the audit":            {"alter sequence pgqueue.audit_id_seq restart", "audit_id_seq"},
		"the sequence of lanes":                {"alter sequence pgqueue.lane_n_seq restart", "lane_n_seq"},
		"all that a dump of the rows has left": {"delete from pgqueue.fold; delete from pgqueue.part; alter sequence pgqueue.turn restart; alter sequence pgqueue.token restart; alter sequence pgqueue.number restart", "fold"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, first, before := filled(t)
			lastToken := retain(t, first, 1)[0].Lease.Token
			before[queue.StatusNew]--
			before[queue.StatusRetained]++
			fillGroups(t, first, "places", queue.FlowMeta{GroupConcurrency: new(2)})
			fillGroups(t, first, "order", queue.FlowMeta{Order: new(queue.OrderFIFO)})
			groups := grouped(t, first)
			if err := first.RecordAudit(t.Context(), access.AuditEntry{Operation: "kept"}); err != nil {
				t.Fatal(err)
			}
			first.Close() // all programs stand still while a database is restored
			admin := connect(t, dsn)
			runAll(t, admin, c.harm)

			s := open(t, dsn, postgres.WithPartitionSize(1024))
			if f := finding(t, s, "restored_rows"); f.Level != queue.LevelFail || !strings.Contains(f.Value, c.says) || !strings.Contains(f.Advice, "pgqueue migrate up") {
				t.Errorf("doctor: %+v", f)
			}
			if strings.Contains(c.harm, "fold") {
				wantError(t, s.Ping(t.Context()), queue.KindUnavailable, "pgqueue migrate up")
			}
			up(t, s)
			if f := finding(t, s, "restored_rows"); f.Level != queue.LevelOK {
				t.Errorf("doctor, after migrate up: %+v", f)
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			if after := stats(t, s).Counts; !maps.Equal(after, before) {
				t.Errorf("counts %v, before %v", after, before)
			}
			if after := grouped(t, s); !reflect.DeepEqual(after, groups) {
				t.Errorf("counts of groups %+v, before %+v", after, groups)
			}
			after, err := s.LastEvent(t.Context(), "tests")
			if err != nil {
				t.Fatal(err)
			}
			greatest := value[int64](t, admin, "select max(id) from pgqueue.task")
			makeTask(t, s, "default", strings.Fields(strings.Repeat("mail ", 2000))...)
			if least := value[int64](t, admin, "select count(*) from pgqueue.task where id > $1", greatest); least != 2000 {
				t.Errorf("%d of 2000 new tasks have new ids", least)
			}
			if task := retain(t, s, 1)[0]; task.Lease.Token <= lastToken {
				t.Errorf("token %d, after %d before", task.Lease.Token, lastToken)
			}
			mustQueue(t, s, "other")
			for range 2 {
				if _, err := s.Maintain(t.Context(), queue.ChoreFold); err != nil {
					t.Fatal(err)
				}
			}
			before[queue.StatusNew] += 1999
			before[queue.StatusRetained]++
			if now := stats(t, s).Counts; !maps.Equal(now, before) {
				t.Errorf("counts go on as %v, want %v", now, before)
			}
			if page, err := s.ListEvents(t.Context(), "default", queue.EventFilter{After: after}, 10); err != nil || len(page.Events) != 10 {
				t.Errorf("the feed goes on with %d events, %v", len(page.Events), err)
			}
		})
	}
}

// TestRestoredSequences has each sequence of the schema start at its beginning behind rows that have its values, as after a
// replication: both commands move all of them, and the work goes on. A new sequence fails the test until it is known here.
func TestRestoredSequences(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	inUse := map[string]string{ // the greatest value in use
		"turn":              "select max(id) from pgqueue.task",
		"token":             "select max(token) from pgqueue.lease",
		"number":            "select max(id)::bigint from pgqueue.ticker",
		"marker":            "select max(x) from (select max(version) as x from pgqueue.group_state union all select max(turn) from pgqueue.ready where n = 0 and lane = 2147483647) x",
		"audit_id_seq":      "select max(id) from pgqueue.audit",
		"lane_n_seq":        "select max(n) from pgqueue.lane",
		"tick_id_seq":       "select max(id) from pgqueue.tick",
		"event_id_seq":      "select max(id) from pgqueue.event",
		"task_error_id_seq": "select max(id) from pgqueue.task_error",
	}
	for name, move := range map[string]func(t *testing.T, s *postgres.Store){
		"migrate up": func(t *testing.T, s *postgres.Store) { up(t, s) },
		"migrate after-restore": func(t *testing.T, s *postgres.Store) {
			if err := s.AfterRestore(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			s, admin := open(t, dsn), connect(t, dsn)
			fillGroups(t, s, "default", queue.FlowMeta{GroupConcurrency: new(2)})
			ticker := newTicker(t, s, "default", "t", "mail", queue.TickerMeta{Period: new(time.Hour)})
			use := func() { // one value of each sequence
				t.Helper()
				var releases []queue.Release
				out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "default", Requests: []queue.RetainShare{{Worker: "w", Limit: 4}}})
				if err != nil || len(out[0]) == 0 {
					t.Fatal(out, err)
				}
				for i, task := range out[0] {
					o := []queue.Outcome{queue.OutcomeSuccess, queue.OutcomePermanent}[i%2]
					releases = append(releases, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: o})
				}
				rs, err := s.ReleaseTasks(t.Context(), "default", releases)
				for _, r := range rs {
					err = errors.Join(err, r.Err)
				}
				err = errors.Join(err, s.RecordAudit(t.Context(), access.AuditEntry{Operation: "tried"}))
				_, tickErr := s.RunTicker(t.Context(), "default", ticker.Name)
				if err = errors.Join(err, tickErr); err != nil {
					t.Error(err)
				}
			}
			makeGroupTask(t, s, "default", "mail", "c", 5)
			use()
			use()
			retain(t, s, 1)

			names := value[[]string](t, admin, "select array_agg(relname::text order by relname) from pg_class where relkind = 'S' and relnamespace = 'pgqueue'::regnamespace")
			before := map[string]int64{}
			for _, sequence := range names {
				query, known := inUse[sequence]
				if !known {
					t.Errorf("sequence %s: state its greatest value in use here, and move it in restore.sql and after-restore.sql", sequence)
					continue
				}
				if before[sequence] = value[int64](t, admin, query); before[sequence] < 1 {
					t.Errorf("sequence %s: no value is in use", sequence)
				}
				sql(t, admin, "alter sequence pgqueue."+sequence+" restart")
			}
			move(t, s)
			for sequence, most := range before {
				if now := value[int64](t, admin, "select last_value from pgqueue."+sequence); now < most {
					t.Errorf("sequence %s: is at %d, and %d is in use", sequence, now, most)
				}
			}
			makeGroupTask(t, s, "default", "mail", "d", 5)
			use()
		})
	}
}

func stats(t *testing.T, s *postgres.Store) *queue.QueueStats {
	t.Helper()
	st, err := s.QueueStats(t.Context(), "default", "mail")
	if err != nil {
		t.Fatal(err)
	}
	return st[0]
}

// TestEncodings: migrations refuse a database with an encoding that cannot hold all texts, and doctor names it.
func TestEncodings(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.Empty(t)
	admin := connect(t, dsn)
	for encoding, want := range map[string]queue.Level{"LATIN1": queue.LevelFail, "EUC_JP": queue.LevelFail, "SQL_ASCII": queue.LevelWarn} {
		name := admin.Config().Database
		name = name[max(0, len(name)-40):] + "_" + strings.ToLower(encoding)
		sql(t, admin, "create database "+name+" encoding '"+encoding+"' template template0 locale 'C'")
		t.Cleanup(func() {
			ctx, cancel := cleanupContext(t)
			defer cancel()
			if _, err := admin.Exec(ctx, "drop database "+name+" with (force)"); err != nil {
				t.Error(err)
			}
		})
		t.Run(encoding, func(t *testing.T) {
			s := open(t, strings.Replace(dsn, "/"+admin.Config().Database, "/"+name, 1))
			found, err := s.Diagnose(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if f.Name == "encoding" && (f.Level != want || f.Value != encoding || f.Advice == "") {
					t.Errorf("doctor: %+v", f)
				}
			}
			_, err = s.MigrateUp(t.Context())
			if want == queue.LevelFail {
				wantError(t, err, queue.KindConflict, "encoding "+encoding)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			mustQueue(t, s, "mail")
			c := queue.Create{Namespace: "default", Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(`"日本 €"`), Key: "schlüssel"}}}}
			if _, err := s.CreateTasks(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if task := retain(t, s, 1)[0]; string(task.Payload) != `"日本 €"` || task.Key != "schlüssel" {
				t.Errorf("%s, %s", task.Payload, task.Key)
			}
		})
	}
}

// TestRefusedSettings: a setting of role or database that pgqueue cannot work with gives an error with its name.
func TestRefusedSettings(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, c := range []struct {
		name, value string
		level       queue.Level
		refused     bool
	}{
		{"default_transaction_read_only", "on", queue.LevelFail, true},
		{"session_replication_role", "replica", queue.LevelFail, true},
		{"default_transaction_isolation", "serializable", queue.LevelWarn, false},
		{"search_path", "public, pg_catalog", queue.LevelWarn, false},
		{"DateStyle", "German", queue.LevelOK, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.URL(t)
			admin := connect(t, dsn)
			setting := "'" + c.value + "'"
			if c.name == "search_path" {
				setting = c.value
			}
			sql(t, admin, "alter database "+pgx.Identifier{admin.Config().Database}.Sanitize()+" set "+c.name+" = "+setting)
			s := open(t, dsn)
			found, err := s.Diagnose(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if f.Name == "role_settings" && (f.Level != c.level || f.Level != queue.LevelOK && !strings.Contains(f.Value, c.name)) {
					t.Errorf("doctor: %+v", f)
				}
			}
			if err := s.Ping(t.Context()); c.refused {
				wantError(t, err, queue.KindUnavailable, c.name)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// documented finds statements of SQL in running text and in blocks.
var documented = regexp.MustCompile("(?s)`((?:select|update|delete|insert|alter|create|drop|vacuum|grant|set|truncate) [^`]*)`")

// TestDocumentedSQL runs every statement that the documentation gives to operators, each in a transaction of its own that is
// rolled back: an instruction without a test broke every retain once.
func TestDocumentedSQL(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	admin := connect(t, dsn)
	mustQueue(t, open(t, dsn), "mail")
	files, err := filepath.Glob("../../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../../../docs/how-to/*.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, file := range append(files, more...) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range documented.FindAllStringSubmatch(string(b), -1) {
			if !strings.Contains(m[1], "pgqueue") || strings.Contains(m[1], "pgqueue_") { // of roles: TestRoles
				continue
			}
			ran++
			text := strings.NewReplacer("id = …", "id = 1", "TABLE", "ready").Replace(m[1])
			if _, err := admin.Exec(t.Context(), "begin"); err != nil {
				t.Fatal(err)
			}
			if _, err := admin.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(file), m[1], err)
			}
			if _, err := admin.Exec(t.Context(), "rollback"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ran < 3 {
		t.Errorf("only %d statements were found", ran)
	}
}
