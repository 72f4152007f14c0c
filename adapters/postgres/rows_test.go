package postgres

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rowTypes gives the columns of the row types that read or write each table of the migration.
var rowTypes = map[string][][]string{
	"queue":       {queueColumns.Names()},
	"queue_count": {{"queue_id"}}, // read as sums with the events since
	"lane":        {laneColumns.Names()},
	"task": {
		taskColumns.Names(), insertedTaskColumns.Names(), pickedTaskColumns.Names(), letterTaskColumns.Names(),
		without(letterColumns.Names(), "source_queue_id", "source_id"),
	},
	"part":         {partColumns.Names()},
	"ready":        {readyColumns.Names(), runColumns.Names(), takenReadyColumns.Names()},
	"delayed":      {delayedColumns.Names(), takenDelayedColumns.Names()},
	"lease":        {without(leaseColumns.Names(), "ctid")}, // the place of the row
	"lease_beat":   {beatColumns.Names()},
	"request":      {requestColumns.Names(), requestKeyColumns.Names()},
	"state":        {stateColumns.Names()},
	"task_error":   {errorColumns.Names(), attemptErrorColumns.Names()},
	"task_key":     {keyColumns.Names()},
	"done":         {without(doneColumns.Names(), "id", "keep")}, // the first id of a run, and an instruction
	"event":        {without(eventColumns.Names(), "ids")},       // the array in text
	"ticker":       {tickerColumns.Names()},
	"tick":         {tickColumns.Names()},
	"access_token": {tokenColumns.Names()},
	"session":      {sessionColumns.Names()},
	"audit":        {auditColumns.Names(), storedAuditColumns.Names()},
	// The stats folder and the feed compute these in SQL.
	"fold":           {},
	"cell":           {cellColumns.Names()},
	"place":          {placedColumns.Names()},
	"home":           {homeColumns.Names()},
	"queue_history":  {historyColumns.Names(), historyPointColumns.Names()},
	"group_waiting":  {groupWaitingColumns.Names()},
	"group_state":    {groupStateColumns.Names()},
	"group_policy":   {groupPolicyColumns.Names()},
	"group_wake":     {wakeColumns.Names()},
	"event_snapshot": {},
}

func without(names []string, other ...string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(other, name) })
}

// createdTable matches a table of the migration and the lines of its columns.
var createdTable = regexp.MustCompile(`(?s)create table pgqueue\.(\w+) \(\n(.*?)\n\)`)

func TestRowTypes(t *testing.T) {
	migration, err := os.ReadFile("internal/migrate/migrations/0001_initial.up.sql")
	if err != nil {
		t.Fatal(err)
	}

	found := map[string]bool{}
	for _, match := range createdTable.FindAllStringSubmatch(string(migration), -1) {
		name := match[1]
		found[name] = true
		var columns []string
		for line := range strings.Lines(match[2]) {
			if fields := strings.Fields(line); len(fields) > 1 {
				columns = append(columns, strings.Trim(fields[0], `"`))
			}
		}

		t.Run("each column of a row type is a column of the table "+name, func(t *testing.T) {
			types, known := rowTypes[name]
			if !known {
				t.Fatalf("the table %s has no row type; declare one with table.Of and add it to rowTypes", name)
			}
			for _, names := range types {
				for _, column := range names {
					if !slices.Contains(columns, column) {
						t.Errorf("got the column %s, want one of %v", column, columns)
					}
				}
			}
		})
	}

	for name := range rowTypes {
		if !found[name] {
			t.Errorf("got row types of the table %s, want it in the migration", name)
		}
	}
}
