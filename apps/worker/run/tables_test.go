package run

import (
	"os"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/apps/worker/execrun"
	"github.com/pgqueue/pgqueue/apps/worker/httprun"
)

// TestTables: the documentation has the tables of exit codes and statuses as the programs go by them.
func TestTables(t *testing.T) {
	page, err := os.ReadFile("../../../docs/how-to/worker.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, table := range map[string]string{"exit codes": execrun.Table(), "answers": httprun.Table()} {
		if !strings.Contains(string(page), table) {
			t.Errorf("docs/how-to/worker.md has not this table of %s:\n%s", name, table)
		}
	}
}
