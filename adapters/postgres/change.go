package postgres

import (
	"cmp"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Statuses as the tables keep them; 0 stands for "not there".
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

// decodeStatus is the status that a code stands for.
func decodeStatus(code int16) queue.Status {
	if code >= 1 && int(code) <= len(queue.Statuses()) {
		return queue.Statuses()[code-1]
	}
	return ""
}

// Kinds of events as the table keeps them: the place in queue.EventKinds plus 1. 0 only counts.
const (
	eventNone int16 = iota
	eventCreated
	eventRetained
)

var eventCodes = func() map[queue.EventKind]int16 {
	m := map[queue.EventKind]int16{}
	for i, k := range queue.EventKinds() {
		m[k] = int16(i + 1)
	}
	return m
}()

// eventOfMove is the event of a move that led to is.
func eventOfMove(move queue.Move, is queue.Status) int16 {
	switch {
	case is.Finished():
		return eventCodes[queue.EventKind(is)]
	case move == queue.MoveHandBack || move == queue.MoveSnooze:
		return eventCodes[queue.EventReturned]
	case move == queue.MoveRetry:
		return eventCodes[queue.EventRevived]
	case is == queue.StatusRetry:
		return eventCodes[queue.EventRetry]
	}
	return eventNone
}

// eventChange is what one event row says of several tasks.
type eventChange struct {
	queue   int32
	keep    bool // the queue keeps events
	kind    int16
	was, is int16
	worker  string
	delayed int // by how much each task makes the delayed rows grow
}

// eventRow is a row of the event table.
type eventRow struct {
	at      *time.Time // nil = the time of the statement
	queueID int32
	kind    int16
	was, is int16
	n       int32
	delayed int32
	worker  *string
	ids     *string // runs of ids as packIDRuns writes them; nil: the row only counts
}

var eventColumns = table.New(
	table.Col("at", func(r *eventRow) **time.Time { return &r.at }),
	table.Col("queue_id", func(r *eventRow) *int32 { return &r.queueID }),
	table.Col("kind", func(r *eventRow) *int16 { return &r.kind }),
	table.Col("was", func(r *eventRow) *int16 { return &r.was }),
	table.Col("is", func(r *eventRow) *int16 { return &r.is }),
	table.Col("n", func(r *eventRow) *int32 { return &r.n }),
	table.Col("delayed", func(r *eventRow) *int32 { return &r.delayed }),
	table.Col("worker", func(r *eventRow) **string { return &r.worker }),
	table.Col("ids", func(r *eventRow) **string { return &r.ids }),
)

var insertEvents = statement("event.add")

// makeEventRow returns the row of a change of n tasks.
func makeEventRow(c eventChange, at time.Time, n int, ids *string) eventRow {
	return eventRow{
		at: timePointer(at), queueID: c.queue, kind: c.kind, was: c.was, is: c.is, n: int32(n), delayed: int32(c.delayed * n),
		worker: textPointer(c.worker), ids: ids,
	}
}

// events gathers changes into one row a kind.
type events map[eventChange][]int64

func (e events) appendIDs(c eventChange, ids ...int64) { e[c] = append(e[c], ids...) }

// insertEventRows queues the rows, in an order that is the same for every transaction.
func (e events) insertEventRows(t *tx, at time.Time) {
	if len(e) == 0 {
		return
	}
	keys := make([]eventChange, 0, len(e))
	for c := range e {
		keys = append(keys, c)
	}
	slices.SortFunc(keys, func(a, b eventChange) int {
		return cmp.Or(cmp.Compare(a.queue, b.queue), cmp.Compare(a.kind, b.kind), cmp.Compare(a.was, b.was), cmp.Compare(a.worker, b.worker))
	})

	rows := make([]eventRow, 0, len(keys))
	for _, c := range keys {
		if !c.keep || c.kind == eventNone {
			rows = append(rows, makeEventRow(c, at, len(e[c]), nil))
			continue
		}
		for left := e[c]; len(left) > 0; {
			runs, n := packIDRuns(left, runsPerEvent)
			text := encodeArray(runs)
			rows = append(rows, makeEventRow(c, at, n, &text))
			left = left[n:]
		}
	}
	t.queueStatement(insertEvents, eventColumns.Arrays(nil, rows)...)
}

// runsPerEvent is the most numbers in an event row's task_ids: it stays small enough to be stored in line.
const runsPerEvent = 200

// packIDRuns writes ids, all above 0, with each run of consecutive ones as its first and the negative of its last, into at
// most most numbers. It tells how many ids it wrote.
func packIDRuns(ids []int64, most int) (packed []int64, n int) {
	for n < len(ids) && len(packed)+2 <= most {
		first := ids[n]
		for n++; n < len(ids) && ids[n] == ids[n-1]+1; n++ {
		}
		packed = append(packed, first)
		if last := ids[n-1]; last > first {
			packed = append(packed, -last)
		}
	}
	return packed, n
}

// unpackIDRuns undoes packIDRuns.
func unpackIDRuns(packed []int64) []int64 {
	ids := make([]int64, 0, len(packed))
	for _, v := range packed {
		if v > 0 {
			ids = append(ids, v)
			continue
		}
		for id := ids[len(ids)-1] + 1; id <= -v; id++ {
			ids = append(ids, id)
		}
	}
	return ids
}

// insertCounts queues rows that only count.
func (e events) insertCounts(t *tx, changes []eventChange, n []int32) {
	if len(changes) == 0 {
		return
	}

	rows := make([]eventRow, len(changes))
	for i, c := range changes {
		rows[i] = eventRow{queueID: c.queue, kind: c.kind, was: c.was, is: c.is, n: n[i]}
	}
	t.queueStatement(insertEvents, eventColumns.Arrays(nil, rows)...)
}
