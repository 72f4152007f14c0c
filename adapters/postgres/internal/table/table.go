// Package table binds the columns of a table to the fields of a row type, in one place for each table.
//
// Column lists, scan targets and the arrays of bulk statements all follow from that place. Each column is written once,
// beside its field. [New] refuses a field with another name than its column, so a program in which two columns of one
// type have changed places does not start.
//
// A Table is immutable and safe for concurrent use.
package table

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

// Column binds one column to a field of R.
type Column[R any] struct {
	name    string
	sqlType string // of one value; "" for Go types without one
	target  func(*R) any
	value   func(*R) any
	array   func([]R) any
}

// Col returns the column called name, kept in the field that field points to.
func Col[R, V any](name string, field func(*R) *V) Column[R] {
	return Column[R]{
		name:    name,
		sqlType: sqlTypes[reflect.TypeFor[V]()],
		target:  func(row *R) any { return field(row) },
		value:   func(row *R) any { return *field(row) },
		array: func(rows []R) any {
			values := make([]V, len(rows))
			for i := range rows {
				values[i] = *field(&rows[i])
			}
			return values
		},
	}
}

// sqlTypes maps the Go types of fields to the types that bulk statements name. Fields of bytes hold JSON.
var sqlTypes = map[reflect.Type]string{
	reflect.TypeFor[bool]():       "boolean",
	reflect.TypeFor[int16]():      "smallint",
	reflect.TypeFor[int32]():      "integer",
	reflect.TypeFor[*int32]():     "integer",
	reflect.TypeFor[int64]():      "bigint",
	reflect.TypeFor[*int64]():     "bigint",
	reflect.TypeFor[string]():     "text",
	reflect.TypeFor[*string]():    "text",
	reflect.TypeFor[time.Time]():  "timestamptz",
	reflect.TypeFor[*time.Time](): "timestamptz",
	reflect.TypeFor[[]byte]():     "json",
	reflect.TypeFor[pgtype.TID](): "tid",
}

// Table is an ordered list of columns.
type Table[R any] struct{ columns []Column[R] }

// New returns a table of columns in their order. It panics when two columns have one name, and when the name of a field is
// not that of its column: "taskID" or "id" for the column "task_id".
func New[R any](columns ...Column[R]) Table[R] {
	// A column reaches its field through a function, so the address of its target identifies the field.
	var row R
	fields := map[uintptr]string{}
	nameFields(reflect.ValueOf(&row).Elem(), fields)

	for i, column := range columns {
		if slices.ContainsFunc(columns[:i], func(before Column[R]) bool { return before.name == column.name }) {
			panic(fmt.Sprintf("table: column %q exists twice", column.name))
		}
		if field := fields[reflect.ValueOf(column.target(&row)).Pointer()]; !isFieldOf(column.name, field) {
			panic(fmt.Sprintf("table: column %q: must be in a field of its name, got %q", column.name, field))
		}
	}
	return Table[R]{columns}
}

// nameFields notes the name of each field of a struct by its address, those of nested structs too. A nested struct begins
// at the address of its first field, so the name of that field replaces the name of the struct.
func nameFields(row reflect.Value, names map[uintptr]string) {
	for i := range row.NumField() {
		field := row.Field(i)
		names[field.Addr().Pointer()] = row.Type().Field(i).Name
		if field.Kind() == reflect.Struct && sqlTypes[field.Type()] == "" {
			nameFields(field, names)
		}
	}
}

// isFieldOf reports whether a field is named after a column, or after the last words of its name.
func isFieldOf(column, field string) bool {
	for rest := column; rest != ""; {
		if strings.EqualFold(strings.ReplaceAll(rest, "_", ""), field) {
			return true
		}
		_, rest, _ = strings.Cut(rest, "_")
	}
	return false
}

// Names returns the names of the columns, in order.
func (t Table[R]) Names() []string {
	names := make([]string, len(t.columns))
	for i, column := range t.columns {
		names[i] = column.name
	}
	return names
}

// List returns the columns for a select list: "l.token, l.part" for the alias "l", "token, part" without one.
func (t Table[R]) List(alias string) string { return t.ListIf(alias, "") }

// ListIf returns [Table.List], with null for the columns of names where the column called condition is not true.
func (t Table[R]) ListIf(alias, condition string, names ...string) string {
	if alias != "" {
		alias += "."
	}

	list := t.Names()
	for i, name := range list {
		list[i] = alias + name
		if slices.Contains(names, name) {
			list[i] = fmt.Sprintf("case when %s%s then %[1]s%[3]s end as %[3]s", alias, condition, name)
		}
	}
	return strings.Join(list, ", ")
}

// Only returns the table with the columns of names, in the order of names. It panics for an unknown name.
func (t Table[R]) Only(names ...string) Table[R] {
	columns := make([]Column[R], len(names))
	for i, name := range names {
		at := slices.IndexFunc(t.columns, func(column Column[R]) bool { return column.name == name })
		if at < 0 {
			panic(fmt.Sprintf("table: no column %q", name))
		}
		columns[i] = t.columns[at]
	}
	return Table[R]{columns}
}

// Without returns the table without the columns of names. It panics for an unknown name.
func (t Table[R]) Without(names ...string) Table[R] {
	t.Only(names...)
	return t.Only(slices.DeleteFunc(t.Names(), func(name string) bool { return slices.Contains(names, name) })...)
}

// Embed returns the columns of t for a row type that contains a row of t.
func Embed[R, S any](t Table[S], field func(*R) *S) []Column[R] {
	columns := make([]Column[R], len(t.columns))
	for i, column := range t.columns {
		columns[i] = Column[R]{name: column.name, target: func(row *R) any { return column.target(field(row)) }}
	}
	return columns
}

// Targets appends the scan targets of row, one for each column in order.
func (t Table[R]) Targets(targets []any, row *R) []any {
	targets = slices.Grow(targets, len(t.columns))
	for _, column := range t.columns {
		targets = append(targets, column.target(row))
	}
	return targets
}

// Values appends one argument for each column: its value in row, under the name of the column.
func (t Table[R]) Values(args []sqltext.Arg, row *R) []sqltext.Arg {
	args = slices.Grow(args, len(t.columns))
	for _, column := range t.columns {
		args = append(args, sqltext.Arg{Name: column.name, Value: column.value(row)})
	}
	return args
}

// Arrays appends one argument for each column: its values in all rows, under the name of the column.
func (t Table[R]) Arrays(args []sqltext.Arg, rows []R) []sqltext.Arg {
	args = slices.Grow(args, len(t.columns))
	for _, column := range t.columns {
		args = append(args, sqltext.Arg{Name: column.name, Value: column.array(rows)})
	}
	return args
}

// CopySource returns rows for COPY into columns of [Table.Names]. Each row is valid until the next one is read.
func (t Table[R]) CopySource(rows []R) pgx.CopyFromSource {
	values := make([]any, len(t.columns))
	return pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		for at, column := range t.columns {
			values[at] = column.value(&rows[i])
		}
		return values, nil
	})
}

// Unnest returns the source of a bulk statement: "unnest(@token::bigint[], @part::smallint[]) i (token, part)" for the alias
// "i". It panics for a column of a Go type without an SQL type.
func (t Table[R]) Unnest(alias string) string {
	arrays := make([]string, len(t.columns))
	for i, column := range t.columns {
		if column.sqlType == "" {
			panic(fmt.Sprintf("table: column %q has no SQL type", column.name))
		}
		arrays[i] = "@" + column.name + "::" + column.sqlType + "[]"
	}
	return fmt.Sprintf("unnest(%s) %s (%s)", strings.Join(arrays, ", "), alias, t.List(""))
}
