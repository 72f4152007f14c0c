package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// The statements of retains.
var (
	pickRuns         = statement("retain.pick")
	pickHealthyRuns  = statement("retain.pick" + healthy)
	seeSplitting     = statement("retain.splitting")
	deleteRuns       = statement("retain.take")
	shortenRun       = statement("retain.split")
	restoreRuns      = statement("retain.restore")
	readTaskRange    = statement("retain.range")
	readPickedTasks  = statement("retain.tasks")
	readPickedStates = statement("retain.states")
	lockGates        = statement("retain.gate")
	countHeld        = statement("retain.held")
	grantLeases      = statement("retain.lease")
)

// newLease is a lease row that a retain grants. Arrays travel as text, because one parameter cannot hold arrays of
// unequal length.
type newLease struct {
	queueID  int32
	lease    int64 // in ns
	worker   string
	ids      string
	attempts *string // nil: all tasks are at their first attempt
	grps     *string // nil: no task has a group
}

var newLeaseColumns = table.Of[newLease]()

// leasePiece is the largest number of tasks in one lease row. It keeps the array of a row short enough for storage in
// line.
const leasePiece = 200

// servedQueues rotates the queue that a retain over several queues searches first.
var servedQueues atomic.Uint64

// RetainTasks implements queue.Store. It returns the tasks of each request in the order of the requests.
func (s *Store) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	out := make([][]*queue.Task, len(r.Requests))
	queues, err := s.findQueues(ctx, r.Namespace, r.Queues)
	if err != nil || len(queues) == 0 {
		return out, queue.WithOp(opRetain, err)
	}

	// A fixed order would let the first queue starve the others.
	if len(queues) > 1 {
		turn := int(servedQueues.Add(1) % uint64(len(queues)))
		queues = slices.Concat(queues[turn:], queues[:turn])
	}

	if hasRequestID(r) {
		bytes := 0
		for i, share := range r.Requests {
			if r.EndsBefore(i, bytes) {
				return out[:i], nil
			}
			if out[i], err = s.retainRequest(ctx, r.Namespace, queues, share); err != nil {
				return nil, err
			}
			bytes += queue.TaskBytes(out[i])
		}
		return out, nil
	}

	limits := s.limitTasks(r, queues)
	var p *claim
	err = s.repeatWhileSplitting(ctx, func(ctx context.Context, t *txn.Tx) (err error) {
		clear(out)
		if p, err = s.pickTasks(ctx, t, queues, limits); err != nil {
			return err
		}
		if len(p.out) == 0 {
			return p.finishEmpty(t)
		}
		p.setAnswered(limits.served, len(r.Requests))
		return s.leasePickedTasks(ctx, t, r.Requests[:limits.served], p, out)
	})
	p.reportNextStarts(r)
	if err != nil || len(p.out) == 0 {
		return out, txn.IgnoreNothing(err)
	}
	return s.finishRetain(ctx, r, p, out), nil
}

const opRetain = "retain tasks"

// repeatWhileSplitting runs a retain in a transaction. A retain that finds only runs under a split runs again, because
// their rest is ready after the commit of the other retains. It returns txn.ErrNothing for a retain that found no task in
// all of its tries.
func (s *Store) repeatWhileSplitting(ctx context.Context, do func(context.Context, *txn.Tx) error) error {
	for try := 1; ; try++ {
		err := s.db.Run(ctx, opRetain, do)
		if !errors.Is(err, errSplitting) {
			return err
		}
		// After 30 tries the other retains have the tasks, and an empty answer is true.
		if try == splitTries || !retry.Sleep(ctx, splitPause) {
			return txn.ErrNothing
		}
	}
}

// leasePickedTasks queues the reads of the picked tasks and the writes of their leases. It puts back tasks above the byte
// limits, and those of a FIFO group that do not fit into the request of the group.
func (s *Store) leasePickedTasks(ctx context.Context, t *txn.Tx, requests []queue.RetainShare, p *claim, out [][]*queue.Task) error {
	if s.fitsForSure(requests, p.out) {
		p.shareOutTasks(requests)
		queueTaskReading(t, p.out, sumKeptBytes(requests))
	} else if err := s.measurePicked(ctx, t, requests, p); err != nil {
		return err
	}
	p.rememberRemainders()
	p.queueGroups(t)
	queueLeases(t, requests, p.out, p.now, out)
	return nil
}

// finishRetain runs after the commit of a retain and returns the answers of the requests. It records the sizes of the
// tasks, hands back the surplus, and wakes the queues of the tasks that were put back. A single task needs none of that.
func (s *Store) finishRetain(ctx context.Context, r queue.Retain, p *claim, out [][]*queue.Task) [][]*queue.Task {
	if len(r.Requests) == 1 && (r.Requests[0].MaxBytes == 0 || r.Requests[0].Limit <= 1) {
		return out
	}

	s.weighPicked(p.out)
	surplus, answered := cutSurplus(r, out)
	s.surplus.giveBack(ctx, storeReleaser{s, r.Namespace}, surplus)
	answered = min(p.answered, answered)
	var wakes []queue.Wake
	for _, k := range p.restored { // other retains may have passed over them
		if k.share == groupElsewhere {
			continue
		}
		if w := (queue.Wake{Namespace: k.q.Namespace, Queue: k.q.Name}); !slices.Contains(wakes, w) {
			wakes = append(wakes, w)
		}
	}
	s.notify.NotifyReady(wakes)
	return out[:answered]
}

// pickedTask is a task that left the ready rows.
type pickedTask struct {
	q       *storedQueue
	rank    int // position of its queue in this retain
	lane    int32
	turn    int64
	grp     int64 // hash of the group; 0 = none
	moved   bool  // a state row may exist, at any turn
	attempt int16 // failed attempts so far
	share   int16 // index of the request that gets it, or groupElsewhere
	run     int32 // number of the run from which it was picked
	task    *queue.Task
}

// isOfBatch reports whether other tasks of its group may be picked with k: a FIFO batch must not get into two hands.
func (k *pickedTask) isOfBatch() bool { return k.q.RunsBatches() }

// groupKey returns the group of k.
func (k *pickedTask) groupKey() groupKey { return groupKey{k.q.id, k.grp} }

// pickTasks picks tasks from queues up to the limits. No queue starves another. It returns errSplitting if it found only
// runs that other retains split.
func (s *Store) pickTasks(ctx context.Context, t *txn.Tx, queues []*storedQueue, limits pickLimits) (*claim, error) {
	total := limits.total
	p := &claim{store: s, tx: t, most: total, mostOfGroup: limits.request, namespace: queues[0].Namespace, requests: limits.requests[:limits.served]}
	if err := p.lockLimitedQueues(ctx, queues); err != nil {
		return nil, err
	}

	// A queue with more rows supplies the rest; after a full share its quota is the total.
	round, err := p.pickFromSpecialQueues(ctx, p.shareAmongQueues(queues, total))
	if err != nil {
		return nil, err
	}
	for next := round; len(next) > 0 && len(p.out) < total; {
		if err := p.pickFromRound(ctx, next, fromCursor); err != nil {
			return nil, err
		}
		next = slices.DeleteFunc(slices.Clone(next), func(q pickQueue) bool { return !p.fuller[q.id] })
		for i := range next {
			if p.took[next[i].id] >= next[i].quota {
				next[i].quota = total
			}
		}
	}

	// Rows of transactions that committed late lie behind the cursor.
	if len(p.out) < total {
		for i := range round {
			// The lookback is a short range, so one queue may bring all that is missing.
			round[i].quota = total
		}
		if err := p.pickFromRound(ctx, round, fromBehind); err != nil {
			return nil, err
		}
	}
	if len(p.out) == 0 && p.splitting {
		return nil, errSplitting
	}
	if len(p.out) == 0 && p.changesGroups() { // the work on groups is to last, although no task starts
		return p, nil
	}

	// Requests receive tasks in the order of queue, priority and turn.
	slices.SortFunc(p.out, func(a, b pickedTask) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.task.Priority, b.task.Priority), cmp.Compare(a.turn, b.turn))
	})
	return p, nil
}

// shareAmongQueues returns the queues that take part in a pick, with their quotas of total. Each queue with recent tasks
// gets an equal share. One without gets a quarter of a share, so that its search costs little.
func (p *claim) shareAmongQueues(queues []*storedQueue, total int) []pickQueue {
	round := make([]pickQueue, 0, len(queues))
	busy := 0
	for i, q := range queues {
		open, limited := p.openSlots[q.id]
		if q.Paused || limited && open <= 0 {
			continue
		}
		if until := time.Until(q.PausedUntil); until > 0 { // a hint: the database decides
			p.noteNextStart(q.Name, q.PausedUntil)
		}
		c := p.store.lanes.lanesOfQueue(q.id)
		if c.hadTasksLately() {
			busy++
		}
		round = append(round, pickQueue{storedQueue: q, rank: i, lanes: c})
	}

	share := (total + max(busy, 1) - 1) / max(busy, 1)
	for i := range round {
		round[i].quota = share
		if !round[i].lanes.hadTasksLately() && busy > 0 {
			round[i].quota = max(1, share/4)
		}
	}
	return round
}

// pickQueue is a queue that takes part in a pick.
type pickQueue struct {
	*storedQueue
	rank  int
	quota int // in tasks
	lanes *queueLanes
}

// from is the place in a lane at which a pick starts.
type from int

const (
	fromCursor from = iota // at the end of the previous pick, or at the start of the lane if a sweep is due
	fromBehind             // a moment before the cursor
)

// claim is the state of one pick.
type claim struct {
	store *Store
	tx    *txn.Tx
	most  int
	// mostOfGroup bounds the tasks of a FIFO group: all of them go to one request, so more than one asks for would go back.
	mostOfGroup int
	gated       []int32       // limited queues with a locked gate
	openSlots   map[int32]int // free slots of the limited queues
	rates       map[int32]*rateState
	groups      []*groupPick // of the queues that limit their groups
	// groupWaiting is by how much the number of tasks grows that wait for their group, by queue.
	groupWaiting map[int32]int
	// nextStart is when a limit of time lets tasks start, by the name of the queue.
	nextStart map[string]time.Time
	took      map[int32]int
	fuller    map[int32]bool // the last search of the queue returned all requested rows: more may follow
	now       time.Time
	out       []pickedTask
	whole     []pgtype.TID // places of the runs that are taken whole
	rests     []remainder  // rests of split runs, and locked runs that are not needed
	runs      int32        // number of runs taken from
	run       readyRow     // the run that scanPickedRun reads; one for all rows
	place     pgtype.TID   // of run
	targets   []any        // of a row, in run, place and now
	answered  int          // number of requests that get an answer
	namespace string
	requests  []queue.RetainShare
	suspect   pickedSuspect
	// restored are picked tasks that go back.
	restored []pickedTask
	// splitting is set if the pick found only runs that other retains hold.
	splitting bool
}

// setAnswered sets the number of answered requests: those that the pick served, or all if it found no more tasks.
func (p *claim) setAnswered(served, all int) {
	p.answered = served
	if len(p.out) < p.most {
		p.answered = all
	}
}

// remainder is the rest of a run.
type remainder struct {
	lanes *queueLanes
	lane  int32
	turn  int64 // of the first task
}

// lockLimitedQueues locks the gates of the limited queues and reads the number of their free slots.
func (p *claim) lockLimitedQueues(ctx context.Context, queues []*storedQueue) error {
	p.took, p.openSlots = map[int32]int{}, map[int32]int{}
	for _, q := range queues {
		if q.isGated() {
			p.gated = append(p.gated, q.id)
		}
	}

	// A nil slice would travel as NULL.
	if len(p.gated) == 0 {
		p.gated = []int32{}
		return nil
	}

	// A common order of locks prevents deadlocks between retains.
	slices.Sort(p.gated)
	p.tx.Queue(lockGates, arg("queue_ids", p.gated))
	return p.tx.Query(ctx, countHeld, func(rows pgx.Rows) error { return p.scanLimits(rows, queues) }, arg("queue_ids", p.gated))
}

// scanLimits reads the limits of one queue, and counts its free slots.
func (p *claim) scanLimits(rows pgx.Rows, queues []*storedQueue) error {
	var id int32
	var limit, held int
	r := &rateState{}
	var version, state *int64
	if err := rows.Scan(&id, &limit, &held, &r.rate.Limit, &r.rate.Period, &r.rate.Burst, &version, &state, &p.now); err != nil {
		return err
	}

	if limit > 0 { // the limit may be lifted since the catalog was read
		p.openSlots[id] = limit - held
	}
	if r.rate.Limit == 0 {
		return nil
	}

	if version != nil {
		r.version, r.state = *version, *state
	}
	if p.rates == nil {
		p.rates = map[int32]*rateState{}
	}
	p.rates[id] = r
	admitted, _, next := r.rate.Admit(r.state, p.now, p.most)
	open, limited := p.openSlots[id]
	if !limited || admitted < open {
		p.openSlots[id] = admitted
	}
	if admitted < p.most {
		i := slices.IndexFunc(queues, func(q *storedQueue) bool { return q.id == id })
		p.noteNextStart(queues[i].Name, next)
	}
	return nil
}

// pickFromRound picks the tasks that are still wanted from the queues of round.
func (p *claim) pickFromRound(ctx context.Context, round []pickQueue, start from) error {
	want := p.most - len(p.out)
	if want <= 0 || len(round) == 0 {
		return nil
	}

	began := time.Now()
	search := p.planSearch(round, want, start, began)
	p.fuller = make(map[int32]bool, len(search.ids))
	if len(search.ids) == 0 {
		return nil
	}

	// Only an empty last search asks for splits: their rests are worth a wait, and empty queues are not.
	if start == fromBehind && len(p.out) == 0 {
		args := []sqltext.Arg{arg("queue_id", search.ids), arg("gated", p.gated)}
		p.tx.QueueQuery(seeSplitting, func(rows pgx.Rows) error { return rows.Scan(&p.splitting) }, cursorColumns.Arrays(args, search.cursors)...)
	}

	args := make([]sqltext.Arg, 0, 7)
	args = append(args, arg("queue_id", search.ids), arg("quota", search.most), arg("gated", p.gated))
	args = cursorColumns.Arrays(args, search.cursors)
	args = append(args, arg("limit", int32(search.rows)))
	byID := search.queues // the plan itself must not move to the heap
	err := p.tx.Query(ctx, p.choosePick(pickRuns, pickHealthyRuns), func(rows pgx.Rows) error { return p.scanPickedRun(rows, byID, began) }, args...)
	cost := time.Since(began)
	for _, l := range search.sweeps {
		l.recordSweep(start, began, cost)
	}

	if err == nil && p.suspect.met {
		if err = p.lockFreeWorkers(ctx); err == nil && !p.suspect.isAllowed() {
			p.leaveSuspect()
		}
	}

	if len(p.whole) > 0 { // the next search must not find them again: our own locks do not hide rows from us
		p.tx.Queue(deleteRuns, arg("places", p.whole))
		p.whole = nil
	}

	for id, q := range byID {
		p.fuller[id] = q.rows == q.most
		q.lanes.recordYield(p.took[id], q.rows, q.tasks)
		q.returnCursors(err != nil)
	}

	return err
}

// searchPlan is one search of a pick, before it runs. The slices have one element for each queue, cursors several.
type searchPlan struct {
	ids, most []int32 // most are rows
	cursors   []laneCursor
	queues    map[int32]*runQueue
	sweeps    []*queueLanes // of the queues that start at the beginning
	rows      int           // of all queues
}

// planSearch plans a search for at most want tasks in the queues of round. It leaves out queues that have no free slot, or nothing
// to find at that start.
func (p *claim) planSearch(round []pickQueue, want int, start from, began time.Time) searchPlan {
	s := searchPlan{
		ids: make([]int32, 0, len(round)), most: make([]int32, 0, len(round)), cursors: make([]laneCursor, 0, len(round)),
		queues: make(map[int32]*runQueue, len(round)),
	}
	for i := range round {
		q := &round[i]
		quota := min(q.quota, want)
		if room, ok := p.openSlots[q.id]; ok {
			quota = min(quota, room-p.took[q.id])
		}
		if quota <= 0 {
			continue
		}

		level, sweep := q.lanes.chooseStart(start, began, len(p.out) == 0)
		if level == skipLevel {
			continue
		}
		if sweep {
			s.sweeps = append(s.sweeps, q.lanes)
		}

		// Each queue asks for as many rows as its quota needs by its recent run length.
		u := &runQueue{pickQueue: q, want: quota, most: q.lanes.estimateRows(quota)}
		s.queues[q.id] = u
		s.rows += u.most
		s.ids = append(s.ids, q.id)
		s.most = append(s.most, int32(u.most))
		s.cursors, u.resumed = q.lanes.appendCursors(s.cursors, level, q.id)
	}
	return s
}

// runQueue is a queue in one search of a pick.
type runQueue struct {
	*pickQueue
	want        int // in tasks
	most        int // in rows
	rows, tasks int // read so far
	// resumed maps lanes to turns: the lanes that this search continues at a remainder of this process.
	resumed  map[int32]int64
	lastLane int32
	lastTurn int64
}

// returnCursors makes the next pick continue where this one ended, in the lanes that it resumed and did not finish.
func (q *runQueue) returnCursors(failed bool) {
	for lane, turn := range q.resumed {
		switch full := q.rows == q.most; {
		case failed || full && lane > q.lastLane: // the search ended before this lane
			q.lanes.recordRemainder(lane, turn)
		case full && lane == q.lastLane:
			q.lanes.recordRemainder(lane, max(turn, q.lastTurn+1))
		}
	}
}

// scanPickedRun reads one locked run of tasks and takes as many of them as are still wanted.
func (p *claim) scanPickedRun(rows pgx.Rows, byID map[int32]*runQueue, began time.Time) error {
	if p.targets == nil {
		p.targets = append(readyColumns.Targets(nil, &p.run), &p.place, &p.now)
	}
	if err := rows.Scan(p.targets...); err != nil {
		return err
	}

	run := &p.run
	q := byID[run.queueID]
	q.rows++
	q.tasks += int(run.n)
	q.lastLane, q.lastTurn = run.lane, run.turn+int64(run.n)-1
	if run.n == 0 { // a marker of a time at which the queue limited its groups
		p.whole = append(p.whole, p.place)
		p.addGroupWaiting(run.queueID, 1)
		return nil
	}

	n := min(int(run.n), q.want, p.most-len(p.out))
	if n > 0 && q.isSuspect(run.attempt) && !p.takeSuspect(run.taskID, p.place) {
		n = 0
	}
	if n <= 0 { // locked but not needed: a concurrent pick passes over it meanwhile
		p.rests = append(p.rests, remainder{lanes: q.lanes, lane: run.lane, turn: run.turn})
		return nil
	}

	q.want -= n
	p.took[run.queueID] += n
	if n > 1 && p.out == nil { // a backlog: the following rows are probably as long
		p.out = make([]pickedTask, 0, min(p.most, n*q.most))
	}

	tasks := make([]queue.Task, n)
	p.runs++
	for i := range n {
		t := &tasks[i]
		t.ID, t.Status = run.taskID+int64(i), queue.StatusRetained
		t.Namespace, t.Queue, t.Priority, t.Attempt = q.Namespace, q.Name, priorityOfLane(run.lane), attemptOfRow(leaseAttempt(run.attempt))
		p.out = append(p.out, pickedTask{
			q: q.storedQueue, rank: q.rank, lane: run.lane, turn: run.turn + int64(i), attempt: run.attempt, run: p.runs, task: t,
			grp: groupFromPointer(run.grp),
		})
	}

	// The run stays in the table with its rest, unless all of its tasks are taken.
	q.lanes.advanceCursor(run.lane, run.turn+int64(n)-1, began)
	if n == int(run.n) {
		p.whole = append(p.whole, p.place)
		return nil
	}

	p.rests = append(p.rests, remainder{lanes: q.lanes, lane: run.lane, turn: run.turn + int64(n)})
	p.tx.Queue(shortenRun, arg("taken", int16(n)), arg("place", p.place))
	return nil
}

// rememberRemainders makes the next pick of this process start at the rests of the locked runs. A rest lies behind the
// cursor as soon as other processes pick beyond it.
func (p *claim) rememberRemainders() {
	if rests := p.rests; len(rests) > 0 {
		// Only after the commit: a rollback leaves no rest behind.
		p.tx.AfterCommit = func() {
			for _, r := range rests {
				r.lanes.recordRemainder(r.lane, r.turn)
			}
		}
	}
}

// A pick that found only runs under a split tries again: their rests are ready as soon as the other retains commit.
const (
	splitPause = time.Millisecond
	splitTries = 30
)

// errSplitting ends a pick that found only runs under a split.
const errSplitting = txn.StopError("other retains are splitting the rest")

// rangeLeast is the smallest number of tasks of a queue for which a read by a range of ids is tried. Such a read pays
// if the range has at most rangeSlack times as many ids.
const (
	rangeLeast = 16
	rangeSlack = 2
)

// areDense reports whether n ids from first to last are cheaper to read as a range than one by one.
func areDense(n int, first, last int64) bool {
	return n >= rangeLeast && last-first < rangeSlack*int64(n)
}

// queueTaskReading queues the reads of the picked tasks. It keeps about keep bytes of their payloads; 0 = all. A task
// beyond that has a nil payload.
func queueTaskReading(t *txn.Tx, picked []pickedTask, keep int) {
	byID := make(map[int64]*queue.Task, len(picked))
	type span struct {
		q           int32
		first, last int64
		n           int
	}

	var spans []span
	place := map[int32]int{}
	var moved []taskPlace
	for i := range picked {
		k := &picked[i]
		id := k.task.ID
		byID[id] = k.task
		if k.turn != id || k.moved { // the task moved since its create, so a state row exists
			moved = append(moved, taskPlace{k.q.id, id})
		}

		at, ok := place[k.q.id]
		if !ok {
			at = len(spans)
			place[k.q.id] = at
			spans = append(spans, span{q: k.q.id, first: id, last: id})
		}

		sp := &spans[at]
		sp.first, sp.last, sp.n = min(sp.first, id), max(sp.last, id), sp.n+1
	}

	each := makeTaskScanner(byID, keep)
	dense := map[int32]bool{}
	for _, sp := range spans {
		if areDense(sp.n, sp.first, sp.last) {
			dense[sp.q] = true
			t.QueueQuery(readTaskRange, each, arg("queue_id", sp.q), arg("first", sp.first), arg("last", sp.last))
		}
	}

	var sparse []taskPlace
	for i := range picked {
		if k := &picked[i]; !dense[k.q.id] {
			sparse = append(sparse, taskPlace{k.q.id, k.task.ID})
		}
	}
	if len(sparse) > 0 {
		t.QueueQuery(readPickedTasks, each, placeColumns.Arrays(nil, sparse)...)
	}

	// State rows come last, because they override the values of the create.
	if len(moved) > 0 {
		t.QueueQuery(readPickedStates, makeStateScanner(byID), placeColumns.Arrays(nil, moved)...)
	}
}

// makeTaskScanner returns a function that reads the values of a task's create. All rows share one row struct and its
// targets, which would otherwise be the main cost of a row.
func makeTaskScanner(byID map[int64]*queue.Task, keep int) func(pgx.Rows) error {
	var r taskRow
	kept := 0 // bytes of payloads so far

	targets := pickedTaskColumns.Targets(nil, &r)
	return func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}

		t := byID[r.id]
		if t == nil {
			return nil
		}

		err := r.fillTask(t)
		if kept += len(t.Payload); keep > 0 && kept > keep {
			t.Payload = nil
		}
		return err
	}
}

// makeStateScanner returns a function that reads the values that changed since the create. It runs after the scanner of
// makeTaskScanner.
func makeStateScanner(byID map[int64]*queue.Task) func(pgx.Rows) error {
	var r stateRow
	targets := stateColumns.Targets(nil, &r)
	return func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}

		t := byID[r.taskID]
		t.DelayedAt = timeFromPointer(r.delayedAt)
		t.DiesAt = timeFromPointer(r.diesAt)
		t.Retries = int(r.retries)
		t.Result = r.result
		t.Progress = r.progress
		return nil
	}
}

// grantedLease is a lease row of tasks that one request gets from one queue, at most leasePiece of them.
type grantedLease struct {
	q        *storedQueue
	worker   string
	lease    time.Duration
	tasks    []*queue.Task
	attempts []int16
	again    bool    // at least one attempt failed before
	grps     []int64 // nil: no task has a group
}

// addTask adds a picked task behind the others.
func (l *grantedLease) addTask(k *pickedTask) {
	l.tasks = append(l.tasks, k.task)
	l.attempts = append(l.attempts, leaseAttempt(k.attempt))
	l.again = l.again || k.attempt > 0
	if k.grp != 0 || l.grps != nil {
		for len(l.grps) < len(l.tasks)-1 { // those before have no group
			l.grps = append(l.grps, 0)
		}
		l.grps = append(l.grps, k.grp)
	}
}

// setLeases gives each task its lease. The token of a task is the token of its row plus its place in the row.
func (l *grantedLease) setLeases(token int64, expires time.Time) {
	held := make([]queue.Lease, len(l.tasks))
	for i, task := range l.tasks {
		held[i] = queue.Lease{Token: token + int64(i), ExpiresAt: expires.UTC(), Duration: l.lease, InOrder: l.q.RunsBatches()}
		task.Lease = &held[i]
	}
}

// makeRow returns the row, and the ids of its tasks in the memory of scratch.
func (l *grantedLease) makeRow(scratch []int64) (newLease, []int64) {
	scratch = scratch[:0]
	for _, task := range l.tasks {
		scratch = append(scratch, task.ID)
	}
	row := newLease{queueID: l.q.id, lease: int64(l.lease), worker: l.worker, ids: encodeArray(scratch), grps: arrayTextPointer(l.grps)}
	if l.again {
		row.attempts = arrayTextPointer(l.attempts)
	}
	return row, scratch
}

// queueLeases queues the lease rows and the events of the picked tasks, and adds each task to the result of its
// request.
func queueLeases(t *txn.Tx, requests []queue.RetainShare, picked []pickedTask, now time.Time, out [][]*queue.Task) {
	now = now.UTC()
	type owner struct {
		share int
		queue int32
	}

	open := map[owner]*grantedLease{}
	var granted []*grantedLease
	ev := events{}
	for i := range picked {
		k := &picked[i]
		share := int(k.share)
		r := &requests[share]
		o := owner{share, k.q.id}
		l := open[o]
		if l == nil || len(l.tasks) == leasePiece {
			l = &grantedLease{q: k.q, worker: r.Worker, lease: cmp.Or(r.Lease, k.q.Lease)}
			open[o] = l
			granted = append(granted, l)
		}

		k.task.Worker, k.task.StartedAt = r.Worker, now
		l.addTask(k)
		was := statusNew
		if k.attempt > 0 {
			was = statusRetry
		}
		ev.appendIDs(eventChange{queue: k.q.id, keep: k.q.Events, kind: eventRetained, was: was, is: statusRetained, worker: r.Worker}, k.task.ID)
		out[share] = append(out[share], k.task)
	}

	// The first id of a row connects the granted lease with its tasks.
	rows := make([]newLease, len(granted))
	first := make(map[int64]*grantedLease, len(granted))
	var scratch []int64
	for i, l := range granted {
		rows[i], scratch = l.makeRow(scratch)
		first[l.tasks[0].ID] = l
	}

	t.QueueQuery(grantLeases, func(rows pgx.Rows) error {
		var id, token int64
		var expires time.Time
		if err := rows.Scan(&id, &token, &expires); err != nil {
			return err
		}
		first[id].setLeases(token, expires)
		return nil
	}, newLeaseColumns.Arrays([]sqltext.Arg{arg("now", now)}, rows)...)

	ev.insertEventRows(t, now)
}
