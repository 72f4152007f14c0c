package postgres

import (
	"context"
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
	changePolicies   = statement("group.policy.change")
	countSettings    = statement("group.policy.count")
	findFreeBucket   = statement("group.policy.bucket")
	resetGroupStates = statement("group.reset")
	seedGroupStates  = statement("group.seed")
	seedGroupState   = statement("group.seed.one")
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
	var settings int
	var bucket int16
	stored := 0 // rows of the group
	t.QueueQuery(readClock, func(rows pgx.Rows) error { return rows.Scan(&now) })
	t.QueueQuery(countSettings, func(rows pgx.Rows) error { return rows.Scan(&settings) }, arg("queue_id", q.id))
	t.QueueQuery(findFreeBucket, func(rows pgx.Rows) error { return rows.Scan(&bucket) }, arg("queue_id", q.id))
	err := t.Query(ctx, lockGroupPolicy, scanRows(groupPolicyColumns, func(r groupPolicyRow) {
		row = r
		stored = 1
	}), arg("queue_id", q.id), arg("grp", row.grp))
	if err != nil {
		return err
	}

	before := row.policy()
	policy, err := before.With(meta)
	if err == nil {
		err = q.CheckGroupPolicy(policy)
	}
	policy = policy.WithoutEndedPause(now)
	if err == nil {
		err = policy.CheckGroupNumber(before, settings+1, q.GroupPolicies+1)
	}
	if err != nil {
		return err
	}

	row.setPolicy(policy)
	policies := q.GroupPolicies - stored
	if policy.IsEmpty() {
		t.Queue(dropGroupPolicy, arg("queue_id", q.id), arg("grp", row.grp))
	} else {
		policies++
		if policy.Weight > 0 && row.bucket == nil {
			row.bucket = &bucket
		}
		t.Queue(saveGroupPolicy, groupPolicyColumns.Arrays(nil, []groupPolicyRow{row})...)
	}

	// The number of policies decides whether retains look at groups, so it comes before the marker.
	t.Queue(changePolicies, arg("queue_id", q.id), arg("more", policies-q.GroupPolicies))
	// The last limit has gone, so the tasks that wait for groups become ready again, in steps.
	if policies == 0 && !q.LimitsGroups() {
		t.Queue(reviewLater, arg("queue_id", q.id), arg("after", firstGroup))
	}
	t.Queue(markGroups, markerColumns.Arrays(nil, []markerRow{{queueID: q.id, grp: row.grp}})...)
	if !q.LimitsOf(before).KeepPlaces() && q.LimitsOf(policy).KeepPlaces() {
		q.seedGroup(t, row.grp)
	}
	return nil
}

// seedGroup gives the tasks in hand of a group their places, under the gate of the queue. Without a limit they had none.
func (q *storedQueue) seedGroup(t *txn.Tx, grp int64) {
	t.Queue(lockGates, arg("queue_ids", []int32{q.id}))
	t.Queue(seedGroupState, arg("queue_id", q.id), arg("grp", grp), arg("none", q.hashGroup("")))
}

// seedGroups gives the tasks in hand the places of their groups, under the gate of the queue.
func (q *storedQueue) seedGroups(t *txn.Tx) error {
	t.Queue(lockGates, arg("queue_ids", []int32{q.id}))
	t.Queue(resetGroupStates, arg("queue_id", q.id))
	t.Queue(seedGroupStates, arg("queue_id", q.id), arg("none", q.hashGroup("")))
	return nil
}

// queueFlowChange queues what follows from new settings of a queue: the tasks in hand get places, and all groups for which
// tasks wait are looked at again.
func (q *storedQueue) queueFlowChange(t *txn.Tx, next queue.Queue) error {
	if q.Flow == next.Flow {
		return nil
	}
	after := &storedQueue{id: q.id, Queue: next}
	if next.KeepsPlaces() && (!q.KeepsPlaces() || q.Order != next.Order) {
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
