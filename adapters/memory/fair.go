package memory

import "math"

// A fair queue serves, among the groups with a ready task of the first priority, the one with the least starts for its weight.
// A group that had no ready task begins at the present virtual time: it gets its share from now on, and none for the past.

// fairShare has the ready tasks of one group of a fair queue, in the order of the ready tasks.
type fairShare struct{ ready heap[*record] }

// joinFairShare adds a ready task to the share of its group.
func (qs *queueState) joinFairShare(r *record) {
	if !qs.settings.Fair {
		return
	}
	share := qs.shares[r.task.Group]
	if share == nil {
		share = &fairShare{newHeap(qs.isBefore, func(r *record) *int { return &r.shareIndex })}
		qs.shares[r.task.Group] = share
		g := qs.ensureGroup(r.task.Group)
		// Without this, a group that was idle for an hour would take all starts until it has caught up.
		g.served = math.Max(g.served, qs.virtual)
	}
	share.ready.pushItem(r)
}

// leaveFairShare takes a task out of the share of its group.
func (qs *queueState) leaveFairShare(r *record) {
	// Index + 1 in the share: 0 says that the queue was not fair when the task became ready.
	if r.shareIndex == 0 {
		return
	}
	share := qs.shares[r.task.Group]
	share.ready.removeItem(r)
	if share.ready.countItems() == 0 {
		delete(qs.shares, r.task.Group)
	}
}

// firstReadyTask returns the task that a search meets next; nil when none is ready.
func (qs *queueState) firstReadyTask() *record {
	first, ok := qs.ready.earliest()
	if !ok || !qs.settings.Fair {
		return first
	}

	for name, share := range qs.shares {
		r, _ := share.ready.earliest()
		// Fairness holds within a priority: a lower one never passes a higher one.
		if r.task.Priority != first.task.Priority {
			continue
		}
		g, best := qs.ensureGroup(name), qs.ensureGroup(first.task.Group)
		if g.served < best.served || g.served == best.served && r.readySeq < first.readySeq {
			first = r
		}
	}
	return first
}

// rebuildFairShares fills the shares after a change of the queue.
func (qs *queueState) rebuildFairShares() {
	// All tasks leave before the first one joins, because a share may be in an order that the change made wrong.
	for _, r := range qs.ready.order.items {
		qs.leaveFairShare(r)
	}
	for _, r := range qs.ready.order.items {
		qs.joinFairShare(r)
	}
}
