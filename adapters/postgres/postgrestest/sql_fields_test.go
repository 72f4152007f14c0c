package postgrestest_test

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestFieldsOfSQL holds the SQL API to the fields of Go: each field of a create is an argument or an option of create_task, and
// each field without content is a column of its view.
func TestFieldsOfSQL(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	conn := migrated(t, postgres.DefaultSchema)
	list := func(q string, args ...any) []string {
		t.Helper()
		rows, err := conn.Query(t.Context(), q, args...)
		if err != nil {
			t.Fatal(err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return names
	}

	taken := list("select distinct unnest(proargnames) from pg_proc where proname = 'create_task' and pronamespace = 'pgqueue'::regnamespace")
	for _, field := range fieldNames(reflect.TypeFor[queue.TaskMeta]()) {
		if slices.Contains(taken, field) {
			continue
		}
		// The option is known when its wrong type is the fault.
		_, err := conn.Exec(t.Context(), "select pgqueue.create_task('mail', '1'::json, key => 'k', options => jsonb_build_object($1::text, 1))", field)
		if _, message := sqlState(t, err); !strings.HasPrefix(message, "options."+field+": must be a text") {
			t.Errorf("create_task does not take %s: %s", field, message)
		}
	}

	for view, fields := range map[string]struct {
		of   reflect.Type
		not  []string          // content, fields of one caller, and the number of a list that is whole here
		name map[string]string // columns with another name
	}{
		"tasks": {
			reflect.TypeFor[queue.Task](), []string{"payload", "result", "lease", "headers", "errors", "progress", "replayed"}, nil,
		},
		"queues":      {reflect.TypeFor[queue.Queue](), nil, map[string]string{"name": "queue"}},
		"queue_stats": {reflect.TypeFor[queue.QueueStats](), []string{"counts", "oldest_ready_age"}, nil},
		"workers":     {reflect.TypeFor[queue.Worker](), []string{"queue_count"}, map[string]string{"name": "worker"}},
		"tickers":     {reflect.TypeFor[queue.Ticker](), []string{"payload", "anchor"}, map[string]string{"name": "ticker", "timestamp": "last_at"}},
		"ticks":       {reflect.TypeFor[queue.Tick](), []string{"payload", "period", "cron"}, map[string]string{"task_id": "task"}},
	} {
		columns := list("select attname::text from pg_attribute where attrelid = ('pgqueue.' || $1)::regclass and attnum > 0", view)
		for _, field := range fieldNames(fields.of) {
			if other, ok := fields.name[field]; ok {
				field = other
			}
			if !slices.Contains(columns, field) && !slices.Contains(fields.not, field) {
				t.Errorf("the view %s does not show %s", view, field)
			}
		}
	}
}

// hump is the start of a word in a Go name.
var hump = regexp.MustCompile(`([a-z])([A-Z])|([A-Z])([A-Z][a-z])`)

// fieldNames returns the fields of a struct and of those that it embeds, as SQL names them.
func fieldNames(of reflect.Type) (names []string) {
	for _, field := range reflect.VisibleFields(of) {
		if !field.Anonymous {
			names = append(names, strings.ToLower(hump.ReplaceAllString(field.Name, "${1}${3}_${2}${4}")))
		}
	}
	return names
}
