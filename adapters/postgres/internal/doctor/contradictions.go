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
	// startRows is the number of rows of each table that the check at the start of a server reads. The start waits for it: at most
	// 100,000 look-ups, with 200 tasks in each lease row.
	startRows = 500
	// maxContradictions is the most that FindContradictions returns. A statement returns one more, which shows that there are more.
	maxContradictions = 1_000
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
	// What says what is wrong, behind "is": "leased and finished", "counted wrongly".
	What             string
	Namespace, Queue string
	// TaskID is the task; 0 when the contradiction is about a lease row and not one task.
	TaskID int64

	queueID int32
}

// contradictionColumns are in the order in which the statements compute them.
var contradictionColumns = table.Of[Contradiction]().Only("what", "namespace", "queue", "queue_id", "task_id")

// position is the key of a row of a searched table. Each table uses the columns of its own key: ready queueID, lane, turn; delayed
// dueAt, taskID; group_waiting queueID, grp, lane, turn; lease token, part.
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

// beforeAllRows is below each key. Ids of tasks and parts begin at 1 and 0, tokens at 0, and no task is due before 1970.
var beforeAllRows = position{
	queueID: math.MinInt32,
	lane:    math.MinInt32,
	turn:    math.MinInt64,
	dueAt:   time.Unix(0, 0).UTC(),
	token:   -1,
	grp:     math.MinInt64,
}

var positionColumns = table.Of[position]()

// searchResult is the result of one step of a search.
type searchResult struct {
	last  position // of the last row that the step read
	rows  int64    // rows that the step read
	found []Contradiction
}

// searchTable searches the next rows of a table behind a position. Each row of the answer begins with the number of rows and with
// the last position, and then has a contradiction.
func (doc *Doctor) searchTable(ctx context.Context, name string, from position, limit int64) (searchResult, error) {
	r := searchResult{last: from}
	var c Contradiction
	targets := positionColumns.Targets(contradictionColumns.Targets([]any{&r.rows}, &c), &r.last)
	args := append(positionColumns.Values(nil, &from), arg("table", name), arg("limit", limit), arg("most", maxContradictions+1))
	err := doc.DB.Query(ctx, opFind, searchStep, func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if c.What != "" { // a step without contradictions returns one row, which has only the position
			r.found = append(r.found, c)
		}
		return nil
	}, args...)
	return r, err
}

// findTwoLeases finds the tasks under two leases among the first limit rows of the lease table.
func (doc *Doctor) findTwoLeases(ctx context.Context, limit int64) (found []Contradiction, err error) {
	var c Contradiction
	targets := contradictionColumns.Targets(nil, &c)
	err = doc.DB.Query(ctx, opFind, findLeaseTwice, func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		found = append(found, c)
		return nil
	}, arg("limit", limit), arg("most", maxContradictions+1))
	return found, err
}

// searchAll searches all tables in steps, and passes the contradictions of each step to handle. It repeats the step when handle returns
// true, so handle must return false in the end.
func (doc *Doctor) searchAll(ctx context.Context, handle func([]Contradiction) (repeat bool, err error)) error {
	for _, searched := range searchedTables {
		if err := doc.searchSteps(ctx, searched.name, searched.step, handle); err != nil {
			return err
		}
	}

	// A task under two leases has two lease rows, which may lie in two steps. One statement therefore reads all lease rows.
	for repeat := true; repeat; {
		found, err := doc.findTwoLeases(ctx, math.MaxInt64)
		if err != nil || len(found) == 0 {
			return err
		}
		if repeat, err = handle(found); err != nil {
			return err
		}
	}
	return nil
}

// searchSteps searches one table for searchAll, limit rows in each step.
func (doc *Doctor) searchSteps(ctx context.Context, name string, limit int64, handle func([]Contradiction) (repeat bool, err error)) error {
	report := progressOf(ctx)
	from, total := beforeAllRows, int64(0)
	for {
		r, err := doc.searchTable(ctx, name, from, limit)
		if err != nil {
			return err
		}

		if len(r.found) > 0 {
			repeat, err := handle(r.found)
			if err != nil {
				return err
			}
			if repeat {
				continue
			}
		}

		total += r.rows
		if r.rows > 0 {
			report(name, total)
		}
		// A step with fewer rows than its limit has reached the end of the table.
		if r.rows < limit {
			return nil
		}
		from = r.last
	}
}

type progressKey struct{}

// WithProgress returns a context for progress reports of Diagnose, FindContradictions and RepairContradictions. rows counts the rows of
// the table that were read so far.
func WithProgress(ctx context.Context, report func(name string, rows int64)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// progressOf returns the report function of a context, or one that does nothing.
func progressOf(ctx context.Context) func(name string, rows int64) {
	if report, ok := ctx.Value(progressKey{}).(func(string, int64)); ok {
		return report
	}
	return func(string, int64) {}
}

// errEnough ends a search that found maxContradictions.
var errEnough = errors.New("enough is found")

// FindContradictions searches all rows. It returns the first 1,000 contradictions of the search, sorted, and whether there are more.
// While tasks move, it reports only contradictions inside the snapshot of one step.
func (doc *Doctor) FindContradictions(ctx context.Context) (all []Contradiction, more bool, err error) {
	err = doc.searchAll(ctx, func(found []Contradiction) (repeat bool, err error) {
		if all = append(all, found...); len(all) > maxContradictions {
			return false, errEnough
		}
		return false, nil
	})

	// Not by the length after the sort: it removes duplicates.
	if errors.Is(err, errEnough) {
		more, err = true, nil
	}
	all = sortContradictions(all)
	return all[:min(len(all), maxContradictions)], more, err
}

// sortContradictions sorts by kind, queue and task, and removes duplicates.
func sortContradictions(all []Contradiction) []Contradiction {
	slices.SortFunc(all, func(a, b Contradiction) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.queueID, b.queueID), cmp.Compare(a.TaskID, b.TaskID))
	})
	return slices.Compact(all)
}

// CheckContradictions searches startRows rows of each table, and as many lease rows for tasks under two leases, for the start of a
// server.
func (doc *Doctor) CheckContradictions(ctx context.Context) (queue.Finding, error) {
	found, err := doc.findTwoLeases(ctx, startRows)
	if err != nil {
		return queue.Finding{}, err
	}

	for _, searched := range searchedTables {
		r, err := doc.searchTable(ctx, searched.name, beforeAllRows, startRows)
		if err != nil {
			return queue.Finding{}, err
		}
		found = append(found, r.found...)
	}

	return summarizeContradictions(found, false, fmt.Sprintf("none in the first %d rows of each table", startRows)), nil
}

// addContradictions adds the finding of a search of all rows.
func (d *diagnosis) addContradictions(ctx context.Context) error {
	found, more, err := d.FindContradictions(ctx)
	if err != nil {
		return d.reportUnknown("contradictions", err)
	}
	d.found = append(d.found, summarizeContradictions(found, more, "none"))
	return nil
}

// summarizeContradictions returns the finding of a diagnosis; more says that others exist. A finding without contradictions has okValue.
func summarizeContradictions(found []Contradiction, more bool, okValue string) queue.Finding {
	f := queue.Finding{Name: "contradictions", Level: queue.LevelOK, Value: okValue}
	if len(found) == 0 {
		return f
	}

	found = sortContradictions(found)
	var first []string
	// Three show the kind of damage; the repair lists all of them.
	for _, c := range found[:min(len(found), 3)] {
		first = append(first, c.String())
	}
	number := strconv.Itoa(len(found))
	if more {
		number = "more than " + number
	}
	f.Level, f.Value = queue.LevelFail, number+": "+strings.Join(first, ", ")
	f.Advice = "tasks may run again or be stuck; settle them with: pgqueue doctor --repair"
	return f
}

// String says which rows are wrong, and how.
func (c Contradiction) String() string { return c.Subject() + " is " + c.What }

// Subject names the task, or the kind of row when the contradiction is not about one task.
func (c Contradiction) Subject() string {
	if c.TaskID == 0 {
		return fmt.Sprintf("a lease row of %s/%s", c.Namespace, c.Queue)
	}
	return fmt.Sprintf("task %d of %s/%s", c.TaskID, c.Namespace, c.Queue)
}
