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

// end records where the next step goes on: behind the last rows, or at the beginning. With soon it is due at once.
func (a *groupAudit) end(state groupVersion, waiting groupKey, soon bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state, a.waiting = state, waiting
	if soon {
		a.next = time.Time{}
	}
}

// auditedState is a state of a group that a step looks at.
type auditedState struct {
	groupVersion
	holders []int64
	idle    bool // limits need it no longer
}

// auditedGroups are the groups of one step.
type auditedGroups struct {
	size      int
	passes    func(queueID int32, grp int64) bool // the step leaves the group out
	states    []auditedState
	stuck     []markerRow
	lastState groupVersion // the position of the next step
	lastGroup groupKey
}

const opAuditGroups = "audit groups"

// auditGroups makes a step of the auditor. It passes over groups with rows that the database refuses, for refusedRest. A step that
// fails is repeated at once, with fewer groups.
func (s *Store) auditGroups(ctx context.Context) (queue.Maintained, error) {
	state, waiting, due := s.groupAudit.begin(time.Now())
	if !due {
		return queue.Maintained{}, nil
	}

	filter := s.rowFilters.audit
	size, groups, queues := filter.nextStep()
	step := auditedGroups{size: size, passes: func(queueID int32, grp int64) bool {
		return slices.Contains(queues, queueID) || slices.Contains(groups, nameGroup(queueID, grp))
	}}
	var out queue.Maintained
	err := s.db.Run(ctx, opAuditGroups, func(ctx context.Context, t *txn.Tx) (err error) {
		out = queue.Maintained{}
		if err := step.readGroups(ctx, t, state, waiting); err != nil {
			return err
		}
		out.Moved, err = s.writeAudit(ctx, t, step.states, step.stuck)
		return err
	})
	if txn.IgnoreNothing(err) == nil {
		filter.recordPass()
		out.More = size < auditStep
		s.groupAudit.end(step.lastState, step.lastGroup, out.More)
		return out, nil
	}

	s.groupAudit.end(state, waiting, isFaultOfRows(ctx, err))
	return filter.retryRefused(ctx, err, func() (refusedRow, error) { return s.findRefusedGroup(ctx, step, err) })
}

// findRefusedGroup finds the group that made a step of one state and one stuck group fail with cause.
func (s *Store) findRefusedGroup(ctx context.Context, step auditedGroups, cause error) (row refusedRow, err error) {
	var grp int64
	if len(step.states) > 0 {
		row.queue, grp = step.states[0].queueID, step.states[0].grp
	}
	if len(step.stuck) > 0 {
		refused := false
		if row.queue != 0 {
			err := s.db.Run(ctx, opAuditGroups, func(ctx context.Context, t *txn.Tx) error {
				_, err := s.writeAudit(ctx, t, step.states, nil)
				return err
			})
			refused = txn.IgnoreNothing(err) != nil
		}
		if !refused {
			row.queue, grp = step.stuck[0].queueID, step.stuck[0].grp
		}
	}
	if row.queue == 0 { // the walk itself fails
		return row, cause
	}

	row.task = nameGroup(row.queue, grp)
	return row, s.db.Query(ctx, opAuditGroups, findWokenQueues, func(rows pgx.Rows) error {
		var id int32
		var name string
		err := rows.Scan(&id, &row.space, &name)
		row.subject = "groups of queue " + name
		return err
	}, arg("queue_ids", []int32{row.queue}))
}

// writeAudit queues the changes about groups. It returns the number of states that it forgets.
func (s *Store) writeAudit(ctx context.Context, t *txn.Tx, states []auditedState, stuck []markerRow) (forgotten int, err error) {
	if len(states)+len(stuck) == 0 {
		return 0, txn.ErrNothing
	}

	var idle []groupVersion
	for _, one := range states {
		if one.idle {
			idle = append(idle, one.groupVersion)
		}
	}
	queueRows(t, dropGroupStates, groupVersionColumns, idle)

	marks, err := findLostMarkers(ctx, t, states)
	if err != nil {
		return 0, err
	}
	if len(marks) > 0 {
		s.opt.logger.WarnContext(ctx, "groups kept places of tasks that have ended; the places are free again", "places", len(marks))
	}
	queueRows(t, markGroups, markerColumns, append(marks, stuck...))
	return len(idle), nil
}

// readGroups reads the next states, and the next groups for which tasks wait, behind two positions. stuck gets a marker for each
// group without a task that keeps a place. A marker too many costs one look.
func (g *auditedGroups) readGroups(ctx context.Context, t *txn.Tx, state groupVersion, waiting groupKey) error {
	g.states, g.stuck, g.lastState, g.lastGroup = nil, nil, groupVersion{}, groupKey{}
	states, groups := 0, 0
	t.QueueQuery(walkGroupStates, func(rows pgx.Rows) error {
		var one auditedState
		err := rows.Scan(&one.queueID, &one.grp, &one.version, &one.holders, &one.idle)
		states++
		g.lastState = one.groupVersion
		if !g.passes(one.queueID, one.grp) {
			g.states = append(g.states, one)
		}
		return err
	}, arg("queue_id", state.queueID), arg("grp", state.grp), arg("version", state.version), arg("limit", g.size))
	err := t.Query(ctx, walkGroupWaiting, func(rows pgx.Rows) error {
		var stuck bool
		err := rows.Scan(&g.lastGroup.queueID, &g.lastGroup.grp, &stuck)
		groups++
		if stuck && !g.passes(g.lastGroup.queueID, g.lastGroup.grp) {
			g.stuck = append(g.stuck, markerRow{queueID: g.lastGroup.queueID, grp: g.lastGroup.grp})
		}
		return err
	}, arg("queue_id", waiting.queueID), arg("grp", waiting.grp), arg("limit", g.size))

	// After its last step, a walk begins again.
	if states < g.size {
		g.lastState = groupVersion{}
	}
	if groups < g.size {
		g.lastGroup = groupKey{}
	}
	return err
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
