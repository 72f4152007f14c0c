package postgres

import (
	"embed"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/doctor"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/feed"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/migrate"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
)

// DefaultSchema is the schema of pgqueue's tables unless configured otherwise.
const DefaultSchema = sqltext.DefaultSchema

//go:embed sql/*.sql
var sqlFiles embed.FS

// upwards is the suffix of list statements that walk ids in ascending order. Without such a statement in the files,
// parseStatements derives it from the descending one.
const upwards = ".up"

// waiting is the suffix of take statements that wait for rows which another transaction has locked. parseStatements derives them
// from those that leave such rows out.
const waiting = ".wait"

// statementSet holds all SQL statements of the store.
var statementSet = parseStatements()

// parseStatements reads the embedded files and derives the ascending list statements.
func parseStatements() *sqltext.Set {
	lists := sqltext.Lists{
		"covering_done":          table.CoveringDone,
		"task_bytes":             sumTaskBytes,
		"state_bytes":            sumStateBytes,
		"fitting_present":        listFittingPresent,
		"brief_present":          listBriefPresent,
		"ticker_without_payload": listTickerWithoutPayload,
		"live_session":           isLiveSession,
	}
	addRowType(lists, "queue", queueColumns)
	lists["queue_mark"] = queueMarkColumns.List
	addRowType(lists, "queue_count", queueCountColumns)
	addRowType(lists, "part", partColumns)
	addRowType(lists, "part_sum", partSumColumns)
	addRowType(lists, "lane", laneColumns)
	addRowType(lists, "place", placeColumns)
	addRowType(lists, "task", taskColumns)
	addRowType(lists, "task_life", taskLifeColumns)
	addRowType(lists, "task_error", errorColumns)
	addRowType(lists, "attempt_error", attemptErrorColumns)
	addRowType(lists, "new_task", insertedTaskColumns)
	addRowType(lists, "letter_task", letterTaskColumns)
	addRowType(lists, "letter", letterColumns)
	addRowType(lists, "picked_task", pickedTaskColumns)
	addRowType(lists, "present", presentColumns)
	addRowType(lists, "present_life", presentLifeColumns)
	addRowType(lists, "present_state", presentStateColumns)
	addRowType(lists, "ready", readyColumns)
	addRowType(lists, "run", runColumns)
	addRowType(lists, "taken_ready", takenReadyColumns)
	addRowType(lists, "group_waiting", groupWaitingColumns)
	addRowType(lists, "group_state", groupStateColumns)
	addRowType(lists, "group_policy", groupPolicyColumns)
	addRowType(lists, "delayed", delayedColumns)
	addRowType(lists, "taken_delayed", takenDelayedColumns)
	addRowType(lists, "lease", leaseColumns)
	addRowType(lists, "kept_lease", leaseUpdateColumns)
	addRowType(lists, "new_lease", newLeaseColumns)
	addRowType(lists, "state", stateColumns)
	addRowType(lists, "done", doneColumns)
	addRowType(lists, "success_run", heldRunColumns)
	addRowType(lists, "request", requestColumns)
	addRowType(lists, "request_key", requestKeyColumns)
	addRowType(lists, "ticker", tickerColumns)
	addRowType(lists, "ticker_plan", planColumns)
	addRowType(lists, "tick", tickColumns)
	addRowType(lists, "listed_tick", listedTickColumns)
	addRowType(lists, "token", tokenColumns)
	addRowType(lists, "session", sessionColumns)
	addRowType(lists, "history_point", historyPointColumns)
	addRowType(lists, "cell", cellColumns)
	addRowType(lists, "placed", placedColumns)
	addRowType(lists, "home", homeColumns)
	addRowType(lists, "audit", auditColumns)
	addRowType(lists, "stored_audit", storedAuditColumns)

	// A walk up the ids differs from the walk down only in its order.
	set := sqltext.Parse(sqlFiles, "sql/*.sql", lists)
	for name, text := range sqltext.InSchema(DefaultSchema, set).All() {
		if strings.HasPrefix(name, "list.") && !strings.HasSuffix(name, upwards) && strings.Contains(text, " desc") && !set.Has(name+upwards) {
			set.Derive(name+upwards, name, " desc", "")
		}
	}
	for _, name := range []string{"take.ready", "take.delayed", "take.waiting"} {
		set.Derive(name+waiting, name, " for update skip locked", "")
	}
	for _, name := range []string{"retain.pick", "retain.pick.fair"} {
		set.Derive(name+healthy, name, "and (r.dies_at is null", "and r.attempt < 8192 and (r.dies_at is null")
	}
	return set
}

// addRowType lets statements name a row type: "{{ready r}}" stands for its columns with the alias r, and "{{ready_rows i}}"
// for rows that travel as one array for each column.
func addRowType[R any](lists sqltext.Lists, name string, columns table.Table[R]) {
	lists[name] = columns.List
	lists[name+"_rows"] = columns.Unnest
}

// statement returns the statement called name. It panics for an unknown name, so its calls belong into variables of the
// package.
func statement(name string) sqltext.Statement { return statementSet.Named(name) }

// arg returns a named parameter with its value.
func arg(name string, value any) sqltext.Arg { return sqltext.Arg{Name: name, Value: value} }

// queueRows queues a statement that takes rows as one array for each column, behind the arguments args. Without rows it queues
// nothing.
func queueRows[R any](t *txn.Tx, s sqltext.Statement, columns table.Table[R], rows []R, args ...sqltext.Arg) {
	if len(rows) > 0 {
		t.Queue(s, columns.Arrays(args, rows)...)
	}
}

// scanEach returns a function that reads the only column of each row and passes it to each.
func scanEach[V any](each func(V)) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var value V
		err := rows.Scan(&value)
		each(value)
		return err
	}
}

// scanRows returns a function that reads each row by columns and passes it to each. All rows share one struct and its targets,
// which would otherwise be the main cost of a row.
func scanRows[R any](columns table.Table[R], each func(R)) func(pgx.Rows) error {
	row := new(R)
	targets := columns.Targets(nil, row)
	return func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		each(*row)
		return nil
	}
}

// loadStatements returns the SQL texts of all sets in schema.
func loadStatements(schema string) *sqltext.Text {
	return sqltext.InSchema(schema, statementSet, doctor.Statements, feed.Statements, migrate.Statements)
}

// Statements returns all SQL statements of the adapter by name, as written for schema. Tools and tests use it, for
// example to explain or prepare each statement.
func Statements(schema string) map[string]string { return loadStatements(schema).All() }
