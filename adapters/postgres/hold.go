package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// hold is a lease row that this transaction has locked.
type hold struct {
	q          storedQueue
	token      int64 // of the first task; the others count on
	part       int16
	worker     string
	retainedAt time.Time
	expiresAt  time.Time
	ids        []int64 // 0 where a hold has ended
	attempts   []int16 // nil: all 1
	cancels    []int64
	granted    int64   // length of the lease in ns
	beaten     *beaten // what heartbeats of this call make of it; nil = nothing
	held       int     // as it was
	left       int     // not ended by now
}

// leaseColumns are the columns of a lease row that are read.
var leaseColumns = table.New(
	table.Col("token", func(l *hold) *int64 { return &l.token }),
	table.Col("part", func(l *hold) *int16 { return &l.part }),
	table.Col("worker", func(l *hold) *string { return &l.worker }),
	table.Col("retained_at", func(l *hold) *time.Time { return &l.retainedAt }),
	table.Col("expires_at", func(l *hold) *time.Time { return &l.expiresAt }),
	table.Col("task_ids", func(l *hold) *[]int64 { return &l.ids }),
	table.Col("attempts", func(l *hold) *[]int16 { return &l.attempts }),
	table.Col("cancels", func(l *hold) *[]int64 { return &l.cancels }),
	table.Col("granted", func(l *hold) *int64 { return &l.granted }),
)

// lockedLeaseWidth is the number of columns of a statement that locks leases: the clock, the lease, its queue.
var lockedLeaseWidth = 1 + len(leaseColumns.Names()) + len(queueColumns.Names())

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
	readFacts        = statement("hold.facts")
	readFactsByToken = statement("hold.facts.token")
)

// length is how long the lease is that was granted last.
func (l *hold) length() time.Duration {
	return time.Duration(l.granted)
}

// holds are the locked lease rows of a transaction.
type holds struct {
	now   time.Time
	all   []*hold
	at    map[int64]spot // by task
	again bool           // some are locked already
	// free leaves out rows that another transaction has locked; locked are the tasks in them.
	free   bool
	locked map[int64]spot
	aside  map[int64]leaseEnd // by token of a task: what heartbeats have left beside the row
}

// spot is where a task is held.
type spot struct {
	*hold
	i  int
	id int64
}

func (p spot) attempt() int {
	if p.attempts == nil {
		return 1
	}
	return int(p.attempts[p.i])
}

func (p spot) cancelled() bool { return slices.Contains(p.cancels, p.id) }

// life of the held task, but for what only the facts know.
func (p spot) life() queue.Life {
	return queue.Life{Status: queue.StatusRetained, Attempt: p.attempt(), CancelRequested: p.cancelled()}
}

func (p spot) taskToken() int64 { return p.token + int64(p.i) }

// end takes the task out of its row; its id stays readable in p.
func (p spot) end() {
	p.ids[p.i] = 0
	p.hold.left--
}

// tokensPerLease is how many tokens a lease row takes.
const tokensPerLease = 256

// leaseToken is the token of the lease row that a task's token belongs to.
func leaseToken(token int64) int64 { return token - token%tokensPerLease }

func (h *holds) scan(rows pgx.Rows) error {
	l := &hold{}
	targets := append(make([]any, 0, lockedLeaseWidth), &h.now)
	targets = leaseColumns.Targets(targets, l)
	targets = queueColumns.Targets(targets, &l.q)
	if err := rows.Scan(targets...); err != nil {
		return err
	}

	h.now = h.now.UTC()
	l.retainedAt = l.retainedAt.UTC()
	l.expiresAt = l.expiresAt.UTC()
	if h.again && slices.ContainsFunc(h.all, func(o *hold) bool { return o.token == l.token && o.part == l.part }) {
		return nil // locked before
	}
	h.all = append(h.all, l)
	if h.at == nil {
		h.at = make(map[int64]spot, len(l.ids))
	}
	for i, id := range l.ids {
		if id != 0 {
			h.at[id] = spot{l, i, id}
			l.held++
		}
	}
	l.left = l.held
	return nil
}

// find is where id is held under token (0: any).
func (h *holds) find(id, token int64) (spot, bool) {
	p, ok := h.at[id]
	if !ok || token != 0 && p.taskToken() != token || p.ids[p.i] == 0 {
		return spot{}, false
	}
	return p, true
}

// queueLock queues the locking of the lease rows that tasks' tokens belong to. Rows that another transaction has locked are
// waited for, or left out with h.free.
func (h *holds) queueLock(t *tx, namespace string, tokens []int64) {
	rows := make([]int64, len(tokens))
	for i, token := range tokens {
		rows[i] = leaseToken(token)
	}
	slices.Sort(rows)

	lock := lockLeases
	if h.free {
		lock = lockFreeLeases
	}
	t.ask(lock, h.scan, arg("tokens", slices.Compact(rows)), arg("namespace", namespace))
}

// lockMissing looks again for holds that the first look did not find. ids and tokens lie side by side.
func (h *holds) lockMissing(ctx context.Context, t *tx, namespace string, ids, tokens []int64) error {
	if h.free {
		return h.lookForLocked(ctx, t, namespace, ids, tokens)
	}
	return h.lockMoved(ctx, t, namespace, ids, tokens)
}

// lookForLocked tells holds that have ended from those whose row is locked: h.locked. The second try to lock comes first, so
// that a hold which a heartbeat moves in between is seen where it was, or where it is.
func (h *holds) lookForLocked(ctx context.Context, t *tx, namespace string, ids, tokens []int64) error {
	missing, rows := h.missing(ids, tokens)
	if len(missing) == 0 {
		return nil
	}
	h.again = true
	h.queueLock(t, namespace, rows)
	t.ask(readLockedLeases, h.scanSeen, arg("token", rows), arg("id", missing), arg("namespace", namespace))
	return t.flush(ctx)
}

// missing are the tasks that no locked row holds under their token, and the lease rows that their tokens belong to.
func (h *holds) missing(ids, tokens []int64) (missing, rows []int64) {
	for i, id := range ids {
		if _, ok := h.find(id, tokens[i]); !ok && tokens[i] != 0 {
			missing, rows = append(missing, id), append(rows, leaseToken(tokens[i]))
		}
	}
	return missing, rows
}

func (h *holds) scanSeen(rows pgx.Rows) error {
	l := &hold{}
	var id int64
	if err := rows.Scan(&id, &h.now, &l.token, &l.part, &l.worker, &l.retainedAt, &l.expiresAt, &l.ids, &l.attempts, &l.cancels, &l.granted,
		&l.q.id, &l.q.Events); err != nil {
		return err
	}
	h.now, l.retainedAt, l.expiresAt = h.now.UTC(), l.retainedAt.UTC(), l.expiresAt.UTC()
	if h.locked == nil {
		h.locked = map[int64]spot{}
	}
	h.locked[id] = spot{l, slices.Index(l.ids, id), id}
	return nil
}

// isLocked is where id is held under token in a row that another transaction has locked.
func (h *holds) isLocked(id, token int64) (spot, bool) {
	p, ok := h.locked[id]
	return p, ok && p.taskToken() == token
}

// lockMoved looks again for holds that the first look did not find: where it waited for a heartbeat, that may have moved
// them to rows which it could not see yet.
func (h *holds) lockMoved(ctx context.Context, t *tx, namespace string, ids, tokens []int64) error {
	for {
		missing, rows := h.missing(ids, tokens)
		before := len(h.all)
		if len(missing) == 0 {
			return nil
		}
		h.again = true
		h.queueLock(t, namespace, rows)
		if err := t.flush(ctx); err != nil || len(h.all) == before {
			return err
		}
	}
}

// Pauses between two looks at what another transaction has locked.
const (
	firstLook = 5 * time.Millisecond
	mostLook  = 200 * time.Millisecond
)

// untilFree calls again for the elements at places, which another transaction has locked, until none is locked or ctx ends. It
// holds no connection while it waits. Elements of a call that fails get its error: the others are answered already.
func (s *Store) untilFree(ctx context.Context, places []int, again func(ctx context.Context, places []int) (locked []int, err error), fail func(place int, err error)) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for look := firstLook; len(places) > 0 && pause(ctx, look); look = min(2*look, mostLook) {
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

// pick are the elements of all at places; nil = all of them.
func pick[T any](all []T, places []int) []T {
	if places == nil {
		return all
	}
	some := make([]T, len(places))
	for i, at := range places {
		some[i] = all[at]
	}
	return some
}

// put answers the elements at places and tells which of them are locked.
func put[T any](out, answers []T, places []int, errOf func(T) error) (locked []int) {
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

// shrink queues what becomes of the lease rows after some of their tasks have ended.
func (h *holds) shrink(t *tx) {
	var gone, kept holdRows
	for _, l := range h.all {
		switch {
		case l.left == l.held:
		case l.left == 0:
			gone = append(gone, writtenLease{token: l.token, part: l.part})
		default:
			kept.add(l, l.part, func(i int) bool { return true }, l.expiresAt, l.granted)
		}
	}
	gone.drop(t)
	kept.update(t)
}

// writtenLease is a lease row to be written. Arrays travel as text, because arrays of unequal length cannot be one parameter.
type writtenLease struct {
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
	granted    int64
}

var writtenLeaseColumns = table.New(
	table.Col("token", func(r *writtenLease) *int64 { return &r.token }),
	table.Col("part", func(r *writtenLease) *int16 { return &r.part }),
	table.Col("queue_id", func(r *writtenLease) *int32 { return &r.queueID }),
	table.Col("retained_at", func(r *writtenLease) *time.Time { return &r.retainedAt }),
	table.Col("expires_at", func(r *writtenLease) *time.Time { return &r.expiresAt }),
	table.Col("worker", func(r *writtenLease) *string { return &r.worker }),
	table.Col("held", func(r *writtenLease) *int16 { return &r.held }),
	table.Col("ids", func(r *writtenLease) *string { return &r.ids }),
	table.Col("attempts", func(r *writtenLease) **string { return &r.attempts }),
	table.Col("cancels", func(r *writtenLease) **string { return &r.cancels }),
	table.Col("granted", func(r *writtenLease) *int64 { return &r.granted }),
)

// The columns of an update and of a deletion of lease rows.
var (
	keptLeaseColumns    = writtenLeaseColumns.Only("token", "part", "held", "ids", "cancels", "expires_at", "granted")
	droppedLeaseColumns = writtenLeaseColumns.Only("token", "part")
)

// holdRows are lease rows to be written.
type holdRows []writtenLease

// add appends a row with the tasks of l that stay returns true for.
func (r *holdRows) add(l *hold, part int16, stay func(i int) bool, expiresAt time.Time, granted int64) {
	row := writtenLease{
		token: l.token, part: part, queueID: l.q.id, retainedAt: l.retainedAt, expiresAt: expiresAt, worker: l.worker, granted: granted,
	}

	var cancels []int64
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

	row.ids = arrayText(ids)
	row.attempts = arrayPtr(l.attempts)
	row.cancels = arrayPtr(cancels)
	*r = append(*r, row)
}

func arrayPtr[N int16 | int64](s []N) *string {
	if len(s) == 0 {
		return nil
	}
	text := arrayText(s)
	return &text
}

func (r holdRows) drop(t *tx) {
	if len(r) > 0 {
		t.send(dropLeases, droppedLeaseColumns.Arrays(nil, r)...)
	}
}

func (r holdRows) update(t *tx) {
	if len(r) > 0 {
		t.send(keepLeases, keptLeaseColumns.Arrays(nil, r)...)
	}
}

func (r holdRows) insert(t *tx) {
	if len(r) > 0 {
		t.send(insertLeases, writtenLeaseColumns.Arrays(nil, r)...)
	}
}

// facts is what the rows of a held task say.
type facts struct {
	task *queue.Task
	life queue.Life // Status, Attempt and CancelRequested are the hold's to say
}

// factsByID gathers facts.
type factsByID map[int64]facts

func (f factsByID) scan(rows pgx.Rows) error {
	var (
		queueID                                int32
		t                                      queue.Task
		delayedAt, diesAt, sDelayedAt, sDiesAt *time.Time
		first                                  int16
		left                                   *int16
		key                                    *string
		headers, result, progress              []byte
		stated                                 bool
	)
	err := rows.Scan(&queueID, &t.ID, &t.CreatedAt, &delayedAt, &diesAt, &t.Priority, &first, &key, &headers, (*[]byte)(&t.Payload),
		&stated, &sDelayedAt, &sDiesAt, &left, &result, &progress)
	if err != nil {
		return err
	}
	if stated {
		delayedAt, diesAt, first = sDelayedAt, sDiesAt, *left
	}
	t.CreatedAt, t.Key, t.Result, t.Progress = t.CreatedAt.UTC(), textOf(key), result, progress
	if t.Headers, err = headersOf(headers); err != nil {
		return err
	}
	f[t.ID] = facts{&t, queue.Life{DelayedAt: timeOf(delayedAt), DiesAt: timeOf(diesAt), Retries: int(first)}}
	return nil
}
