package postgres

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/feed"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The status codes of the tables. Code 0 means that the task does not exist.
const (
	statusNew int16 = iota + 1
	statusRetry
	statusRetained
	statusReleased
	statusFailed
	statusExpired
	statusCancelled
)

var statusCodes = map[queue.Status]int16{
	queue.StatusNew: statusNew, queue.StatusRetry: statusRetry, queue.StatusRetained: statusRetained,
	queue.StatusReleased: statusReleased, queue.StatusFailed: statusFailed, queue.StatusExpired: statusExpired,
	queue.StatusCancelled: statusCancelled,
}

// decodeStatus returns the status of a code. It returns "" for an unknown code.
func decodeStatus(code int16) queue.Status {
	if code >= 1 && int(code) <= len(queue.Statuses()) {
		return queue.Statuses()[code-1]
	}
	return ""
}

// Codes of the event kinds, as feed.CodeOf returns them. An event row with code 0 changes only the counts.
const (
	eventNone int16 = iota
	eventCreated
	eventRetained
)

// eventOfMove returns the code of the event for a move that left a task in status is. It returns eventNone when the
// move changes only the counts.
func eventOfMove(move queue.Move, is queue.Status) int16 {
	switch {
	case is.Finished():
		return feed.CodeOf(queue.EventKind(is))
	case move == queue.MoveHandBack || move == queue.MoveSnooze:
		return feed.CodeOf(queue.EventReturned)
	case move == queue.MoveRetry:
		return feed.CodeOf(queue.EventRevived)
	case is == queue.StatusRetry:
		return feed.CodeOf(queue.EventRetry)
	}
	return eventNone
}

// eventChange is a change that several tasks share. It becomes one event row, or several when the ids do not fit.
type eventChange struct {
	queue   int32
	keep    bool // the queue keeps events, so the row lists the ids
	kind    int16
	was, is int16
	worker  string
	delayed int // change of the number of delayed rows, for each task
}

// eventRow is a row of the event table.
type eventRow struct {
	at      *time.Time // nil: the time of the statement
	queueID int32
	kind    int16
	was, is int16
	n       int32
	delayed int32
	worker  *string
	ids     *string // encoded by feed.PackIDs; nil: the row changes only the counts
}

var eventColumns = table.Of[eventRow]()

var insertEvents = statement("event.add")

// makeEventRow returns the event row for a change of n tasks.
func makeEventRow(c eventChange, at time.Time, n int, ids *string) eventRow {
	return eventRow{
		at: timePointer(at), queueID: c.queue, kind: c.kind, was: c.was, is: c.is, n: int32(n), delayed: int32(c.delayed * n),
		worker: textPointer(c.worker), ids: ids,
	}
}

// events collects the ids of the changed tasks by change, so that each change becomes one event row.
type events map[eventChange][]int64

func (e events) appendIDs(c eventChange, ids ...int64) { e[c] = append(e[c], ids...) }

// insertEventRows queues the event rows, in the same order in every transaction.
func (e events) insertEventRows(t *txn.Tx, at time.Time) {
	if len(e) == 0 {
		return
	}

	keys := slices.SortedFunc(maps.Keys(e), func(a, b eventChange) int {
		return cmp.Or(cmp.Compare(a.queue, b.queue), cmp.Compare(a.kind, b.kind), cmp.Compare(a.was, b.was), cmp.Compare(a.worker, b.worker))
	})

	// A queue that keeps no events needs only the number of tasks. All other rows list the ids of their tasks.
	rows := make([]eventRow, 0, len(keys))
	for _, c := range keys {
		if !c.keep || c.kind == eventNone {
			rows = append(rows, makeEventRow(c, at, len(e[c]), nil))
			continue
		}

		for left := e[c]; len(left) > 0; {
			runs, n := feed.PackIDs(left, runsPerEvent)
			text := encodeArray(runs)
			rows = append(rows, makeEventRow(c, at, n, &text))
			left = left[n:]
		}
	}

	t.Queue(insertEvents, eventColumns.Arrays(nil, rows)...)
}

// runsPerEvent is the most numbers in task_ids of an event row, so that PostgreSQL stores the array inline.
const runsPerEvent = 200

// insertCounts queues event rows that change only the counts. n[i] is the number of tasks of changes[i].
func (e events) insertCounts(t *txn.Tx, changes []eventChange, n []int32) {
	rows := make([]eventRow, len(changes))
	for i, c := range changes {
		rows[i] = eventRow{queueID: c.queue, kind: c.kind, was: c.was, is: c.is, n: n[i]}
	}
	queueRows(t, insertEvents, eventColumns, rows)
}
