package postgres

import (
	"embed"
	"strings"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

// DefaultSchema is the schema of pgqueue's tables unless configured otherwise.
const DefaultSchema = sqltext.DefaultSchema

//go:embed sql/*.sql
var sqlFiles embed.FS

// upwards ends the name of a list's statement that walks ids upwards. Unless the files have it, it is made of the one that
// walks downwards.
const upwards = ".up"

// statementSet holds all SQL statements of the store.
var statementSet = parseStatements()

func parseStatements() *sqltext.Set {
	set := sqltext.Parse(sqlFiles, "sql/*.sql", sqltext.Lists{
		"queue":                  queueColumns.List,
		"ticker":                 tickerColumns.List,
		"lease":                  leaseColumns.List,
		"ticker_without_payload": listTickerWithoutPayload,
	})
	for name, text := range set.InSchema(DefaultSchema).All() {
		if strings.HasPrefix(name, "list.") && !strings.HasSuffix(name, upwards) && strings.Contains(text, " desc") && !set.Has(name+upwards) {
			set.Derive(name+upwards, name, " desc", "")
		}
	}
	return set
}

// statement returns the statement called name. It panics for an unknown name, so call it for variables of the package.
func statement(name string) sqltext.Statement { return statementSet.Named(name) }

// arg names the value of a parameter.
func arg(name string, value any) sqltext.Arg { return sqltext.Arg{Name: name, Value: value} }

// statements are the SQL texts of one schema.
type statements struct{ *sqltext.Text }

func loadStatements(schema string) statements { return statements{statementSet.InSchema(schema)} }

// get panics on an unknown name: that is a defect that the first call of the path finds.
func (s statements) get(name string) string { return s.Of(statementSet.Named(name)) }

// inSchema moves SQL text from the default schema to another.
func inSchema(schema, text string) string { return sqltext.MoveToSchema(schema, text) }

// withoutComments drops the lines of a text that are only a comment.
func withoutComments(text string) string { return sqltext.StripComments(text) }
