package sqltext_test

import (
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

func parse(text string) *sqltext.Set {
	return sqltext.Parse(fstest.MapFS{"sql/a.sql": {Data: []byte(text)}}, "sql/*.sql", sqltext.Lists{
		"lease": func(alias string) string { return alias + ".token, " + alias + ".part" },
	})
}

const twoStatements = `-- The file's own comment.

-- name: lease.drop
-- @tokens in a comment stays.
delete from pgqueue.lease where token = any (@tokens::bigint[]) and part < @part and '@no' <> note and ids @> @ids

-- name: clock
select pgqueue.clock()
`

func TestStatements(t *testing.T) {
	set := parse(twoStatements)
	drop := set.Named("lease.drop")

	t.Run("parameters are numbered in the order of their first use", func(t *testing.T) {
		text := sqltext.InSchema(sqltext.DefaultSchema, set).Of(drop)
		if want := "token = any ($1::bigint[]) and part < $2 and '@no' <> note and ids @> $3"; !strings.Contains(text, want) {
			t.Errorf("got %s, want it to contain %s", text, want)
		}
	})

	t.Run("arguments are put in the order of the statement", func(t *testing.T) {
		text := sqltext.InSchema(sqltext.DefaultSchema, set)
		got := text.Values(drop, []sqltext.Arg{{Name: "ids", Value: 3}, {Name: "part", Value: 2}, {Name: "tokens", Value: 1}})
		if want := []any{1, 2, 3}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})

	t.Run("tables move to another schema", func(t *testing.T) {
		text := sqltext.InSchema(`o"dd`, set).Of(drop)
		if want := `delete from "o""dd".lease`; !strings.Contains(text, want) {
			t.Errorf("got %s, want it to contain %s", text, want)
		}
	})

	t.Run("a row type stands for its columns", func(t *testing.T) {
		set := parse("-- name: a\nselect {{lease l}} from pgqueue.lease l\n")
		text := sqltext.InSchema(sqltext.DefaultSchema, set).Of(set.Named("a"))
		if want := "select l.token, l.part from"; !strings.Contains(text, want) {
			t.Errorf("got %s, want it to contain %s", text, want)
		}
	})

	t.Run("statements without parameters need no arguments", func(t *testing.T) {
		clock := set.Named("clock")
		if got := sqltext.InSchema("other", set).Values(clock, nil); got != nil {
			t.Errorf("got %v, want nil", got)
		}
	})
}

func TestFaultsPanic(t *testing.T) {
	set := parse(twoStatements)
	drop := set.Named("lease.drop")
	text := sqltext.InSchema(sqltext.DefaultSchema, set)

	for name, call := range map[string]func(){
		"a name used twice":        func() { parse("-- name: a\nselect 1\n-- name: a\nselect 2\n") },
		"a positional parameter":   func() { parse("-- name: a\nselect $1\n") },
		"an unknown row type":      func() { parse("-- name: a\nselect {{leases l}}\n") },
		"an unknown statement":     func() { set.Named("lease.keep") },
		"too few arguments":        func() { text.Values(drop, []sqltext.Arg{{Name: "ids"}}) },
		"an argument of that kind": func() { text.Values(drop, []sqltext.Arg{{Name: "ids"}, {Name: "part"}, {Name: "token"}}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("got no panic")
				}
			}()
			call()
		})
	}
}

func TestValuesAllocateOnce(t *testing.T) {
	set := parse(twoStatements)
	drop, text := set.Named("lease.drop"), sqltext.InSchema(sqltext.DefaultSchema, set)
	tokens, part, ids := any([]int64{1}), any(2), any([]int64{3})

	allocations := testing.AllocsPerRun(100, func() {
		text.Values(drop, []sqltext.Arg{{Name: "tokens", Value: tokens}, {Name: "part", Value: part}, {Name: "ids", Value: ids}})
	})
	if allocations != 1 {
		t.Errorf("got %v allocations, want 1", allocations)
	}
}
