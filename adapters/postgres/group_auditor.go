package postgres

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The auditor of groups is a part of the pruner. It walks through the states of groups, and through the groups for which tasks
// wait, in small steps. It forgets states that limits no longer need. It also mends contradictions, which only changes by hand
// leave behind: places of tasks that ended, and groups that could go on and have no marker.

const (
	auditStep  = 500 // states, and groups, of one step
	auditEvery = 5 * time.Second
)

var (
	walkGroupStates  = statement("group.audit")
	walkGroupWaiting = statement("group.audit.waiting")
	findLostPlaces   = statement("group.audit.places")
)

// groupAudit is the position of the auditor of a process. It is safe for concurrent use.
type groupAudit struct {
	mu      sync.Mutex
	next    time.Time
	state   groupVersion // the last one that was looked at
	waiting groupKey
}

// begin returns the position of the next step; false when it is not due.
func (a *groupAudit) begin(now time.Time) (groupVersion, groupKey, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Before(a.next) {
		return groupVersion{}, groupKey{}, false
	}
	a.next = now.Add(auditEvery)
	return a.state, a.waiting, true
}

// end records where the next step goes on: behind the last rows, or at the beginning.
func (a *groupAudit) end(state groupVersion, waiting groupKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state, a.waiting = state, waiting
}

// auditedState is a state of a group that a step looks at.
type auditedState struct {
	groupVersion
	holders []int64
	idle    bool // limits need it no longer
}

// auditGroups makes a step of the auditor.
func (s *Store) auditGroups(ctx context.Context) (queue.Maintained, error) {
	state, waiting, due := s.groupAudit.begin(time.Now())
	if !due {
		return queue.Maintained{}, nil
	}

	var out queue.Maintained
	err := s.db.Run(ctx, "audit groups", func(ctx context.Context, t *txn.Tx) error {
		out = queue.Maintained{}
		states, err := readAuditedStates(ctx, t, state)
		if err != nil {
			return err
		}
		last, stuck, err := readStuckGroups(ctx, t, waiting)
		if err != nil {
			return err
		}
		s.groupAudit.end(lastState(states), last)
		if len(states)+len(stuck) == 0 {
			return txn.ErrNothing
		}

		var idle []groupVersion
		for _, one := range states {
			if one.idle {
				idle = append(idle, one.groupVersion)
			}
		}
		out.Moved = len(idle)
		queueRows(t, dropGroupStates, groupVersionColumns, idle)

		marks, err := findLostMarkers(ctx, t, states)
		if err != nil {
			return err
		}
		if len(marks) > 0 {
			s.opt.logger.WarnContext(ctx, "groups kept places of tasks that have ended; the places are free again", "places", len(marks))
		}
		queueRows(t, markGroups, markerColumns, append(marks, stuck...))
		return nil
	})
	return out, txn.IgnoreNothing(err)
}

// readAuditedStates reads the next states behind a position.
func readAuditedStates(ctx context.Context, t *txn.Tx, after groupVersion) (states []auditedState, err error) {
	err = t.Query(ctx, walkGroupStates, func(rows pgx.Rows) error {
		var one auditedState
		err := rows.Scan(&one.queueID, &one.grp, &one.version, &one.holders, &one.idle)
		states = append(states, one)
		return err
	}, arg("queue_id", after.queueID), arg("grp", after.grp), arg("version", after.version), arg("limit", auditStep))
	return states, err
}

// readStuckGroups looks at the next groups behind a position for which tasks wait. It returns the position of the next step, and a
// marker for each group without a task that keeps a place. A marker too many costs one look.
func readStuckGroups(ctx context.Context, t *txn.Tx, after groupKey) (last groupKey, marks []markerRow, err error) {
	n := 0
	err = t.Query(ctx, walkGroupWaiting, func(rows pgx.Rows) error {
		var stuck bool
		if err := rows.Scan(&last.queueID, &last.grp, &stuck); err != nil {
			return err
		}
		n++
		if stuck {
			marks = append(marks, markerRow{queueID: last.queueID, grp: last.grp})
		}
		return nil
	}, arg("queue_id", after.queueID), arg("grp", after.grp), arg("limit", auditStep))
	if n < auditStep {
		last = groupKey{} // the next walk begins at the first group
	}
	return last, marks, err
}

// findLostMarkers returns a marker for each place of a task that has ended. The gates of the queues keep the tasks from starting
// again in between.
func findLostMarkers(ctx context.Context, t *txn.Tx, states []auditedState) ([]markerRow, error) {
	var gates, queues []int32
	var ids []int64
	groups := map[int64]int64{} // by task
	for _, one := range states {
		for _, id := range one.holders {
			queues, ids = append(queues, one.queueID), append(ids, id)
			groups[id] = one.grp
		}
		if len(one.holders) > 0 {
			gates = append(gates, one.queueID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}

	slices.Sort(gates)
	t.Queue(lockGates, arg("queue_ids", slices.Compact(gates)))
	var marks []markerRow
	err := t.Query(ctx, findLostPlaces, func(rows pgx.Rows) error {
		var m markerRow
		err := rows.Scan(&m.queueID, &m.taskID)
		m.grp = groups[m.taskID]
		marks = append(marks, m)
		return err
	}, arg("queue_id", queues), arg("id", ids))
	return marks, err
}

// lastState returns the position behind states; the beginning after the last step of a walk.
func lastState(states []auditedState) groupVersion {
	if len(states) < auditStep {
		return groupVersion{}
	}
	return states[len(states)-1].groupVersion
}
