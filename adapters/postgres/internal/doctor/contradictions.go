package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	// startRows is the number of rows of each table that the check at the start of a server reads. The start waits for
	// it: these are 100,000 look-ups where each lease row carries 200 tasks.
	startRows = 500
	// mostContradictions is the most that FindContradictions returns. It stops its search at the next one. The limit of
	// its statements is 1 above.
	mostContradictions = 1_000
)

// searchedTables lists the tables of a search, with the rows of one step. A row stands for at most 32 tasks (ready),
// 1 task (delayed, group_waiting) or 200 tasks (lease).
var searchedTables = []struct {
	name string
	step int64
}{{"ready", 2_000}, {"delayed", 20_000}, {"group_waiting", 20_000}, {"lease", 200}}

var (
	searchStep     = Statements.Named("contradict.step")
	findLeaseTwice = Statements.Named("contradict.twice")
)

const opFind = "find contradictions"

// Contradiction is a task with rows that contradict each other.
type Contradiction struct {
	// What names the contradiction, such as "leased and finished".
	What             string
	Namespace, Queue string
	// TaskID is the task; 0 when the contradiction is about a lease row and not one task.
	TaskID int64

	queueID int32
}

// contradictionColumns are in the order in which the statements compute them.
var contradictionColumns = table.Of[Contradiction]().Only("what", "namespace", "queue", "queue_id", "task_id")

// position is a place in the keys of the searched tables. Each table uses the columns of its own key.
type position struct {
	queueID int32
	lane    int32
	turn    int64
	dueAt   time.Time
	taskID  int64
	token   int64
	part    int16
	grp     int64
}

// start is the position before all rows.
var start = position{queueID: math.MinInt32, lane: math.MinInt32, turn: math.MinInt64, dueAt: time.Unix(0, 0).UTC(), token: -1, grp: math.MinInt64}

var positionColumns = table.Of[position]()

// searchResult is the result of one step of a search.
type searchResult struct {
	last  position // of the rows that the step read
	rows  int64
	found []Contradiction
}

// searchTable searches the next rows of a table behind a position.
func (doc *Doctor) searchTable(ctx context.Context, name string, from position, limit int64) (searchResult, error) {
	r := searchResult{last: from}
	var c Contradiction
	targets := positionColumns.Targets(contradictionColumns.Targets([]any{&r.rows}, &c), &r.last)
	args := append(positionColumns.Values(nil, &from), arg("table", name), arg("limit", limit))
	err := doc.DB.Query(ctx, opFind, searchStep, func(rows pgx.Rows) error {
		err := rows.Scan(targets...)
		if c.What != "" { // a step without contradictions returns one row, which has only the position
			r.found = append(r.found, c)
		}
		return err
	}, args...)
	return r, err
}

// searchLeases finds tasks under two leases among the first rows of the lease table.
func (doc *Doctor) searchLeases(ctx context.Context, limit int64) (found []Contradiction, err error) {
	var c Contradiction
	targets := contradictionColumns.Targets(nil, &c)
	err = doc.DB.Query(ctx, opFind, findLeaseTwice, func(rows pgx.Rows) error {
		err := rows.Scan(targets...)
		found = append(found, c)
		return err
	}, arg("limit", limit))
	return found, err
}

type progressKey struct{}

// WithProgress returns a context for progress reports of Diagnose, FindContradictions and RepairContradictions.
func WithProgress(ctx context.Context, report func(name string, rows int64)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// searchAll searches all tables. It passes the contradictions of each step to settle, and repeats the step when settle
// returns again.
func (doc *Doctor) searchAll(ctx context.Context, settle func([]Contradiction) (again bool, err error)) error {
	report, ok := ctx.Value(progressKey{}).(func(name string, rows int64))
	if !ok {
		report = func(string, int64) {}
	}

	for _, searched := range searchedTables {
		from, total, more := start, int64(0), true
		for more {
			r, err := doc.searchTable(ctx, searched.name, from, searched.step)
			if err != nil {
				return err
			}

			if len(r.found) > 0 {
				again, err := settle(r.found)
				if err != nil {
					return err
				}
				if again {
					continue
				}
			}

			if total += r.rows; r.rows > 0 {
				report(searched.name, total)
			}
			// A step with fewer rows than its limit has reached the end of the table.
			from, more = r.last, r.rows == searched.step
		}
	}

	// A task under two leases has two lease rows, which may lie in two steps. One statement therefore reads all lease
	// rows.
	for again := true; again; {
		found, err := doc.searchLeases(ctx, math.MaxInt64)
		if err != nil || len(found) == 0 {
			return err
		}
		if again, err = settle(found); err != nil {
			return err
		}
	}
	return nil
}

// errEnough ends a search that found mostContradictions.
var errEnough = errors.New("enough is found")

// FindContradictions searches all rows and returns the first 1,000 contradictions, and whether there are more. Beside
// running work it finds only rows that contradict each other within the snapshot of one step.
func (doc *Doctor) FindContradictions(ctx context.Context) (all []Contradiction, more bool, err error) {
	err = doc.searchAll(ctx, func(found []Contradiction) (again bool, err error) {
		if all = append(all, found...); len(all) > mostContradictions {
			return false, errEnough
		}
		return false, nil
	})

	if errors.Is(err, errEnough) {
		err = nil
	}
	all = sortContradictions(all)
	more = len(all) > mostContradictions
	return all[:min(len(all), mostContradictions)], more, err
}

// sortContradictions sorts by kind, queue and task, and removes duplicates.
func sortContradictions(all []Contradiction) []Contradiction {
	slices.SortFunc(all, func(a, b Contradiction) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.queueID, b.queueID), cmp.Compare(a.TaskID, b.TaskID))
	})
	return slices.Compact(all)
}

// CheckContradictions searches 500 rows of each table, for the start of a server.
func (doc *Doctor) CheckContradictions(ctx context.Context) (queue.Finding, error) {
	found, err := doc.searchLeases(ctx, startRows)
	if err != nil {
		return queue.Finding{}, err
	}

	for _, searched := range searchedTables {
		r, err := doc.searchTable(ctx, searched.name, start, startRows)
		if err != nil {
			return queue.Finding{}, err
		}
		found = append(found, r.found...)
	}

	return summarizeContradictions(found, false, fmt.Sprintf("none in the first %d rows of each table", startRows)), nil
}

// contradictions adds the finding of a search of all rows.
func (d *diagnosis) contradictions(ctx context.Context) error {
	found, more, err := d.FindContradictions(ctx)
	if err != nil {
		return d.reportUnknown("contradictions", err)
	}
	d.found = append(d.found, summarizeContradictions(found, more, "none"))
	return nil
}

// summarizeContradictions returns the finding of a diagnosis; more says that others exist. none is its value when found is
// empty.
func summarizeContradictions(found []Contradiction, more bool, none string) queue.Finding {
	f := queue.Finding{Name: "contradictions", Level: queue.LevelOK, Value: none}
	if len(found) == 0 {
		return f
	}

	found = sortContradictions(found)
	var first []string
	// Three show the kind of damage; the repair lists all of them.
	for _, c := range found[:min(len(found), 3)] {
		first = append(first, fmt.Sprintf("%s/%s task %d is %s", c.Namespace, c.Queue, c.TaskID, c.What))
	}
	number := strconv.Itoa(len(found))
	if more {
		number = "more than " + number
	}
	f.Level, f.Value = queue.LevelFail, number+": "+strings.Join(first, ", ")
	f.Advice = "tasks may run again or be stuck; settle them with: pgqueue doctor --repair"
	return f
}
