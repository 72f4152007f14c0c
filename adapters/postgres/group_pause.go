package postgres

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// A release may pause the group or the queue of its task. The row of a group that has nothing but such a pause leaves when the
// pause is over: the pruner looks for them.

const (
	pauseQueueStep = 100   // ended pauses that one search looks at
	pauseStep      = 1_000 // pauses of one queue that one step ends
)

var (
	lockPausedQueues     = statement("group.pause.lock")
	lockFreePausedQueues = statement("group.pause.lock.free")
	pauseGroups          = statement("group.pause")
	pauseQueue           = statement("group.pause.queue")
	findEndedPauses      = statement("group.pause.over")
	endPauses            = statement("group.pause.end")
	reviewFree           = statement("group.review.free")
)

// pauses are those that the releases of a call ask for. A queue or group gets the longest.
type pauses struct {
	queues map[int32]time.Time
	groups map[groupKey]pausedGroupRow
	// locked are the queues with a row that this transaction has locked.
	locked map[int32]bool
}

// pausedGroupRow pauses a group until a time.
type pausedGroupRow struct {
	queueID int32
	grp     int64
	name    string
	until   time.Time
}

var pausedGroupColumns = table.Of[pausedGroupRow]()

// asksForPause reports whether a release pauses more than its task.
func asksForPause(r *queue.Release) bool {
	return r.Delay > 0 && (r.Scope == queue.ScopeQueue || r.Scope == queue.ScopeGroup)
}

// lockQueues locks the rows of the queues that releases of held tasks pause, in the order of ids, as a change of one group does. With
// free set it leaves out rows that another transaction has locked.
func (p *pauses) lockQueues(ctx context.Context, t *txn.Tx, h *lockedLeases, releases []queue.Release, tokens []int64, free bool) error {
	var ids []int32
	for i := range releases {
		if held, ok := h.findHeldTask(releases[i].ID, tokens[i]); ok && asksForPause(&releases[i]) {
			ids = append(ids, held.q.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}

	lock := lockPausedQueues
	if free {
		lock = lockFreePausedQueues
	}
	p.locked = map[int32]bool{}
	slices.Sort(ids)
	return t.Query(ctx, lock, scanEach(func(id int32) { p.locked[id] = true }), arg("queue_ids", slices.Compact(ids)))
}

// mayPause reports whether the row of the queue is locked, where the release needs that.
func (p *pauses) mayPause(q *storedQueue, r *queue.Release) bool {
	return !asksForPause(r) || p.locked[q.id]
}

// addPause adds the pause that a release asks for.
func (p *pauses) addPause(q *storedQueue, group string, r *queue.Release, now time.Time) {
	if !asksForPause(r) {
		return
	}
	until := truncateToMicros(now.Add(r.Delay))
	switch {
	case r.Scope == queue.ScopeQueue:
		if p.queues == nil {
			p.queues = map[int32]time.Time{}
		}
		p.queues[q.id] = later(p.queues[q.id], until)
	case group != "":
		if p.groups == nil {
			p.groups = map[groupKey]pausedGroupRow{}
		}
		key := groupKey{q.id, queue.HashGroup(group)}
		p.groups[key] = pausedGroupRow{queueID: q.id, grp: key.grp, name: group, until: later(p.groups[key].until, until)}
	}
}

// isEmpty reports whether the call pauses nothing.
func (p *pauses) isEmpty() bool { return len(p.queues)+len(p.groups) == 0 }

// queueWrites queues the pauses of queues and groups.
func (p *pauses) queueWrites(t *txn.Tx) {
	for _, id := range slices.Sorted(maps.Keys(p.queues)) {
		t.Queue(pauseQueue, arg("queue_id", id), arg("until", p.queues[id]))
	}
	queueRows(t, pauseGroups, pausedGroupColumns, slices.Collect(maps.Values(p.groups)), arg("most", queue.MaxGroupPauses))
}

// endGroupPauses forgets groups that have nothing but a pause that is over, each queue in a transaction of its own: the failure of one
// keeps no other from it. A queue with a locked row waits for the next step.
func (s *Store) endGroupPauses(ctx context.Context) (out queue.Maintained, err error) {
	const op = "end group pauses"
	var ids []int32
	err = s.db.Query(ctx, op, findEndedPauses, scanEach(func(id int32) { ids = append(ids, id) }), arg("limit", pauseQueueStep))
	if err != nil {
		return out, err
	}

	var faults []error
	for _, id := range ids {
		ended := 0
		err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
			ended = 0
			locked := false
			err := t.Query(ctx, lockFreePausedQueues, scanEach(func(int32) { locked = true }), arg("queue_ids", []int32{id}))
			if err != nil || !locked {
				return err
			}
			if err := t.Query(ctx, endPauses, scanEach(func(int) { ended++ }), arg("queue_id", id), arg("limit", pauseStep)); err != nil {
				return err
			}
			t.Queue(changePolicies, arg("queue_id", id), arg("more", -ended))
			t.Queue(reviewFree, arg("queue_id", id))
			return nil
		})
		if err != nil {
			faults = append(faults, err)
			continue
		}
		out.Moved += ended
		out.More = out.More || ended == pauseStep
	}
	return out, errors.Join(faults...)
}
