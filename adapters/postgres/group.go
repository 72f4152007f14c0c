package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The groups of a queue. A retain from a queue that limits groups takes the gate of the queue, so that it alone decides about
// its groups (group_pick.go). Everything else leaves markers, which the next retain reads. See the first migration.

// frontLane is the lane of the markers that each retain of a queue reads first.
const frontLane = 1<<31 - 1

// groupPlace is the lane of a task, and the hash of its group; 0 = none.
type groupPlace struct {
	lane int32
	grp  int64
}

// groupPointer returns the hash of a group for a column that is null without a group.
func groupPointer(grp int64) *int64 {
	if grp == 0 {
		return nil
	}
	return new(grp)
}

func groupFromPointer(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

// bucketPointer returns a bucket for a column that is null for bucket 0.
func bucketPointer(bucket int16) *int16 {
	if bucket == 0 {
		return nil
	}
	return new(bucket)
}

func bucketFromPointer(p *int16) int16 {
	if p == nil {
		return 0
	}
	return *p
}

// isGated reports whether one retain at a time takes from the queue; the column gated has the same rule.
func (q *storedQueue) isGated() bool {
	return q.Concurrency > 0 || q.RateLimit > 0 || q.limitsGroups()
}

// limitsGroups reports whether a retain decides about groups of the queue.
func (q *storedQueue) limitsGroups() bool { return q.LimitsGroups() || q.GroupPolicies > 0 }

// keepsPlaces reports whether the end of a task may free a place of its group.
func (q *storedQueue) keepsPlaces() bool { return q.KeepsPlaces() || q.GroupPolicies > 0 }

// hashGroup returns the hash of the group of a task; 0 = none. In a FIFO queue the tasks without a group are one group.
func (q *storedQueue) hashGroup(group string) int64 {
	if group == "" && !q.IsFIFO() {
		return 0
	}
	return queue.HashGroup(group)
}

// placeTask returns the lane and the group of a new task. buckets has those of groups with a weight.
func (q *storedQueue) placeTask(priority int16, group string, buckets map[groupKey]int16) groupPlace {
	at := groupPlace{lane: laneOf(priority, 0), grp: q.hashGroup(group)}
	if !q.Fair || group == "" {
		return at
	}

	bucket, weighted := buckets[groupKey{q.id, at.grp}]
	if !weighted {
		bucket = queue.BucketOfGroup(at.grp)
	}
	at.lane = laneOf(priority, bucket)
	return at
}

// groupKey identifies a group.
type groupKey struct {
	queueID int32
	grp     int64
}

// waitingGroupRow is a task that waits for its group.
type waitingGroupRow struct {
	turn    int64
	taskID  int64
	queueID int32
	lane    int32
	attempt int16
	diesAt  *time.Time
	grp     int64
}

var (
	groupWaitingColumns = table.Of[waitingGroupRow]()
	takenWaitingColumns = groupWaitingColumns.Only("queue_id", "grp", "lane", "turn", "task_id")
	startedColumns      = groupWaitingColumns.Only("grp", "lane", "turn")
)

// groupStateRow is a new version of the state of a group. Arrays travel as text.
type groupStateRow struct {
	queueID   int32
	grp       int64
	holders   string
	rateState int64
}

var groupStateColumns = table.Of[groupStateRow]()

// groupVersion identifies a version of a state.
type groupVersion struct {
	queueID int32
	grp     int64
	version int64
}

var groupVersionColumns = table.Of[groupVersion]()

// markerRow is a marker: a group that may go on. taskID is the task that ended, or 0.
type markerRow struct {
	queueID int32
	grp     int64
	taskID  int64
}

var markerColumns = table.Of[markerRow]()

// wakeRow plans a look at a group.
type wakeRow struct {
	dueAt   time.Time
	queueID int32
	grp     int64
}

var wakeColumns = table.Of[wakeRow]()

// The statements on groups.
var (
	takeMarkers      = statement("group.markers")
	loadGroups       = statement("group.load")
	readGroupWaiting = statement("group.waiting")
	readKeptPlaces   = statement("group.waiting.turns")
	insertWaiting    = statement("group.wait")
	deleteWaiting    = statement("group.start")
	saveGroupStates  = statement("group.save")
	dropGroupStates  = statement("group.forget")
	markGroups       = statement("group.mark")
	planGroupWakes   = statement("group.wake")
	readBuckets      = statement("group.buckets")
)

// statusGroupWaiting counts in event rows the tasks that wait for their group.
const statusGroupWaiting int16 = 8

// addGroupWaiting changes the number of tasks that wait for their group.
func (e events) addGroupWaiting(t *txn.Tx, changes map[int32]int) {
	var kinds []eventChange
	var counts []int32
	for id, n := range changes {
		change := eventChange{queue: id, is: statusGroupWaiting}
		if n < 0 {
			change, n = eventChange{queue: id, was: statusGroupWaiting}, -n
		}
		if n > 0 {
			kinds, counts = append(kinds, change), append(counts, int32(n)) //nolint:gosec // at most queue.MaxBatch
		}
	}
	e.insertCounts(t, kinds, counts)
}

// addEndOfPlace adds a marker if the task has left its place: the group may go on. In a FIFO queue a task keeps its place until
// it ends, and where failures block a failed one keeps it.
func (m *moves) addEndOfPlace(q *storedQueue, grp, id int64, is queue.Status) {
	if q.isGated() && is != queue.StatusRetained {
		m.woken = append(m.woken, queue.Wake{Namespace: q.Namespace, Queue: q.Name})
	}
	keeps := q.IsFIFO() && (is.Waiting() || is == queue.StatusFailed && q.GroupOnFailure == queue.GroupBlock)
	if grp == 0 || !q.keepsPlaces() || keeps || is == queue.StatusRetained {
		return
	}
	m.markers = append(m.markers, markerRow{queueID: q.id, grp: grp, taskID: id})
}

// addErased adds a marker for a task that an operator deletes, and counts it out of those that wait for their group.
func (m *moves) addErased(n *nowRow) {
	if n.waitsForGroup {
		m.addGroupWaiting(n.queue, -1)
	}
	m.markers = append(m.markers, markerRow{queueID: n.queue, grp: queue.HashGroup(n.task.Group), taskID: n.task.ID})
}

// addGroupWaiting changes the number of tasks of a queue that wait for their group.
func (m *moves) addGroupWaiting(queueID int32, n int) {
	if m.groupWaiting == nil {
		m.groupWaiting = map[int32]int{}
	}
	m.groupWaiting[queueID] += n
}

// lane returns the lane of the task.
func (n *nowRow) lane() int32 { return laneOf(n.task.Priority, bucketFromPointer(n.bucket)) }

// waitingRows returns where the task is if it waits for its group: a task without a group waits in a FIFO queue alone.
func (n *nowRow) waitingRows() []waitingGroupRow {
	return []waitingGroupRow{{queueID: n.queue, grp: queue.HashGroup(n.task.Group), lane: n.lane(), turn: n.turn, taskID: n.task.ID}}
}

// readGroupBuckets reads the buckets of the groups with a weight of the fair queues among queues.
func (b *insertBatch) readGroupBuckets(ctx context.Context, t *txn.Tx, queues map[string]*storedQueue) error {
	var ids []int32
	for _, q := range queues {
		if q.Fair && q.GroupPolicies > 0 {
			ids = append(ids, q.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}

	b.buckets = map[groupKey]int16{}
	return t.Query(ctx, readBuckets, func(rows pgx.Rows) error {
		var k groupKey
		var bucket int16
		var weight int
		err := rows.Scan(&k.queueID, &k.grp, &bucket, &weight)
		b.buckets[k] = bucket
		return err
	}, arg("queue_ids", ids))
}

// newWaiting are the new tasks of FIFO queues: they wait for their groups. A call leaves one marker for each group.
type newWaiting struct {
	rows   []waitingGroupRow
	marked map[groupKey]bool
	counts map[int32]int
}

// addTask adds a new task, and for the first one of its group a marker to ready.
func (w *newWaiting) addTask(r *newTask, at groupPlace, ready *readyRows) {
	if w.marked == nil {
		w.marked, w.counts = map[groupKey]bool{}, map[int32]int{}
	}
	w.rows = append(w.rows, waitingGroupRow{
		turn: r.task.ID, taskID: r.task.ID, queueID: r.q.id, lane: at.lane, diesAt: timePointer(r.life.DiesAt), grp: at.grp,
	})
	if k := (groupKey{r.q.id, at.grp}); !w.marked[k] {
		w.marked[k] = true
		*ready = append(*ready, readyRow{turn: r.task.ID, taskID: r.task.ID, queueID: r.q.id, lane: at.lane, grp: groupPointer(at.grp)})
		return
	}
	w.counts[r.q.id]++
}
