package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// lockedLease is a lease row that this transaction has locked.
type lockedLease struct {
	q          *storedQueue `col:"-"` // shared, never changed
	ctid       pgtype.TID   // of the row; its lock keeps it there
	token      int64        // of the first task; the token of a task is this one plus its place
	part       int16
	worker     string
	retainedAt time.Time
	expiresAt  time.Time
	ids        []int64 `col:"task_ids"` // 0 in the place of a task with an ended lease
	attempts   []int16 // nil: all 1
	cancels    []int64 // ids of tasks with a requested cancellation
	grps       []int64 // hashes of groups beside ids, 0 = none; nil: all 0
	granted    *int64  // length of the lease in ns; nil until a heartbeat: expiresAt - retainedAt
	newEnds    newEnds `col:"-"` // from the heartbeats of this call
	held       int     `col:"-"` // held tasks at the time of the lock
	left       int     `col:"-"` // held tasks now
}

// leaseColumns are the columns that a statement reads of a lease row.
var leaseColumns = table.Of[lockedLease]()

// lockedLeaseWidth is the number of columns of a statement that locks leases: the clock, the lease and the mark of its queue.
var lockedLeaseWidth = 1 + len(leaseColumns.Names()) + len(queueMarkColumns.Names())

// The statements on leases.
var (
	lockLeases       = statement("hold.lock")
	lockFreeLeases   = statement("hold.lock.free")
	readLockedLeases = statement("hold.seen")
	dropLeases       = statement("hold.drop")
	keepLeases       = statement("hold.keep")
	insertLeases     = statement("hold.split")
	findTokens       = statement("hold.find")
	readLives        = statement("hold.lives")
	readLivesByToken = statement("hold.lives.token")
	readFactsByToken = statement("hold.facts.token")
	readSmallFacts   = statement("hold.facts.small")
	readFactsInRange = statement("hold.facts.range")
)

// grantedLength returns the length of the last granted lease.
func (l *lockedLease) grantedLength() time.Duration {
	if l.granted == nil {
		return l.expiresAt.Sub(l.retainedAt)
	}
	return time.Duration(*l.granted)
}

// lockedLeases holds the lease rows that a transaction has locked.
type lockedLeases struct {
	known        *knownQueues
	unread       []int32 // queues of leases without q: their rows changed since they were read
	now          time.Time
	all          []*lockedLease
	at           map[int64]heldTask // by task id
	lockedBefore bool               // all has rows of an earlier statement, so the next may return a row again
	// skipsLocked leaves out rows that another transaction has locked. locked then has the tasks in these rows.
	skipsLocked bool
	locked      map[int64]heldTask
	beats       map[int64]leaseEnd // lease beats of the locked rows, by the token of the task
}

// heldTask is a held task and its place in the lease row.
type heldTask struct {
	*lockedLease
	place int
	id    int64
}

func (p heldTask) attemptOfTask() int {
	if p.attempts == nil {
		return 1
	}
	return attemptOfRow(p.attempts[p.place])
}

// groupOfTask returns the hash of the group; 0 = none.
func (p heldTask) groupOfTask() int64 {
	if p.grps == nil {
		return 0
	}
	return p.grps[p.place]
}

func (p heldTask) isCancelRequested() bool { return slices.Contains(p.cancels, p.id) }

// lifeOfTask returns the life of the held task as far as the lease row has it.
func (p heldTask) lifeOfTask() queue.Life {
	return queue.Life{Status: queue.StatusRetained, Attempt: p.attemptOfTask(), CancelRequested: p.isCancelRequested()}
}

func (p heldTask) tokenOfTask() int64 { return p.token + int64(p.place) }

// endLease ends the lease of the task in its row. p keeps the id of the task.
func (p heldTask) endLease() {
	p.ids[p.place] = 0
	p.lockedLease.left--
}

// tokensPerLease is the number of tokens that a lease row takes from the sequence.
const tokensPerLease = 256

// tokenOfLeaseRow returns the token of the lease row from the token of a task in it.
func tokenOfLeaseRow(token int64) int64 { return token - token%tokensPerLease }

func (h *lockedLeases) scanLease(rows pgx.Rows) error {
	l := &lockedLease{}
	targets := append(make([]any, 0, lockedLeaseWidth), &h.now)
	targets = leaseColumns.Targets(targets, l)
	var mark queueMark
	targets = queueMarkColumns.Targets(targets, &mark)
	if err := rows.Scan(targets...); err != nil {
		return err
	}

	h.now = h.now.UTC()
	l.retainedAt = l.retainedAt.UTC()
	l.expiresAt = l.expiresAt.UTC()
	if h.lockedBefore && slices.ContainsFunc(h.all, func(o *lockedLease) bool { return o.token == l.token && o.part == l.part }) {
		return nil // locked before
	}
	h.all = append(h.all, l)
	if l.q = h.known.findQueue(mark); l.q == nil {
		l.q = &storedQueue{id: mark.id}
		h.unread = append(h.unread, mark.id)
	}

	if h.at == nil {
		h.at = make(map[int64]heldTask, len(l.ids))
	}

	for i, id := range l.ids {
		if id != 0 {
			h.at[id] = heldTask{l, i, id}
			l.held++
		}
	}

	l.left = l.held
	return nil
}

// flush sends the queued statements, and reads the queues of the locked leases as far as they are unknown.
func (h *lockedLeases) flush(ctx context.Context, t *txn.Tx) error {
	if err := t.Flush(ctx); err != nil {
		return err
	}
	if len(h.unread) == 0 {
		return nil
	}
	unread := h.unread
	h.unread = nil
	err := h.known.readQueues(ctx, t, unread, func(q *storedQueue) {
		for _, l := range h.all {
			if l.q.id == q.id {
				l.q = q
			}
		}
	})

	// A row of a queue leaves with its last task, so the queue of a locked lease is there.
	for _, l := range h.all {
		if err == nil && l.q.Name == "" {
			err = &queue.Error{Kind: queue.KindInternal, Msg: fmt.Sprintf("lease %d belongs to queue %d, which has no row; run: pgqueue doctor", l.token, l.q.id)}
		}
	}
	return err
}

// findHeldTask finds a task that is held under token; token 0 means any token. It finds no task with an ended lease.
func (h *lockedLeases) findHeldTask(id, token int64) (heldTask, bool) {
	p, ok := h.at[id]
	if !ok || token != 0 && p.tokenOfTask() != token || p.ids[p.place] == 0 {
		return heldTask{}, false
	}
	return p, true
}

// queueLeaseLock queues the lock of the lease rows of the tokens of tasks. It waits for rows that another transaction
// has locked, or leaves them out with h.skipsLocked.
func (h *lockedLeases) queueLeaseLock(t *txn.Tx, namespace string, tokens []int64) {
	rows := make([]int64, len(tokens))
	for i, token := range tokens {
		rows[i] = tokenOfLeaseRow(token)
	}
	slices.Sort(rows)

	lock := lockLeases
	if h.skipsLocked {
		lock = lockFreeLeases
	}
	t.QueueQuery(lock, h.scanLease, arg("tokens", slices.Compact(rows)), arg("namespace", namespace))
}

// lockMissingLeases looks again for tasks that the first lock did not find. ids[i] belongs to tokens[i].
func (h *lockedLeases) lockMissingLeases(ctx context.Context, t *txn.Tx, namespace string, ids, tokens []int64) error {
	if h.skipsLocked {
		return h.readLeasesOfOthers(ctx, t, namespace, ids, tokens)
	}
	return h.lockMovedLeases(ctx, t, namespace, ids, tokens)
}

// readLeasesOfOthers separates ended leases from leases in locked rows, and adds the latter to h.locked. It tries the
// lock again first: a heartbeat may move a task to another row in between, and one of the two statements then sees
// the task.
func (h *lockedLeases) readLeasesOfOthers(ctx context.Context, t *txn.Tx, namespace string, ids, tokens []int64) error {
	missing, rows := h.listMissing(ids, tokens)
	if len(missing) == 0 {
		return nil
	}

	h.lockedBefore = true
	h.queueLeaseLock(t, namespace, rows)
	t.QueueQuery(readLockedLeases, h.scanLeaseOfOthers, arg("token", rows), arg("id", missing), arg("namespace", namespace))
	return h.flush(ctx, t)
}

// listMissing returns the tasks that no locked row holds under their token, and the tokens of their lease rows.
func (h *lockedLeases) listMissing(ids, tokens []int64) (listMissing, rows []int64) {
	for i, id := range ids {
		if _, ok := h.findHeldTask(id, tokens[i]); !ok && tokens[i] != 0 {
			listMissing, rows = append(listMissing, id), append(rows, tokenOfLeaseRow(tokens[i]))
		}
	}
	return listMissing, rows
}

func (h *lockedLeases) scanLeaseOfOthers(rows pgx.Rows) error {
	l := &lockedLease{q: &storedQueue{}}
	var id int64
	targets := leaseColumns.Without("ctid").Targets([]any{&id, &h.now}, l)
	if err := rows.Scan(append(targets, &l.q.id, &l.q.Events)...); err != nil {
		return err
	}

	h.now, l.retainedAt, l.expiresAt = h.now.UTC(), l.retainedAt.UTC(), l.expiresAt.UTC()
	if h.locked == nil {
		h.locked = map[int64]heldTask{}
	}

	h.locked[id] = heldTask{l, slices.Index(l.ids, id), id}
	return nil
}

// findInLockedRow finds a task that is held under token in a row that another transaction has locked.
func (h *lockedLeases) findInLockedRow(id, token int64) (heldTask, bool) {
	p, ok := h.locked[id]
	return p, ok && p.tokenOfTask() == token
}

// isLocked reports whether a task is held under token in a row that another transaction has locked.
func (h *lockedLeases) isLocked(id, token int64) bool {
	_, locked := h.findInLockedRow(id, token)
	return locked
}

// lockMovedLeases looks again for tasks that the first lock did not find. The first lock may have waited for a
// heartbeat that moved them to rows which its snapshot did not contain. It repeats until it finds no more rows.
func (h *lockedLeases) lockMovedLeases(ctx context.Context, t *txn.Tx, namespace string, ids, tokens []int64) error {
	for {
		missing, rows := h.listMissing(ids, tokens)
		before := len(h.all)
		if len(missing) == 0 {
			return nil
		}

		h.lockedBefore = true
		h.queueLeaseLock(t, namespace, rows)
		if err := h.flush(ctx, t); err != nil || len(h.all) == before {
			return err
		}
	}
}

// The pauses between two attempts to lock rows of another transaction.
const (
	firstUnlockPause = 5 * time.Millisecond
	maxUnlockPause   = 200 * time.Millisecond
)

// repeatUntilUnlocked calls again for the elements at places, which another transaction has locked. It ends when none
// is locked, when ctx ends, or after the timeout of a call. It holds no connection while it waits. When again fails,
// the elements of that call get its error; the others have their answer already.
func (s *Store) repeatUntilUnlocked(ctx context.Context, places []int, again func(ctx context.Context, places []int) (locked []int, err error), fail func(place int, err error)) {
	ctx, cancel := s.db.WithTimeout(ctx)
	defer cancel()

	for look := firstUnlockPause; len(places) > 0 && retry.Sleep(ctx, look); look = min(2*look, maxUnlockPause) {
		locked, err := again(ctx, places)
		if err != nil {
			for _, at := range places {
				fail(at, err)
			}
			return
		}
		places = locked
	}
}

// selectPlaces returns the elements of all at places; nil places means all elements.
func selectPlaces[T any](all []T, places []int) []T {
	if places == nil {
		return all
	}

	some := make([]T, len(places))
	for i, at := range places {
		some[i] = all[at]
	}
	return some
}

// collectAnswers copies the answers to their places in out, and returns the places of the locked ones.
func collectAnswers[T any](out, answers []T, places []int, errOf func(T) error) (locked []int) {
	for i, a := range answers {
		at := i
		if places != nil {
			at = places[i]
			out[at] = a
		}
		if queue.IsLocked(errOf(a)) {
			locked = append(locked, at)
		}
	}
	return locked
}

// shrinkLeases queues the new state of the lease rows after some leases ended: it deletes empty rows and updates the
// others.
func (h *lockedLeases) shrinkLeases(t *txn.Tx) {
	var gone []pgtype.TID
	var kept leaseRows
	for _, l := range h.all {
		switch {
		case l.left == l.held: // no lease ended
		case l.left == 0:
			gone = append(gone, l.ctid)
		default:
			kept.addLeaseRow(l, l.part, func(i int) bool { return true }, nil)
		}
	}

	if len(gone) > 0 {
		t.Queue(dropLeases, arg("rows", gone))
	}
	kept.queueUpdate(t)
}

// writtenLease is a lease row to be written. The arrays of a new row travel as text, because one parameter cannot contain arrays of
// unequal length.
type writtenLease struct {
	ctid       pgtype.TID // of the row before the write; none of a new row
	placeIDs   []int64    `col:"-"` // 0 where a task has left
	cancelIDs  []int64    `col:"-"`
	token      int64
	part       int16
	queueID    int32
	retainedAt time.Time
	expiresAt  time.Time
	worker     string
	held       int16
	ids        string
	attempts   *string
	cancels    *string
	grps       *string
	granted    int64 // 0 is stored as null
}

var writtenLeaseColumns = table.Of[writtenLease]()

// The columns of a statement that updates lease rows, and of one that inserts them.
var (
	keptLeaseColumns = table.Of[keptLease]()
	newPartColumns   = writtenLeaseColumns.Without("ctid")
)

// keptLease is a lease row to be updated. Its arrays are parts of two parameters, which PostgreSQL need not parse. Places
// count from 1, and both ends belong to the part.
type keptLease struct {
	ctid        pgtype.TID
	held        int16
	firstID     int32
	lastID      int32
	firstCancel int32
	lastCancel  int32
	expiresAt   time.Time
	granted     int64 // 0 is stored as null
}

// leaseRows are lease rows to be written.
type leaseRows []writtenLease

// addLeaseRow appends a row with the tasks of l for which stay returns true. Without end the lease ends as before.
func (r *leaseRows) addLeaseRow(l *lockedLease, part int16, stay func(i int) bool, end *leaseEnd) {
	row := writtenLease{ctid: l.ctid, token: l.token, part: part, queueID: l.q.id, retainedAt: l.retainedAt, expiresAt: l.expiresAt, worker: l.worker}
	switch {
	case end != nil:
		row.expiresAt = end.at
		row.granted = int64(end.length)
	case l.granted != nil:
		row.granted = *l.granted
	}

	var cancels []int64

	// Each task keeps its place, because its token is the token of the row plus its place.
	ids := make([]int64, len(l.ids))
	for i, id := range l.ids {
		if id == 0 || !stay(i) {
			continue
		}
		ids[i] = id
		row.held++
		if slices.Contains(l.cancels, id) {
			cancels = append(cancels, id)
		}
	}

	row.placeIDs, row.cancelIDs = ids, cancels
	row.attempts = arrayTextPointer(l.attempts)
	row.grps = arrayTextPointer(l.grps)
	*r = append(*r, row)
}

// queueUpdate queues the update of rows that exist.
func (r leaseRows) queueUpdate(t *txn.Tx) {
	var ids, cancels []int64
	kept := make([]keptLease, len(r))

	for i, row := range r {
		kept[i] = keptLease{
			ctid: row.ctid, held: row.held, expiresAt: row.expiresAt, granted: row.granted,
			firstID: int32(len(ids)) + 1, firstCancel: int32(len(cancels)) + 1,
		}
		ids = append(ids, row.placeIDs...)
		cancels = append(cancels, row.cancelIDs...)
		kept[i].lastID, kept[i].lastCancel = int32(len(ids)), int32(len(cancels))
	}
	queueRows(t, keepLeases, keptLeaseColumns, kept, arg("task_ids", ids), arg("cancel_ids", cancels))
}

// queueInsert queues the insert of new rows.
func (r leaseRows) queueInsert(t *txn.Tx) {
	for i := range r {
		r[i].ids = encodeArray(r[i].placeIDs)
		r[i].cancels = arrayTextPointer(r[i].cancelIDs)
	}
	queueRows(t, insertLeases, newPartColumns, r)
}

func arrayTextPointer[N int16 | int64](s []N) *string {
	if len(s) == 0 {
		return nil
	}
	text := encodeArray(s)
	return &text
}

// taskRecord is a held task as its rows in task and state have it.
type taskRecord struct {
	task *queue.Task
	// bucket of the lane; nil = 0
	bucket *int16
	life   queue.Life // without Status, Attempt and CancelRequested, which the lease row has
}

// taskRecords holds records by task id.
type taskRecords map[int64]taskRecord

// makeScanner returns a function that reads records: columns of the task, then those of its state row. All rows share
// the targets. It drops tasks outside asked; nil = none.
func (f taskRecords) makeScanner(columns table.Table[taskRow], asked map[int64]bool) func(pgx.Rows) error {
	var (
		r                 taskRow
		stated            bool
		delayedAt, diesAt *time.Time
		retries           *int16
		losses            int16
		result, progress  []byte
	)

	targets := append(columns.Targets(nil, &r), &stated, &delayedAt, &diesAt, &retries, &losses, &result, &progress)
	return func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if asked != nil && !asked[r.id] {
			return nil
		}

		// A state row has the present values; the task row has those of the create.
		if stated {
			r.delayedAt, r.diesAt, r.retries = delayedAt, diesAt, *retries
		}

		t := &queue.Task{ID: r.id, Priority: r.priority, Result: result, Progress: progress}
		err := r.fillTask(t)
		life := queue.Life{DelayedAt: t.DelayedAt, DiesAt: t.DiesAt, Retries: t.Retries, Losses: losses}
		f[t.ID] = taskRecord{t, r.bucket, life}
		return err
	}
}
