package postgres

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

	"github.com/pgqueue/pgqueue/domain/queue"
)

// startRows is the number of rows of each table that the check at the start of a server reads. The start waits for
// it: these are 100,000 look-ups where each lease row carries 200 tasks.
const startRows = 500

// repairLockTimeout is the longest wait of a repair for open transactions. All other transactions of the schema wait
// behind the repair meanwhile.
const repairLockTimeout = "5s"

const (
	// repairTimeout bounds the repair of one queue, which reads all rows of the queue. A step of a search has the
	// timeout of a call.
	repairTimeout = 10 * time.Minute
	// mostContradictions is the most that FindContradictions returns. It stops its search at the next one. The limit of
	// its statements is 1 above.
	mostContradictions = 1_000
)

// contradictTables lists the tables of a search, with the rows of one step. A row stands for at most 32 tasks
// (ready), 1 task (delayed) or 200 tasks (lease).
var contradictTables = []struct {
	name string
	step int64
}{{"ready", 2_000}, {"delayed", 20_000}, {"lease", 200}}

// Contradiction is a task with rows that contradict each other, such as a finished task that still waits, or a task
// under two leases. No transaction of pgqueue leaves this state behind. A defect or a manual change does.
type Contradiction struct {
	// What names the contradiction, such as "leased and finished".
	What             string
	Namespace, Queue string
	// TaskID is the task; 0 when the contradiction is about a lease row and not one task.
	TaskID int64

	queueID int32
}

type progressKey struct{}

// WithProgress returns a context for progress reports of Diagnose, FindContradictions and RepairContradictions. They
// call report after each step, in the caller's goroutine, with the number of rows of a table that they have read so
// far.
func WithProgress(ctx context.Context, report func(table string, rows int64)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// walk is the position of a search along the key of one table.
type walk struct {
	queue       int32
	priority    int16
	turn        int64
	due         time.Time
	task, token int64
	part        int16
}

// walkStart is the position before all rows.
var walkStart = walk{queue: math.MinInt32, priority: math.MinInt16, turn: math.MinInt64, due: time.Unix(0, 0).UTC(), token: -1}

// lookOn searches the next rows of a table. It returns the position after them, their number and their
// contradictions.
func (s *Store) lookOn(ctx context.Context, table string, from walk, rows int64) (to walk, seen int64, found []Contradiction, err error) {
	err = s.query(ctx, "find contradictions", "contradict.step", func(r pgx.Rows) error {
		var what, namespace, name *string
		var queueID, lastQueue *int32
		var id, turn, task, token *int64
		var priority, part *int16
		var due *time.Time
		err := r.Scan(&seen, &what, &namespace, &name, &queueID, &id, &lastQueue, &priority, &turn, &due, &task, &token, &part)
		to = walk{valueOf(lastQueue), valueOf(priority), valueOf(turn), valueOf(due), valueOf(task), valueOf(token), valueOf(part)}
		// A step without contradictions returns one row, which has only the position.
		if what != nil {
			found = append(found, Contradiction{*what, *namespace, *name, *id, *queueID})
		}
		return err
	}, table, from.queue, from.priority, from.turn, from.due, from.task, from.token, from.part, rows)
	return to, seen, found, err
}

// valueOf returns the value behind p, or the zero value when p is nil.
func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// lookTwice finds tasks under two leases among the first rows of the lease table.
func (s *Store) lookTwice(ctx context.Context, rows int64) (found []Contradiction, err error) {
	err = s.query(ctx, "find contradictions", "contradict.twice", func(r pgx.Rows) error {
		var c Contradiction
		err := r.Scan(&c.What, &c.Namespace, &c.Queue, &c.queueID, &c.TaskID)
		found = append(found, c)
		return err
	}, rows)
	return found, err
}

// errEnough ends a search that found mostContradictions.
var errEnough = errors.New("enough is found")

// FindContradictions searches all rows and returns the first 1,000 contradictions, and whether there are more. It reads
// in steps of bounded size, each with the timeout of a call. Beside running work it finds only rows that contradict each
// other within the snapshot of one step.
func (s *Store) FindContradictions(ctx context.Context) (all []Contradiction, more bool, err error) {
	err = s.lookAtAll(ctx, func(found []Contradiction) (again bool, err error) {
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

// lookAtAll searches all tables. It passes the contradictions of each step to settle, and repeats the step when
// settle returns again.
func (s *Store) lookAtAll(ctx context.Context, settle func([]Contradiction) (again bool, err error)) error {
	report, _ := ctx.Value(progressKey{}).(func(table string, rows int64))

	for _, table := range contradictTables {
		total, from := int64(0), walkStart

		for {
			to, seen, found, err := s.lookOn(ctx, table.name, from, table.step)
			if err != nil {
				return err
			}

			if len(found) > 0 {
				again, err := settle(found)
				if err != nil {
					return err
				}
				if again {
					continue
				}
			}

			total += seen
			if report != nil && seen > 0 {
				report(table.name, total)
			}
			if seen < table.step {
				break
			}
			from = to
		}
	}

	// A task under two leases has two lease rows, which may lie in two steps. One statement therefore reads all lease
	// rows.
	for again := true; again; {
		found, err := s.lookTwice(ctx, math.MaxInt64)
		if err != nil || len(found) == 0 {
			return err
		}
		if again, err = settle(found); err != nil {
			return err
		}
	}
	return nil
}

// sortContradictions sorts by kind, queue and task, and removes duplicates.
func sortContradictions(all []Contradiction) []Contradiction {
	slices.SortFunc(all, func(a, b Contradiction) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.queueID, b.queueID), cmp.Compare(a.TaskID, b.TaskID))
	})
	return slices.Compact(all)
}

// RepairContradictions repairs every contradiction and returns the list of them. A finished task stays finished, a
// held task stays under its newest token, and a waiting task waits once. It also corrects the counts of the affected
// queues and changes nothing else. It searches like FindContradictions. The repair of one queue is one transaction of
// at most 10 minutes; no other transaction of the schema can write meanwhile.
func (s *Store) RepairContradictions(ctx context.Context) ([]Contradiction, error) {
	known := map[Contradiction]bool{}
	var all []Contradiction
	err := s.lookAtAll(ctx, func(found []Contradiction) (again bool, err error) {
		tasks := map[Contradiction][]int64{} // ids by queue
		for _, c := range found {
			// The step found the same again after its repair: another repair would not end either.
			if known[c] {
				return false, &queue.Error{
					Op: "repair contradictions", Kind: queue.KindInternal, Subject: "queue " + c.Queue,
					Msg: fmt.Sprintf("task %d is %s still; report this", c.TaskID, c.What),
				}
			}

			known[c] = true
			of := Contradiction{Namespace: c.Namespace, Queue: c.Queue, queueID: c.queueID}
			tasks[of] = append(tasks[of], c.TaskID)
		}

		for of, ids := range tasks {
			if err := s.repairQueue(ctx, of, ids); err != nil {
				return false, err
			}
		}
		all = append(all, found...)
		return true, nil
	})
	return sortContradictions(all), err
}

// repairQueue repairs the contradictions of tasks of one queue and corrects the counts of the queue.
func (s *Store) repairQueue(ctx context.Context, of Contradiction, ids []int64) error {
	slices.Sort(ids)
	ids = slices.Compact(ids)

	// The first statements lock the tables, so that no task moves during the repair.
	return s.runInTxWithin(ctx, repairTimeout, "repair contradictions", func(ctx context.Context, t *tx) error {
		t.queue("tx.hurry", repairLockTimeout)
		t.queue("contradict.lock")
		t.queue("contradict.lease", of.queueID, ids)
		t.queue("contradict.held", of.queueID)
		t.queue("contradict.empty", of.queueID)
		t.queue("contradict.ready", of.queueID, ids)
		t.queue("contradict.delayed", of.queueID, ids)
		t.queue("contradict.due", of.queueID, ids)

		if err := t.flushBatch(ctx); err != nil {
			return err
		}
		return s.correctCounts(ctx, t, of)
	})
}

// correctCounts sets the kept counts of a queue to the numbers in its rows. It writes the differences as event rows
// that change only the counts.
func (s *Store) correctCounts(ctx context.Context, t *tx, of Contradiction) error {
	var counted, there []int64
	var countedLate, late int64
	t.queueRows("counts", func(r pgx.Rows) error {
		var id int32
		var namespace, name string
		var paused bool
		var created, finished, seconds float64
		return r.Scan(&id, &namespace, &name, &paused, &counted, &countedLate, &created, &finished, &seconds)
	}, of.Namespace, of.Queue)

	if err := t.read(ctx, "contradict.recount", func(r pgx.Rows) error { return r.Scan(&there, &late) }, of.queueID); err != nil {
		return err
	}

	var was, is []int16
	var n, delayed []int32
	add := func(from, to int16, by, grew int64) {
		was, is, n, delayed = append(was, from), append(is, to), append(n, int32(by)), append(delayed, int32(grew))
	}

	// A missing task counts as created, a surplus one as deleted.
	for i := range there {
		status := int16(i) + statusNew
		switch off := there[i] - counted[i]; {
		case off > 0:
			add(0, status, off, 0)
		case off < 0:
			add(status, 0, -off, 0)
		}
	}

	if late != countedLate {
		add(0, 0, 0, late-countedLate)
	}

	if len(n) > 0 {
		t.queue("contradict.correct", of.queueID, was, is, n, delayed)
	}
	return nil
}

// CheckContradictions searches 500 rows of each table, for the start of a server.
func (s *Store) CheckContradictions(ctx context.Context) (queue.Finding, error) {
	found, err := s.lookTwice(ctx, startRows)
	if err != nil {
		return queue.Finding{}, err
	}

	for _, table := range contradictTables {
		_, _, more, err := s.lookOn(ctx, table.name, walkStart, startRows)
		if err != nil {
			return queue.Finding{}, err
		}
		found = append(found, more...)
	}

	return findingOf(found, false, fmt.Sprintf("none in the first %d rows of each table", startRows)), nil
}

// findingOf returns the finding of a diagnosis about contradictions; more says that others exist. none is its value when
// found is empty.
func findingOf(found []Contradiction, more bool, none string) queue.Finding {
	f := queue.Finding{Name: "contradictions", Level: queue.LevelOK, Value: none}
	if len(found) == 0 {
		return f
	}

	found = sortContradictions(found)
	var some []string
	for _, c := range found[:min(len(found), 3)] {
		some = append(some, fmt.Sprintf("%s/%s task %d is %s", c.Namespace, c.Queue, c.TaskID, c.What))
	}
	number := strconv.Itoa(len(found))
	if more {
		number = "more than " + number
	}
	f.Level, f.Value = queue.LevelFail, number+": "+strings.Join(some, ", ")
	f.Advice = "tasks may run again or be stuck; settle them with: pgqueue doctor --repair"
	return f
}
