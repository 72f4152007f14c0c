// Package sqltext holds SQL statements by name, with named parameters, in the schema of a store.
//
// # Files
//
// A file of statements is plain SQL. The line "-- name: lease.drop" begins a statement; its text ends before the next such
// line. Statements name their parameters as @tokens and their tables in the schema "pgqueue". "{{lease l}}" stands for the
// columns of the row type "lease", each with the alias "l", and "{{lease}}" for the columns without an alias, so that a
// statement and its scan cannot differ.
//
// # Checks
//
// [Parse] reads all files when the program starts and panics on a fault in them: an unknown statement, a name used twice, a
// statement with positional parameters. [Text.Values] refuses arguments that the statement does not name, and the reverse.
//
// A Set is immutable after the start; all of it is safe for concurrent use. Binding arguments costs one allocation, the
// slice of values that pgx needs in any case.
package sqltext

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// DefaultSchema is the schema in which the files are written.
const DefaultSchema = "pgqueue"

// nameMark begins each statement of a file.
const nameMark = "-- name: "

// Statement is one statement of a [Set].
type Statement struct {
	set   *Set
	index int
}

// Name returns the name of the statement, such as "lease.drop".
func (s Statement) Name() string { return s.set.entries[s.index].name }

// Arg is the value of one named parameter.
type Arg struct {
	Name  string // as in the statement, without the @
	Value any
}

// Lists gives the column list of each row type, by the name that statements use.
type Lists map[string]func(alias string) string

// Set holds the statements of all files.
type Set struct {
	lists   Lists
	entries []entry
	byName  map[string]int
}

type entry struct {
	name       string
	text       string // with $1, $2 … in the place of parameters
	parameters []string
}

// Parse reads the statements of the files that match pattern. It panics on a fault, because the files are embedded: a fault
// is a defect of the program that its first start finds.
func Parse(files fs.FS, pattern string, lists Lists) *Set {
	set := &Set{lists: lists, byName: map[string]int{}}

	paths, err := fs.Glob(files, pattern)
	if err != nil {
		panic(err)
	}
	for _, path := range paths {
		content, err := fs.ReadFile(files, path)
		if err != nil {
			panic(err)
		}

		for part := range strings.SplitSeq("\n"+string(content), "\n"+nameMark) {
			name, text, found := strings.Cut(part, "\n")
			if found && strings.TrimSpace(name) != "" {
				set.Add(strings.TrimSpace(name), text)
			}
		}
	}
	return set
}

// Add puts one more statement into the set, for statements that are derived from others. It panics as [Parse] does.
func (set *Set) Add(name, text string) Statement {
	if _, taken := set.byName[name]; taken {
		panic(fmt.Sprintf("sqltext: statement %q exists twice", name))
	}
	if positional.MatchString(text) {
		panic(fmt.Sprintf("sqltext: statement %q: parameters must have names, got a positional one", name))
	}

	numbered, parameters := numberParameters(set.expandLists(name, text))
	set.byName[name] = len(set.entries)
	set.entries = append(set.entries, entry{name: name, text: numbered, parameters: parameters})
	return Statement{set, len(set.entries) - 1}
}

// Has reports whether the set has a statement called name.
func (set *Set) Has(name string) bool {
	_, found := set.byName[name]
	return found
}

// Derive adds the statement called name: the one called from, with each occurrence of old replaced by replacement. The
// parameters stay.
func (set *Set) Derive(name, from, old, replacement string) Statement {
	entry := set.entries[set.Named(from).index]
	entry.name, entry.text = name, strings.ReplaceAll(entry.text, old, replacement)
	set.byName[name] = len(set.entries)
	set.entries = append(set.entries, entry)
	return Statement{set, len(set.entries) - 1}
}

// expandLists replaces each "{{lease l}}" by the columns of the row type.
func (set *Set) expandLists(name, text string) string {
	return columnList.ReplaceAllStringFunc(text, func(match string) string {
		words := columnList.FindStringSubmatch(match)
		list, found := set.lists[words[1]]
		if !found {
			panic(fmt.Sprintf("sqltext: statement %q: no row type named %q", name, words[1]))
		}
		return list(words[2])
	})
}

var (
	columnList = regexp.MustCompile(`\{\{(\w+)(?: (\w+))?\}\}`)
	positional = regexp.MustCompile(`\$\d`)
	parameter  = regexp.MustCompile(`@([a-z][a-z0-9_]*)`)
)

// numberParameters replaces the named parameters of text by $1, $2 … in the order of their first use. pgx finds them, so
// that quoted text and comments stay as they are.
func numberParameters(text string) (numbered string, parameters []string) {
	names := pgx.NamedArgs{}
	for _, match := range parameter.FindAllStringSubmatch(text, -1) {
		names[match[1]] = match[1]
	}

	numbered, values, err := names.RewriteQuery(context.Background(), nil, text, nil)
	if err != nil {
		panic(err)
	}
	for _, value := range values {
		parameters = append(parameters, value.(string)) //nolint:forcetypeassert // put in above
	}
	return numbered, parameters
}

// Named returns a statement of the set. It panics for an unknown name, so call it while the program starts.
func (set *Set) Named(name string) Statement {
	index, found := set.byName[name]
	if !found {
		panic(fmt.Sprintf("sqltext: no statement named %q", name))
	}
	return Statement{set, index}
}

// Text holds the statements of sets in one schema.
type Text struct{ parts []part }

// part has the texts of one set.
type part struct {
	set   *Set
	texts []string
}

// InSchema returns the statements of all sets with their tables in schema.
func InSchema(schema string, sets ...*Set) *Text {
	text := &Text{parts: make([]part, len(sets))}
	for at, set := range sets {
		texts := make([]string, len(set.entries))
		for i, entry := range set.entries {
			texts[i] = MoveToSchema(schema, entry.text)
		}
		text.parts[at] = part{set, texts}
	}
	return text
}

// MoveToSchema returns SQL text with its tables in schema instead of [DefaultSchema].
func MoveToSchema(schema, text string) string {
	if schema == DefaultSchema {
		return text
	}
	return strings.ReplaceAll(text, DefaultSchema+".", pgx.Identifier{schema}.Sanitize()+".")
}

// Of returns the text of a statement, with $1, $2 … for its parameters. It panics for a statement of another set.
func (t *Text) Of(statement Statement) string {
	for i := range t.parts { // a handful
		if t.parts[i].set == statement.set {
			return t.parts[i].texts[statement.index]
		}
	}
	panic(fmt.Sprintf("sqltext: statement %q is of a set that the text does not have", statement.Name()))
}

// Values returns the values of args in the order of the statement's parameters. It panics when args do not name exactly the
// parameters of the statement: that is a defect of the call, which the first test of it finds.
func (t *Text) Values(statement Statement, args []Arg) []any {
	entry := &statement.set.entries[statement.index]
	if len(args) != len(entry.parameters) {
		panic(fmt.Sprintf("sqltext: statement %q has the parameters %v, got %d arguments", entry.name, entry.parameters, len(args)))
	}
	if len(args) == 0 {
		return nil
	}

	values := make([]any, len(args))
	for i, name := range entry.parameters {
		// Calls mostly give arguments in the order of the statement.
		at := i
		if args[at].Name != name {
			at = slices.IndexFunc(args, func(arg Arg) bool { return arg.Name == name })
		}
		if at < 0 {
			panic(fmt.Sprintf("sqltext: statement %q: argument %q is missing", entry.name, name))
		}
		values[i] = args[at].Value
	}
	return values
}

// All returns the texts of all statements by name, for tests that prepare or explain each.
func (t *Text) All() map[string]string {
	all := map[string]string{}
	for _, part := range t.parts {
		for name, index := range part.set.byName {
			all[name] = part.texts[index]
		}
	}
	return all
}

// StripComments returns text without the lines that are only a comment.
func StripComments(text string) string {
	var stripped strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			stripped.WriteString(line)
		}
	}
	return stripped.String()
}
