package postgres

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The statements that take the narrow rows of tasks.
var (
	requestCancel = statement("lease.cancel")
	takeDone      = statement("take.done")
)

// takeStatements take the narrow rows of waiting tasks.
type takeStatements struct{ delayed, ready, waiting sqltext.Statement }

// Calls that callers share leave out rows that another transaction has locked. Those in a transaction of the caller wait for them.
var (
	takeFree = takeStatements{statement("take.delayed"), statement("take.ready"), statement("take.waiting")}
	takeAll  = takeStatements{statement("take.delayed" + waiting), statement("take.ready" + waiting), statement("take.waiting" + waiting)}
)

// bulkStep is the largest number of tasks that one transaction of a bulk operation moves.
const bulkStep = 500

// CancelTasks implements queue.Store.
func (s *Store) CancelTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return s.bulk(ctx, namespace, sel, bulkCancel)
}

// RetryTasks implements queue.Store.
func (s *Store) RetryTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return s.bulk(ctx, namespace, sel, bulkRetry)
}

// DeleteTasks implements queue.Store.
func (s *Store) DeleteTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return s.bulk(ctx, namespace, sel, bulkDelete)
}

// operation is a bulk operation: cancel, retry or delete.
type operation struct {
	op    string
	move  queue.Move // "" deletes
	takes func(queue.Status) bool
}

var (
	bulkCancel = operation{"cancel tasks", queue.MoveCancel, func(s queue.Status) bool { return queue.Allowed(s, queue.MoveCancel) }}
	bulkRetry  = operation{"retry tasks", queue.MoveRetry, func(s queue.Status) bool { return queue.Allowed(s, queue.MoveRetry) }}
	bulkDelete = operation{"delete tasks", "", func(s queue.Status) bool { return s != queue.StatusRetained }}
)

// bulk runs a bulk operation in steps until the selection ends or sel.Within has passed. The result carries the cursor
// at which a next call goes on.
func (s *Store) bulk(ctx context.Context, namespace string, sel queue.Selection, o operation) (queue.Bulk, error) {
	total := queue.Bulk{Next: sel.Cursor}
	pick, behind, err := s.planBulk(ctx, namespace, sel, o)
	if err != nil {
		return total, queue.WithOp(o.op, err)
	}
	if pick == nil {
		return queue.Bulk{}, nil
	}

	for began, left := time.Now(), cmp.Or(sel.Limit, math.MaxInt); ; {
		some, last, err := pick(behind, min(bulkStep, left))
		if err != nil {
			return total, err
		}

		if len(some.tasks) > 0 {
			fit, err := s.runBulkStep(ctx, namespace, sel, o, listPlaceIDs(some.tasks), began, &total)
			if err != nil {
				return total, err
			}
			// The step took fewer tasks than it was given, so the walk goes on behind the last one of them.
			if behind = some.tasks[fit-1].id; fit < len(some.tasks) {
				last, some.more = false, false
			}
			left -= fit
		}

		// A walk that reached its bound on rows goes on behind the last row that it read.
		switch {
		case last:
			total.Next = ""
			return total, nil
		case some.more:
			behind = some.end
			total.Next = queue.BulkCursor(max(behind, 1))
		}

		if left == 0 || sel.Within > 0 && time.Since(began) >= sel.Within {
			return total, nil
		}
	}
}

// bulkPick returns the next tasks of a selection behind an id, at most limit, and reports whether they are the last.
type bulkPick func(behind int64, limit int) (some found, last bool, err error)

// planBulk returns the function that picks the tasks of a selection, and the id behind which it goes on. The function is nil for
// a filter without tasks that the operation takes.
func (s *Store) planBulk(ctx context.Context, namespace string, sel queue.Selection, o operation) (pick bulkPick, behind int64, err error) {
	behind, err = queue.ReadBulkCursor(sel.Cursor)
	if err != nil {
		return nil, 0, err
	}
	if len(sel.IDs) > 0 {
		return func(behind int64, limit int) (found, bool, error) { return pickIDs(sel.IDs, behind, limit) }, behind, nil
	}

	l, err := s.planBulkListing(ctx, namespace, *sel.Filter, o)
	if err != nil || l == nil {
		return nil, 0, err
	}
	if behind == 0 && !l.up { // a descending walk starts above all ids
		behind = maxID
	}
	return func(behind int64, limit int) (some found, last bool, err error) {
		if l.searchesText() {
			// A step of large payloads may take as long as the whole call, so each step of the walk has a bound in time.
			within := min(cmp.Or(sel.Within, queue.MaxTextTime), queue.MaxTextTime)
			some, _, err = s.searchText(ctx, o.op, l, behind, 0, limit, within)
		} else {
			some, err = s.walkRows(ctx, o.op, l, behind, 0, limit)
		}
		return some, len(some.tasks) == 0 && !some.more, err
	}, behind, nil
}

// planBulkListing prepares the walk over the tasks of a filter that an operation takes. It returns nil without such tasks.
func (s *Store) planBulkListing(ctx context.Context, namespace string, f queue.TaskFilter, o operation) (*listing, error) {
	f.Statuses = slices.DeleteFunc(slices.Clone(orAll(f.Statuses)), func(st queue.Status) bool { return !o.takes(st) })
	if len(f.Statuses) == 0 {
		return nil, nil
	}

	l, err := s.planListing(ctx, o.op, namespace, f, o.move == queue.MoveRetry)
	if err != nil || len(l.queues) == 0 {
		return nil, err
	}
	return l, nil
}

// runBulkStep applies a bulk operation that began at a time to the front of ids, adds the result to total, and returns
// their number. For a selection by filter, a task that left the selection meanwhile is not an error.
func (s *Store) runBulkStep(
	ctx context.Context, namespace string, sel queue.Selection, o operation, ids []int64, began time.Time, total *queue.Bulk,
) (int, error) {
	byFilter := len(sel.IDs) == 0
	step, err := s.moveTasks(ctx, namespace, ids, sel.DryRun, o)
	if err != nil {
		return 0, err
	}

	b := &step.out
	err = s.finishLocked(ctx, namespace, o, b, step.left, sel.Within-time.Since(began))
	if byFilter {
		// A task that left the selection meanwhile does not concern a filter.
		b.Errs = nil
		if err != nil { // the next call starts with the locked tasks
			b.Next = total.Next
			total.Add(*b)
			return 0, queue.WithOp(o.op, err)
		}
	}

	b.Next = queue.BulkCursor(ids[step.fit-1])
	total.Add(*b)
	return step.fit, nil
}

// finishLocked applies a bulk operation to tasks that another transaction had locked in a step, as soon as they are free. It
// waits without a connection, for at most within (0 = the timeout of a call). It adds the result to b, and returns the
// error of a task that is still locked.
func (s *Store) finishLocked(
	ctx context.Context, namespace string, o operation, b *queue.Bulk, left []int64, within time.Duration,
) error {
	if len(left) == 0 {
		return nil
	}
	if within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}

	// Locked is the answer of a task that the wait does not reach.
	wait := unlockWait{locked: make([]int, len(left))}
	for i, id := range left {
		wait.locked[i] = i
		b.Errs[id] = queue.Locked(id)
	}

	wait.try = func(ctx context.Context, indexes []int) (locked []int, err error) {
		ids := selectAt(left, indexes)
		step, err := s.moveTasks(ctx, namespace, ids, false, o)
		if err != nil && ctx.Err() != nil {
			return indexes, nil //nolint:nilerr // the wait has ended, and these tasks have their answer: locked
		}
		if err != nil {
			return nil, err
		}

		for _, id := range ids[:step.fit] {
			delete(b.Errs, id)
		}
		step.out.Matched, step.out.Next = 0, b.Next // these tasks are counted already
		b.Add(step.out)

		// Tasks that did not fit into this step count as locked: the next attempt has them first.
		for i, index := range indexes {
			if id := left[index]; i >= step.fit || slices.Contains(step.left, id) {
				b.Errs[id] = queue.Locked(id)
				locked = append(locked, index)
			}
		}
		return locked, nil
	}

	var last error
	wait.fail = func(index int, err error) {
		b.Errs[left[index]] = err
		last = err
	}
	s.repeatUntilUnlocked(ctx, wait)

	// The wait may end without an error of its own: then a task that is still locked gives it.
	for _, id := range left {
		if err := b.Errs[id]; last == nil && queue.IsLocked(err) {
			last = err
		}
	}
	return last
}

// pickIDs returns the next ids of a selection after the id behind, at most limit, in ascending order. It reports whether they
// are the last.
func pickIDs(ids []int64, behind int64, limit int) (found, bool, error) {
	sorted := slices.Compact(slices.Sorted(slices.Values(ids)))
	from, _ := slices.BinarySearch(sorted, behind+1)
	rest := sorted[from:]

	var some found
	for _, id := range rest[:min(len(rest), limit)] {
		some.tasks = append(some.tasks, taskPlace{id: id})
	}
	return some, len(rest) <= limit, nil
}

// listPlaceIDs returns the ids of places.
func listPlaceIDs(places []taskPlace) []int64 {
	ids := make([]int64, len(places))
	for i, place := range places {
		ids[i] = place.id
	}
	return ids
}

// orAll returns s, or all statuses for an empty s.
func orAll(s []queue.Status) []queue.Status {
	if len(s) == 0 {
		return queue.Statuses()
	}
	return s
}

// maxTaskReads bounds the reads of a task that moves concurrently.
const maxTaskReads = 5

// movedTasks is the result of one transaction of a bulk operation.
type movedTasks struct {
	out  queue.Bulk
	fit  int     // number of ids from the front that the transaction handled
	left []int64 // tasks of these that another transaction has locked
}

// moveTasks applies a bulk operation to tasks at the front of ids in one transaction, to fewer than all if their results
// are large. It reads a task again that moves concurrently, at most maxTaskReads times.
func (s *Store) moveTasks(ctx context.Context, namespace string, ids []int64, dryRun bool, o operation) (movedTasks, error) {
	var step movedTasks
	var m *moves
	err := s.db.Run(ctx, o.op, func(ctx context.Context, t *txn.Tx) error {
		step = movedTasks{out: queue.Bulk{Errs: map[int64]error{}}, fit: len(ids)}
		var now time.Time
		if err := t.Query(ctx, readClock, func(rows pgx.Rows) error { return rows.Scan(&now) }); err != nil {
			return err
		}
		m = makeMoves(now)

		// Only the first read limits the bytes; the next ones read the same tasks again.
		there, fit, err := readTaskLives(ctx, t, namespace, ids, queue.MaxPageBytes)
		if err != nil {
			return err
		}
		step.fit = fit
		able := step.chooseMovable(ids[:fit], there, o)
		step.out.Matched = int64(len(able))
		if dryRun {
			return txn.ErrNothing
		}

		for tries := 1; len(able) > 0; tries++ {
			if err := s.takeAndMove(ctx, t, namespace, able, o, m, &step); err != nil {
				return err
			}
			if len(step.left) == 0 || tries == maxTaskReads {
				break
			}

			there, _, err := readTaskLives(ctx, t, namespace, step.left, math.MaxInt64)
			if err != nil {
				return err
			}
			able = step.chooseMovable(step.left, there, o)
			step.left = nil
		}

		m.writeAllRows(t)
		return nil
	})

	if err == nil && m != nil {
		step.out.Tallies = m.tallies
		s.notify.NotifyReady(m.woken)
	}
	return step, txn.IgnoreNothing(err)
}

// chooseMovable returns the tasks of ids that an operation takes, and records the errors of the others.
func (step *movedTasks) chooseMovable(ids []int64, there nowRows, o operation) []*nowRow {
	var able []*nowRow
	for _, id := range ids {
		switch n := there[id]; {
		case n == nil:
			step.out.Errs[id] = queue.NotFoundTask(id)
		case !o.takes(n.task.Status):
			step.out.Errs[id] = refused(n, o.move)
		default:
			able = append(able, n)
		}
	}
	return able
}

// takeAndMove takes the narrow rows of tasks and adds their moves to m, or queues the deletion of their other rows. It
// sets step.left to the tasks that it could not take.
func (s *Store) takeAndMove(
	ctx context.Context, t *txn.Tx, namespace string, able []*nowRow, o operation, m *moves, step *movedTasks,
) error {
	var queues map[string]*storedQueue
	if o.move != "" { // the read travels with the statements of take
		queues = readQueuesByName(t, namespace, listQueueNames(able))
	}
	taken, err := s.take(ctx, t, able, takeFree)
	if err != nil {
		return err
	}

	// A task that a concurrent transaction has moved was not taken; the next read shows its new status.
	step.left = nil
	var erased []*nowRow
	for _, n := range able {
		switch {
		case !taken[n.task.ID]:
			step.left = append(step.left, n.task.ID)
			continue
		case n.task.Status == queue.StatusRetained: // its worker has the request to cancel
		case o.move == "":
			erased = append(erased, n)
		default:
			if err := m.operate(queues[n.task.Queue], n, o.move); err != nil {
				return err
			}
		}
		step.out.Moved++
	}

	m.erase(t, erased)
	return nil
}

// refused returns the error of a task with a status that the operation does not allow.
func refused(n *nowRow, move queue.Move) error {
	if move == "" {
		return &queue.Error{
			Kind: queue.KindConflict, Subject: queue.NotFoundTask(n.task.ID).Subject,
			Msg: "a held task cannot be deleted; cancel it first",
		}
	}
	_, err := (&queue.Queue{}).Moved(queue.Life{Status: n.task.Status}, move, queue.Circumstances{})
	return err
}

// heldPlace names a retained task by the token of its lease row.
type heldPlace struct {
	tokens int64
	ids    int64
}

var heldPlaceColumns = table.Of[heldPlace]()

// The columns by which a bulk operation finds narrow rows.
var (
	takenReadyColumns   = readyColumns.Only("queue_id", "lane", "turn")
	takenDelayedColumns = delayedColumns.Only("due_at", "task_id")
)

// take removes the narrow rows of the given tasks, or requests a cancel from the workers of retained tasks. It returns
// the ids that it took. Tasks that a concurrent transaction moved first, or with takeFree has locked, are missing from the result.
func (s *Store) take(ctx context.Context, t *txn.Tx, rows []*nowRow, how takeStatements) (map[int64]bool, error) {
	taken := make(map[int64]bool, len(rows))
	each := scanEach(func(id int64) { taken[id] = true })

	var (
		ready   []readyRow
		waiting []waitingGroupRow
		delayed []delayedRow
		rest    []readyRow // of the runs of ready tasks
		done    []taskPlace
		held    []heldPlace
	)

	for _, n := range rows {
		switch id := n.task.ID; {
		case n.task.Status.Finished():
			done = append(done, taskPlace{n.queue, id})
		case n.task.Status == queue.StatusRetained:
			held = append(held, heldPlace{n.token, id})
		default:
			ready = append(ready, readyRow{queueID: n.queue, lane: n.lane(), turn: n.turn})
			waiting = append(waiting, n.waitingRows()...)
			if !n.task.DelayedAt.IsZero() {
				delayed = append(delayed, delayedRow{dueAt: n.task.DelayedAt, taskID: id})
			}
		}
	}

	// A retained task stays: the lease row takes the request, and the worker gets it at its next heartbeat.
	if len(held) > 0 {
		t.QueueQuery(requestCancel, each, heldPlaceColumns.Arrays(nil, held)...)
	}

	takenFrom := func(note func(*nowRow)) func(pgx.Rows) error {
		return scanEach(func(id int64) {
			taken[id] = true
			for _, n := range rows {
				if n.task.ID == id {
					note(n)
				}
			}
		})
	}
	if len(delayed) > 0 {
		t.QueueQuery(how.delayed, takenFrom(func(n *nowRow) { n.token = wasDelayed }), takenDelayedColumns.Arrays(nil, delayed)...)
	}

	if len(waiting) > 0 {
		t.QueueQuery(how.waiting, takenFrom(func(n *nowRow) { n.waitsForGroup = true }), takenWaitingColumns.Arrays(nil, waiting)...)
	}

	if len(ready) > 0 {
		t.QueueQuery(how.ready, scanTakenReady(taken, &rest), takenReadyColumns.Arrays(nil, ready)...)
	}

	if len(done) > 0 {
		t.QueueQuery(takeDone, each, placeColumns.Arrays(nil, done)...)
	}

	if err := t.Flush(ctx); err != nil {
		return taken, err
	}
	queueRows(t, insertReady, readyColumns, rest)
	return taken, nil
}

// scanTakenReady returns a function that reads the rows of take.ready: taken tasks, and the rest of their runs.
func scanTakenReady(taken map[int64]bool, rest *[]readyRow) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var row readyRow
		var isTaken bool
		if err := rows.Scan(readyColumns.Targets([]any{&isTaken}, &row)...); err != nil {
			return err
		}

		if isTaken {
			taken[row.taskID] = true
		} else {
			*rest = append(*rest, row)
		}
		return nil
	}
}

// wasDelayed is the token of a row that was among the delayed rows.
const wasDelayed = -1

// listQueueNames returns the names of the queues of rows.
func listQueueNames(rows []*nowRow) []string {
	var names []string
	for _, n := range rows {
		if !slices.Contains(names, n.task.Queue) {
			names = append(names, n.task.Queue)
		}
	}
	return names
}

// operate moves one task that was taken; q is its queue, nil after the queue was deleted.
func (m *moves) operate(q *storedQueue, n *nowRow, move queue.Move) error {
	if q == nil {
		return queue.NotFoundQueue(n.task.Queue)
	}
	next, err := q.Moved(n.task.Life(), move, queue.Circumstances{Now: m.now, Jitter: rand.Float64()})
	if err != nil {
		return err
	}
	if n.waitsForGroup {
		m.addGroupWaiting(n.queue, -1)
	}
	m.addMove(taskMove{
		q: q, id: n.task.ID, priority: n.task.Priority, bucket: n.bucket, group: n.task.Group, move: move, was: n.task.Status, wasLate: n.token == wasDelayed, life: next,
		startedAt: n.task.StartedAt, worker: n.task.Worker, result: n.task.Result,
	})
	return nil
}

// erase queues the deletion of all rows about the taken tasks.
func (m *moves) erase(t *txn.Tx, rows []*nowRow) {
	if len(rows) == 0 {
		return
	}
	places := make([]taskPlace, len(rows))
	for i, n := range rows {
		places[i] = taskPlace{n.queue, n.task.ID}
		delayed := 0
		if n.token == wasDelayed {
			delayed = -1
		}
		m.tallies.Add(n.task.Namespace, n.task.Queue, n.task.Status, "", 1)
		m.addErased(n)
		m.events.appendIDs(eventChange{queue: n.queue, was: statusCodes[n.task.Status], delayed: delayed}, n.task.ID)
	}
	queueErase(t, places)
}
