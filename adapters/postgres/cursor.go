package postgres

import (
	"math"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
)

// A process remembers how far into each lane of ready it has read and starts there, so that rows which are gone cost
// nothing, however long some snapshot keeps them from being vacuumed. Turns are given before they are committed, so a
// row may appear behind the cursor. Two sweeps find it: one from where the cursor was a moment ago, whenever a retain
// comes back short, and one from the very start, now and then; both are paced by what they cost.

// lane is one priority of one queue.
type lane struct {
	queue    int32
	priority int16
}

// Pacing of the sweeps: none takes more than one part in sweepShare of the time.
const (
	behindAge   = time.Second           // how far back "a moment ago" is, at least
	behindEvery = 50 * time.Millisecond // a retain that found something need not look behind more often
	behindShare = 10
	startEvery  = 2 * time.Second
	startShare  = 50
)

// level says from where the lanes of a queue are read.
type level int

const (
	skipLevel  level = iota // not at all
	fastLevel               // from the cursor
	lagLevel                // from the cursor of a moment ago
	startLevel              // from the start
)

// lanes keeps the cursors of a process.
type lanes struct {
	mu     sync.Mutex
	queues map[int32]*queueLanes
	sure   map[lane]bool // committed rows of the lane table, in this era
	era    int
}

func (l *lanes) init() {
	l.queues, l.sure = map[int32]*queueLanes{}, map[lane]bool{}
}

func (l *lanes) isKnownLane(at lane) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sure[at]
}

// invalidateCursors begins an era: nothing is sure any more. A database that lost its last moments, by a failover to a standby that
// lacked them, is met on new connections, or behind a pooler after an error.
func (l *lanes) invalidateCursors() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.era++
	clear(l.sure)
}

// currentGeneration is the present era.
func (l *lanes) currentGeneration() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.era
}

// confirmLanes notes rows that were committed in era.
func (l *lanes) confirmLanes(all []lane, era int) {
	if len(all) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if era != l.era {
		return
	}
	if len(l.sure) > 100_000 { // a bound: forgetting costs one insert that does nothing
		clear(l.sure)
	}
	for _, at := range all {
		l.sure[at] = true
	}
}

func (l *lanes) lanesOfQueue(queue int32) *queueLanes {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[queue]
	if q == nil {
		q = &queueLanes{cursor: map[int16]*cursor{}, rest: map[int16]int64{}, last: 1, dense: runMost}
		l.queues[queue] = q
	}
	return q
}

// queueLanes are the cursors of one queue.
type queueLanes struct {
	mu         sync.Mutex
	cursor     map[int16]*cursor
	last       int // what the last pick gave
	nextBehind time.Time
	nextStart  time.Time
	// rest: by priority, the first turn of what this process left behind its cursor: of runs that it split, or locked and did
	// not need while another pick went by.
	rest map[int16]int64
	// dense: how many tasks a ready row stood for, last.
	dense   float64
	weighed weight
}

// cursor is a place in one lane: now, and as it was up to and at least behindAge ago.
type cursor struct {
	fast, mid, lag int64
	moved          time.Time
}

// hadTasksLately says that the last pick found something.
func (q *queueLanes) hadTasksLately() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.last > 0
}

// recordYield notes what a pick took, and how many tasks the rows that it saw stood for.
func (q *queueLanes) recordYield(took, rows, tasks int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = took
	if rows > 0 {
		q.dense = float64(tasks) / float64(rows)
	}
}

// estimateRows is how many rows a pick of so many tasks should lock: no more than it takes, if the last rows tell. A pick that
// comes back short with all its rows asks again.
func (q *queueLanes) estimateRows(tasks int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dense <= 1 {
		return tasks
	}
	return min(int(math.Ceil(float64(tasks)/q.dense))+1, tasks) // the first may be the rest of a run
}

// recordRemainder notes what a pick left from a turn on, once others can see it.
func (q *queueLanes) recordRemainder(priority int16, turn int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if old := q.rest[priority]; old == 0 || turn < old {
		q.rest[priority] = turn
	}
}

// chooseStart chooses where to read from, and whether that is a sweep whose cost is to be reported to swept. empty says that
// nothing was found so far: then the look behind is due at once, for an idle system has nothing better to do.
func (q *queueLanes) chooseStart(f from, now time.Time, empty bool) (level, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f == fromBehind {
		if len(q.cursor) == 0 || !empty && now.Before(q.nextBehind) {
			return skipLevel, false
		}
		if !now.Before(q.nextStart) {
			return startLevel, true
		}
		return lagLevel, true
	}
	if !now.Before(q.nextStart) {
		return startLevel, true
	}
	return fastLevel, false
}

func (q *queueLanes) recordSweep(f from, began time.Time, cost time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := began.Add(cost)
	if f == fromBehind {
		q.nextBehind = now.Add(max(behindEvery, behindShare*cost))
	}
	if !began.Before(q.nextStart) {
		q.nextStart = now.Add(max(startEvery, startShare*cost))
	}
}

// laneCursor is the turn behind which a retain starts to read a lane.
type laneCursor struct {
	queueID  int32
	priority int16
	turn     int64
}

var cursorColumns = table.New(
	table.Col("cursor_queue_id", func(c *laneCursor) *int32 { return &c.queueID }),
	table.Col("cursor_priority", func(c *laneCursor) *int16 { return &c.priority }),
	table.Col("cursor_turn", func(c *laneCursor) *int64 { return &c.turn }),
)

// cursors appends q's cursors at a level; without one a lane is read from its start. What picks left is ahead of them; a pick
// that starts there has it, so no other needs to. Those starts are in resumed, by priority: what the pick does not come to is
// to be given to left again.
func (q *queueLanes) appendCursors(cursors []laneCursor, l level, id int32) (_ []laneCursor, resumed map[int16]int64) {
	if l == startLevel {
		return cursors, nil
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	for p, c := range q.cursor {
		turn := c.fast
		if l == lagLevel {
			turn = c.lag
		}
		if left := q.rest[p]; left > 0 {
			turn = min(turn, left-1)
			if l == fastLevel {
				delete(q.rest, p)
				if resumed == nil {
					resumed = map[int16]int64{}
				}
				resumed[p] = left
			}
		}
		if turn > 0 {
			cursors = append(cursors, laneCursor{queueID: id, priority: p, turn: turn})
		}
	}
	return cursors, resumed
}

// advanceCursor moves the cursor of a lane past turn.
func (q *queueLanes) advanceCursor(priority int16, turn int64, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.cursor[priority]
	if c == nil {
		c = &cursor{moved: now}
		q.cursor[priority] = c
	}
	if now.Sub(c.moved) >= behindAge {
		c.lag, c.mid, c.moved = c.mid, c.fast, now
	}
	c.fast = max(c.fast, turn)
}
