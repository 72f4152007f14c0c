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
	listGroupHashes         = statement("group.list")
	describeGroups          = statement("group.describe")
	lockGroupPolicy         = statement("group.policy")
	saveGroupPolicy         = statement("group.policy.save")
	deleteGroupPolicy       = statement("group.policy.delete")
	changePolicies          = statement("group.policy.change")
	countGroupsWithSettings = statement("group.policy.count")
	findFreeBucket          = statement("group.policy.bucket")
	resetGroupStates        = statement("group.reset")
	writePlacesOfQueue      = statement("group.places")
	writePlacesOfGroup      = statement("group.places.one")
	findEndedPlaces         = statement("group.finished")
	loadHolders             = statement("group.holders")
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
	after := beforeAllGroups
	if q.Cursor != "" {
		if after, err = strconv.ParseInt(q.Cursor, 36, 64); err != nil {
			return page, queue.WithOp(op, queue.Invalid("cursor", "must be the cursor of the page before; start again without it"))
		}
	}

	// A named group is described also when it has no row yet.
	hashes := []int64{queue.HashGroup(q.Name)}
	if q.Name == "" {
		if hashes, err = s.listGroupHashes(ctx, queues[0].id, after, q.Limit+1); err != nil {
			return page, err
		}
		if len(hashes) > q.Limit {
			hashes = hashes[:q.Limit]
			page.Next = strconv.FormatInt(hashes[q.Limit-1], 36)
		}
	}

	err = s.db.Query(ctx, op, describeGroups, scanRows(describedGroupColumns, func(d describedGroup) {
		g := queues[0].describeGroup(&d)
		if q.Name != "" {
			g.Name = q.Name
		}
		page.Groups = append(page.Groups, g)
	}), arg("queue_id", queues[0].id), arg("grp", hashes), arg("most", queue.MaxGroupWaiting))
	return page, err
}

// listGroupHashes returns the hashes of the first groups of a queue behind after, in their order.
func (s *Store) listGroupHashes(ctx context.Context, queueID int32, after int64, limit int) (hashes []int64, err error) {
	err = s.db.Query(ctx, "list groups", listGroupHashes, scanEach(func(grp int64) { hashes = append(hashes, grp) }),
		arg("queue_id", queueID), arg("after", after), arg("limit", limit))
	return hashes, err
}

// describedGroup is a group as the statement describes it. The columns of its policy are nil in a group without one.
type describedGroup struct {
	grp         int64
	now         time.Time
	name        *string
	holders     []int64
	rateState   *int64
	weight      *int
	concurrency *int
	rateLimit   *int
	ratePeriod  *int64 // in ns
	rateBurst   *int
	pausedUntil *time.Time
	waiting     int64
	blocked     *int64
}

var describedGroupColumns = table.Of[describedGroup]()

// probeID stands for the next task of a group in a question to GroupState.Admit. No task has it.
const probeID = -1

// describeGroup returns a group as a caller gets it.
func (q *storedQueue) describeGroup(d *describedGroup) *queue.Group {
	g := &queue.Group{Queue: q.Name, Name: textFromPointer(d.name), Waiting: d.waiting, Retained: int64(len(d.holders))}
	if d.weight != nil {
		g.GroupPolicy = queue.GroupPolicy{
			Weight: *d.weight, Concurrency: *d.concurrency, RateLimit: *d.rateLimit, RatePeriod: time.Duration(*d.ratePeriod), RateBurst: *d.rateBurst,
		}
		if until := timeFromPointer(d.pausedUntil); until.After(d.now) {
			g.PausedUntil = until
		}
	}
	if d.blocked != nil && q.IsFIFO() && q.GroupOnFailure == queue.GroupBlock {
		g.Blocked = *d.blocked
	}

	state := queue.GroupState{Holders: d.holders}
	if d.rateState != nil {
		state.RateState = *d.rateState
	}
	_, g.Next = state.Admit(q.LimitsOf(g.GroupPolicy), d.now, []int64{probeID}, 1)
	return g
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
	return s.publishGroup(ctx, namespace, name, group)
}

// groupChange has what a change of one group needs to know.
type groupChange struct {
	now      time.Time
	row      groupPolicyRow // without a policy when the group has no row
	stored   bool           // the group has a row
	settings int            // groups of the queue with settings of their own
	bucket   int16          // free for a group that gets a weight
}

// readGroupChange locks the row of a group, and reads what surrounds it.
func (q *storedQueue) readGroupChange(ctx context.Context, t *txn.Tx, group string) (c groupChange, err error) {
	// A caller names a group, so this is never the group of a FIFO queue's tasks without one.
	c.row = groupPolicyRow{queueID: q.id, grp: queue.HashGroup(group), name: group}
	t.QueueQuery(readClock, func(rows pgx.Rows) error { return rows.Scan(&c.now) })
	t.QueueQuery(countGroupsWithSettings, func(rows pgx.Rows) error { return rows.Scan(&c.settings) }, arg("queue_id", q.id))
	t.QueueQuery(findFreeBucket, func(rows pgx.Rows) error { return rows.Scan(&c.bucket) }, arg("queue_id", q.id))
	err = t.Query(ctx, lockGroupPolicy, scanRows(groupPolicyColumns, func(row groupPolicyRow) {
		c.row, c.stored = row, true
	}), arg("queue_id", q.id), arg("grp", c.row.grp))
	return c, err
}

// decide returns the policy of the group after meta, or the error of a change that breaks a rule.
func (c *groupChange) decide(q *storedQueue, meta queue.GroupMeta) (queue.GroupPolicy, error) {
	before := c.row.policy()
	policy, err := before.With(meta)
	if err != nil {
		return policy, err
	}
	if err := q.CheckGroupPolicy(policy); err != nil {
		return policy, err
	}

	policy = policy.WithoutEndedPause(c.now)
	// The numbers after the change if it adds the group; the check ignores them otherwise.
	return policy, policy.CheckGroupNumber(before, c.settings+1, q.GroupPolicies+1)
}

// updateGroupIn changes the policy of a group within t. The row of the queue is locked.
func (q *storedQueue) updateGroupIn(ctx context.Context, t *txn.Tx, group string, meta queue.GroupMeta) error {
	c, err := q.readGroupChange(ctx, t, group)
	if err != nil {
		return err
	}
	before, row := c.row.policy(), c.row
	policy, err := c.decide(q, meta)
	if err != nil {
		return err
	}

	row.setPolicy(policy)
	policies := q.GroupPolicies
	if c.stored {
		policies--
	}
	if policy.IsEmpty() {
		t.Queue(deleteGroupPolicy, arg("queue_id", q.id), arg("grp", row.grp))
	} else {
		policies++
		if policy.Weight > 0 && row.bucket == nil {
			row.bucket = &c.bucket
		}
		t.Queue(saveGroupPolicy, groupPolicyColumns.Arrays(nil, []groupPolicyRow{row})...)
	}
	t.Queue(changePolicies, arg("queue_id", q.id), arg("more", policies-q.GroupPolicies))

	// The last limit has gone, so the tasks that wait for groups become ready again, in steps.
	if policies == 0 && !q.LimitsGroups() {
		t.Queue(reviewLater, arg("queue_id", q.id), arg("after", beforeAllGroups))
	}
	t.Queue(markGroups, markerColumns.Arrays(nil, []markerRow{{queueID: q.id, grp: row.grp}})...)
	if !q.LimitsOf(before).KeepPlaces() && q.LimitsOf(policy).KeepPlaces() {
		q.writeGroupPlaces(t, row.grp)
	}
	return nil
}

// writeGroupPlaces gives the retained tasks of a group their places, under the gate of the queue. Without a limit they had none.
func (q *storedQueue) writeGroupPlaces(t *txn.Tx, grp int64) {
	t.Queue(lockGates, arg("queue_ids", []int32{q.id}))
	t.Queue(writePlacesOfGroup, arg("queue_id", q.id), arg("grp", grp), arg("none", q.hashGroup("")))
}

// writeAllPlaces gives the retained tasks of a queue the places of their groups, under the gate of the queue.
func (q *storedQueue) writeAllPlaces(t *txn.Tx) {
	t.Queue(lockGates, arg("queue_ids", []int32{q.id}))
	t.Queue(resetGroupStates, arg("queue_id", q.id))
	t.Queue(writePlacesOfQueue, arg("queue_id", q.id), arg("none", q.hashGroup("")))
}

// queueFlowChange adds the statements that a change of Flow needs: retained tasks get places, and all groups with waiting tasks are
// reviewed.
func (q *storedQueue) queueFlowChange(t *txn.Tx, next queue.Queue) {
	if q.Flow == next.Flow {
		return
	}
	after := &storedQueue{id: q.id, Queue: next}
	if next.KeepsPlaces() && (!q.KeepsPlaces() || q.Order != next.Order) {
		after.writeAllPlaces(t)
	}
	t.Queue(reviewLater, arg("queue_id", q.id), arg("after", beforeAllGroups))
}

// publishGroup makes this process and others see a changed group, and returns it.
func (s *Store) publishGroup(ctx context.Context, namespace, name, group string) (*queue.Group, error) {
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

		grp := q.hashGroup(group)
		holders, err := q.readHolders(ctx, t, grp)
		if err != nil || len(holders) == 0 {
			return err
		}

		// The markers of ended tasks make the next retain free their places. It holds the gate, which this call lacks.
		var marks []markerRow
		err = t.Query(ctx, findEndedPlaces, scanEach(func(id int64) { marks = append(marks, markerRow{queueID: q.id, grp: grp, taskID: id}) }),
			arg("queue_id", q.id), arg("ids", holders))
		if err != nil {
			return err
		}
		queueRows(t, markGroups, markerColumns, marks)
		return nil
	})
	if err != nil {
		return nil, err
	}

	g, err := s.publishGroup(ctx, namespace, name, group)
	if g != nil {
		g.Blocked = 0 // its place ends at the next retain, which reads the marker
	}
	return g, err
}

// readHolders returns the tasks that keep places of a group. Without the gate of the queue some may have ended since.
func (q *storedQueue) readHolders(ctx context.Context, t *txn.Tx, grp int64) (holders []int64, err error) {
	err = t.Query(ctx, loadHolders, func(rows pgx.Rows) error { return rows.Scan(&holders) }, arg("queue_id", q.id), arg("grp", grp))
	return holders, err
}
