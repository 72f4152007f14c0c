package postgrestest_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
)

var updateSQL = flag.Bool("update-sql", false, "write testdata/sql_api.txt anew")

// frozenSQL lists what docs/stability.md promises of the SQL API: a line for each function, with names, types and defaults of
// its arguments and its result, and for each column of a view, in their places.
const frozenSQL = `
	select format('function %s(%s) returns %s', p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
	from pg_proc p join pg_namespace n on n.oid = p.pronamespace
	where n.nspname = $1 and p.proname in ('api_version', 'create_task', 'create_tasks', 'complete_task')
	union all
	select format('view %s %s %s %s', c.relname, lpad(row_number() over (partition by c.oid order by a.attnum)::text, 2, '0'), a.attname, format_type(a.atttypid, a.atttypmod))
	from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
	where n.nspname = $1 and c.relkind = 'v' and c.relname in ('tasks', 'queues', 'queue_stats', 'workers', 'tickers', 'ticks', 'errors')
	order by 1`

// TestSQLAPIIsFrozen compares the functions and views with those of the file: no line of it may change or disappear. A column behind
// the last one of its view may follow; -update-sql adds its line.
func TestSQLAPIIsFrozen(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	for _, schema := range []string{postgres.DefaultSchema, "order"} {
		rows, err := migrated(t, schema).Query(t.Context(), frozenSQL, schema)
		if err != nil {
			t.Fatal(err)
		}
		now, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(now) // the order of the database is that of its locale

		const file = "testdata/sql_api.txt"
		if *updateSQL {
			if err := os.WriteFile(file, []byte(strings.Join(now, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		frozen := strings.Split(strings.TrimSpace(string(text)), "\n")
		for _, line := range frozen {
			if !slices.Contains(now, line) {
				t.Errorf("schema %s: the promise is broken, the database lacks: %s", schema, line)
			}
		}
		for _, line := range now {
			if !slices.Contains(frozen, line) {
				t.Errorf("schema %s: new, not in %s; an appended column may be added with -update-sql: %s", schema, file, line)
			}
		}
	}
}
