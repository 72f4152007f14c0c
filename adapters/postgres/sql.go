package postgres

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
)

// DefaultSchema is the schema of pgqueue's tables unless configured otherwise. The SQL files are written with it, so
// that they can be tried as they are.
const DefaultSchema = "pgqueue"

//go:embed sql/*.sql
var sqlFiles embed.FS

// statementMark heads each statement of a file.
const statementMark = "-- name: "

// upwards ends the name of a list's statement that walks ids upwards. Unless the files have it, it is made of the one that
// walks downwards.
const upwards = ".up"

// statements are the SQL texts of one schema by name, as "retain.pick".
type statements map[string]string

// loadStatements reads every statement for schema. The files are embedded: a fault in them is a defect, so it panics.
func loadStatements(schema string) statements {
	out := statements{}
	files, err := fs.Glob(sqlFiles, "sql/*.sql")
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		b, err := sqlFiles.ReadFile(f)
		if err != nil {
			panic(err)
		}
		for part := range strings.SplitSeq("\n"+string(b), "\n"+statementMark) {
			name, text, ok := strings.Cut(part, "\n")
			if !ok || strings.TrimSpace(name) == "" {
				continue
			}
			if _, double := out[name]; double {
				panic("two statements named " + name)
			}
			out[name] = inSchema(schema, text)
		}
	}
	for name, text := range maps.Clone(out) {
		if _, written := out[name+upwards]; !written && strings.HasPrefix(name, "list.") && strings.Contains(text, " desc") {
			out[name+upwards] = strings.ReplaceAll(text, " desc", "")
		}
	}
	return out
}

// inSchema moves SQL text from the default schema to another.
func inSchema(schema, text string) string {
	if schema == DefaultSchema {
		return text
	}
	return strings.ReplaceAll(text, DefaultSchema+".", pgx.Identifier{schema}.Sanitize()+".")
}

// get panics on an unknown name: that is a defect that the first call of the path finds.
func (s statements) get(name string) string {
	text, ok := s[name]
	if !ok {
		panic(fmt.Sprintf("no statement named %q", name))
	}
	return text
}

// withoutComments drops the lines of a text that are only a comment.
func withoutComments(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			out.WriteString(line)
		}
	}
	return out.String()
}
