package table_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
)

type leaseSplit struct {
	token int64
	part  int16
	held  int    `col:"-"`
	ids   string `col:"task_ids"`
}

var leases = table.Of[leaseSplit]()

func TestTable(t *testing.T) {
	t.Run("columns have the names of their fields", func(t *testing.T) {
		type row struct {
			TTL, IDs, RetryMaxDelay int64
			queueID                 int32
		}
		if got, want := table.Of[row]().List(""), "ttl, ids, retry_max_delay, queue_id"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
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
		type outer struct {
			leaseSplit
			part *int16 // replaces that of the embedded row
		}
		var row outer
		targets := table.Of[outer]().Targets(nil, &row)
		if want := []any{&row.token, &row.ids, &row.part}; !reflect.DeepEqual(targets, want) || targets[1] != any(&row.ids) {
			t.Errorf("got %v, want %v", targets, want)
		}
	})

	t.Run("JSON travels as bytes", func(t *testing.T) {
		type row struct{ payload json.RawMessage }
		got := table.Of[row]().Arrays(nil, []row{{payload: json.RawMessage("{}")}})
		if want := []sqltext.Arg{{Name: "payload", Value: [][]byte{[]byte("{}")}}}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})

	t.Run("a column without any value travels as one null", func(t *testing.T) {
		type row struct {
			group *string
			body  []byte
		}
		nulls, name := table.Of[row]().Arrays(nil, []row{{}, {}}), "a"
		if want := []sqltext.Arg{{Name: "group"}, {Name: "body"}}; !reflect.DeepEqual(nulls, want) {
			t.Errorf("got %v, want %v", nulls, want)
		}
		mixed := table.Of[row]().Arrays(nil, []row{{}, {&name, []byte("{}")}, {}})
		want := []sqltext.Arg{{Name: "group", Value: []*string{nil, &name, nil}}, {Name: "body", Value: [][]byte{nil, []byte("{}"), nil}}}
		if !reflect.DeepEqual(mixed, want) {
			t.Errorf("got %v, want %v", mixed, want)
		}
	})

	t.Run("columns that are null in all rows can be left out", func(t *testing.T) {
		type row struct {
			id    int64
			group *string
			body  []byte
		}
		name := "a"
		if got := table.Of[row]().WithValues([]row{{id: 0}, {body: []byte("{}")}}).List(""); got != "id, body" {
			t.Errorf("got %s", got)
		}
		if got := table.Of[row]().WithValues([]row{{}, {group: &name}}).List(""); got != "id, group" {
			t.Errorf("got %s", got)
		}
	})

	t.Run("no rows give empty arrays", func(t *testing.T) {
		got := leases.Only("part").Arrays(nil, nil)
		if want := []sqltext.Arg{{Name: "part", Value: []int16{}}}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
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
		rows := []leaseSplit{{token: 1, part: 2}, {token: 3, part: 4}}
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
