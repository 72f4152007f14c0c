package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

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
	q := &l.q
	if err := rows.Scan(&h.now, &l.token, &l.part, &l.worker, &l.retainedAt, &l.expiresAt, &l.ids, &l.attempts, &l.cancels, &l.granted,
		&q.id, &q.Namespace, &q.Name, &q.TTL, &q.Retries, &q.RetryDelay, &q.Backoff, &q.RetryMaxDelay, &q.Lease,
		&q.Concurrency, &q.Retention, &q.Paused, &q.Events, &q.Version, &q.CreatedAt, &q.UpdatedAt); err != nil {
		return err
	}
	h.now, l.retainedAt, l.expiresAt = h.now.UTC(), l.retainedAt.UTC(), l.expiresAt.UTC()
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
	name := "hold.lock"
	if h.free {
		name = "hold.lock.free"
	}
	t.queueRows(name, h.scan, namespace, slices.Compact(rows))
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
	t.queueRows("hold.seen", h.scanSeen, namespace, rows, missing)
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
			gone.add(l, l.part, nil, l.expiresAt, l.granted)
		default:
			kept.add(l, l.part, func(i int) bool { return true }, l.expiresAt, l.granted)
		}
	}
	if len(gone.tokens) > 0 {
		t.queue("hold.drop", gone.tokens, gone.parts)
	}
	kept.update(t)
}

// holdRows are lease rows to be written.
type holdRows struct {
	tokens                 []int64
	parts                  []int16
	queues                 []int32
	retainedAts, expiresAt []time.Time
	workers, ids           []string
	held                   []int16
	attempts, cancels      []*string
	granted                []int64
}

// add puts the tasks of l that stay pass into a row.
func (r *holdRows) add(l *hold, part int16, stay func(i int) bool, expiresAt time.Time, granted int64) {
	r.tokens, r.parts, r.queues = append(r.tokens, l.token), append(r.parts, part), append(r.queues, l.q.id)
	r.retainedAts, r.expiresAt = append(r.retainedAts, l.retainedAt), append(r.expiresAt, expiresAt)
	r.workers = append(r.workers, l.worker)
	if stay == nil {
		return
	}
	var cancels []int64
	ids, held := make([]int64, len(l.ids)), int16(0)
	for i, id := range l.ids {
		if id == 0 || !stay(i) {
			continue
		}
		ids[i] = id
		held++
		if slices.Contains(l.cancels, id) {
			cancels = append(cancels, id)
		}
	}
	r.ids, r.held, r.granted = append(r.ids, arrayText(ids)), append(r.held, held), append(r.granted, granted)
	r.attempts, r.cancels = append(r.attempts, arrayPtr(l.attempts)), append(r.cancels, arrayPtr(cancels))
}

func arrayPtr[N int16 | int64](s []N) *string {
	if len(s) == 0 {
		return nil
	}
	text := arrayText(s)
	return &text
}

func (r *holdRows) update(t *tx) {
	if len(r.tokens) > 0 {
		t.queue("hold.keep", r.tokens, r.parts, r.held, r.ids, r.cancels, r.expiresAt, r.granted)
	}
}

func (r *holdRows) insert(t *tx) {
	if len(r.tokens) > 0 {
		t.queue("hold.split", r.tokens, r.parts, r.queues, r.retainedAts, r.expiresAt, r.workers, r.held, r.ids, r.attempts, r.cancels,
			r.granted)
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
