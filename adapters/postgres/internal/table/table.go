// Package table binds the columns of a table to the fields of a row type.
//
// Column lists, scan targets and the arrays of bulk statements all follow from the row type, so a column and its field
// never change places. A new column is a new field.
//
// A Table is immutable and safe for concurrent use.
package table

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

// column is one column and its field.
type column struct {
	name   string
	goType reflect.Type
	sql    sqlType // the zero value for a Go type that no bulk statement sends
	offset uintptr // of the field in the row, in bytes
}

// field returns the field of the row at an address. Only the package unsafe reaches an unexported field in place.
func (c column) field(row unsafe.Pointer) reflect.Value {
	return reflect.NewAt(c.goType, unsafe.Add(row, c.offset))
}

func (c column) target(row unsafe.Pointer) any { return c.field(row).Interface() }

// value returns the value of the field. Without reflection a small number needs no allocation, as in most rows of a COPY.
func (c column) value(row unsafe.Pointer) any {
	if c.sql.value != nil {
		return c.sql.value(unsafe.Add(row, c.offset))
	}
	return c.field(row).Elem().Interface()
}

// sqlType is the type that bulk statements name for fields of one Go type.
type sqlType struct {
	name  string
	value func(field unsafe.Pointer) any
	null  func(field unsafe.Pointer) bool // nil: no field is null
	// array copies the field at an offset of n rows. first is the address of the first row, and size the size of a row.
	array func(first unsafe.Pointer, offset, size uintptr, n int) any
}

// sqlTypeOf returns the SQL type called name for fields of the type V. A field without a value is null when null says so; a nil
// null means that V has no such value.
func sqlTypeOf[V any](name string, null func(V) bool) sqlType {
	t := sqlType{
		name:  name,
		value: func(field unsafe.Pointer) any { return *(*V)(field) },
		array: func(first unsafe.Pointer, offset, size uintptr, n int) any {
			field := func(i int) V { return *(*V)(unsafe.Add(first, offset+uintptr(i)*size)) }

			// unnest fills up short arrays with nulls, so a column of nulls travels as one null.
			begin := 0
			for null != nil && begin < n && null(field(begin)) {
				begin++
			}
			if n > 0 && begin == n {
				return nil
			}

			values := make([]V, n)
			for i := begin; i < n; i++ {
				values[i] = field(i)
			}
			return values
		},
	}
	if null != nil {
		t.null = func(field unsafe.Pointer) bool { return null(*(*V)(field)) }
	}
	return t
}

// nullableTypeOf returns the SQL type called name for fields of the type *V.
func nullableTypeOf[V any](name string) sqlType {
	return sqlTypeOf(name, func(v *V) bool { return v == nil })
}

// sqlTypes has the types of the fields that bulk statements send. Fields of bytes hold JSON.
var sqlTypes = map[reflect.Type]sqlType{
	reflect.TypeFor[bool]():       sqlTypeOf[bool]("boolean", nil),
	reflect.TypeFor[int16]():      sqlTypeOf[int16]("smallint", nil),
	reflect.TypeFor[*int16]():     nullableTypeOf[int16]("smallint"),
	reflect.TypeFor[int32]():      sqlTypeOf[int32]("integer", nil),
	reflect.TypeFor[*int32]():     nullableTypeOf[int32]("integer"),
	reflect.TypeFor[int64]():      sqlTypeOf[int64]("bigint", nil),
	reflect.TypeFor[*int64]():     nullableTypeOf[int64]("bigint"),
	reflect.TypeFor[string]():     sqlTypeOf[string]("text", nil),
	reflect.TypeFor[*string]():    nullableTypeOf[string]("text"),
	reflect.TypeFor[time.Time]():  sqlTypeOf[time.Time]("timestamptz", nil),
	reflect.TypeFor[*time.Time](): nullableTypeOf[time.Time]("timestamptz"),
	reflect.TypeFor[[]byte]():     sqlTypeOf("json", func(v []byte) bool { return v == nil }),
	reflect.TypeFor[pgtype.TID](): sqlTypeOf[pgtype.TID]("tid", nil),
}

// Table is an ordered list of columns for the row type R.
type Table[R any] struct{ columns []column }

// Of returns the table of the struct R, with one column for each field in their order. The name of a column is that of its
// field, "task_id" for "taskID", or else the tag `col:"name"` of the field. A field with the tag `col:"-"` is not a column.
// The fields of an embedded struct are columns too; a later field replaces an earlier one of the same column.
func Of[R any]() Table[R] { return Table[R]{columnsOf(reflect.TypeFor[R](), 0)} }

// columnsOf returns the columns of a struct that begins at an offset in the row.
func columnsOf(row reflect.Type, offset uintptr) (columns []column) {
	for field := range row.Fields() {
		name, tagged := field.Tag.Lookup("col")

		switch {
		case name == "-":
			continue
		case field.Anonymous:
			columns = append(columns, columnsOf(field.Type, offset+field.Offset)...)
			continue
		case !tagged:
			name = columnName(field.Name)
		}

		// pgx compacts a json.RawMessage; bytes travel as they are.
		goType := field.Type
		if goType == reflect.TypeFor[json.RawMessage]() {
			goType = reflect.TypeFor[[]byte]()
		}

		columns = slices.DeleteFunc(columns, func(before column) bool { return before.name == name })
		columns = append(columns, column{name: name, goType: goType, sql: sqlTypes[goType], offset: offset + field.Offset})
	}
	return columns
}

// columnName returns the name of the column for a field: "task_id" for "taskID", "ttl" for "TTL", "fifo_batch" for "FIFOBatch".
func columnName(field string) string {
	var name strings.Builder
	letters := []rune(field)
	for i, r := range letters {
		begins := i > 0 && unicode.IsUpper(r) && (unicode.IsLower(letters[i-1]) || i+2 < len(letters) && unicode.IsLower(letters[i+1]) && unicode.IsLower(letters[i+2]))
		if begins {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(r))
	}
	return name.String()
}

// Names returns the names of the columns, in order.
func (t Table[R]) Names() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
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

// CoveringDone returns the row of done that covers the task with the columns queue_id and id of alias, as a subquery without an
// alias. A run of finished tasks stays in its block of 32 ids, so the row is the last one at or below the id in the block.
func CoveringDone(alias string) string {
	return strings.ReplaceAll("(select d.* from (select d.* from pgqueue.done d where d.queue_id = @.queue_id "+
		"and d.task_id > (@.id - 1) / 32 * 32 and d.task_id <= @.id order by d.task_id desc limit 1) d where d.task_id + d.n > @.id)", "@", alias)
}

// Only returns the table with the columns of names, in the order of names. It panics for an unknown name.
func (t Table[R]) Only(names ...string) Table[R] {
	columns := make([]column, len(names))
	for i, name := range names {
		at := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
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

// Targets appends the scan targets of row, one for each column in order.
func (t Table[R]) Targets(targets []any, row *R) []any {
	targets = slices.Grow(targets, len(t.columns))
	for _, c := range t.columns {
		targets = append(targets, c.target(unsafe.Pointer(row)))
	}
	return targets
}

// Values appends one argument for each column: its value in row, under the name of the column.
func (t Table[R]) Values(args []sqltext.Arg, row *R) []sqltext.Arg {
	args = slices.Grow(args, len(t.columns))
	for _, c := range t.columns {
		args = append(args, sqltext.Arg{Name: c.name, Value: c.value(unsafe.Pointer(row))})
	}
	return args
}

// Arrays appends one argument for each column: its values in all rows, under the name of the column.
func (t Table[R]) Arrays(args []sqltext.Arg, rows []R) []sqltext.Arg {
	args = slices.Grow(args, len(t.columns))
	first, size := unsafe.Pointer(unsafe.SliceData(rows)), reflect.TypeFor[R]().Size()
	for _, c := range t.columns {
		args = append(args, sqltext.Arg{Name: c.name, Value: c.sql.array(first, c.offset, size, len(rows))})
	}
	return args
}

// WithValues returns the table without the columns that are null in all rows. A COPY leaves them out.
func (t Table[R]) WithValues(rows []R) Table[R] {
	isEmpty := func(c column) bool {
		if c.sql.null == nil {
			return false
		}
		for i := range rows {
			if !c.sql.null(unsafe.Add(unsafe.Pointer(&rows[i]), c.offset)) {
				return false
			}
		}
		return true
	}
	return Table[R]{slices.DeleteFunc(slices.Clone(t.columns), isEmpty)}
}

// CopySource returns rows for COPY into columns of [Table.Names]. Each row is valid until the next one is read.
func (t Table[R]) CopySource(rows []R) pgx.CopyFromSource {
	values := make([]any, len(t.columns))
	return pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		for at, c := range t.columns {
			values[at] = c.value(unsafe.Pointer(&rows[i]))
		}
		return values, nil
	})
}

// Unnest returns the source of a bulk statement: "unnest(@token::bigint[], @part::smallint[]) i (token, part)" for the alias
// "i". It panics for a column of a Go type without an SQL type.
func (t Table[R]) Unnest(alias string) string {
	arrays := make([]string, len(t.columns))
	for i, c := range t.columns {
		if c.sql.name == "" {
			panic(fmt.Sprintf("table: column %q has no SQL type", c.name))
		}
		arrays[i] = "@" + c.name + "::" + c.sql.name + "[]"
	}
	return fmt.Sprintf("unnest(%s) %s (%s)", strings.Join(arrays, ", "), alias, t.List(""))
}
