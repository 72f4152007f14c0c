package queuetest

import (
	_ "embed"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

//go:embed testdata/sqlstates.txt
var sqlStates string

// SQLStates returns all codes of PostgreSQL 14 to 18 with their names.
func SQLStates(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(sqlStates) {
		code, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[code] = name
	}
	if len(out) < 250 {
		t.Fatalf("%d codes are not all", len(out))
	}
	return out
}

// TestSQLStates holds the errors of an adapter to the table of package sqlstate, for every code of PostgreSQL. translate returns
// the adapter's error of a code; own has the kinds of the codes that mean something else to the callers of this adapter.
func TestSQLStates(t *testing.T, translate func(code string) error, own map[string]queue.Kind) {
	t.Helper()
	t.Run("each code of PostgreSQL has the kind of the shared table", func(t *testing.T) {
		for code, name := range SQLStates(t) {
			want, ok := own[code]
			if !ok {
				want = sqlstate.Classify(code).Blame.Kind()
			}
			if got := queue.KindOf(translate(code)); got != want {
				t.Errorf("%s %s is %s, want %s", code, name, got, want)
			}
		}
	})
}
