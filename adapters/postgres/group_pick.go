package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The bounds of one pick from a queue that limits its groups.
const (
	groupRounds  = 6     // searches; each moves tasks out of ready that their groups hold up
	groupRows    = 64    // least rows of a search
	maxGroupRows = 1_000 // most rows and markers of a search
)

// lockedPause is the least delay of the next look at a group that could go on with a task which another transaction has locked. The
// end of that transaction may be a rollback, which leaves no marker. Looks are planned for multiples of it, so that two retains plan
// the same one.
const lockedPause = 50 * time.Millisecond

// groupPick is the pick of one queue that limits its groups, under the gate of the queue.
type groupPick struct {
	*claim
	q       pickQueue
	want    int
	groups  map[int64]*pickedGroup
	met     []metRun // rows of ready in this round
	started map[int64]bool
	place   map[int64]waitingGroupRow // of the tasks that waited, by id
	all     []waitingGroupRow         // tasks that wait from now on
	start   []waitingGroupRow         // tasks that no longer wait
	marks   []markerRow
	wakes   []wakeRow
	read    int // markers that the pick has deleted
}

// pickedGroup is a group in one pick.
type pickedGroup struct {
	grp     int64
	version int64 // of the stored state; 0 = none
	stored  queue.GroupState
	state   queue.GroupState // before the starts of this pick
	limits  queue.GroupLimits
	freed   bool    // a marker named it
	ended   []int64 // tasks that markers named before the state was read
	waiting []int64 // tasks that could start, in order
	// admitted are those of the waiting that start in this round if the pick wants so many, in their order.
	admitted []int64
	full     bool // more tasks may wait than were read
	// locked are those of the waiting that another transaction has locked, as a replace does. They cannot start yet.
	locked map[int64]bool
	next   time.Time
	marked bool // the pick leaves a marker
}

// metRun is a row of ready that a search met, with its place.
type metRun struct {
	readyRow
	at pgtype.TID
}

// candidate is a task that could start.
type candidate struct {
	id      int64
	turn    int64
	lane    int32
	attempt int16
	grp     int64 // 0 where no limit is about the group
	group   int64 // the group in any case; 0 = none
	run     int   // index of its run in met; -1 = it waited for its group
}

// pickFromLimitedGroups picks up to quota tasks of q.
func (p *claim) pickFromLimitedGroups(ctx context.Context, q pickQueue, quota int) error {
	g := &groupPick{claim: p, q: q, want: quota, groups: map[int64]*pickedGroup{}, started: map[int64]bool{}, place: map[int64]waitingGroupRow{}}
	p.groups = append(p.groups, g)

	start := fromCursor
	for range groupRounds {
		if g.want <= 0 {
			return nil
		}
		found, err := g.search(ctx, start)
		if err != nil {
			return err
		}
		if !found {
			if start == fromBehind {
				return nil
			}
			start = fromBehind
			continue
		}
		if err := g.loadNewGroups(ctx); err != nil {
			return err
		}
		if err := g.findSuspects(ctx); err != nil {
			return err
		}
		g.admit()
	}
	return nil
}

// search reads rows of ready, and then front markers: a row that a release has written comes with the marker that it has
// written. It reports whether it found any.
func (g *groupPick) search(ctx context.Context, from from) (bool, error) {
	began := time.Now()
	level, sweep := g.q.lanes.chooseStart(from, began, len(g.out) == 0)
	if level == skipLevel {
		return false, nil
	}

	g.met = g.met[:0]
	rows := min(max(2*g.want, groupRows), maxGroupRows)
	if !g.q.limitsGroups() { // no group holds tasks up, so a row more than wanted would only be locked
		rows = g.want
	}
	resumed, err := g.readRuns(ctx, level, rows)
	if err != nil {
		return false, err
	}

	markers, err := g.readMarkers(ctx, level, began)
	if sweep {
		g.q.lanes.recordSweep(from, began, time.Since(began))
	}
	g.returnRemainders(resumed, rows)
	return len(g.met)+markers > 0, err
}

// readMarkers takes the front markers, and frees the places of the tasks that ended.
func (g *groupPick) readMarkers(ctx context.Context, level level, began time.Time) (markers int, err error) {
	if !g.q.limitsGroups() {
		return 0, nil
	}
	cursor := g.q.lanes.cursorOfLane(frontLane, level)
	return markers, g.tx.Query(ctx, takeMarkers, func(rows pgx.Rows) error {
		var turn, grp, id int64
		if err := rows.Scan(&turn, &grp, &id); err != nil {
			return err
		}
		markers++
		g.read++
		g.q.lanes.advanceCursor(frontLane, turn, began)
		group := g.groupOf(grp)
		group.freed = true
		if id != 0 {
			group.ended = append(group.ended, id)
			group.state.Free(id)
		}
		return nil
	}, arg("queue_id", g.q.id), arg("cursor", cursor), arg("limit", maxGroupRows))
}

// readRuns locks rows of ready, in the order of the lanes, or of the shares of a fair queue.
func (g *groupPick) readRuns(ctx context.Context, level level, most int) (resumed map[int32]int64, err error) {
	scan := func(rows pgx.Rows) (lane int32, tasks int, err error) {
		var m metRun
		err = rows.Scan(append(readyColumns.Targets(nil, &m.readyRow), &m.at, &g.now)...)
		g.met = append(g.met, m)
		return m.lane, int(m.n), err
	}
	if g.q.Fair {
		return nil, g.readFairRuns(ctx, &g.q, level, most, scan)
	}

	var cursors []laneCursor
	cursors, resumed = g.q.lanes.appendCursors(cursors, level, g.q.id)
	cursors = slices.DeleteFunc(cursors, func(c laneCursor) bool { return c.lane == frontLane })
	args := cursorColumns.Arrays(nil, cursors)
	args = append(args, arg("queue_id", []int32{g.q.id}), arg("quota", []int32{int32(most)}), arg("gated", g.gated), arg("limit", int32(most))) //nolint:gosec // at most maxGroupRows
	return resumed, g.tx.Query(ctx, g.choosePick(pickRuns, pickHealthyRuns), func(rows pgx.Rows) error {
		_, _, err := scan(rows)
		return err
	}, args...)
}

// returnRemainders makes the next pick continue in the lanes that this search resumed and did not reach.
func (g *groupPick) returnRemainders(resumed map[int32]int64, most int) {
	for lane, turn := range resumed {
		if lane == frontLane {
			continue
		}
		last := metRun{}
		if n := len(g.met); n > 0 {
			last = g.met[n-1]
		}
		if len(g.met) == most && lane > last.lane {
			g.q.lanes.recordRemainder(lane, turn)
		}
	}
}

func (g *groupPick) groupOf(grp int64) *pickedGroup {
	group := g.groups[grp]
	if group == nil {
		group = &pickedGroup{grp: grp, version: -1}
		g.groups[grp] = group
	}
	return group
}

// hashOfRun returns the group of a row. In a FIFO queue the tasks without a group are one group.
func (g *groupPick) hashOfRun(m *metRun) int64 {
	switch {
	case !g.q.limitsGroups():
		return 0
	case m.grp == nil && g.q.IsFIFO():
		return queue.HashGroup("")
	}
	return groupFromPointer(m.grp)
}

// loadNewGroups reads the states, the settings and the waiting tasks of the groups of this round.
func (g *groupPick) loadNewGroups(ctx context.Context) error {
	for i := range g.met {
		if grp := g.hashOfRun(&g.met[i]); grp != 0 {
			group := g.groupOf(grp)
			group.freed = group.freed || g.met[i].n == 0
		}
	}

	var fresh, look []int64
	for grp, group := range g.groups {
		if group.version < 0 {
			fresh = append(fresh, grp)
		}
		if group.version < 0 || group.freed {
			look = append(look, grp)
		}
	}
	slices.Sort(fresh)
	slices.Sort(look)
	if len(look) == 0 {
		return nil
	}

	g.tx.QueueQuery(loadGroups, g.scanGroup, arg("queue_id", g.q.id), arg("grp", fresh))
	most := g.want + max(g.q.FIFOBatch, 1)
	for _, grp := range look {
		g.groups[grp].waiting, g.groups[grp].full, g.groups[grp].locked = nil, false, nil
	}
	err := g.tx.Query(ctx, readGroupWaiting, g.makeWaitingScanner(most), arg("queue_id", g.q.id), arg("grp", look), arg("most", most))
	if err != nil {
		return err
	}
	for _, w := range g.all { // those that earlier rounds made wait have no row yet
		if _, looked := slices.BinarySearch(look, w.grp); looked {
			g.addWaiting(w, false, most)
		}
	}
	if !g.q.IsFIFO() {
		return nil
	}
	return g.readKeptPlaces(ctx, look)
}

// scanGroup reads the state and the settings of a group.
func (g *groupPick) scanGroup(rows pgx.Rows) error {
	var grp int64
	var version, rateState, ratePeriod *int64
	var holders []int64
	var concurrency, rateLimit, rateBurst *int
	var paused *time.Time
	if err := rows.Scan(&grp, &version, &holders, &rateState, &concurrency, &rateLimit, &ratePeriod, &rateBurst, &paused); err != nil {
		return err
	}

	group := g.groups[grp]
	group.version = 0
	if version != nil {
		group.version = *version
		group.stored = queue.GroupState{Holders: holders, RateState: *rateState}
	}
	group.state = group.stored
	for _, id := range group.ended {
		group.state.Free(id)
	}

	var policy queue.GroupPolicy
	if concurrency != nil {
		policy = queue.GroupPolicy{
			Concurrency: *concurrency, RateLimit: *rateLimit, RatePeriod: time.Duration(*ratePeriod), RateBurst: *rateBurst,
			PausedUntil: timeFromPointer(paused),
		}
	}
	group.limits = g.q.LimitsOf(policy)
	group.limits.Batch = min(group.limits.Batch, g.mostOfGroup)
	return nil
}

// makeWaitingScanner returns a function that adds the tasks that wait for a group, of which a statement reads at most most.
func (g *groupPick) makeWaitingScanner(most int) func(pgx.Rows) error {
	var w waitingGroupRow
	var locked bool
	targets := append(groupWaitingColumns.Targets(nil, &w), &locked)
	return func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		g.addWaiting(w, locked, most)
		return nil
	}
}

func (g *groupPick) addWaiting(w waitingGroupRow, locked bool, most int) {
	group := g.groups[w.grp]
	if g.started[w.taskID] {
		return
	}
	if locked {
		if group.locked == nil {
			group.locked = map[int64]bool{}
		}
		group.locked[w.taskID] = true
	}
	group.waiting = append(group.waiting, w.taskID)
	group.full = len(group.waiting) >= most
	g.place[w.taskID] = w
}

// listUnlocked returns the tasks of ids that no other transaction has locked.
func (group *pickedGroup) listUnlocked(ids []int64) []int64 {
	return slices.DeleteFunc(slices.Clone(ids), func(id int64) bool { return group.locked[id] })
}

// admitWaiting returns the tasks that start in this round if the pick wants most, in their order. The group of a FIFO queue is held
// up by a locked task that comes first; elsewhere a locked task is passed over, as in ready.
func (g *groupPick) admitWaiting(group *pickedGroup, most int) []int64 {
	probe, able := group.state, group.waiting
	if !g.q.IsFIFO() {
		able = group.listUnlocked(able)
	}
	admitted, _ := probe.Admit(group.limits, g.now, able, most)
	if i := slices.IndexFunc(admitted, func(id int64) bool { return group.locked[id] }); i >= 0 {
		admitted = admitted[:i]
	}
	return admitted
}

// readKeptPlaces reads the tasks that keep their place in a FIFO group and wait, beyond those that were read.
func (g *groupPick) readKeptPlaces(ctx context.Context, look []int64) error {
	var grps, ids []int64
	for _, grp := range look {
		for _, id := range g.groups[grp].state.Holders {
			if g.groups[grp].full && !slices.Contains(g.groups[grp].waiting, id) {
				grps, ids = append(grps, grp), append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return g.tx.Query(ctx, readKeptPlaces, g.makeWaitingScanner(1<<30), arg("queue_id", g.q.id), arg("grp", grps), arg("task_id", ids))
}

// admit starts the tasks of this round that may start, in the order of priority and turn, or by the shares of a fair queue.
func (g *groupPick) admit() {
	byID, free := g.listCandidates()
	chosen := free
	for _, group := range g.groups {
		if len(group.waiting) == 0 {
			continue
		}
		group.admitted = g.admitWaiting(group, g.want)
		if g.q.IsFIFO() {
			group.admitted = g.cutSuspects(group.admitted, byID)
		}
		for _, id := range group.admitted {
			chosen = append(chosen, byID[id])
		}
	}

	// The order of the tasks decides how many a group starts, and the group which ones: those that keep their place first.
	g.sortCandidates(chosen)
	taken := map[int64]int{}
	for _, c := range chosen[:min(len(chosen), g.want)] {
		if c.grp != 0 {
			c = byID[g.groups[c.grp].admitted[taken[c.grp]]]
		}
		taken[c.grp]++
		g.startCandidate(c)
	}
	g.want -= min(len(chosen), g.want)

	for _, group := range g.groups {
		g.settleGroup(group, taken[group.grp], byID)
	}
	g.settleRuns()
}

// listCandidates returns the tasks of this round by id, and those that no group holds up. It adds the tasks of rows to those of
// their group, in order.
func (g *groupPick) listCandidates() (byID map[int64]candidate, free []candidate) {
	byID = map[int64]candidate{}
	for _, group := range g.groups {
		for _, id := range group.waiting {
			w := g.place[id]
			byID[id] = candidate{id: id, turn: w.turn, lane: w.lane, attempt: w.attempt, grp: w.grp, group: w.grp, run: -1}
		}
	}

	for i := range g.met {
		m := &g.met[i]
		grp := g.hashOfRun(m)
		for k := range int64(m.n) {
			c := candidate{id: m.taskID + k, turn: m.turn + k, lane: m.lane, attempt: m.attempt, grp: grp, group: groupFromPointer(m.grp), run: i}
			if grp == 0 {
				if g.admitsSuspect(c) {
					free = append(free, c)
				}
				continue
			}
			if g.q.IsFIFO() {
				c.turn, c.group = c.id, grp
			}
			byID[c.id] = c
			g.groups[grp].waiting = append(g.groups[grp].waiting, c.id)
		}
	}

	for _, group := range g.groups {
		slices.SortStableFunc(group.waiting, func(a, b int64) int {
			x, y := byID[a], byID[b]
			return cmp.Or(cmp.Compare(priorityOfLane(x.lane), priorityOfLane(y.lane)), cmp.Compare(x.turn, y.turn))
		})
		if !g.q.IsFIFO() {
			g.putOffSuspects(group, byID)
		}
	}
	return byID, free
}

// sortCandidates orders tasks by priority and turn; in a fair queue the shares of their lanes decide before the turn.
func (g *groupPick) sortCandidates(all []candidate) {
	byTurn := func(a, b candidate) int {
		return cmp.Or(cmp.Compare(priorityOfLane(a.lane), priorityOfLane(b.lane)), cmp.Compare(a.turn, b.turn))
	}
	slices.SortFunc(all, byTurn)
	if !g.q.Fair {
		return
	}

	times := g.q.lanes.virtualTimes(all)
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(priorityOfLane(a.lane), priorityOfLane(b.lane)), cmp.Compare(times[a.id], times[b.id]))
	})
}

// startCandidate adds a task to the picked ones.
func (g *groupPick) startCandidate(c candidate) {
	g.started[c.id] = true
	g.took[g.q.id]++
	g.runs++
	task := &queue.Task{
		ID: c.id, Status: queue.StatusRetained, Namespace: g.q.Namespace, Queue: g.q.Name, Priority: priorityOfLane(c.lane), Attempt: attemptOfRow(leaseAttempt(c.attempt)),
	}
	g.out = append(g.out, pickedTask{
		q: g.q.storedQueue, rank: g.q.rank, lane: c.lane, turn: c.turn, attempt: c.attempt, run: g.runs, grp: c.group, task: task,
		moved: c.turn != c.id || c.attempt > 0 || g.q.IsFIFO(),
	})
	if g.q.Fair {
		g.q.lanes.recordStart(c.lane)
	}
	switch {
	case c.run < 0:
		g.start = append(g.start, g.place[c.id])
		g.addGroupWaiting(g.q.id, -1)
	case g.q.IsFIFO():
		m := &g.met[c.run]
		g.place[c.id] = waitingGroupRow{turn: c.id, taskID: c.id, queueID: g.q.id, lane: c.lane, attempt: c.attempt, diesAt: m.diesAt, grp: c.grp}
	}
}

// settleGroup counts the started tasks of a group. It leaves a marker when more could start, and plans a look when a limit of
// time holds the group up, or another transaction that has locked the next task.
func (g *groupPick) settleGroup(group *pickedGroup, started int, byID map[int64]candidate) {
	left := slices.DeleteFunc(slices.Clone(group.waiting), func(id int64) bool { return g.started[id] })
	if started > 0 {
		first := slices.DeleteFunc(slices.Clone(group.waiting), func(id int64) bool { return !g.started[id] })
		group.state.Admit(group.limits, g.now, slices.Concat(first, left), started)
	}
	more, next := g.findNextOfGroup(group, left)
	group.next = next
	group.freed = false

	// In a FIFO queue all of them wait from now on, those of rows too.
	waits := g.q.IsFIFO() || slices.ContainsFunc(left, func(id int64) bool { return byID[id].run < 0 })
	switch {
	case len(more) > 0 && waits:
		g.markGroup(group)
	case len(more) == 0 && len(left) > 0 && !next.IsZero():
		g.wakes = append(g.wakes, wakeRow{dueAt: truncateToMicros(next.Add(time.Microsecond)), queueID: g.q.id, grp: group.grp})
	}
	group.waiting = left
}

// findNextOfGroup returns the next task of a group, of those that are left, or the time of the next look at the group. It returns
// neither where a place must become free first.
func (g *groupPick) findNextOfGroup(group *pickedGroup, left []int64) (more []int64, next time.Time) {
	probe, able := group.state, left
	if !g.q.IsFIFO() {
		able = group.listUnlocked(left)
	}
	more, next = probe.Admit(group.limits, g.now, able, 1)
	if len(more) == 0 && next.IsZero() && len(able) < len(left) { // then one of the locked tasks is the next
		probe = group.state
		more, next = probe.Admit(group.limits, g.now, left, 1)
	}
	if len(more) > 0 && group.locked[more[0]] {
		return nil, g.now.Truncate(lockedPause).Add(2 * lockedPause)
	}
	return more, next
}

// settleRuns removes the rows of this round from ready. Tasks that their group holds up wait for it from now on. Tasks that
// could start and are not wanted stay.
func (g *groupPick) settleRuns() {
	began := time.Now()
	for i := range g.met {
		m := &g.met[i]
		grp := g.hashOfRun(m)
		if m.n == 0 {
			g.addGroupWaiting(g.q.id, 1) // the count left out one task that could start
			g.whole = append(g.whole, m.at)
			g.q.lanes.advanceCursor(m.lane, m.turn, began)
			continue
		}

		// After a start behind a task that stays, no part of the row can stay.
		n, later := g.countStartedTasks(m)
		held := grp != 0 && (g.isHeldUp(g.groups[grp]) || later || g.q.IsFIFO())
		switch {
		case n == int64(m.n) || held:
			g.whole = append(g.whole, m.at)
			g.q.lanes.advanceCursor(m.lane, m.turn+int64(m.n)-1, began)
		case n > 0:
			g.tx.Queue(shortenRun, arg("taken", int16(n)), arg("place", m.at)) //nolint:gosec // at most runMost
			fallthrough
		default:
			g.rests = append(g.rests, remainder{lanes: g.q.lanes, lane: m.lane, turn: m.turn + n})
		}
		if held {
			g.holdUp(m, grp, n)
		}
	}

	if len(g.whole) > 0 { // the next search must not find them again: our own locks do not hide rows from us
		g.tx.Queue(deleteRuns, arg("places", g.whole))
		g.whole = nil
	}
}

// countStartedTasks returns how many tasks have started from the front of a row, and whether others have started behind them.
func (g *groupPick) countStartedTasks(m *metRun) (front int64, later bool) {
	for front < int64(m.n) && g.started[m.taskID+front] {
		front++
	}
	for k := front; k < int64(m.n); k++ {
		later = later || g.started[m.taskID+k]
	}
	return front, later
}

// isHeldUp reports whether no further task of a group may start now.
func (g *groupPick) isHeldUp(group *pickedGroup) bool {
	probe := group.state
	more, _ := probe.Admit(group.limits, g.now, []int64{-1}, 1)
	return len(more) == 0
}

// holdUp makes the tasks of a row that did not start wait for their group, from the one at n on.
func (g *groupPick) holdUp(m *metRun, grp, n int64) {
	could := false
	for k := n; k < int64(m.n); k++ {
		id, turn := m.taskID+k, m.turn+k
		if g.started[id] {
			continue
		}
		if g.q.IsFIFO() {
			turn = id
		}
		w := waitingGroupRow{turn: turn, taskID: id, queueID: g.q.id, lane: m.lane, attempt: m.attempt, diesAt: m.diesAt, grp: grp}
		g.all = append(g.all, w)
		g.place[id] = w
		g.addGroupWaiting(g.q.id, 1)
		could = true
	}
	if group := g.groups[grp]; could && group.next.IsZero() && !g.isHeldUp(group) {
		g.markGroup(group)
	}
}

// markGroup leaves a marker, so that the next retain looks at the group. One is enough.
func (g *groupPick) markGroup(group *pickedGroup) {
	if !group.marked {
		group.marked = true
		g.marks = append(g.marks, markerRow{queueID: g.q.id, grp: group.grp})
	}
}

// changesGroups reports whether the pick has work on groups to write.
func (p *claim) changesGroups() bool {
	return slices.ContainsFunc(p.groups, func(g *groupPick) bool {
		return len(g.all)+len(g.start)+len(g.marks)+len(g.wakes)+g.read > 0
	}) || len(p.groupWaiting) > 0
}

// finishEmpty ends a retain that starts no task. The work on groups is to last.
func (p *claim) finishEmpty(t *txn.Tx) error {
	if !p.changesGroups() {
		p.keepSuspects()
		return txn.ErrNothing
	}
	p.rememberRemainders()
	p.queueGroups(t)
	return nil
}

// queueGroups queues the writes about rates and groups, for the tasks that the pick kept.
func (p *claim) queueGroups(t *txn.Tx) {
	var saved []groupStateRow
	var dropped []groupVersion
	for id, r := range p.rates {
		n := 0
		for i := range p.out {
			if p.out[i].q.id == id {
				n++
			}
		}
		if _, after, _ := r.rate.Admit(r.state, p.now, n); after != r.state {
			saved = append(saved, groupStateRow{queueID: id, holders: "{}", rateState: after})
			dropped = append(dropped, groupVersion{queueID: id, version: r.version})
		}
	}

	for _, g := range p.groups {
		g.undoRestored()
		for _, group := range g.groups {
			if group.version < 0 || slices.Equal(group.state.Holders, group.stored.Holders) && group.state.RateState == group.stored.RateState {
				continue
			}
			if group.version > 0 {
				dropped = append(dropped, groupVersion{queueID: g.q.id, grp: group.grp, version: group.version})
			}
			if !group.state.IsEmpty(p.now) {
				saved = append(saved, groupStateRow{queueID: g.q.id, grp: group.grp, holders: encodeArray(group.state.Holders), rateState: group.state.RateState})
			}
		}
		g.queueRows(t)
	}

	queueRows(t, dropGroupStates, groupVersionColumns, slices.DeleteFunc(dropped, func(v groupVersion) bool { return v.version <= 0 }))
	queueRows(t, saveGroupStates, groupStateColumns, saved)
	if len(p.groupWaiting) > 0 {
		events{}.addGroupWaiting(t, p.groupWaiting)
	}
}

// addGroupWaiting changes the number of tasks of a queue that wait for their group.
func (p *claim) addGroupWaiting(queueID int32, n int) {
	if p.groupWaiting == nil {
		p.groupWaiting = map[int32]int{}
	}
	p.groupWaiting[queueID] += n
}

// queueRows queues the rows of the tasks that wait for their group, and those of markers and planned looks.
func (g *groupPick) queueRows(t *txn.Tx) {
	// A task that waited and came from a row of this pick has no row to delete yet.
	fresh := map[int64]bool{}
	for _, w := range g.all {
		fresh[w.taskID] = true
	}
	g.all = slices.DeleteFunc(g.all, func(w waitingGroupRow) bool { return g.started[w.taskID] })
	g.start = slices.DeleteFunc(g.start, func(w waitingGroupRow) bool { return fresh[w.taskID] })

	queueRows(t, insertWaiting, groupWaitingColumns, g.all)
	if len(g.start) > 0 {
		t.Queue(deleteWaiting, startedColumns.Arrays([]sqltext.Arg{arg("queue_id", g.q.id)}, g.start)...)
	}
	queueRows(t, markGroups, markerColumns, g.marks)
	queueRows(t, planGroupWakes, wakeColumns, g.wakes)
}

// undoRestored ends the places of the tasks that go back, except those that they had before. In a FIFO queue they wait for their
// group, which needs a marker where none of its tasks is in hand. A rate counts them: it has let them start.
func (g *groupPick) undoRestored() {
	for i := range g.restored {
		k := &g.restored[i]
		group := g.groups[k.grp]
		switch {
		case k.q.id != g.q.id || group == nil:
			continue
		case !g.q.IsFIFO():
			group.state.Free(k.task.ID)
			continue
		}

		id := k.task.ID
		if !slices.Contains(group.stored.Holders, id) {
			group.state.Free(id)
		}
		g.addGroupWaiting(g.q.id, 1)
		if k.share != groupElsewhere {
			g.markGroup(group)
		}
		delete(g.started, id)
		before := len(g.start)
		g.start = slices.DeleteFunc(g.start, func(w waitingGroupRow) bool { return w.taskID == id })
		if len(g.start) == before {
			g.all = append(g.all, g.place[id])
		}
	}
}

// rateState is the state of the rate of a queue.
type rateState struct {
	rate    queue.Rate
	version int64 // of the stored state; 0 = none
	state   int64
}

// noteNextStart records when a limit of time lets tasks of a queue start.
func (p *claim) noteNextStart(name string, at time.Time) {
	if p.nextStart == nil {
		p.nextStart = map[string]time.Time{}
	}
	p.nextStart[name] = at
}

// reportNextStarts reports to the caller when limits of time let tasks start.
func (p *claim) reportNextStarts(r queue.Retain) {
	if p == nil {
		return
	}
	for name, at := range p.nextStart {
		now := p.now
		if now.IsZero() {
			now = time.Now()
		}
		r.ReportLater(name, max(at.Sub(now), 0))
	}
}
