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
)

// storedLease is a lease row that a statement has read: the leases of up to 200 tasks that one retain took. An ended lease leaves 0 at
// its index in ids, so the others keep their tokens. This transaction has locked the row, except in lockedLeases.lockedByOthers.
type storedLease struct {
	q          *storedQueue `col:"-"` // shared, never changed; without a name until flushAndReadQueues reads it
	ctid       pgtype.TID   // of the row; its lock keeps it there
	token      int64        // of the first task; the token of a task is this one plus its index
	part       int16
	worker     string
	retainedAt time.Time
	expiresAt  time.Time
	ids        []int64 `col:"task_ids"`
	attempts   []int16 // beside ids; nil: all 1
	cancels    []int64 // ids of tasks with a requested cancellation
	grps       []int64 // hashes of groups beside ids, 0 for a task without a group; nil: all 0
	granted    *int64  // length of the lease in ns; nil until a heartbeat: expiresAt - retainedAt
	newEnds    newEnds `col:"-"` // from the heartbeats of this call
	heldAtLock int     `col:"-"` // held tasks at the time of the lock
	heldNow    int     `col:"-"` // held tasks after the changes of this call
}

// isQueueRead reports whether l has its queue, and not only the id of it.
func (l *storedLease) isQueueRead() bool { return l.q.Name != "" }

// leaseColumns are the columns that a statement reads of a lease row.
var leaseColumns = table.Of[storedLease]()

// lockedLeaseWidth is the number of columns of a statement that locks leases: the clock, the lease and the mark of its queue.
var lockedLeaseWidth = 1 + len(leaseColumns.Names()) + len(queueMarkColumns.Names())

// The statements on leases.
var (
	lockLeases         = statement("lease.lock")
	lockUnlockedLeases = statement("lease.lock.free")
	readLockedByOthers = statement("lease.seen")
	deleteLeases       = statement("lease.drop")
	updateLeases       = statement("lease.keep")
	insertLeases       = statement("lease.split")
	findTokens         = statement("lease.find")
	readLives          = statement("lease.lives")
	readLivesByToken   = statement("lease.lives.token")
	readFactsByToken   = statement("lease.facts.token")
	readSmallFacts     = statement("lease.facts.small")
	readFactsInRange   = statement("lease.facts.range")
)

// grantedLength returns the length of the last granted lease.
func (l *storedLease) grantedLength() time.Duration {
	if l.granted == nil {
		return l.expiresAt.Sub(l.retainedAt)
	}
	return time.Duration(*l.granted)
}

// lockedLeases holds the lease rows that a transaction has locked.
type lockedLeases struct {
	known  *knownQueues
	unread []int32 // ids of queues that known lacks or has outdated; flushAndReadQueues reads them
	now    time.Time
	all    []*storedLease
	byTask map[int64]heldTask // by task id
	// lockedBefore says that all has rows of an earlier statement. The next one may return them again, and scanLease drops those.
	lockedBefore bool
	// skipsLocked leaves out rows that another transaction has locked. lockedByOthers then has the tasks in these rows, by id.
	skipsLocked    bool
	lockedByOthers map[int64]heldTask
	beats          map[int64]leaseEnd // lease beats of the locked rows, by the token of the task
}

// heldTask is a held task and its index in the arrays of its lease row.
type heldTask struct {
	*storedLease
	index int
	id    int64
}

func (p heldTask) attemptOfTask() int {
	if p.attempts == nil {
		return 1
	}
	return attemptOfRow(p.attempts[p.index])
}

// groupOfTask returns the hash of the group; 0 stands for no group.
func (p heldTask) groupOfTask() int64 {
	if p.grps == nil {
		return 0
	}
	return p.grps[p.index]
}

func (p heldTask) isCancelRequested() bool { return slices.Contains(p.cancels, p.id) }

// lifeOfTask returns the life of the held task as far as the lease row has it.
func (p heldTask) lifeOfTask() queue.Life {
	return queue.Life{Status: queue.StatusRetained, Attempt: p.attemptOfTask(), CancelRequested: p.isCancelRequested()}
}

func (p heldTask) tokenOfTask() int64 { return p.token + int64(p.index) }

// endLease ends the lease of the task in its row: it zeroes the id there. p.id stays.
func (p heldTask) endLease() {
	p.ids[p.index] = 0
	p.storedLease.heldNow--
}

// tokensPerLease is the number of tokens that a lease row takes from the sequence: a power of two above its 200 tasks. The statements
// have the same number.
const tokensPerLease = 256

// tokenOfLeaseRow returns the token of the lease row from the token of a task in it.
func tokenOfLeaseRow(token int64) int64 { return token - token%tokensPerLease }

// scanLease adds a locked lease row: its queue as far as known has it, and its held tasks.
func (h *lockedLeases) scanLease(rows pgx.Rows) error {
	l := &storedLease{}
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
	if h.lockedBefore && slices.ContainsFunc(h.all, func(o *storedLease) bool { return o.token == l.token && o.part == l.part }) {
		return nil
	}

	h.all = append(h.all, l)
	if l.q = h.known.findQueue(mark); l.q == nil {
		l.q = &storedQueue{id: mark.id}
		h.unread = append(h.unread, mark.id)
	}

	if h.byTask == nil {
		h.byTask = make(map[int64]heldTask, len(l.ids))
	}

	for i, id := range l.ids {
		if id != 0 {
			h.byTask[id] = heldTask{l, i, id}
			l.heldAtLock++
		}
	}

	l.heldNow = l.heldAtLock
	return nil
}

// flushAndReadQueues sends the queued statements. Then it reads the queues of the locked leases that known does not have.
func (h *lockedLeases) flushAndReadQueues(ctx context.Context, t *txn.Tx) error {
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

	// The row of a deleted queue stays until its last task is deleted. So a lease without a queue is a contradiction.
	for _, l := range h.all {
		if err == nil && !l.isQueueRead() {
			err = &queue.Error{Kind: queue.KindInternal, Msg: fmt.Sprintf("lease %d belongs to queue %d, which has no row; run: pgqueue doctor", l.token, l.q.id)}
		}
	}
	return err
}

// findHeldTask finds a task that is held under token; token 0 means any token. It finds no task with an ended lease.
func (h *lockedLeases) findHeldTask(id, token int64) (heldTask, bool) {
	p, ok := h.byTask[id]
	if !ok || token != 0 && p.tokenOfTask() != token || p.ids[p.index] == 0 {
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
	slices.Sort(rows) // one order for all transactions, so that two of them cannot deadlock

	lock := lockLeases
	if h.skipsLocked {
		lock = lockUnlockedLeases
	}
	t.QueueQuery(lock, h.scanLease, arg("tokens", slices.Compact(rows)), arg("namespace", namespace))
}

// retryMissingLeases tries the lock again for tasks that the first one did not find. ids[i] belongs to tokens[i].
func (h *lockedLeases) retryMissingLeases(ctx context.Context, t *txn.Tx, namespace string, ids, tokens []int64) error {
	if h.skipsLocked {
		return h.readLeasesOfOthers(ctx, t, namespace, ids, tokens)
	}
	return h.lockMovedLeases(ctx, t, namespace, ids, tokens)
}

// readLeasesOfOthers finds the missing tasks in rows that another transaction has locked, and adds them to h.lockedByOthers. The others
// have ended. A heartbeat may move a task to another row between two statements. So the lock is tried again in the round trip of the
// read: one of the two finds the task.
func (h *lockedLeases) readLeasesOfOthers(ctx context.Context, t *txn.Tx, namespace string, ids, tokens []int64) error {
	missing, rowTokens := h.listMissing(ids, tokens)
	if len(missing) == 0 {
		return nil
	}

	h.lockedBefore = true
	h.queueLeaseLock(t, namespace, rowTokens)
	t.QueueQuery(readLockedByOthers, h.scanLeaseOfOthers, arg("token", rowTokens), arg("id", missing), arg("namespace", namespace))
	return h.flushAndReadQueues(ctx, t)
}

// listMissing returns the tasks that no locked row holds under their token, and the tokens of their lease rows.
func (h *lockedLeases) listMissing(ids, tokens []int64) (missing, rowTokens []int64) {
	for i, id := range ids {
		if _, ok := h.findHeldTask(id, tokens[i]); !ok && tokens[i] != 0 {
			missing, rowTokens = append(missing, id), append(rowTokens, tokenOfLeaseRow(tokens[i]))
		}
	}
	return missing, rowTokens
}

// scanLeaseOfOthers adds a task in a lease row that another transaction has locked.
func (h *lockedLeases) scanLeaseOfOthers(rows pgx.Rows) error {
	l := &storedLease{q: &storedQueue{}}
	var id int64
	targets := leaseColumns.Without("ctid").Targets([]any{&id, &h.now}, l)
	if err := rows.Scan(append(targets, &l.q.id, &l.q.Events)...); err != nil {
		return err
	}

	h.now, l.retainedAt, l.expiresAt = h.now.UTC(), l.retainedAt.UTC(), l.expiresAt.UTC()
	if h.lockedByOthers == nil {
		h.lockedByOthers = map[int64]heldTask{}
	}

	h.lockedByOthers[id] = heldTask{l, slices.Index(l.ids, id), id}
	return nil
}

// findLockedByOthers finds a task that is held under token in a row that another transaction has locked.
func (h *lockedLeases) findLockedByOthers(id, token int64) (heldTask, bool) {
	p, ok := h.lockedByOthers[id]
	return p, ok && p.tokenOfTask() == token
}

// isLockedByOthers reports whether a task is held under token in a row that another transaction has locked.
func (h *lockedLeases) isLockedByOthers(id, token int64) bool {
	_, locked := h.findLockedByOthers(id, token)
	return locked
}

// lockMovedLeases looks again for tasks that the first lock did not find. The first lock may have waited for a
// heartbeat that moved them to rows which its snapshot did not contain. It repeats until it finds no more rows.
func (h *lockedLeases) lockMovedLeases(ctx context.Context, t *txn.Tx, namespace string, ids, tokens []int64) error {
	for {
		missing, rowTokens := h.listMissing(ids, tokens)
		before := len(h.all)
		if len(missing) == 0 {
			return nil
		}

		h.lockedBefore = true
		h.queueLeaseLock(t, namespace, rowTokens)
		if err := h.flushAndReadQueues(ctx, t); err != nil || len(h.all) == before {
			return err
		}
	}
}
