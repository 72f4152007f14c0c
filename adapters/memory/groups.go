package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// groupState is a group of a queue: its settings, and the tasks that wait for it.
//
// A task that its group holds up leaves the ready tasks and waits here. While the group can start a task, one that waits is
// among the ready tasks, so no search looks at the others.
type groupState struct {
	name    string
	queue   *queueState
	policy  queue.GroupPolicy
	state   queue.GroupState
	waiting heap[*record] // by id in a FIFO queue, else as the ready tasks
	offered int           // tasks of the group among the ready ones
	served  float64       // virtual time of a fair queue: starts divided by the weight
	wakeAt  time.Time     // when a limit of time lets the next task start
	place   int           // in Store.waking
}

// ensureGroup returns a group of qs, and creates it when it is missing.
func (qs *queueState) ensureGroup(name string) *groupState {
	g := qs.groups[name]
	if g == nil {
		g = &groupState{name: name, queue: qs}
		g.waiting = newHeap(func(a, b *record) bool {
			switch {
			case qs.settings.IsFIFO():
				return a.task.ID < b.task.ID
			case a.task.Priority != b.task.Priority:
				return a.task.Priority < b.task.Priority
			}
			return a.readySeq < b.readySeq
		}, func(r *record) *int { return &r.heapIndex })
		for _, r := range qs.ready.order.items {
			// Tasks without a group state became ready before it; offerNext relies on a complete count.
			if r.task.Group == name {
				g.offered++
			}
		}
		qs.groups[name] = g
	}
	return g
}

// limitsOfTask returns the group that may hold up r, and its limits; nil when none does.
func (qs *queueState) limitsOfTask(r *record) (*groupState, queue.GroupLimits) {
	if r.task.Group == "" && !qs.settings.IsFIFO() {
		return nil, queue.GroupLimits{}
	}
	g := qs.groups[r.task.Group]
	// No state is made for a group without limits, so queues with millions of groups cost nothing here.
	if g == nil && !qs.settings.LimitsGroups() || g != nil && g.policy.IsEmpty() && !qs.settings.LimitsGroups() {
		return nil, queue.GroupLimits{}
	}
	g = qs.ensureGroup(r.task.Group)
	return g, qs.settings.LimitsOf(g.policy)
}

// chooseStarts returns the tasks that start with r, a ready task: r alone, or r and those behind it in a batch of a FIFO
// queue, at most most. It returns none when the group of r holds r up, and then r waits for its group.
func (s *Store) chooseStarts(r *record, now time.Time, most int) []*record {
	g, limits := r.queue.limitsOfTask(r)
	if g == nil {
		return []*record{r}
	}

	waiting := []int64{r.task.ID}
	if limits.FIFO {
		for _, w := range g.waiting.order.items {
			waiting = append(waiting, w.task.ID)
		}
		slices.Sort(waiting)
	} else {
		// Only a FIFO queue starts several tasks of a group at once, as they stay in one batch.
		most = 1
	}

	after := g.state
	chosen, _ := after.Admit(limits, now, waiting, most)
	// In a FIFO queue an older task may be the next one, and then r waits behind it.
	if !slices.Contains(chosen, r.task.ID) {
		s.waitForGroup(r, g)
		s.offerNext(g, now)
		return nil
	}

	records := make([]*record, len(chosen))
	for i, id := range chosen {
		records[i] = s.tasks[id]
	}
	return records
}

// waitForGroup moves a ready task to those that wait for g.
func (s *Store) waitForGroup(r *record, g *groupState) {
	r.heap.removeItem(r)
	r.queue.oldest.removeItem(r)
	r.queue.leaveFairShare(r)
	g.offered--
	r.heap = &g.waiting
	g.waiting.pushItem(r)
	r.queue.groupWaiting++
}

// startTask records the start of r in the state of its group and in the rate of its queue.
func (s *Store) startTask(r *record, now time.Time) {
	qs := r.queue
	// The search has checked the limits under the same lock, so Admit always admits here.
	_, qs.rateState, _ = qs.settings.Rate().Admit(qs.rateState, now, 1)
	if g := qs.groups[r.task.Group]; g != nil && qs.settings.Fair {
		g.served += 1 / float64(cmp.Or(g.policy.Weight, 1))
		qs.virtual = max(qs.virtual, g.served)
	}

	g, limits := qs.limitsOfTask(r)
	if g == nil {
		return
	}
	_, g.state.RateState, _ = limits.Rate.Admit(g.state.RateState, now, 1)
	if limits.KeepPlaces() && !slices.Contains(g.state.Holders, r.task.ID) {
		g.state.Holders = append(slices.Clone(g.state.Holders), r.task.ID)
	}
}

// endPlace ends the place of r in its group after a move. A task of a FIFO queue keeps its place until it ends, and a failed
// one until the group is unblocked, where failures block.
func (s *Store) endPlace(r *record, now time.Time) {
	qs := r.queue
	g := qs.groups[r.task.Group]
	if g == nil {
		return
	}

	switch is := r.task.Status; {
	case is == queue.StatusRetained:
		return
	// A retry keeps the place, so that no later task of the group passes it.
	case qs.settings.IsFIFO() && is.Waiting():
	case qs.settings.IsFIFO() && is == queue.StatusFailed && qs.settings.GroupOnFailure == queue.GroupBlock:
	default:
		g.state.Free(r.task.ID)
	}
	s.offerNext(g, now)
}

// offerNext makes the first waiting task of g ready, if the group can start it and no task of it is ready.
func (s *Store) offerNext(g *groupState, now time.Time) {
	s.endPause(g, now)
	first, ok := g.waiting.earliest()
	if !ok || g.offered > 0 || g.queue.gone {
		return
	}

	waiting := []int64{first.task.ID}
	if limits := g.queue.settings.LimitsOf(g.policy); limits.FIFO {
		waiting = waiting[:0]
		for _, w := range g.waiting.order.items {
			waiting = append(waiting, w.task.ID)
		}
		slices.Sort(waiting)
	}
	probe := g.state
	chosen, next := probe.Admit(g.queue.settings.LimitsOf(g.policy), now, waiting, 1)
	if len(chosen) == 0 {
		// Zero as the time: a place must become free first, and its end calls this again.
		s.planGroup(g, next)
		return
	}
	s.offerTask(s.tasks[chosen[0]], g)
}

// offerTask makes a task of g ready that waited for the group, in its old order.
func (s *Store) offerTask(r *record, g *groupState) {
	qs := g.queue
	g.waiting.removeItem(r)
	qs.groupWaiting--
	r.heap = &qs.ready
	qs.ready.pushItem(r)
	qs.oldest.pushItem(r)
	qs.joinFairShare(r)
	g.offered++
	// The queue may have left the busy ones when its last ready task went to the group.
	qs.namespace.busy[qs] = struct{}{}
	s.wakeListeners(qs)
}

// planGroup looks at g again at a time; zero = not because of the time.
func (s *Store) planGroup(g *groupState, at time.Time) {
	if g.place != 0 {
		s.waking.removeItem(g)
	}
	if !at.IsZero() {
		g.wakeAt = at
		s.waking.pushItem(g)
	}
}

// wakeGroups makes tasks of groups ready that a limit of time held up.
func (s *Store) wakeGroups(st *step) {
	for g, ok := s.waking.earliest(); ok; g, ok = s.waking.earliest() {
		// The heap is ordered by time, so the first one that is not due ends the step.
		if in := g.wakeAt.Sub(st.now); in > 0 {
			if st.done.NextIn == 0 || in < st.done.NextIn {
				st.done.NextIn = in
			}
			return
		}
		s.waking.removeItem(g)
		s.offerNext(g, st.now)
		st.recordWakeUp(g.queue)
	}
}

// reviewGroups applies new settings of a queue to its groups. All tasks that wait for a group are ready again; the next search
// holds up those that the new settings hold up.
func (s *Store) reviewGroups(qs *queueState) {
	for _, g := range qs.groups {
		// offerTask changes the heap, so the loop needs a copy.
		for _, r := range slices.Clone(g.waiting.order.items) {
			s.offerTask(r, g)
		}
		s.planGroup(g, time.Time{})
	}
}

// ListGroups returns a page in the order of names.
func (s *Store) ListGroups(ctx context.Context, namespace, name string, q queue.GroupQuery) (queue.GroupPage, error) {
	qs, now, err := s.lockQueue(ctx, namespace, name)
	if err != nil {
		return queue.GroupPage{}, err
	}
	defer s.mu.Unlock()

	if q.Name != "" {
		return queue.GroupPage{Groups: []*queue.Group{qs.ensureGroup(q.Name).describe(now)}}, nil
	}

	page := queue.GroupPage{Groups: []*queue.Group{}}
	for _, name := range slices.Sorted(maps.Keys(qs.groups)) {
		g := qs.groups[name].describe(now)
		// A group that only was named once has nothing to show. PostgreSQL has no row of it either.
		if name <= q.Cursor && q.Cursor != "" || g.IsEmpty() && g.Waiting == 0 && g.Retained == 0 {
			continue
		}
		if len(page.Groups) == q.Limit {
			page.Next = page.Groups[q.Limit-1].Name
			break
		}
		page.Groups = append(page.Groups, g)
	}
	return page, nil
}

// describe returns the group as a caller gets it.
func (g *groupState) describe(now time.Time) *queue.Group {
	qs := g.queue
	out := &queue.Group{
		Queue: qs.settings.Name, Name: g.name, GroupPolicy: g.policy, Retained: int64(len(g.state.Holders)),
		Waiting: int64(min(g.waiting.countItems(), queue.MaxGroupWaiting)),
	}
	if !now.Before(out.PausedUntil) {
		out.PausedUntil = time.Time{}
	}

	probe := g.state
	// The id 0 stands for one more task: the answer is when it could start.
	_, out.Next = probe.Admit(qs.settings.LimitsOf(g.policy), now, []int64{0}, 1)
	if qs.settings.IsFIFO() && qs.settings.GroupOnFailure == queue.GroupBlock {
		for _, id := range g.state.Holders {
			if r := qs.namespace.store.tasks[id]; r != nil && r.task.Status == queue.StatusFailed {
				out.Blocked = id
			}
		}
	}
	return out
}

// UpdateGroup sets fields of the policy of a group.
func (s *Store) UpdateGroup(ctx context.Context, namespace, name, group string, meta queue.GroupMeta) (*queue.Group, error) {
	qs, now, err := s.lockQueue(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()

	g := qs.ensureGroup(group)
	before := g.policy
	policy, err := before.With(meta)
	if err == nil {
		err = qs.settings.CheckGroupPolicy(policy)
	}
	policy = policy.WithoutEndedPause(now)
	if err == nil {
		err = policy.CheckGroupNumber(before, qs.countSettings()+1, qs.settings.GroupPolicies+1)
	}
	if err != nil {
		return nil, err
	}

	s.setPolicy(g, policy)
	s.planGroup(g, policy.PausedUntil)
	s.offerNext(g, now)
	return g.describe(now), nil
}

// setPolicy changes the policy of a group. A limit that is new counts the tasks in hand.
func (s *Store) setPolicy(g *groupState, policy queue.GroupPolicy) {
	qs := g.queue
	before := g.policy
	g.policy = policy
	switch {
	case before.IsEmpty() && !policy.IsEmpty():
		qs.settings.GroupPolicies++
	case !before.IsEmpty() && policy.IsEmpty():
		qs.settings.GroupPolicies--
	}
	if !qs.settings.LimitsOf(before).KeepPlaces() {
		g.state.Holders = nil
		s.countPlaces(qs, func(group string) bool { return group == g.name })
	}
}

// countSettings counts the groups with a weight or limits of their own.
func (qs *queueState) countSettings() (n int) {
	for _, g := range qs.groups {
		if g.policy.HasSettings() {
			n++
		}
	}
	return n
}

// endPause forgets a pause that is over. The tasks of a group without other limits become ready.
func (s *Store) endPause(g *groupState, now time.Time) {
	if g.policy.PausedUntil.IsZero() || now.Before(g.policy.PausedUntil) {
		return
	}
	s.setPolicy(g, g.policy.WithoutEndedPause(now))
	if !g.policy.IsEmpty() || g.queue.settings.LimitsGroups() {
		return
	}
	// offerTask changes the heap, so the loop needs a copy.
	for _, r := range slices.Clone(g.waiting.order.items) {
		s.offerTask(r, g)
	}
}

// UnblockGroup ends the places of finished tasks.
func (s *Store) UnblockGroup(ctx context.Context, namespace, name, group string) (*queue.Group, error) {
	qs, now, err := s.lockQueue(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()

	g := qs.ensureGroup(group)
	for _, id := range slices.Clone(g.state.Holders) {
		// Places of running tasks stay: an unblock must not start a second task beside one.
		if r := s.tasks[id]; r == nil || r.task.Status.Finished() {
			g.state.Free(id)
		}
	}
	s.offerNext(g, now)
	return g.describe(now), nil
}

// pauseFor holds up what the scope of a release names.
func (s *Store) pauseFor(r *record, scope queue.Scope, until time.Time) {
	qs := r.queue
	switch {
	// A pause never becomes shorter by a release: an operator may have set the longer one.
	case scope == queue.ScopeQueue && until.After(qs.settings.PausedUntil):
		qs.settings.PausedUntil = until
	case scope == queue.ScopeGroup && r.task.Group != "":
		g := qs.ensureGroup(r.task.Group)
		full := g.policy.IsEmpty() && qs.settings.GroupPolicies >= queue.MaxGroupPauses
		if until.After(g.policy.PausedUntil) && !full {
			policy := g.policy
			policy.PausedUntil = until
			s.setPolicy(g, policy)
			s.planGroup(g, until)
		}
	}
}
