package memory

import "math"

// A fair queue serves, among the groups with a ready task of the first priority, the one with the least starts for its weight.
// A group that had no ready task begins at the present virtual time: it gets its share from now on, and none for the past.

// fairShare has the ready tasks of one group of a fair queue, in the order of the ready tasks.
type fairShare struct{ ready heap[*record] }

// joinFairShare adds a ready task to the share of its group.
func (l *queueState) joinFairShare(r *record) {
	if !l.queue.Fair {
		return
	}
	share := l.shares[r.task.Group]
	if share == nil {
		share = &fairShare{newHeap(l.isBefore, func(r *record) *int { return &r.share })}
		l.shares[r.task.Group] = share
		g := l.findGroup(r.task.Group)
		// Without this, a group that was idle for an hour would take all starts until it has caught up.
		g.served = math.Max(g.served, l.virtual)
	}
	share.ready.pushItem(r)
}

// leaveFairShare takes a task out of the share of its group.
func (l *queueState) leaveFairShare(r *record) {
	// Index + 1 in the share: 0 says that the queue was not fair when the task became ready.
	if r.share == 0 {
		return
	}
	share := l.shares[r.task.Group]
	share.ready.removeItem(r)
	if share.ready.countItems() == 0 {
		delete(l.shares, r.task.Group)
	}
}

// firstReadyTask returns the task that a search meets next; nil when none is ready.
func (l *queueState) firstReadyTask() *record {
	first, ok := l.ready.earliest()
	if !ok || !l.queue.Fair {
		return first
	}

	for name, share := range l.shares {
		r, _ := share.ready.earliest()
		// Fairness holds within a priority: a lower one never passes a higher one.
		if r.task.Priority != first.task.Priority {
			continue
		}
		g, best := l.findGroup(name), l.findGroup(first.task.Group)
		if g.served < best.served || g.served == best.served && r.order < first.order {
			first = r
		}
	}
	return first
}

// rebuildFairShares fills the shares after a change of the queue.
func (l *queueState) rebuildFairShares() {
	// All tasks leave before the first one joins, because a share may be in an order that the change made wrong.
	for _, r := range l.ready.order.items {
		l.leaveFairShare(r)
	}
	for _, r := range l.ready.order.items {
		l.joinFairShare(r)
	}
}
