package postgres

import (
	"cmp"
	"slices"
	"time"

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

// statusOf is the status that a code stands for.
func statusOf(code int16) queue.Status {
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

// eventFor is the event of a move that led to is.
func eventFor(move queue.Move, is queue.Status) int16 {
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

// change is what one event row says of several tasks.
type change struct {
	queue   int32
	keep    bool // the queue keeps events
	kind    int16
	was, is int16
	worker  string
	delayed int // by how much each task makes the delayed rows grow
}

// events gathers changes into one row a kind.
type events map[change][]int64

func (e events) add(c change, ids ...int64) { e[c] = append(e[c], ids...) }

// insert queues the rows, in an order that is the same for every transaction.
func (e events) insert(t *tx, at time.Time) {
	if len(e) == 0 {
		return
	}
	keys := make([]change, 0, len(e))
	for c := range e {
		keys = append(keys, c)
	}
	slices.SortFunc(keys, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.queue, b.queue), cmp.Compare(a.kind, b.kind), cmp.Compare(a.was, b.was), cmp.Compare(a.worker, b.worker))
	})
	var (
		ats              []*time.Time
		queues           []int32
		kinds, was, is   []int16
		counts, delayeds []int32
		workers, ids     []*string
	)
	row := func(c change, n int, text *string) {
		ats, queues, kinds = append(ats, timePtr(at)), append(queues, c.queue), append(kinds, c.kind)
		was, is, counts = append(was, c.was), append(is, c.is), append(counts, int32(n))
		delayeds, workers, ids = append(delayeds, int32(c.delayed*n)), append(workers, textPtr(c.worker)), append(ids, text)
	}
	for _, c := range keys {
		if !c.keep || c.kind == eventNone {
			row(c, len(e[c]), nil)
			continue
		}
		for left := e[c]; len(left) > 0; {
			runs, n := packRuns(left, runsPerEvent)
			text := arrayText(runs)
			row(c, n, &text)
			left = left[n:]
		}
	}
	t.queue("event.add", ats, queues, kinds, was, is, counts, delayeds, workers, ids)
}

// runsPerEvent is the most numbers in an event row's task_ids: it stays small enough to be stored in line.
const runsPerEvent = 200

// packRuns writes ids, all above 0, with each run of consecutive ones as its first and the negative of its last, into at
// most most numbers. It tells how many ids it wrote.
func packRuns(ids []int64, most int) (packed []int64, n int) {
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

// unpackRuns undoes packRuns.
func unpackRuns(packed []int64) []int64 {
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
func (e events) insertCounts(t *tx, changes []change, n []int32) {
	if len(changes) == 0 {
		return
	}
	var (
		none    = make([]*time.Time, len(changes))
		queues  = make([]int32, len(changes))
		kinds   = make([]int16, len(changes))
		was     = make([]int16, len(changes))
		is      = make([]int16, len(changes))
		delayed = make([]int32, len(changes))
		text    = make([]*string, len(changes))
	)
	for i, c := range changes {
		queues[i], kinds[i], was[i], is[i] = c.queue, c.kind, c.was, c.is
	}
	t.queue("event.add", none, queues, kinds, was, is, n, delayed, text, text)
}
