package sqlstate_test

import (
	"testing"

	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// TestTable holds the table to PostgreSQL's list of codes.
func TestTable(t *testing.T) {
	codes, faults := queuetest.SQLStates(t), sqlstate.Table()
	t.Run("each class is in the table, and nothing that PostgreSQL does not have", func(t *testing.T) {
		classes := map[string]bool{}
		for code := range codes {
			classes[code[:2]] = true
			if _, ok := faults[code[:2]]; !ok {
				t.Errorf("class %s of %s is missing", code[:2], codes[code])
			}
		}
		for code := range faults {
			if len(code) == 2 && !classes[code] || len(code) == 5 && codes[code] == "" {
				t.Errorf("%s is none of PostgreSQL's", code)
			}
		}
	})
	t.Run("each gives a remedy where the operator or the caller must act", func(t *testing.T) {
		for code, f := range faults {
			if f.Blame.Kind() == "" {
				t.Errorf("%s: blame %q has no kind", code, f.Blame)
			}
			if needs := f.Blame == sqlstate.Operator || f.Blame == sqlstate.Caller; needs != (f.Advice != "") {
				t.Errorf("%s: blamed on %s with advice %q", code, f.Blame, f.Advice)
			}
			if f.Again && f.Blame != sqlstate.Passing {
				t.Errorf("%s is tried again and does not pass", code)
			}
		}
	})
	t.Run("a code without a row of its own has that of its class, and an unknown one is a defect", func(t *testing.T) {
		for code, want := range map[string]string{"53100": "53", "58030": "58", "72000": "72", "0A000": "0A", "42P01": "42P01"} {
			if sqlstate.Classify(code) != faults[want] {
				t.Errorf("%s is %+v", code, sqlstate.Classify(code))
			}
		}
		for _, code := range []string{"", "x", "ZZ999", "PQ404"} {
			if f := sqlstate.Classify(code); f.Blame != sqlstate.Defect || f.Rows || f.Again {
				t.Errorf("%q is %+v", code, f)
			}
		}
	})
	t.Run("the row of a code says at least of its rows what its class says", func(t *testing.T) {
		for code, f := range faults {
			if len(code) == 5 && faults[code[:2]].Rows && !f.Rows {
				t.Errorf("the rows of a statement cannot cause %s, and can cause its class", code)
			}
		}
	})
}
