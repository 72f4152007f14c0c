// Package schema has the row of a program beside its tasks.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
)

// Order is a row of the program.
type Order struct{ ent.Schema }

// Fields returns its columns.
func (Order) Fields() []ent.Field { return []ent.Field{field.String("email")} }
