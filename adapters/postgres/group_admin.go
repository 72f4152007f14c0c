package postgres

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The statements about groups that a caller names.
var (
	listGroupHashes  = statement("group.list")
	describeGroups   = statement("group.describe")
	lockGroupPolicy  = statement("group.policy")
	saveGroupPolicy  = statement("group.policy.save")
	dropGroupPolicy  = statement("group.policy.drop")
	countPolicies    = statement("group.policy.count")
	findFreeBucket   = statement("group.policy.bucket")
	lockPausedQueues = statement("group.pause.lock")
	pauseGroups      = statement("group.pause")
	pauseQueue       = statement("group.pause.queue")
	resetGroupStates = statement("group.reset")
	seedGroupStates  = statement("group.seed")
	findEndedPlaces  = statement("group.finished")
)

// groupPolicyRow is the policy of a group as stored.
type groupPolicyRow struct {
	queueID     int32
	grp         int64
	name        string
	weight      int32
	concurrency int32
	rateLimit   int32
	ratePeriod  int64 // in ns
	rateBurst   int32
	pausedUntil *time.Time
	bucket      *int16
}

var groupPolicyColumns = table.Of[groupPolicyRow]()

func (r *groupPolicyRow) policy() queue.GroupPolicy {
	return queue.GroupPolicy{
		Weight: int(r.weight), Concurrency: int(r.concurrency), RateLimit: int(r.rateLimit), RatePeriod: time.Duration(r.ratePeriod),
		RateBurst: int(r.rateBurst), PausedUntil: timeFromPointer(r.pausedUntil),
	}
}

//nolint:gosec // the limits of a policy fit into the columns
func (r *groupPolicyRow) setPolicy(p queue.GroupPolicy) {
	r.weight, r.concurrency, r.rateLimit = int32(p.Weight), int32(p.Concurrency), int32(p.RateLimit)
	r.ratePeriod, r.rateBurst, r.pausedUntil = int64(p.RatePeriod), int32(p.RateBurst), timePointer(truncateToMicros(p.PausedUntil))
}

// ListGroups implements queue.Store. Its cursor is the hash of the last group of the page before.
func (s *Store) ListGroups(ctx context.Context, namespace, name string, q queue.GroupQuery) (queue.GroupPage, error) {
	const op = "list groups"
	page := queue.GroupPage{Groups: []*queue.Group{}}
	queues, err := s.findQueues(ctx, namespace, []string{name})
	if err != nil {
		return page, queue.WithOp(op, err)
	}
	after := firstGroup
	if q.Cursor != "" {
		if after, err = strconv.ParseInt(q.Cursor, 36, 64); err != nil {
			return page, queue.WithOp(op, queue.Invalid("cursor", "must be the cursor of the page before; start again without it"))
		}
	}

	// A group that a caller names is described also when it has no row yet.
	hashes := []int64{queue.HashGroup(q.Name)}
	if q.Name == "" {
		hashes = nil
		err = s.db.Query(ctx, op, listGroupHashes, scanEach(func(grp int64) { hashes = append(hashes, grp) }),
			arg("queue_id", queues[0].id), arg("after", after), arg("limit", q.Limit+1))
		if err != nil {
			return page, err
		}
		if len(hashes) > q.Limit {
			hashes = hashes[:q.Limit]
			page.Next = strconv.FormatInt(hashes[q.Limit-1], 36)
		}
	}

	err = s.db.Query(ctx, op, describeGroups, func(rows pgx.Rows) error {
		g, err := queues[0].scanDescribedGroup(rows)
		if q.Name != "" {
			g.Name = q.Name
		}
		page.Groups = append(page.Groups, g)
		return err
	}, arg("queue_id", queues[0].id), arg("grp", hashes), arg("most", queue.MaxGroupWaiting))
	return page, err
}

// scanDescribedGroup reads a group as a caller gets it.
func (q *storedQueue) scanDescribedGroup(rows pgx.Rows) (*queue.Group, error) {
	g := &queue.Group{Queue: q.Name}
	var grp int64
	var now time.Time
	var name *string
	var state queue.GroupState
	var rateState, ratePeriod, blocked *int64
	var weight, concurrency, rateLimit, rateBurst *int
	var paused *time.Time
	err := rows.Scan(&grp, &now, &name, &state.Holders, &rateState, &weight, &concurrency, &rateLimit, &ratePeriod, &rateBurst, &paused, &g.Waiting, &blocked)
	if err != nil {
		return g, err
	}

	g.Name = textFromPointer(name)
	if weight != nil {
		g.GroupPolicy = queue.GroupPolicy{
			Weight: *weight, Concurrency: *concurrency, RateLimit: *rateLimit, RatePeriod: time.Duration(*ratePeriod), RateBurst: *rateBurst,
		}
		if until := timeFromPointer(paused); until.After(now) {
			g.PausedUntil = until
		}
	}
	if rateState != nil {
		state.RateState = *rateState
	}
	g.Retained = int64(len(state.Holders))
	if blocked != nil && q.IsFIFO() && q.GroupOnFailure == queue.GroupBlock {
		g.Blocked = *blocked
	}
	_, g.Next = state.Admit(q.LimitsOf(g.GroupPolicy), now, []int64{-1}, 1)
	return g, nil
}

// getGroup returns one group.
func (s *Store) getGroup(ctx context.Context, namespace, name, group string) (*queue.Group, error) {
	page, err := s.ListGroups(ctx, namespace, name, queue.GroupQuery{Name: group, Limit: 1})
	if err != nil {
		return nil, err
	}
	return page.Groups[0], nil
}

// UpdateGroup implements queue.Store.
func (s *Store) UpdateGroup(ctx context.Context, namespace, name, group string, meta queue.GroupMeta) (*queue.Group, error) {
	const op = "update group"
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		q, err := lockQueueByName(ctx, t, namespace, name)
		if err != nil {
			return err
		}
		return q.updateGroupIn(ctx, t, group, meta)
	})
	if err != nil {
		return nil, err
	}
	return s.finishGroupChange(ctx, namespace, name, group)
}

// updateGroupIn changes the policy of a group within t. The row of the queue is locked.
func (q *storedQueue) updateGroupIn(ctx context.Context, t *txn.Tx, group string, meta queue.GroupMeta) error {
	row := groupPolicyRow{queueID: q.id, grp: queue.HashGroup(group), name: group}
	var now time.Time
	t.QueueQuery(readClock, func(rows pgx.Rows) error { return rows.Scan(&now) })
	err := t.Query(ctx, lockGroupPolicy, scanRows(groupPolicyColumns, func(r groupPolicyRow) { row = r }), arg("queue_id", q.id), arg("grp", row.grp))
	if err != nil {
		return err
	}

	policy, err := row.policy().With(meta)
	if err == nil {
		err = q.CheckGroupPolicy(policy)
	}
	if err != nil {
		return err
	}
	if !now.Before(policy.PausedUntil) {
		policy.PausedUntil = time.Time{}
	}

	row.setPolicy(policy)
	if policy.IsEmpty() {
		t.Queue(dropGroupPolicy, arg("queue_id", q.id), arg("grp", row.grp))
	} else {
		t.Queue(saveGroupPolicy, groupPolicyColumns.Arrays(nil, []groupPolicyRow{row})...)
	}

	// The number of policies decides whether retains look at groups, so it comes before the marker.
	policies, bucket, err := q.countPolicies(ctx, t)
	if err != nil {
		return err
	}
	if policies > queue.MaxGroupPolicies {
		return queue.Invalid("group", "must be one of at most "+strconv.Itoa(queue.MaxGroupPolicies)+" groups with settings of their own, got one more; take the settings of another away")
	}
	if policy.Weight > 0 && row.bucket == nil {
		row.bucket = &bucket
		t.Queue(saveGroupPolicy, groupPolicyColumns.Arrays(nil, []groupPolicyRow{row})...)
	}
	// The last limit has gone, so the tasks that wait for groups become ready again, in steps.
	if policies == 0 && !q.LimitsGroups() {
		t.Queue(reviewLater, arg("queue_id", q.id), arg("after", firstGroup))
	}
	t.Queue(markGroups, markerColumns.Arrays(nil, []markerRow{{queueID: q.id, grp: row.grp}})...)
	// Before its first policy the queue kept no places, so those of the tasks in hand are written now.
	if q.GroupPolicies == 0 && policies > 0 && !q.KeepsPlaces() {
		return q.seedGroups(t)
	}
	return nil
}

// countPolicies counts the policies of the groups, and returns the next bucket for a group with a weight.
func (q *storedQueue) countPolicies(ctx context.Context, t *txn.Tx) (n int, bucket int16, err error) {
	t.QueueQuery(countPolicies, func(rows pgx.Rows) error { return rows.Scan(&n) }, arg("queue_id", q.id))
	err = t.Query(ctx, findFreeBucket, func(rows pgx.Rows) error { return rows.Scan(&bucket) }, arg("queue_id", q.id))
	return n, bucket, err
}

// seedGroups gives the tasks in hand the places of their groups, under the gate of the queue.
func (q *storedQueue) seedGroups(t *txn.Tx) error {
	none := int64(0)
	if q.IsFIFO() {
		none = queue.HashGroup("")
	}
	t.Queue(lockGates, arg("queue_ids", []int32{q.id}))
	t.Queue(resetGroupStates, arg("queue_id", q.id))
	t.Queue(seedGroupStates, arg("queue_id", q.id), arg("none", none))
	return nil
}

// queueFlowChange queues what follows from new settings of a queue: the tasks in hand get places, and all groups for which
// tasks wait are looked at again.
func (q *storedQueue) queueFlowChange(t *txn.Tx, next queue.Queue) error {
	if q.Flow == next.Flow {
		return nil
	}
	after := &storedQueue{id: q.id, Queue: next}
	if after.keepsPlaces() && (!q.keepsPlaces() || q.Order != next.Order) {
		if err := after.seedGroups(t); err != nil {
			return err
		}
	}
	t.Queue(reviewLater, arg("queue_id", q.id), arg("after", firstGroup))
	return nil
}

// finishGroupChange makes this process and others see a changed group, and returns it.
func (s *Store) finishGroupChange(ctx context.Context, namespace, name, group string) (*queue.Group, error) {
	s.catalog.forgetNamespace(namespace)
	s.notify.NotifyReady([]queue.Wake{{Namespace: namespace, Queue: name}})
	return s.getGroup(ctx, namespace, name, group)
}

// UnblockGroup implements queue.Store.
func (s *Store) UnblockGroup(ctx context.Context, namespace, name, group string) (*queue.Group, error) {
	const op = "unblock group"
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		q, err := lockQueueByName(ctx, t, namespace, name)
		if err != nil {
			return err
		}

		var holders []int64
		grp := q.hashGroup(group)
		err = t.Query(ctx, loadGroups, func(rows pgx.Rows) error {
			var version, rateState, ratePeriod *int64
			var concurrency, rateLimit, rateBurst *int
			var paused *time.Time
			return rows.Scan(&grp, &version, &holders, &rateState, &concurrency, &rateLimit, &ratePeriod, &rateBurst, &paused)
		}, arg("queue_id", q.id), arg("grp", []int64{grp}))
		if err != nil || len(holders) == 0 {
			return err
		}

		var marks []markerRow
		// The markers of ended tasks make the next retain free their places; it holds the gate that this call lacks.
		err = t.Query(ctx, findEndedPlaces, scanEach(func(id int64) { marks = append(marks, markerRow{queueID: q.id, grp: grp, taskID: id}) }),
			arg("queue_id", q.id), arg("ids", holders))
		queueRows(t, markGroups, markerColumns, marks)
		return err
	})
	if err != nil {
		return nil, err
	}

	g, err := s.finishGroupChange(ctx, namespace, name, group)
	if g != nil {
		g.Blocked = 0 // the next retain reads the marker
	}
	return g, err
}

// queuePauses queues the pauses of groups and queues that releases ask for. It locks the rows of the queues first, in the order of
// ids, as a change of one group does.
func (m *moves) queuePauses(ctx context.Context, t *txn.Tx) error {
	ids := slices.Collect(maps.Keys(m.pausedQueues))
	for _, row := range m.pausedGroups {
		ids = append(ids, row.queueID)
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	t.Queue(lockPausedQueues, arg("queue_ids", ids))

	for _, id := range ids {
		if until, paused := m.pausedQueues[id]; paused {
			t.Queue(pauseQueue, arg("queue_id", id), arg("until", truncateToMicros(until)))
		}
	}
	queueRows(t, pauseGroups, pausedGroupColumns, m.pausedGroups)

	for _, id := range ids {
		if !slices.ContainsFunc(m.pausedGroups, func(row pausedGroupRow) bool { return row.queueID == id }) {
			continue
		}
		q := storedQueue{id: id}
		if _, _, err := q.countPolicies(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// pausedGroupRow holds a group up until a time.
type pausedGroupRow struct {
	queueID int32
	grp     int64
	name    string
	until   time.Time
}

var pausedGroupColumns = table.Of[pausedGroupRow]()

// addPause adds the pause that a release asks for.
func (m *moves) addPause(q *storedQueue, group string, r *queue.Release) {
	if r.Delay == 0 {
		return
	}
	until := truncateToMicros(m.now.Add(r.Delay))
	switch {
	case r.Scope == queue.ScopeQueue:
		if m.pausedQueues == nil {
			m.pausedQueues = map[int32]time.Time{}
		}
		m.pausedQueues[q.id] = later(m.pausedQueues[q.id], until)
	case r.Scope == queue.ScopeGroup && group != "":
		m.pausedGroups = append(m.pausedGroups, pausedGroupRow{queueID: q.id, grp: queue.HashGroup(group), name: group, until: until})
	}
}
