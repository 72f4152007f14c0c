package rules_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// literalState is a text of Go with five characters as SQLSTATEs have them.
var literalState = regexp.MustCompile(`"([0-9A-Z]{5})"`)

// TestSQLStatesAreInOneTable keeps the codes of PostgreSQL out of the product's code, so that a code has one meaning: an adapter
// asks package sqlstate for it, or names the constant of a code that it expects.
func TestSQLStatesAreInOneTable(t *testing.T) {
	codes := queuetest.SQLStates(t)
	inTable := 0
	for file, text := range readGoFiles(t, "../../..") {
		for _, literal := range literalState.FindAllStringSubmatch(text, -1) {
			switch {
			case codes[literal[1]] == "" || strings.HasSuffix(file, "_test.go"):
			case strings.HasPrefix(file, "domain/sqlstate/"):
				inTable++
			case !strings.HasPrefix(file, "domain/queuetest/") && !strings.HasPrefix(file, "adapters/postgres/postgrestest/") && !strings.HasPrefix(file, "apps/e2e/"):
				t.Errorf("%s has the SQLSTATE %s (%s); use package sqlstate", file, literal[1], codes[literal[1]])
			}
		}
	}
	if inTable < 20 {
		t.Errorf("the table has %d codes, so this test looks for them in the wrong way", inTable)
	}
}
