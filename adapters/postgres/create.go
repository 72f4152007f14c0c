package postgres

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// COPY is faster than INSERT … SELECT unnest from so many tasks, or bytes of payloads, on: docs/adr/0003-storage.md
// has the measurements.
const (
	copyTasks = 64
	copyBytes = 256 << 10
)

// The statements of creates.
var (
	takeIDs         = statement("create.begin")
	insertTasks     = statement("create.task")
	insertLetters   = statement("create.letter")
	insertReady     = statement("create.ready")
	insertDelayed   = statement("create.delayed")
	insertLanes     = statement("create.lane")
	claimKeys       = statement("create.keys")
	claimFreeKeys   = statement("create.keys.free")
	findKeyOwners   = statement("create.taken")
	replaceKeyOwner = statement("create.rekey")
)

var laneColumns = table.Of[lane]()

// taskSlab is the number of tasks in one allocation. A task that stays in use keeps all tasks of its slab in memory.
const taskSlab = 32

// CreateTasks implements queue.Store.
func (s *Store) CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error) {
	if len(c.Tasks) == 0 {
		return nil, nil
	}
	if err := s.learnParts(ctx); err != nil {
		return nil, err
	}

	b, err := s.createUnlocked(ctx, c)
	if err != nil {
		return nil, err
	}

	// Only the tasks with locked keys repeat. The wait for them holds no connection.
	if len(b.locked) > 0 && queue.Waits(ctx) {
		out := b.out
		try := func(ctx context.Context, indexes []int) ([]int, error) {
			again := c
			again.Tasks = selectAt(c.Tasks, indexes)
			b, err := s.createUnlocked(ctx, again)
			if err != nil {
				return nil, err
			}
			return collectAnswers(out, b.out, indexes, func(a queue.Created) error { return a.Err }), nil
		}
		s.repeatUntilUnlocked(ctx, unlockWait{b.locked, try, func(index int, err error) { out[index] = queue.Created{Err: err} }})
		b.out = out
	}

	if c.Atomic && len(b.locked) > 0 && b.out[b.locked[0]].Err != nil {
		return nil, b.out[b.locked[0]].Err
	}
	return b.out, nil
}

// createUnlocked creates the tasks that need not wait for another transaction. In its result, locked lists the tasks
// with a key that an open transaction has claimed. For an atomic create it lists all tasks.
func (s *Store) createUnlocked(ctx context.Context, c queue.Create) (*insertBatch, error) {
	for keys := keysTry; ; {
		var b *insertBatch
		err := s.repeatWithPartition(ctx, "create tasks", func(ctx context.Context, t *txn.Tx) (err error) {
			b, err = s.createTasksIn(ctx, t, c, keys)
			return err
		}, func() int64 { return b.maxID })

		switch {
		case errors.Is(err, errKeyTaken):
			// An open transaction has one of the keys: the next attempt finds these keys and leaves them out.
			keys = keysApart
		case err != nil && c.Atomic && queue.IsLocked(err):
			return failLockedBatch(c, err), nil
		case err != nil:
			return nil, err
		default:
			// After the commit: another transaction must not skip the insert of a lane that was rolled back.
			s.lanes.confirmLanes(b.lanes, b.generation)
			s.notify.NotifyReady(b.woken)
			s.extendSoon(b.maxID)
			return b, nil
		}
	}
}

// failLockedBatch answers all tasks of an atomic create with err, because one of its keys is locked.
func failLockedBatch(c queue.Create, err error) *insertBatch {
	b := &insertBatch{out: make([]queue.Created, len(c.Tasks)), locked: make([]int, len(c.Tasks))}
	for i := range b.out {
		b.out[i].Err, b.locked[i] = err, i
	}
	return b
}

// insertBatch is one attempt of a create.
type insertBatch struct {
	out        []queue.Created
	now        time.Time
	maxID      int64
	lanes      []lane
	generation int          // generation of the cursors when lanes was filled
	woken      []queue.Wake // queues in which tasks became ready

	ids     []int64     // of the tasks, by place
	sources []taskPlace // by place: the tasks with the payloads, which the database copies; nil: the rows have their payloads
	rows    []newTask
	buckets map[groupKey]int16 // of the groups with a weight
	locked  []int              // places of tasks with a key that an open transaction has claimed
}

type newTask struct {
	place int
	q     *storedQueue
	life  queue.Life
	task  *queue.Task
	print []byte // fingerprint of the payload; nil without a key

	superseded int64 // task that this one has replaced; 0 = none
	was        queue.Status

	bucket *int16 // of the lane; set when the rows are made
}

// createTasksIn writes c within t. Its result is valid only after t has committed.
func (s *Store) createTasksIn(ctx context.Context, t *txn.Tx, c queue.Create, how keysHow) (*insertBatch, error) {
	b := &insertBatch{}
	return b, s.createBatchIn(ctx, t, b, c, how)
}

// createBatchIn is createTasksIn for a batch that may have ids and sources already.
func (s *Store) createBatchIn(ctx context.Context, t *txn.Tx, b *insertBatch, c queue.Create, how keysHow) error {
	b.out, b.generation = make([]queue.Created, len(c.Tasks)), s.lanes.currentGeneration()
	queues, err := s.beginCreate(ctx, t, c, b)
	if err != nil {
		return err
	}

	if err := b.readGroupBuckets(ctx, t, queues); err != nil {
		return err
	}
	full, err := s.checkBacklogs(ctx, t, c, queues)
	if err != nil {
		return err
	}
	keyed, err := b.addTasks(c, queues)
	if err != nil {
		return err
	}

	// Keys decide which rows are written, so their claim comes before all inserts, and before the limits of waiting tasks.
	claim := func(ctx context.Context) error { return nil }
	if keyed {
		claim = func(ctx context.Context) error { return s.claimTaskKeys(ctx, t, b, c, how) }
	}
	if err := full.admitRows(ctx, t, b, c, claim); err != nil {
		return err
	}
	s.backlogs.addRows(b.rows)

	for _, r := range b.rows {
		b.out[r.place] = queue.Created{Task: r.task, Superseded: r.superseded, WasStatus: r.was}
	}
	return b.writeRows(ctx, t, s)
}

// beginCreate reads the queues of c. It also reads the clock and takes one id for each task, unless b has them. It fails with
// errNeedPartition when no partition covers the ids that it takes.
func (s *Store) beginCreate(ctx context.Context, t *txn.Tx, c queue.Create, b *insertBatch) (map[string]*storedQueue, error) {
	names := make([]string, 0, 4)
	for i := range c.Tasks {
		// A call names few queues, so a search through them is faster than a map.
		if !slices.Contains(names, c.Tasks[i].Queue) {
			names = append(names, c.Tasks[i].Queue)
		}
	}

	// The marks of the queues and the ids arrive in one round trip.
	reading := s.known.queueMarkReading(t, c.Namespace, names)
	given := b.ids != nil
	if !given {
		b.queueIDs(t, len(c.Tasks))
	}
	if err := t.Flush(ctx); err != nil {
		return nil, err
	}

	// Nothing is written before the partition of the highest id exists: the caller creates it and starts again.
	if b.maxID = b.ids[len(b.ids)-1]; !given && !s.partitions.covers(b.maxID) {
		return nil, errNeedPartition
	}
	return s.known.readChanged(ctx, t, reading)
}

// queueIDs queues the read of the clock and of n new ids.
func (b *insertBatch) queueIDs(t *txn.Tx, n int) {
	t.QueueQuery(takeIDs, func(rows pgx.Rows) error {
		err := rows.Scan(&b.now, &b.ids)
		b.now = b.now.UTC()
		return err
	}, arg("count", n))
}

// addTasks adds the rows of the tasks that the settings of their queues allow. It reports whether one of them has a key.
func (b *insertBatch) addTasks(c queue.Create, queues map[string]*storedQueue) (keyed bool, err error) {
	b.rows = make([]newTask, 0, len(c.Tasks))
	var slab []queue.Task
	for i := range c.Tasks {
		n := &c.Tasks[i]
		q := queues[n.Queue]
		if err := checkNewTask(q, n); err != nil {
			if err := b.recordFault(c, i, err); err != nil {
				return false, err
			}
			continue
		}

		// Only the clock of the database counts: a delay of the caller becomes a time here.
		row := newTask{place: i, q: q}
		delayedAt := n.DelayedAt
		if n.Delay > 0 {
			delayedAt = b.now.Add(n.Delay)
		}
		row.life = q.Born(b.now, truncateToMicros(delayedAt))

		// Tasks of a slab share one allocation.
		if len(slab) == 0 {
			slab = make([]queue.Task, min(taskSlab, len(c.Tasks)-i))
		}
		row.task, slab = &slab[0], slab[1:]
		*row.task = n.MakeTask(b.ids[i], &q.Queue, b.now)
		row.task.SetLife(row.life)

		if n.Key != "" {
			keyed = true
			row.print = fingerprintPayload(n.Payload)
		}
		b.rows = append(b.rows, row)
	}
	return keyed, nil
}

// checkNewTask refuses a task of an unknown queue, or one that contradicts the settings of its queue.
func checkNewTask(q *storedQueue, n *queue.NewTask) error {
	if q == nil {
		return queue.NotFoundQueue(n.Queue)
	}
	return q.CheckNewTask(n)
}

// recordFault answers the task at place with err. For an atomic create it returns the error instead, which ends the
// call.
func (b *insertBatch) recordFault(c queue.Create, place int, err error) error {
	if c.Atomic {
		return queue.At(fmt.Sprintf("tasks[%d]", place), err)
	}
	b.out[place] = queue.Created{Err: queue.WithOp("create task", err)}
	return nil
}

// keySlot identifies a key of a queue.
type keySlot struct {
	queueID int32
	key     string
}

// compareKeySlots gives the order in which transactions lock keys.
func compareKeySlots(a, b keySlot) int {
	return cmp.Or(cmp.Compare(a.queueID, b.queueID), cmp.Compare(a.key, b.key))
}

// keyOwner is the owner of a key: an existing task, or the first task of this batch that asks for the key.
type keyOwner struct {
	print []byte
	first *newTask // of this batch; nil for an existing task
	id    int64
	call  int // the call that asks for the key first
	// rejects is set when a create must not find the task.
	rejects bool
}

// claimTaskKeys claims the keys of the rows of b. Rows with a key of another owner leave b: their answer is the task
// of the owner, or KindKeyReused when the payload differs. A locked key ends an atomic create.
func (s *Store) claimTaskKeys(ctx context.Context, t *txn.Tx, b *insertBatch, c queue.Create, how keysHow) error {
	// Several tasks of the batch may share a key: only the first of them claims it.
	owners := map[keySlot]*keyOwner{}
	var claims keyClaims
	for i := range b.rows {
		r := &b.rows[i]
		slot := keySlot{r.q.id, r.task.Key}
		if r.print == nil || owners[slot] != nil {
			continue
		}
		owners[slot] = &keyOwner{print: r.print, first: r, id: r.task.ID, call: c.Tasks[r.place].Call}
		claims.addClaim(slot, owners[slot])
	}

	won, held := map[keySlot]bool{}, map[keySlot]bool{}
	if err := claims.claimAll(ctx, t, how, won, held); err != nil {
		return err
	}

	ruled, err := s.applyKeyRules(ctx, t, b, c, how, owners, won, held)
	if err != nil {
		return err
	}
	there, err := b.readKeyOwners(ctx, t, owners, won, held, ruled)
	if err != nil {
		return err
	}

	return b.answerKeyed(c, owners, held, there)
}

// answerKeyed leaves in b the owners of their keys and the tasks without a key. All others get their answer: the task of the
// owner, of this batch or of there, or an error.
func (b *insertBatch) answerKeyed(c queue.Create, owners map[keySlot]*keyOwner, held map[keySlot]bool, there map[int64]*queue.Task) error {
	// A new array: owner.first points into the old one.
	rows := b.rows[:0:0]
	for i := range b.rows {
		r := &b.rows[i]
		slot := keySlot{r.q.id, r.task.Key}
		owner := owners[slot]

		switch {
		case held[slot]:
			err := queue.LockedKey(r.q.Name, r.task.Key)
			if c.Atomic {
				return err
			}
			b.out[r.place] = queue.Created{Err: err}
			b.locked = append(b.locked, r.place)
		// The row has no key, or this batch has won its key.
		case r.print == nil || owner.first == r:
			rows = append(rows, *r)
		case owner.rejects:
			if err := b.recordFault(c, r.place, queue.RejectedKey(r.q.Name, r.task.Key, owner.id)); err != nil {
				return err
			}
		case !bytes.Equal(owner.print, r.print):
			if err := b.recordFault(c, r.place, makeKeyReusedError(r.q.Name, r.task.Key)); err != nil {
				return err
			}
		// Another task has the key and the same payload: the create is a repeat.
		case owner.first != nil:
			b.out[r.place] = queue.Created{Task: markReplayed(owner.first.task)}
		default:
			b.out[r.place] = queue.Created{Task: markReplayed(there[owner.id])}
		}
	}

	b.rows = rows
	return nil
}

// readKeyOwners reads the tasks that own the keys which this batch did not win, by id. It records each of them as the
// owner of its key. The tasks of ruled keys are known already: it reads those that the create answers with.
func (b *insertBatch) readKeyOwners(
	ctx context.Context, t *txn.Tx, owners map[keySlot]*keyOwner, won, held map[keySlot]bool, ruled ruledKeys,
) (map[int64]*queue.Task, error) {
	// In the order of all keys, because some of them may get another owner here.
	var slots []keySlot
	for slot := range owners {
		if !won[slot] && !held[slot] && !ruled.keys[slot] {
			slots = append(slots, slot)
		}
	}
	if len(slots)+len(ruled.wanted) == 0 {
		return nil, nil
	}
	slices.SortFunc(slots, compareKeySlots)
	queues, keys := make([]int32, len(slots)), make([]string, len(slots))
	for i, slot := range slots {
		queues[i], keys[i] = slot.queueID, slot.key
	}

	wanted := ruled.wanted
	err := t.Query(ctx, findKeyOwners, func(r pgx.Rows) error {
		var ord, id int64
		var mark []byte
		var there bool
		if err := r.Scan(&ord, &id, &mark, &there); err != nil {
			return err
		}
		slot := slots[ord-1]
		o := owners[slot]
		if !there { // the task was deleted a moment before its key
			changeKeyOwner(t, slot, o, nil)
			return nil
		}

		wanted = append(wanted, wantedTask{slot.queueID, id, int32(o.call)})
		*o = keyOwner{print: mark, id: id}
		return nil
	}, arg("queue_id", queues), arg("key", keys))
	if err != nil || len(wanted) == 0 {
		return nil, err
	}

	// The answer may rest on a commit that no standby has confirmed yet: this commit waits for the standby.
	t.Queue(waitForStandby)
	return readWantedTasks(ctx, t, wanted)
}

// markReplayed returns a copy of t with Replayed set.
func markReplayed(t *queue.Task) *queue.Task {
	c := *t
	c.Replayed = true
	return &c
}

func makeKeyReusedError(name, key string) error {
	return &queue.Error{
		Kind: queue.KindKeyReused, Subject: "queue " + name, Field: "key",
		Msg: fmt.Sprintf("%q belongs to a task with another payload; use a new key", key),
	}
}

// fingerprintPayload returns a hash that differs for different payloads. White space outside of strings does not
// count.
func fingerprintPayload(payload []byte) []byte {
	var compact bytes.Buffer
	// Only a Store call without the checks of the service can have such a payload.
	if json.Compact(&compact, payload) != nil {
		compact.Reset()
		compact.Write(payload)
	}
	sum := sha256.Sum256(compact.Bytes())
	return sum[:]
}

// writeRows queues the rows of b. It copies them with COPY when they are many or large.
func (b *insertBatch) writeRows(ctx context.Context, t *txn.Tx, s *Store) error {
	if len(b.rows) == 0 {
		return nil
	}

	var ready readyRows
	var delayed []delayedRow
	waiting := newWaiting{}

	ev := events{}
	seen := map[lane]bool{}
	bulk, size := len(b.rows) >= copyTasks, 0

	for i := range b.rows {
		r := &b.rows[i]
		size += len(r.task.Payload)

		// The table of the narrow row is the status of the task: delayed or ready.
		late := r.life.DelayedAt.After(b.now)
		grew := 0
		at := r.q.placeTask(r.task.Priority, r.task.Group, b.buckets)
		r.bucket = bucketPointer(bucketOfLane(at.lane))
		if late {
			delayed = append(delayed, delayedRow{
				dueAt: r.life.DelayedAt, taskID: r.task.ID, queueID: r.q.id, priority: r.task.Priority, diesAt: timePointer(r.life.DiesAt),
				bucket: r.bucket, grp: groupPointer(at.grp),
			})
			grew = 1
		} else {
			if r.q.IsFIFO() {
				waiting.addTask(r, at, &ready)
			} else {
				// A later create may replace a task with a key: in a row of its own that locks no other task.
				keyed := r.print != nil || i > 0 && b.rows[i-1].print != nil
				ready.addReadyRow(r.task.ID, r.q.id, at, r.life.DiesAt, bulk && !keyed)
			}
			if w := (queue.Wake{Namespace: r.q.Namespace, Queue: r.q.Name}); !slices.Contains(b.woken, w) {
				b.woken = append(b.woken, w)
			}
		}

		ev.appendIDs(eventChange{queue: r.q.id, keep: r.q.Events, kind: eventCreated, was: 0, is: statusNew, delayed: grew}, r.task.ID)

		// An insert of a known lane would have no effect.
		if l := (lane{r.q.id, at.lane}); !seen[l] {
			seen[l] = true
			if !s.lanes.isKnownLane(l) {
				b.lanes = append(b.lanes, l)
			}
		}
	}

	// The order of the lanes is the same in every transaction.
	slices.SortFunc(b.lanes, func(a, c lane) int {
		return cmp.Or(cmp.Compare(a.queueID, c.queueID), cmp.Compare(a.lane, c.lane))
	})
	queueRows(t, insertLanes, laneColumns, b.lanes)

	// COPY needs a round trip of its own, so small creates use INSERT.
	if b.sources == nil && (bulk || size >= copyBytes) {
		if err := b.copyTaskRows(ctx, t, s.opt.schema, ready, delayed, waiting.rows); err != nil {
			return err
		}
	} else {
		b.queueTaskRows(t)
		queueRows(t, insertReady, readyColumns, ready)
		queueRows(t, insertDelayed, delayedColumns, delayed)
		queueRows(t, insertWaiting, groupWaitingColumns, waiting.rows)
	}
	ev.addGroupWaiting(t, waiting.counts)

	ev.insertEventRows(t, b.now)
	return nil
}

// queueTaskRows queues the insert of the task rows.
func (b *insertBatch) queueTaskRows(t *txn.Tx) {
	rows := b.makeTaskRows()
	if b.sources == nil {
		queueRows(t, insertTasks, insertedTaskColumns, rows, arg("now", b.now))
		return
	}

	letters := make([]letterRow, len(rows))
	for i, row := range rows {
		source := b.sources[b.rows[i].place]
		letters[i] = letterRow{taskRow: row, sourceQueueID: source.queueID, sourceID: source.id}
	}
	queueRows(t, insertLetters, letterColumns, letters, arg("now", b.now))
}

func (b *insertBatch) makeTaskRows() []taskRow {
	rows := make([]taskRow, len(b.rows))
	for i := range b.rows {
		rows[i] = makeTaskRow(b.rows[i].task, b.rows[i].q.id)
		rows[i].bucket = b.rows[i].bucket
	}
	return rows
}

// copyTaskRows writes the rows with COPY. A batch cannot contain COPY, so the queued statements leave first.
func (b *insertBatch) copyTaskRows(ctx context.Context, t *txn.Tx, schema string, ready readyRows, delayed []delayedRow, waiting []waitingGroupRow) error {
	if err := t.Flush(ctx); err != nil {
		return err
	}

	err := copyRows(ctx, t, pgx.Identifier{schema, "task"}, taskColumns, b.makeTaskRows())
	if err == nil {
		err = copyRows(ctx, t, pgx.Identifier{schema, "ready"}, readyColumns, ready)
	}
	if err == nil {
		err = copyRows(ctx, t, pgx.Identifier{schema, "delayed"}, delayedColumns, delayed)
	}
	if err == nil {
		err = copyRows(ctx, t, pgx.Identifier{schema, "group_waiting"}, groupWaitingColumns, waiting)
	}
	return err
}

// copyRows writes rows into a table, without the columns that are null in all of them. Without rows it does nothing.
func copyRows[R any](ctx context.Context, t *txn.Tx, name pgx.Identifier, columns table.Table[R], rows []R) error {
	if len(rows) == 0 {
		return nil
	}
	columns = columns.WithValues(rows)
	return t.CopyFrom(ctx, name, columns.Names(), columns.CopySource(rows))
}
