package postgres

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// task and done are partitioned by ranges of ids, both by the same, so that a range that is wholly past retention leaves
// by dropping two tables. A partition is made before its first id is used; its size follows the rate.

const (
	partMax    = 1 << 26          // most ids in a partition
	partSoon   = 10 * time.Minute // filled faster than this: the next is twice as large
	partLong   = 24 * time.Hour   // lasted longer than this: the next is half as large
	ddlTimeout = "200ms"          // a lock that is not to be had by then is tried again later
	asideMost  = 10 * time.Second // bounds one extension on a connection of its own
	asideRest  = 5 * time.Second  // between a failed extension ahead of need and the next
)

// A try to drop a partition waits dropPatience for each of its locks, while others wait behind it; after one in vain the next
// try rests.
const (
	dropPatience  = "20ms"
	dropRestLeast = 10 * time.Second
	dropRestMost  = 5 * time.Minute
	dropTimeout   = 10 * time.Minute // of the walk under the lock, which no other work waits for, and the drop
)

// partitions remembers how far the partitions go, and how dropping the oldest goes.
type partitions struct {
	upper atomic.Int64 // ids below have a partition; 0 = not known yet
	soon  atomic.Int64 // from this id on the next partition is made ahead of need

	mu      sync.Mutex
	running *extension // at most one
	rested  time.Time  // no extension ahead of need before
	ending  context.Context
	end     context.CancelFunc
	done    sync.WaitGroup

	cursor   partCursor
	dropRest time.Duration
	nextDrop time.Time
}

// extension is one run of extendAside, for all who wait for it.
type extension struct {
	over chan struct{}
	err  error // read when over is closed
}

func (p *partitions) init() { p.ending, p.end = context.WithCancel(context.Background()) }

// close ends an extension that is under way and waits for its end.
func (p *partitions) close() {
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	p.done.Wait()
}

func (p *partitions) covers(id int64) bool { return id < p.upper.Load() }

// learn notes the last partition, [lower, upper).
func (p *partitions) learn(lower, upper int64) {
	p.soon.Store(lower + (upper-lower)/4*3)
	p.upper.Store(upper)
}

// errNeedPartition ends a create whose ids have no partition yet, before it has written anything.
var errNeedPartition = errors.New("no partition for these ids yet")

func needPartition(err error) bool {
	if errors.Is(err, errNeedPartition) {
		return true
	}
	return noPartition(err)
}

// noPartition says that PostgreSQL found no partition for a row: the database lost what this process remembered, by a
// restore say. A row that breaks a check has the same SQLSTATE and names the check.
func noPartition(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23514" && pg.ConstraintName == ""
}

type partition struct {
	lower, upper int64
	createdAt    time.Time
}

// learnParts reads, once, how far the partitions of the database go, and makes the first: no id is lost in finding out.
func (s *Store) learnParts(ctx context.Context) error {
	if s.partitions.upper.Load() > 0 {
		return nil
	}
	var last partition
	err := s.query(ctx, "list partitions", "part.list", last.scan)
	if err != nil {
		return err
	}
	if last.upper == 0 {
		return s.extendTo(ctx, 1)
	}
	s.partitions.learn(last.lower, last.upper)
	return nil
}

// learnPartsIn is learnParts within a caller's transaction: it asks no other connection, and makes nothing.
func (s *Store) learnPartsIn(ctx context.Context, t *tx) error {
	var last partition
	if err := t.read(ctx, "part.list", last.scan); err != nil {
		return err
	}
	if last.upper > s.partitions.upper.Load() {
		s.partitions.learn(last.lower, last.upper)
	}
	return nil
}

// scan reads a row of part.list; of several the last stays.
func (p *partition) scan(rows pgx.Rows) error {
	return rows.Scan(&p.lower, &p.upper, &p.createdAt, nil, nil)
}

// extend makes partitions until b's ids are covered.
func (s *Store) extend(ctx context.Context, b *insertBatch) error {
	return s.extendTo(ctx, b.maxID)
}

func (s *Store) extendTo(ctx context.Context, id int64) error {
	var last partition
	err := s.runInTx(ctx, "extend partitions", func(ctx context.Context, t *tx) (err error) {
		last, err = s.extendIn(ctx, t, id)
		return err
	})
	if err == nil {
		s.partitions.learn(last.lower, last.upper)
	}
	return err
}

// extendIn makes partitions within t until id is covered, and returns the last.
func (s *Store) extendIn(ctx context.Context, t *tx, id int64) (partition, error) {
	all, now, _, err := s.partitions.lock(ctx, t)
	if err != nil {
		return partition{}, err
	}

	last := partition{upper: 1}
	size := s.opt.partitionMin
	if n := len(all); n > 0 {
		last = all[n-1]
		size = last.upper - last.lower
		switch age := now.Sub(last.createdAt); {
		case age < partSoon && n > 1:
			size = min(2*size, partMax)
		case age > partLong:
			size = max(size/2, s.opt.partitionMin)
		}
	}

	for last.upper <= id {
		last.lower, last.upper = last.upper, last.upper+size
		t.batch.Queue("set local lock_timeout = '" + ddlTimeout + "'")
		t.ddl("part.create", last.lower, last.upper)
		t.queue("part.insert", last.lower, last.upper)
	}

	return last, nil
}

// extendAside is extendTo on a connection of its own, outside of the pool: for callers whose transaction holds a connection
// of it. All who ask at once share one connection. The partition is there whatever becomes of the caller's transaction, and
// no lock is held until that ends.
func (s *Store) extendAside(ctx context.Context, id int64) error {
	for !s.partitions.covers(id) {
		e := s.startExtension(id)
		if e == nil {
			return &queue.Error{Op: "extend partitions", Kind: queue.KindUnavailable, Msg: "the store is closed"}
		}
		select {
		case <-e.over:
			if e.err != nil {
				return e.err
			}
		case <-ctx.Done():
			return translateError("extend partitions", ctx.Err())
		}
	}
	return nil
}

// extendSoon begins to make the next partition, ahead of need, when id comes near to the end of the last. It never waits.
func (s *Store) extendSoon(id int64) {
	p := &s.partitions
	if id < p.soon.Load() {
		return
	}
	p.mu.Lock()
	resting := time.Now().Before(p.rested)
	p.mu.Unlock()
	if !resting {
		s.startExtension(p.upper.Load())
	}
}

// startExtension joins the extension that is under way, or starts one that covers id; nil when the store is closed.
func (s *Store) startExtension(id int64) *extension {
	p := &s.partitions
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending.Err() != nil {
		return nil
	}
	if p.running == nil {
		e := &extension{over: make(chan struct{})}
		p.running = e
		p.done.Go(func() { s.runExtension(e, id) })
	}
	return p.running
}

// runExtension is the goroutine of e.
func (s *Store) runExtension(e *extension, id int64) {
	p := &s.partitions
	ctx, cancel := context.WithTimeout(p.ending, asideMost)
	defer cancel()
	last, err := s.extendOnce(ctx, id)
	for err != nil && isTransient(err) && sleepFor(ctx, firstBackoff) {
		last, err = s.extendOnce(ctx, id)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = nil
	if err == nil {
		p.learn(last.lower, last.upper)
	} else {
		e.err = translateError("extend partitions", err)
		p.rested = time.Now().Add(asideRest)
		if ctx.Err() == nil || p.ending.Err() == nil {
			s.opt.logger.Warn("could not make the next partition", "error", e.err)
		}
	}
	close(e.over)
}

// extendOnce is one try on a new connection.
func (s *Store) extendOnce(ctx context.Context, id int64) (last partition, err error) {
	cfg, err := s.configOfExtraConn(ctx, "pgqueue extend")
	if err != nil {
		return last, err
	}
	conn, err := openConnection(ctx, cfg)
	if err != nil {
		return last, err
	}
	defer closeConnection(ctx, conn)
	err = s.tryTransactionOn(ctx, conn, func(ctx context.Context, t *tx) error {
		last, err = s.extendIn(ctx, t, id)
		return err
	})
	return last, err
}

// lock reads the partitions and keeps others from changing them.
func (p *partitions) lock(ctx context.Context, t *tx) (all []partition, now time.Time, lastID int64, err error) {
	t.queue("part.lock")
	err = t.read(ctx, "part.list", func(rows pgx.Rows) error {
		var one partition
		err := rows.Scan(&one.lower, &one.upper, &one.createdAt, &now, &lastID)
		all = append(all, one)
		return err
	})
	return all, now, lastID, err
}

// ofPart is a statement about the partition [lower, upper): its tables are named by it.
func ofPart(text string, lower, upper int64) string {
	return strings.NewReplacer("{lower}", strconv.FormatInt(lower, 10), "{upper}", strconv.FormatInt(upper, 10)).Replace(text)
}

// ddl queues the statements of a text about one partition.
func (t *tx) ddl(name string, lower, upper int64) {
	for text := range strings.SplitSeq(ofPart(t.sql.get(name), lower, upper), ";") {
		if text = strings.TrimSpace(withoutComments(text)); text != "" {
			t.batch.Queue(text)
		}
	}
}

// keepAhead makes the first partition, and the next when more than half of the last is used.
func (s *Store) keepAhead(ctx context.Context) error {
	var all []partition
	var lastID int64
	err := s.query(ctx, "extend partitions", "part.list", func(rows pgx.Rows) error {
		var one partition
		err := rows.Scan(&one.lower, &one.upper, &one.createdAt, nil, &lastID)
		all = append(all, one)
		return err
	})
	if err != nil {
		return err
	}

	if len(all) == 0 {
		return s.extendTo(ctx, 1)
	}

	last := all[len(all)-1]
	if lastID > last.lower+(last.upper-last.lower)/2 {
		return s.extendTo(ctx, last.upper)
	}
	return nil
}

// dropPast works at dropping the oldest partition when all of its tasks are finished and past retention: at first, in bounded
// steps, what other tables have of them; then the partition itself. It reports how much it dealt with, and whether there is
// more to do at once.
func (s *Store) dropPast(ctx context.Context) (int, bool, error) {
	const op = "drop partition"
	var all []partition
	var lastID int64
	err := s.query(ctx, op, "part.list", func(rows pgx.Rows) error {
		var one partition
		err := rows.Scan(&one.lower, &one.upper, &one.createdAt, nil, &lastID)
		all = append(all, one)
		return err
	})

	if err != nil || len(all) < 2 || all[0].upper > lastID { // the one in use stays
		return 0, false, err
	}

	p := all[0]
	moved, rest, err := s.stripPart(ctx, op, p)
	if err != nil || rest != partStripped {
		return moved, err == nil && rest == partHasMore, err
	}

	dropped, err := s.dropPart(ctx, op, p)
	if dropped {
		moved++
	}
	return moved, dropped, err
}

// partRest is the state of a partition after a step of its removal.
type partRest int

const (
	partHasMore  partRest = iota // of what other tables have of its tasks
	partNeeded                   // a task is unfinished or within its retention
	partStripped                 // nothing is left but the partition itself
)

// The statements that read a partition in steps.
var (
	walkPart       = statement("part.walk")
	stripPartKeys  = statement("part.strip.keys")
	stripPartRows  = statement("part.strip")
	countPartTasks = statement("part.counts")
)

// askPart is ask for a statement whose tables are those of the partition p.
func (t *tx) askPart(s sqltext.Statement, p partition, each func(pgx.Rows) error, args ...sqltext.Arg) {
	t.askText(ofPart(t.sql.Of(s), p.lower, p.upper), each, t.sql.Values(s, args)...)
}

// partStep is one step of the walk over the tasks of a partition.
type partStep struct {
	needed bool       // a task of the step is unfinished or within its retention; next is not set
	end    bool       // no task is left
	next   partCursor // of the last task
}

// walkPart reads a step of at most size tasks of p behind the cursor at. It ends at the first task that p still needs.
func (t *tx) walkPart(ctx context.Context, p partition, at partCursor, size int) (step partStep, err error) {
	t.askPart(walkPart, p, func(rows pgx.Rows) error {
		var q *int32
		var id *int64
		if err := rows.Scan(&step.needed, &q, &id); err != nil {
			return err
		}
		if step.end = !step.needed && id == nil; id != nil {
			step.next = partCursor{p.lower, *q, *id}
		}
		return nil
	}, arg("queue_id", at.queue), arg("task_id", at.id), arg("limit", size))
	return step, t.flushBatch(ctx)
}

// stripPart removes a step of what other tables have of the tasks of a partition: first their keys, task by task, then states
// and errors. The walk stops in front of a task that the partition still needs, and the next call goes on there. A process
// that starts anew walks anew and finds nothing. The answer is a hint: only dropPart's walk is under a lock.
func (s *Store) stripPart(ctx context.Context, op string, p partition) (moved int, rest partRest, err error) {
	size, _, _ := s.rowFilters.strip.nextStep()
	at := s.partitions.strip(p.lower)
	next := at
	err = s.runInTx(ctx, op, func(ctx context.Context, t *tx) error {
		moved, rest, next = 0, partHasMore, at
		step, err := t.walkPart(ctx, p, at, size)
		if err != nil {
			return err
		}
		if step.needed {
			rest = partNeeded
			return errNothing
		}

		addMoved := func(rows pgx.Rows) error {
			var n int
			err := rows.Scan(&n)
			moved += n
			return err
		}

		if !step.end {
			next = step.next
			t.askPart(stripPartKeys, p, addMoved, arg("queue_id", at.queue), arg("task_id", at.id),
				arg("last_queue_id", next.queue), arg("last_task_id", next.id))
			return t.flushBatch(ctx)
		}

		t.askPart(stripPartRows, p, addMoved, arg("limit", size))
		if err := t.flushBatch(ctx); err != nil {
			return err
		}

		if moved < size {
			rest = partStripped
		}
		return nil
	})

	if isPgCode(err, undefinedTable) { // another process has just dropped it
		return 0, partNeeded, nil
	}

	if ignoreNothingToDo(err) != nil {
		// A smaller step may pass where a row cannot go, or where this one outlasts a call. At one row the fault is reported:
		// that row keeps its partition, and nothing else.
		smaller := isFaultOfRows(ctx, err) || ctx.Err() == nil && queue.KindOf(err) == queue.KindDeadline
		if !smaller || !s.rowFilters.strip.halveStep() {
			return 0, partNeeded, err
		}
		return 0, partHasMore, nil
	}
	s.rowFilters.strip.recordPass()
	s.partitions.stripped(next)
	return moved, rest, nil
}

// dropPart drops a partition, unless something has changed. Other statements on old tasks of the partition wait for the
// look at them; those of the hot path only while the two tables are dropped. That needs a lock which everything waits
// behind, so it is tried once and given up after dropPatience: a session that reads the tables for long, as pg_dump does,
// holds up nothing. The next tries are further and further apart.
func (s *Store) dropPart(ctx context.Context, op string, p partition) (dropped bool, err error) {
	if !s.partitions.mayDrop() {
		return false, nil
	}
	size, _, _ := s.rowFilters.strip.nextStep()
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	err = s.tryTransaction(ctx, func(ctx context.Context, t *tx) error {
		t.queue("part.drop.lock")
		t.batch.Queue("set local lock_timeout = '" + dropPatience + "'")
		t.batch.Queue("set local statement_timeout = 0") // dropTimeout bounds it
		t.ddl("part.freeze", p.lower, p.upper)
		if err := t.flushBatch(ctx); err != nil {
			return err
		}

		// A task may have become unfinished behind the cursor of stripPart, so this walk begins at the first task.
		for at := firstOfPart(p.lower); ; {
			step, err := t.walkPart(ctx, p, at, size)
			if err != nil {
				return err
			}
			if step.needed {
				s.partitions.stripped(at)
				return errNothing
			}
			if step.end {
				break
			}
			at = step.next
		}

		ev := events{}
		var gone []eventChange
		var counts []int32
		t.askPart(countPartTasks, p, func(rows pgx.Rows) error {
			var c eventChange
			var n int32
			err := rows.Scan(&c.queue, &c.was, &n)
			gone, counts = append(gone, c), append(counts, n)
			return err
		})

		if err := t.flushBatch(ctx); err != nil {
			return err
		}

		ev.insertCounts(t, gone, counts)
		t.ddl("part.drop", p.lower, p.upper)
		dropped = true
		return nil
	})

	if isPgCode(err, lockNotAvailable) || isPgCode(err, undefinedTable) {
		s.partitions.dropLater()
		return false, nil
	}

	s.partitions.dropSoon()
	return dropped && err == nil, translateError(op, ignoreNothingToDo(err))
}

// SQLSTATEs that a removal of a partition expects.
const (
	lockNotAvailable = "55P03"
	undefinedTable   = "42P01"
)

// isPgCode reports whether err is PostgreSQL's error with the SQLSTATE code.
func isPgCode(err error, code string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == code
}

// partCursor is how far the walk over the tasks of the partition that begins at lower has come.
type partCursor struct {
	lower int64
	queue int32
	id    int64
}

// firstOfPart is the cursor in front of the first task.
func firstOfPart(lower int64) partCursor { return partCursor{lower: lower, queue: math.MinInt32} }

// strip is where the walk over a partition goes on.
func (p *partitions) strip(lower int64) partCursor {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cursor.lower != lower {
		p.cursor = firstOfPart(lower)
	}
	return p.cursor
}

func (p *partitions) stripped(at partCursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursor = at
}

// mayDrop says whether the rest after a lock that was not to be had is over.
func (p *partitions) mayDrop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !time.Now().Before(p.nextDrop)
}

// dropLater lets the next try rest for twice as long as the last.
func (p *partitions) dropLater() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropRest = min(max(2*p.dropRest, dropRestLeast), dropRestMost)
	p.nextDrop = time.Now().Add(p.dropRest)
}

func (p *partitions) dropSoon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropRest, p.nextDrop = 0, time.Time{}
}
