package postgres

import (
	"math"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
)

// A process remembers its read position in each lane of ready tasks and starts its next search there. Dead rows
// behind that cursor cost nothing, even while an old snapshot keeps vacuum from removing them. Turns are assigned
// before their transaction commits, so a row may appear behind the cursor. Two sweeps find such rows. One starts at
// the cursor of a moment ago, whenever a retain comes back short. The other starts at the beginning of the lane, now
// and then. Their cost limits how often they run.

// lane identifies the ready rows of one queue and one priority, and in a fair queue of one bucket of groups.
type lane struct {
	queueID int32
	lane    int32
}

// laneOf returns the lane of a priority and a bucket.
func laneOf(priority, bucket int16) int32 { return int32(priority)<<16 + int32(bucket) }

// priorityOfLane returns the priority of a lane.
func priorityOfLane(lane int32) int16 { return int16(lane >> 16) } //nolint:gosec // 16 bits are left

// bucketOfLane returns the bucket of a lane.
func bucketOfLane(lane int32) int16 { return int16(lane & 0xffff) } //nolint:gosec // buckets are below 2,000

// The pace of the sweeps. A sweep takes at most 1/behindShare of the time from the lagging cursor, and at most
// 1/startShare from the beginning of the lane.
const (
	behindAge   = time.Second           // least age of the lagging cursor
	behindEvery = 50 * time.Millisecond // least time between two sweeps of retains that found tasks
	behindShare = 10
	startEvery  = 2 * time.Second
	startShare  = 50
)

// level is the position at which a search begins in the lanes of a queue.
type level int

const (
	skipLevel  level = iota // no search
	fastLevel               // at the cursor
	lagLevel                // at the lagging cursor
	startLevel              // at the beginning of the lane
)

// lanes holds the cursors of a process. It is safe for concurrent use.
type lanes struct {
	mu         sync.Mutex
	queues     map[int32]*queueLanes
	sure       map[lane]bool // committed rows of the lane table, in this generation
	generation int           // the present one
}

func (l *lanes) init() {
	l.queues, l.sure = map[int32]*queueLanes{}, map[lane]bool{}
}

// isKnownLane reports whether the lane table has a committed row for the lane.
func (l *lanes) isKnownLane(at lane) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sure[at]
}

// invalidateCursors starts a new generation and forgets the known lanes. A failover to a standby may lose the last
// commits of the database. The store notices this by new connections, or behind a pooler by an error.
func (l *lanes) invalidateCursors() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
	clear(l.sure)
}

// currentGeneration returns the present generation.
func (l *lanes) currentGeneration() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation
}

// confirmLanes records lanes with a row that committed in a generation. It ignores lanes of an earlier generation.
func (l *lanes) confirmLanes(all []lane, generation int) {
	if len(all) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if generation != l.generation {
		return
	}
	if len(l.sure) > 100_000 { // a bound: a forgotten lane costs one insert without effect
		clear(l.sure)
	}

	for _, at := range all {
		l.sure[at] = true
		if q := l.queues[at.queueID]; q != nil {
			q.lookAtLanes()
		}
	}
}

// lanesOfQueue returns the cursors of a queue, and creates them at the first call.
func (l *lanes) lanesOfQueue(queue int32) *queueLanes {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[queue]
	if q == nil {
		q = &queueLanes{cursor: map[int32]*cursor{}, rest: map[int32]int64{}, last: 1, dense: runMost}
		l.queues[queue] = q
	}
	return q
}

// queueLanes holds the cursors of one queue. It is safe for concurrent use.
type queueLanes struct {
	mu         sync.Mutex
	cursor     map[int32]*cursor
	last       int // number of tasks that the last search took
	nextBehind time.Time
	nextStart  time.Time
	// rest holds, by lane, the first turn that this process left behind its cursor: the remainder of a run that
	// it split, or a run that it locked and did not need while another search passed it.
	rest map[int32]int64
	// dense is the number of tasks per ready row in the last search.
	dense   float64
	weighed weight
	shares  fairShares // of a fair queue
}

// cursor is a position in one lane: the present one (fast), and one that is at least behindAge old (lag).
type cursor struct {
	fast, mid, lag int64
	moved          time.Time
}

// hadTasksLately reports whether the last search took a task.
func (q *queueLanes) hadTasksLately() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.last > 0
}

// recordYield records how many tasks a search took, and how many tasks the rows stood for that it read.
func (q *queueLanes) recordYield(took, rows, tasks int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = took
	if rows > 0 {
		q.dense = float64(tasks) / float64(rows)
	}
}

// estimateRows returns the number of rows that a search for so many tasks should lock. It assumes as many tasks per
// row as in the last search. A search that comes back short with all of its rows asks again.
func (q *queueLanes) estimateRows(tasks int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dense <= 1 {
		return tasks
	}

	return min(int(math.Ceil(float64(tasks)/q.dense))+1, tasks) // +1: the first row may be the remainder of a run
}

// recordRemainder records the first turn that a search left behind. The caller calls it when other transactions can
// see the rows.
func (q *queueLanes) recordRemainder(lane int32, turn int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if old := q.rest[lane]; old == 0 || turn < old {
		q.rest[lane] = turn
	}
}

// chooseStart returns where a search begins. Its second result is true for a sweep: the caller then reports the cost
// to recordSweep. empty means that the search has found nothing so far. Then a sweep is due at once, because an idle
// process has time for it.
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

// recordSweep records the cost of a sweep and delays the next one by a multiple of it.
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

// laneCursor is the turn behind which a retain begins to read a lane.
type laneCursor struct {
	queueID int32 `col:"cursor_queue_id"`
	lane    int32 `col:"cursor_lane"`
	turn    int64 `col:"cursor_turn"`
}

var cursorColumns = table.Of[laneCursor]()

// appendCursors appends the cursors of q at a level. A lane without a cursor is read from its beginning. A cursor
// moves back to the remainder of an earlier search. At the fast level this search then owns the remainder, and no
// other search begins there. resumed holds these remainders by lane: the caller gives those that its search does
// not reach back to recordRemainder.
func (q *queueLanes) appendCursors(cursors []laneCursor, l level, id int32) (_ []laneCursor, resumed map[int32]int64) {
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

		// A search reads the turns above its cursor, so the cursor is one below the remainder.
		if left := q.rest[p]; left > 0 {
			turn = min(turn, left-1)
			if l == fastLevel {
				delete(q.rest, p)
				if resumed == nil {
					resumed = map[int32]int64{}
				}
				resumed[p] = left
			}
		}

		if turn > 0 {
			cursors = append(cursors, laneCursor{queueID: id, lane: p, turn: turn})
		}
	}
	return cursors, resumed
}

// advanceCursor moves the cursor of a lane forward to turn. A lower turn changes nothing.
func (q *queueLanes) advanceCursor(lane int32, turn int64, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()

	c := q.cursor[lane]
	if c == nil {
		c = &cursor{moved: now}
		q.cursor[lane] = c
	}

	// Two steps of at least behindAge each: lag is then the position of at least behindAge ago.
	if now.Sub(c.moved) >= behindAge {
		c.lag, c.mid, c.moved = c.mid, c.fast, now
	}

	c.fast = max(c.fast, turn)
}
