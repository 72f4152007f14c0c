package postgrestest_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
)

// TestWorkOfCreateTask counts what a create in SQL does: calls of functions, and scans of tables. Each call of a
// function and each statement takes microseconds, which an argument that is not given must not cost.
func TestWorkOfCreateTask(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	conn := migrated(t, postgres.DefaultSchema)
	sql(t, conn, "set track_functions = 'all'")

	plain := []string{"1 clock()", "1 create_task()", "1 insert_tasks()", "1 scan of lane", "1 scan of part", "1 scan of queue"}
	with := func(more ...string) []string { return append(slices.Clone(plain), more...) }
	for _, c := range []struct {
		call string
		want []string
	}{
		{"create_task('mail', json_build_object('n', 1))", plain},
		{"create_task('mail', jsonb_build_object('n', 1), priority => 0, delay => '1 hour')", plain},
		{"create_task('mail', '{\"n\": 1}')", with("1 parse_json()")},
		{"create_task('mail', json_build_object('n', '\\n'), headers => '{\"a\": \"b\"}')", with("1 check_headers()")},
		{"create_task('mail', options => '{\"group\": \"a\"}')", with("1 check_options()", "1 hash_group()")},
		{"create_tasks('mail', array(select json_build_object('n', i) from generate_series(1, 1000) i))", []string{
			"1 clock()", "1 create_tasks()", "1 insert_events()", "1 insert_tasks()", "1 scan of lane", "1 scan of part", "1 scan of queue",
		}},
	} {
		sql(t, conn, "select pgqueue."+c.call) // plans, caches and the lane

		// PostgreSQL adds the counts of a session to those of the server between transactions alone.
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := countWork(t, tx)
		if _, err := tx.Exec(t.Context(), "select pgqueue."+c.call); err != nil {
			t.Fatal(err)
		}
		var got []string
		for name, n := range countWork(t, tx) {
			if n > before[name] {
				got = append(got, fmt.Sprintf("%d %s", n-before[name], name))
			}
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s does\n%q, want\n%q", c.call, got, c.want)
		}
	}
}

// countWork returns how often the session has called each function of the schema and scanned each table.
func countWork(t *testing.T, tx pgx.Tx) map[string]int64 {
	t.Helper()
	rows, err := tx.Query(t.Context(), `
		select funcname || '()', sum(calls)::bigint from pg_stat_xact_user_functions where schemaname = 'pgqueue' group by funcname
		union all
		select 'scan of ' || relname, seq_scan + coalesce(idx_scan, 0) from pg_stat_xact_user_tables where schemaname = 'pgqueue'`)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	var name string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error { counts[name] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	return counts
}
