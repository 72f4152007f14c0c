package postgres

import (
	"embed"
	"strings"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/doctor"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/feed"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/migrate"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

// DefaultSchema is the schema of pgqueue's tables unless configured otherwise.
const DefaultSchema = sqltext.DefaultSchema

//go:embed sql/*.sql
var sqlFiles embed.FS

// upwards is the suffix of list statements that walk ids in ascending order. Without such a statement in the files,
// parseStatements derives it from the descending one.
const upwards = ".up"

// statementSet holds all SQL statements of the store.
var statementSet = parseStatements()

// parseStatements reads the embedded files and derives the ascending list statements.
func parseStatements() *sqltext.Set {
	set := sqltext.Parse(sqlFiles, "sql/*.sql", sqltext.Lists{
		"queue":                  queueColumns.List,
		"ticker":                 tickerColumns.List,
		"lease":                  leaseColumns.List,
		"task":                   taskColumns.List,
		"task_life":              taskLifeColumns.List,
		"places":                 placeColumns.Unnest,
		"taken_delayed":          takenDelayedColumns.Unnest,
		"taken_ready":            takenReadyColumns.Unnest,
		"fitting_task":           listFittingTask,
		"new_task":               insertedTaskColumns.List,
		"new_tasks":              insertedTaskColumns.Unnest,
		"picked_task":            pickedTaskColumns.List,
		"present":                presentColumns.List,
		"present_life":           presentLifeColumns.List,
		"present_state":          presentStateColumns.List,
		"fitting_present":        listFittingPresent,
		"ticker_without_payload": listTickerWithoutPayload,
	})
	for name, text := range sqltext.InSchema(DefaultSchema, set).All() {
		if strings.HasPrefix(name, "list.") && !strings.HasSuffix(name, upwards) && strings.Contains(text, " desc") && !set.Has(name+upwards) {
			set.Derive(name+upwards, name, " desc", "")
		}
	}
	return set
}

// statement returns the statement called name. It panics for an unknown name, so its calls belong into variables of the
// package.
func statement(name string) sqltext.Statement { return statementSet.Named(name) }

// arg returns a named parameter with its value.
func arg(name string, value any) sqltext.Arg { return sqltext.Arg{Name: name, Value: value} }

// loadStatements returns the SQL texts of all sets in schema.
func loadStatements(schema string) *sqltext.Text {
	return sqltext.InSchema(schema, statementSet, doctor.Statements, feed.Statements, migrate.Statements)
}

// withoutComments removes the lines of a text that contain only a comment.
func withoutComments(text string) string { return sqltext.StripComments(text) }
