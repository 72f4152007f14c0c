package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The group waker is a part of the promoter: groups go on when a limit of time is over, and after a change of settings.

const (
	wakeStep    = 500   // planned looks of one step
	reviewStep  = 1_000 // groups of one step of a review
	releaseStep = 2_000 // tasks of one step that wait for groups of a queue without limits
)

// beforeAllGroups is below all hashes of groups.
const beforeAllGroups = int64(-1 << 63)

var (
	takeDueWakes    = statement("group.due")
	findDueWake     = statement("group.due.first")
	findWokenQueues = statement("group.queues")
	reviewGroups    = statement("group.review")
	reviewLater     = statement("group.review.later")
	releaseWaiting  = statement("group.release")
	unmarkLanes     = statement("group.unmark")
	unmarkFront     = statement("group.unmark.front")
)

// dueWake is a planned look at a group, or with grp 0 a review of a queue.
type dueWake struct {
	queueID    int32
	grp, after int64
}

// wakeGroups writes the markers of groups with a planned look that is due, and makes a step of each review. It passes over looks
// that the database refuses, and over queues with refused reviews, for refusedRest.
func (s *Store) wakeGroups(ctx context.Context) (queue.Maintained, error) {
	const op = "wake groups"
	filter := s.rowFilters.wake
	size, groups, queues := filter.nextStep()
	scope := []sqltext.Arg{arg("passed_groups", groups), arg("passed_queue_ids", queues)}

	var out queue.Maintained
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		out = queue.Maintained{}
		var due []dueWake
		err := t.Query(ctx, takeDueWakes, func(rows pgx.Rows) error {
			var w dueWake
			err := rows.Scan(&w.queueID, &w.grp, &w.after)
			due = append(due, w)
			return err
		}, append(scope, arg("limit", size))...)
		if err != nil {
			return err
		}
		if len(due) == 0 {
			return txn.ErrNothing
		}

		queues, err := readWakesByID(ctx, t, due)
		if err != nil {
			return err
		}
		// A full step may have left looks that are due too.
		out.More = len(due) == size
		out.Woken = slices.Collect(maps.Values(queues))
		return s.wakeDueGroups(ctx, t, due, queues, &out)
	})
	if txn.IgnoreNothing(err) == nil {
		filter.recordPass()
		s.notify.NotifyReady(out.Woken)
		return out, nil
	}

	return filter.retryRefused(ctx, err, func() (row refusedRow, err error) {
		err = s.db.Query(ctx, op, findDueWake, row.scanRefusedWake, scope...)
		return row, err
	})
}

// scanRefusedWake reads the queue, the group, the namespace and the queue name of a planned look. A review stands for its queue.
func (r *refusedRow) scanRefusedWake(rows pgx.Rows) error {
	var grp int64
	var name string
	err := rows.Scan(&r.queue, &grp, &r.space, &name)
	r.task, r.whole = nameGroup(r.queue, grp), grp == 0
	r.subject = "groups of queue " + name
	return err
}

// nameGroup returns a name of a group for a filter alone: it differs for the same group in two queues.
func nameGroup(queueID int32, grp int64) int64 { return grp ^ int64(queueID) }

// readWakesByID returns the queues of planned looks that are still there.
func readWakesByID(ctx context.Context, t *txn.Tx, due []dueWake) (map[int32]queue.Wake, error) {
	ids := make([]int32, len(due))
	for i, w := range due {
		ids[i] = w.queueID
	}
	queues := map[int32]queue.Wake{}
	return queues, t.Query(ctx, findWokenQueues, func(rows pgx.Rows) error {
		var id int32
		var w queue.Wake
		err := rows.Scan(&id, &w.Namespace, &w.Queue)
		queues[id] = w
		return err
	}, arg("queue_ids", ids))
}

// wakeDueGroups writes the markers of groups, and makes a step of each review.
func (s *Store) wakeDueGroups(ctx context.Context, t *txn.Tx, due []dueWake, queues map[int32]queue.Wake, out *queue.Maintained) error {
	var marks []markerRow
	for _, w := range due {
		at, known := queues[w.queueID]
		switch {
		case !known: // the queue was deleted
		case w.grp != 0:
			marks = append(marks, markerRow{queueID: w.queueID, grp: w.grp})
		default:
			more, err := s.reviewQueue(ctx, t, w, at)
			if err != nil {
				return err
			}
			out.More = out.More || more
		}
	}
	queueRows(t, markGroups, markerColumns, marks)
	return nil
}

// reviewQueue marks the next groups of a queue for which tasks wait. When the queue limits no groups any more, it makes such
// tasks ready.
func (s *Store) reviewQueue(ctx context.Context, t *txn.Tx, w dueWake, at queue.Wake) (more bool, err error) {
	q, err := readQueueByName(ctx, t, at.Namespace, at.Queue)
	if err != nil || q == nil {
		return false, err
	}
	if !q.limitsGroups() {
		return s.releaseWaitingTasks(ctx, t, w)
	}

	var marks []markerRow
	err = t.Query(ctx, reviewGroups, scanEach(func(grp int64) {
		marks = append(marks, markerRow{queueID: w.queueID, grp: grp})
	}), arg("queue_id", w.queueID), arg("after", w.after), arg("limit", reviewStep))
	if err != nil {
		return false, err
	}
	queueRows(t, markGroups, markerColumns, marks)
	if more = len(marks) == reviewStep; more {
		t.Queue(reviewLater, arg("queue_id", w.queueID), arg("after", marks[len(marks)-1].grp))
	}
	return more, nil
}

// readQueueByName returns the queue of a name within t; nil when it is gone.
func readQueueByName(ctx context.Context, t *txn.Tx, namespace, name string) (*storedQueue, error) {
	queues := readQueuesByName(t, namespace, []string{name})
	if err := t.Flush(ctx); err != nil {
		return nil, err
	}
	return queues[name], nil
}

// releaseWaitingTasks makes the next tasks ready that wait for groups of a queue without limits, and deletes the markers that are
// left there.
func (s *Store) releaseWaitingTasks(ctx context.Context, t *txn.Tx, w dueWake) (more bool, err error) {
	markers := 0
	t.Queue(lockGates, arg("queue_ids", []int32{w.queueID}))
	t.QueueQuery(unmarkFront, scanEach(func(int64) { markers++ }), arg("queue_id", w.queueID), arg("limit", releaseStep))

	var tasks []waitingGroupRow
	err = t.Query(ctx, releaseWaiting, scanRows(groupWaitingColumns, func(row waitingGroupRow) { tasks = append(tasks, row) }),
		arg("queue_id", w.queueID), arg("limit", releaseStep))
	if more = markers == releaseStep || len(tasks) == releaseStep; more {
		t.Queue(reviewLater, arg("queue_id", w.queueID), arg("after", beforeAllGroups))
	}
	if err != nil || len(tasks) == 0 {
		return more, err
	}

	// A marker of a create has the place of its first task.
	unmarked := 0
	lanes, turns := make([]int32, len(tasks)), make([]int64, len(tasks))
	ready := make([]readyRow, len(tasks))
	for i, task := range tasks {
		lanes[i], turns[i] = task.lane, task.turn
		ready[i] = readyRow{
			turn: task.turn, taskID: task.taskID, queueID: task.queueID, lane: task.lane, attempt: task.attempt, n: 1, diesAt: task.diesAt, grp: &tasks[i].grp,
		}
	}
	err = t.Query(ctx, unmarkLanes, scanEach(func(int64) { unmarked++ }), arg("queue_id", w.queueID), arg("lane", lanes), arg("turn", turns))
	if err != nil {
		return false, err
	}

	// The tasks become ready behind the cursor of their lanes.
	cursors := s.lanes.lanesOfQueue(w.queueID)
	t.AfterCommit = func() {
		for _, task := range tasks {
			cursors.recordRemainder(task.lane, task.turn)
		}
	}
	queueRows(t, insertReady, readyColumns, ready)
	events{}.addGroupWaiting(t, map[int32]int{w.queueID: unmarked - len(tasks)})
	return more, nil
}
