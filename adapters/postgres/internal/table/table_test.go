package table_test

import (
	"reflect"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
)

type leaseSplit struct {
	token int64
	part  int16
	ids   string
}

var leases = table.New(
	table.Col("token", func(row *leaseSplit) *int64 { return &row.token }),
	table.Col("part", func(row *leaseSplit) *int16 { return &row.part }),
	table.Col("task_ids", func(row *leaseSplit) *string { return &row.ids }),
)

func TestTable(t *testing.T) {
	t.Run("two columns of one type cannot change places", func(t *testing.T) {
		type times struct{ delayedAt, diesAt *string }
		defer func() {
			if recover() == nil {
				t.Error("got no panic")
			}
		}()
		table.New(
			table.Col("delayed_at", func(row *times) **string { return &row.diesAt }),
			table.Col("dies_at", func(row *times) **string { return &row.delayedAt }),
		)
	})

	t.Run("lists its columns with an alias", func(t *testing.T) {
		if got, want := leases.List("l"), "l.token, l.part, l.task_ids"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("lists its columns without an alias", func(t *testing.T) {
		if got, want := leases.Without("part").List(""), "token, task_ids"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("lists a column under a condition", func(t *testing.T) {
		got := leases.ListIf("l", "fits", "part")
		if want := "l.token, case when l.fits then l.part end as part, l.task_ids"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("an embedded row is scanned in place", func(t *testing.T) {
		type outer struct{ inner leaseSplit }
		var row outer
		embedded := table.New(table.Embed(leases, func(row *outer) *leaseSplit { return &row.inner })...)
		if targets := embedded.Targets(nil, &row); targets[1] != any(&row.inner.part) {
			t.Errorf("got %v, want the fields of the embedded row", targets)
		}
	})

	t.Run("scan targets are the fields of the row", func(t *testing.T) {
		var row leaseSplit
		targets := leases.Targets(nil, &row)
		if want := []any{&row.token, &row.part, &row.ids}; !reflect.DeepEqual(targets, want) || targets[1] != any(&row.part) {
			t.Errorf("got %v, want %v", targets, want)
		}
	})

	t.Run("arrays carry the name of their column", func(t *testing.T) {
		rows := []leaseSplit{{1, 2, "a"}, {3, 4, "b"}}
		got := leases.Only("part", "token").Arrays(nil, rows)
		want := []sqltext.Arg{{Name: "part", Value: []int16{2, 4}}, {Name: "token", Value: []int64{1, 3}}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})

	t.Run("values carry the name of their column", func(t *testing.T) {
		got := leases.Only("part", "token").Values(nil, &leaseSplit{token: 1, part: 2})
		want := []sqltext.Arg{{Name: "part", Value: int16(2)}, {Name: "token", Value: int64(1)}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})

	t.Run("unnest names parameters and columns alike", func(t *testing.T) {
		got := leases.Only("token", "part").Unnest("i")
		if want := "unnest(@token::bigint[], @part::smallint[]) i (token, part)"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("an unknown column panics", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("got no panic")
			}
		}()
		leases.Only("tokens")
	})
}
