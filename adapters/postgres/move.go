package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/feed"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The statements of moves.
var (
	insertDone     = statement("move.done")
	insertHeldDone = statement("move.done.held")
	insertBack     = statement("move.back")
	insertErrors   = statement("move.error")
	trimErrors     = statement("move.error.trim")
)

// moves collects the new states of tasks and writes them with one statement for each table.
type moves struct {
	now     time.Time
	done    []doneRow
	held    successRows
	waiting []waitingRow
	errs    []errorRow
	events  events
	woken   []queue.Wake
	tallies queue.Tallies
	markers []markerRow
	// groupWaiting is by how much the number of tasks grows that wait for their group, by queue.
	groupWaiting map[int32]int
	pauses       pauses
	dead         []deadTask
	letters      []*insertBatch  // only their lanes
	maxLetter    int64           // largest id that is taken for a dead letter
	letterBytes  int64           // stored bytes of the payloads of dead
	letterSizes  map[int64]int64 // the same by task, as far as they were read
}

// makeMoves returns an empty collection for the time now of the database.
func makeMoves(now time.Time) *moves { return &moves{now: truncateToMicros(now), events: events{}} }

// addSuccess ends the lease of a task with success. It reads nothing about the task, which keeps the common case cheap.
func (m *moves) addSuccess(p heldTask, result json.RawMessage) {
	m.held.addSuccessRow(p, result)
	m.addEndOfPlace(p.q, p.groupOfTask(), p.id, queue.StatusReleased)
	m.events.appendIDs(eventChange{
		queue: p.q.id, keep: p.q.Events, kind: eventOfMove(queue.MoveRelease, queue.StatusReleased), was: statusRetained,
		is: statusReleased, worker: p.worker,
	}, p.id)
}

// taskMove is one task with its new state, which the domain computed.
type taskMove struct {
	q         *storedQueue
	id        int64
	priority  int16
	bucket    *int16
	group     string
	move      queue.Move
	was       queue.Status
	wasLate   bool // the task had a delayed row
	life      queue.Life
	startedAt time.Time
	token     int64 // of the lease that its worker ended; 0 in all other cases
	worker    string
	result    json.RawMessage
	keep      bool // the last result stays; it was not read
	errorKind string
}

// addMove adds the rows, the event and the tallies of one task with a new state.
func (m *moves) addMove(d taskMove) {
	delayed := 0
	if d.wasLate {
		delayed--
	}

	m.tallies.Add(d.q.Namespace, d.q.Name, d.was, d.life.Status, 1)
	m.addEndOfPlace(d.q, d.q.hashGroup(d.group), d.id, d.life.Status)
	if d.life.Status.Finished() {
		m.addDeadTask(d)
		m.addDoneRow(d)
	} else {
		late := d.life.DelayedAt.After(m.now)
		m.addWaitingRow(d, late)
		if late {
			delayed++
		} else {
			m.woken = append(m.woken, queue.Wake{Namespace: d.q.Namespace, Queue: d.q.Name})
		}
	}

	kind := eventOfMove(d.move, d.life.Status)
	if d.move == queue.MoveLeaseLost {
		kind = feed.CodeOf(d.q.EventOfLoss(d.life))
	}
	m.events.appendIDs(eventChange{
		queue: d.q.id, keep: d.q.Events, kind: kind, was: statusCodes[d.was],
		is: statusCodes[d.life.Status], worker: d.worker, delayed: delayed,
	}, d.id)
}

// writeAllRows queues the statements that write all collected rows.
func (m *moves) writeAllRows(t *txn.Tx) {
	m.held.insertSuccesses(t, m.now)
	queueRows(t, insertDone, doneColumns, m.done, arg("now", m.now))
	queueRows(t, insertBack, backColumns, m.waiting)
	insertErrorRows(t, m.errs)
	queueRows(t, markGroups, markerColumns, m.markers)
	m.events.addGroupWaiting(t, m.groupWaiting)
	m.events.insertEventRows(t, m.now)
}

// doneRow is the row of a finished task.
type doneRow struct {
	id        int64
	startedAt *time.Time
	token     int64
	queueID   int32
	status    int16
	attempt   int16
	worker    *string
	result    []byte
	keep      bool // the last result stays
}

var doneColumns = table.Of[doneRow]()

func (m *moves) addDoneRow(d taskMove) {
	m.done = append(m.done, doneRow{
		id: d.id, startedAt: timePointer(d.startedAt), token: d.token, queueID: d.q.id, status: statusCodes[d.life.Status],
		attempt: int16(d.life.Attempt), worker: textPointer(d.worker), result: nullableJSON(d.result), keep: d.keep,
	})
}

// successRows are tasks that ended with success. The statement sends the common columns once for each lease, and tasks
// without a result as runs of ids.
type successRows struct {
	runs   []successRun
	leases []successLease
	place  map[*storedLease]int // place of a lease in leases
}

// successRun is a run of consecutive tasks of one lease with the same end.
type successRun struct {
	id      int64 // of the first task
	lease   int32 // place of the lease in leases, counted from 1
	token   int64 // of the first task
	attempt int16
	n       int16 // number of tasks
	result  []byte
}

var heldRunColumns = table.Of[successRun]()

// successLease is a lease with tasks that ended with success.
type successLease struct {
	row       *storedLease `col:"-"`
	bare      []int64      `col:"-"` // ids of tasks without a result, at their places in the lease
	startedAt time.Time
	queueID   int32
	worker    string
}

var heldLeaseColumns = table.Of[successLease]()

// addSuccessRow adds one task. A task with a result is a run of its own; the others form runs in insertSuccesses.
func (r *successRows) addSuccessRow(p heldTask, result []byte) {
	at, known := r.place[p.storedLease]
	if !known {
		if r.place == nil {
			r.place = map[*storedLease]int{}
		}
		at = len(r.leases)
		r.place[p.storedLease] = at
		r.leases = append(r.leases, successLease{row: p.storedLease, startedAt: p.retainedAt, queueID: p.q.id, worker: p.worker})
	}

	if len(result) > 0 {
		r.addSuccessRun(at, p.index, p.id, 1, result)
		return
	}

	l := &r.leases[at]
	if l.bare == nil {
		l.bare = make([]int64, len(p.ids))
	}
	l.bare[p.index] = p.id
}

// addSuccessRun adds a run of n tasks of a lease, from the given place on.
func (r *successRows) addSuccessRun(at, place int, id int64, n int, result []byte) {
	p := heldTask{r.leases[at].row, place, id}
	r.runs = append(r.runs, successRun{
		id: id, lease: int32(at + 1), token: p.tokenOfTask(), attempt: int16(p.attemptOfTask()), n: int16(n), result: nullableJSON(result),
	})
}

// insertSuccesses forms the runs of tasks without a result and queues the statement that writes all runs.
func (r *successRows) insertSuccesses(t *txn.Tx, now time.Time) {
	// Neighbours in a lease with consecutive ids share one row.
	for at := range r.leases {
		l := &r.leases[at]
		for i := 0; i < len(l.bare); {
			first := i
			for i++; i < len(l.bare) && l.continuesRun(first, i); i++ {
			}
			if id := l.bare[first]; id != 0 {
				r.addSuccessRun(at, first, id, i-first, nil)
			}
		}
	}

	if len(r.runs) > 0 {
		args := heldLeaseColumns.Arrays([]sqltext.Arg{arg("now", now)}, r.leases)
		t.Queue(insertHeldDone, heldRunColumns.Arrays(args, r.runs)...)
	}
}

// continuesRun reports whether the task at place i belongs to the run that begins at place first. A run stays in one
// block of ids and in one number of attempts.
func (l *successLease) continuesRun(first, i int) bool {
	ids := l.bare
	return ids[first] != 0 && ids[i] == ids[i-1]+1 && blockOfRun(ids[i]) == blockOfRun(ids[first]) &&
		(heldTask{l.row, i, ids[i]}).attemptOfTask() == (heldTask{l.row, first, ids[first]}).attemptOfTask()
}

// waitingRow is a task that returns to the ready or delayed rows.
type waitingRow struct {
	id        int64
	queueID   int32
	priority  int16
	late      bool // the task is delayed
	delayedAt *time.Time
	diesAt    *time.Time
	startedAt *time.Time
	token     int64
	attempt   int16
	retries   int16
	worker    *string
	result    []byte
	keep      bool // the last result stays
	bucket    *int16
	grp       *int64
	losses    int16
}

var backColumns = table.Of[waitingRow]()

func (m *moves) addWaitingRow(d taskMove, late bool) {
	m.waiting = append(m.waiting, waitingRow{
		id: d.id, queueID: d.q.id, priority: d.priority, late: late,
		delayedAt: timePointer(truncateToMicros(d.life.DelayedAt)), diesAt: timePointer(truncateToMicros(d.life.DiesAt)), startedAt: timePointer(d.startedAt),
		token: d.token, attempt: int16(d.life.Attempt), retries: int16(d.life.Retries), worker: textPointer(d.worker),
		result: nullableJSON(d.result), keep: d.keep, bucket: d.bucket, grp: groupPointer(d.q.hashGroup(d.group)), losses: d.life.Losses,
	})
}

// errorRow is the error of one attempt.
type errorRow struct {
	queueID int32
	taskID  int64
	attempt int16
	at      time.Time
	worker  string
	error   []byte
	kind    *string
	// fingerprint is the one that the worker gave.
	fingerprint *string
}

var errorColumns = table.Of[errorRow]()

// attemptErrorColumns are the columns of an error of a known queue.
var attemptErrorColumns = errorColumns.Without("queue_id")

// addFailure adds the error of one attempt. It cuts a long error to queue.MaxErrorBytes and stores an empty one as null.
func (m *moves) addFailure(q int32, id int64, failed queue.AttemptError) {
	err := failed.Error
	if len(err) == 0 {
		err = json.RawMessage("null")
	} else if len(err) > queue.MaxErrorBytes {
		err = queue.CleanJSON(err, queue.MaxErrorBytes)
	}
	m.errs = append(m.errs, errorRow{
		queueID: q, taskID: id, attempt: int16(failed.Attempt), at: m.now, worker: failed.Worker, error: err, //nolint:gosec // at most MaxRetries and one
		kind: textPointer(failed.Kind), fingerprint: textPointer(failed.Fingerprint),
	})
}

// insertErrorRows queues the statement that writes the errors. It keeps the newest queue.MaxErrors of each task.
func insertErrorRows(t *txn.Tx, errs []errorRow) {
	queueRows(t, insertErrors, errorColumns, errs)

	// Only a task with more than queue.MaxErrors attempts can exceed the limit.
	full := slices.DeleteFunc(slices.Clone(errs), func(row errorRow) bool { return row.attempt <= queue.MaxErrors })
	queueRows(t, trimErrors, errorColumns.Only("queue_id", "task_id"), full, arg("keep", queue.MaxErrors))
}

func makeLeaseLostError(id int64) error {
	return &queue.Error{
		Kind: queue.KindLeaseLost, Subject: fmt.Sprintf("task %d", id),
		Msg: "the token must be that of the present lease; another worker may hold the task",
	}
}

func makeNotRetainedError(id int64) error {
	return &queue.Error{Kind: queue.KindConflict, Subject: fmt.Sprintf("task %d", id), Msg: "no worker holds it; retain it first"}
}
