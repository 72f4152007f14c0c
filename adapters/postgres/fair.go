package postgres

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// A fair queue has lanes for buckets of groups. A process serves the lane with the least virtual time first: the number of tasks
// that it has started from the lane, divided by the weight. A lane without tasks falls behind and is set forward to the least
// of the others when it has tasks again, so it gets no share for the past.

const (
	// lanesEvery is the time between two looks at the lanes of a queue, and at those that had no task.
	lanesEvery = 50 * time.Millisecond
)

var (
	listFairLanes       = statement("group.lanes")
	pickFairRuns        = statement("retain.pick.fair")
	pickHealthyFairRuns = statement("retain.pick.fair" + healthy)
)

// fairShares holds the virtual times of the lanes of one fair queue. The lock of queueLanes guards it.
type fairShares struct {
	lanes    map[int32]*fairLane
	loadedAt time.Time
	probedAt time.Time
}

// fairLane is the share of one lane.
type fairLane struct {
	lane   int32
	weight float64
	time   float64 // virtual
	dense  float64 // tasks in a row of late
	active bool    // the last look found tasks
}

// foundInLane is what a search found in a lane.
type foundInLane struct {
	rows  int32
	tasks int
}

// quotaOfLane is the number of rows that a search reads of a lane, behind a cursor.
type quotaOfLane struct {
	lane   int32
	cursor int64
	rows   int32
}

// readFairRuns locks rows of the lanes of a fair queue, with about most tasks. A lower priority comes only when the higher ones
// have no further row.
func (p *claim) readFairRuns(ctx context.Context, q *pickQueue, level level, most int, scan func(pgx.Rows) (lane int32, tasks int, err error)) error {
	if err := p.loadFairLanes(ctx, q); err != nil {
		return err
	}

	for _, round := range q.lanes.planFairRound(level, most) {
		found := map[int32]foundInLane{}
		var lanes []int32
		var cursors []int64
		var quotas []int32
		for _, l := range round {
			lanes, cursors, quotas = append(lanes, l.lane), append(cursors, l.cursor), append(quotas, l.rows)
		}

		n := 0
		err := p.tx.Query(ctx, p.choosePick(pickFairRuns, pickHealthyFairRuns), func(rows pgx.Rows) error {
			lane, tasks, err := scan(rows)
			f := found[lane]
			found[lane] = foundInLane{f.rows + 1, f.tasks + tasks}
			n += tasks
			return err
		}, arg("queue_id", q.id), arg("lane", lanes), arg("cursor", cursors), arg("quota", quotas), arg("gated", p.gated))
		if err != nil {
			return err
		}

		more := q.lanes.recordFairRound(round, found)
		if most -= n; more || most <= 0 {
			return nil
		}
	}
	return nil
}

// loadFairLanes reads the lanes of q and their weights, unless a process has done so a moment ago.
func (p *claim) loadFairLanes(ctx context.Context, q *pickQueue) error {
	if !q.lanes.beginFairLoad(time.Now()) {
		return nil
	}
	weights := map[int32]float64{}
	err := p.tx.Query(ctx, listFairLanes, func(rows pgx.Rows) error {
		var lane int32
		var weight int
		err := rows.Scan(&lane, &weight)
		weights[lane] = float64(weight)
		return err
	}, arg("queue_id", q.id))
	if err == nil {
		q.lanes.setFairLanes(weights)
	}
	return err
}

// beginFairLoad reports whether the weights are due for a read. Then this caller makes the read, and others are not due.
func (q *queueLanes) beginFairLoad(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.shares.loadedAt) < lanesEvery {
		return false
	}
	q.shares.loadedAt = now
	return true
}

// lookAtLanes makes the next pick of a fair queue read its lanes: this process has created one.
func (q *queueLanes) lookAtLanes() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shares.loadedAt = time.Time{}
}

// setFairLanes takes over the present lanes and weights.
func (q *queueLanes) setFairLanes(weights map[int32]float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shares.lanes == nil {
		q.shares.lanes = map[int32]*fairLane{}
	}
	for lane, weight := range weights {
		l := q.shares.lanes[lane]
		if l == nil {
			l = &fairLane{lane: lane, active: true, dense: 1}
			q.shares.lanes[lane] = l
		}
		l.weight = weight
	}
}

// planFairRound returns the lanes to search for about most tasks, by priority: those with tasks of late, by their virtual times,
// and now and then all others.
func (q *queueLanes) planFairRound(level level, most int) [][]quotaOfLane {
	q.mu.Lock()
	defer q.mu.Unlock()

	probe := level != fastLevel || time.Since(q.shares.probedAt) >= lanesEvery
	if probe {
		q.shares.probedAt = time.Now()
	}

	byPriority := map[int16][]*fairLane{}
	for _, l := range q.shares.lanes {
		if l.active || probe {
			byPriority[priorityOfLane(l.lane)] = append(byPriority[priorityOfLane(l.lane)], l)
		}
	}

	var rounds [][]quotaOfLane
	for _, priority := range sortedKeys(byPriority) {
		lanes := byPriority[priority]
		slices.SortFunc(lanes, func(a, b *fairLane) int { return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.lane, b.lane)) })
		var round []quotaOfLane
		left := most
		for _, l := range lanes {
			if l.active && left <= 0 {
				continue
			}
			rows := 1
			if l.active {
				share := max(1, (most+len(lanes)-1)/len(lanes))
				rows = int(math.Ceil(float64(share) / l.dense))
				left -= share
			}
			round = append(round, quotaOfLane{lane: l.lane, cursor: q.cursorLocked(l.lane, level), rows: int32(rows)}) //nolint:gosec // at most queue.MaxBatch
		}
		rounds = append(rounds, round)
	}
	return rounds
}

// recordFairRound records which lanes had tasks. It reports whether one of them may have more than were read.
func (q *queueLanes) recordFairRound(round []quotaOfLane, found map[int32]foundInLane) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	least, some := 0.0, false
	for _, l := range q.shares.lanes {
		if l.active && (!some || l.time < least) {
			least, some = l.time, true
		}
	}

	for _, r := range round {
		l := q.shares.lanes[r.lane]
		f := found[r.lane]
		if f.rows > 0 && !l.active {
			l.time = max(l.time, least)
		}
		l.active = f.rows > 0
		if f.tasks > 0 {
			l.dense += (float64(f.tasks)/float64(f.rows) - l.dense) / 2
		}
		more = more || f.rows == r.rows
	}
	return more
}

// virtualTimes returns when the tasks, which are in their order, would start by the shares of their lanes, by id.
func (q *queueLanes) virtualTimes(all []candidate) map[int64]float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	ahead := map[int32]float64{}
	times := make(map[int64]float64, len(all))
	for _, c := range all {
		l := q.shares.lanes[c.lane]
		if l == nil {
			continue
		}
		ahead[c.lane]++
		times[c.id] = l.time + ahead[c.lane]/l.weight
	}
	return times
}

// recordStart counts a task that started from a lane.
func (q *queueLanes) recordStart(lane int32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.shares.lanes[lane]; l != nil {
		l.time += 1 / l.weight
	}
}

// cursorOfLane returns the turn behind which a search begins to read a lane.
func (q *queueLanes) cursorOfLane(lane int32, l level) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cursorLocked(lane, l)
}

// cursorLocked is cursorOfLane under the lock. At the fast level the search owns the remainder of an earlier one.
func (q *queueLanes) cursorLocked(lane int32, l level) int64 {
	c := q.cursor[lane]
	if c == nil || l == startLevel {
		return 0
	}
	if l == lagLevel {
		return c.lag
	}
	turn := c.fast
	if left := q.rest[lane]; left > 0 {
		turn = min(turn, left-1)
		delete(q.rest, lane)
	}
	return turn
}

// pickFromSpecialQueues picks from the queues of round that limit their groups, or are fair, each up to its quota. It returns
// the others.
func (p *claim) pickFromSpecialQueues(ctx context.Context, round []pickQueue) ([]pickQueue, error) {
	plain := round[:0:0]
	for _, q := range round {
		if !q.limitsGroups() && !q.Fair {
			plain = append(plain, q)
			continue
		}

		quota := min(q.quota, p.most-len(p.out))
		if open, limited := p.openSlots[q.id]; limited {
			quota = min(quota, open)
		}
		if quota > 0 {
			if err := p.pickFromLimitedGroups(ctx, q, quota); err != nil {
				return nil, err
			}
		}
	}
	return plain, nil
}

// sortedKeys returns the keys of m in ascending order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
