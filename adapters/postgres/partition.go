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
)

// parts remembers how far the partitions go, and how dropping the oldest goes.
type parts struct {
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

func (p *parts) init() { p.ending, p.end = context.WithCancel(context.Background()) }

// close ends an extension that is under way and waits for its end.
func (p *parts) close() {
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	p.done.Wait()
}

func (p *parts) covers(id int64) bool { return id < p.upper.Load() }

// learn notes the last partition, [lower, upper).
func (p *parts) learn(lower, upper int64) {
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

type part struct {
	lower, upper int64
	createdAt    time.Time
}

// learnParts reads, once, how far the partitions of the database go, and makes the first: no id is lost in finding out.
func (s *Store) learnParts(ctx context.Context) error {
	if s.parts.upper.Load() > 0 {
		return nil
	}
	var last part
	err := s.query(ctx, "list partitions", "part.list", last.scan)
	if err != nil {
		return err
	}
	if last.upper == 0 {
		return s.extendTo(ctx, 1)
	}
	s.parts.learn(last.lower, last.upper)
	return nil
}

// learnPartsIn is learnParts within a caller's transaction: it asks no other connection, and makes nothing.
func (s *Store) learnPartsIn(ctx context.Context, t *tx) error {
	var last part
	if err := t.read(ctx, "part.list", last.scan); err != nil {
		return err
	}
	if last.upper > s.parts.upper.Load() {
		s.parts.learn(last.lower, last.upper)
	}
	return nil
}

// scan reads a row of part.list; of several the last stays.
func (p *part) scan(rows pgx.Rows) error {
	return rows.Scan(&p.lower, &p.upper, &p.createdAt, nil, nil)
}

// extend makes partitions until b's ids are covered.
func (s *Store) extend(ctx context.Context, b *birth) error {
	return s.extendTo(ctx, b.maxID)
}

func (s *Store) extendTo(ctx context.Context, id int64) error {
	var last part
	err := s.inTx(ctx, "extend partitions", func(ctx context.Context, t *tx) (err error) {
		last, err = s.extendIn(ctx, t, id)
		return err
	})
	if err == nil {
		s.parts.learn(last.lower, last.upper)
	}
	return err
}

// extendIn makes partitions within t until id is covered, and returns the last.
func (s *Store) extendIn(ctx context.Context, t *tx, id int64) (part, error) {
	all, now, _, err := s.parts.lock(ctx, t)
	if err != nil {
		return part{}, err
	}
	last := part{upper: 1}
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
	for !s.parts.covers(id) {
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
			return translate("extend partitions", ctx.Err())
		}
	}
	return nil
}

// extendSoon begins to make the next partition, ahead of need, when id comes near to the end of the last. It never waits.
func (s *Store) extendSoon(id int64) {
	p := &s.parts
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
	p := &s.parts
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
	p := &s.parts
	ctx, cancel := context.WithTimeout(p.ending, asideMost)
	defer cancel()
	last, err := s.extendOnce(ctx, id)
	for err != nil && transient(err) && pause(ctx, firstBackoff) {
		last, err = s.extendOnce(ctx, id)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = nil
	if err == nil {
		p.learn(last.lower, last.upper)
	} else {
		e.err = translate("extend partitions", err)
		p.rested = time.Now().Add(asideRest)
		if ctx.Err() == nil || p.ending.Err() == nil {
			s.opt.logger.Warn("could not make the next partition", "error", e.err)
		}
	}
	close(e.over)
}

// extendOnce is one try on a new connection.
func (s *Store) extendOnce(ctx context.Context, id int64) (last part, err error) {
	cfg, err := s.poolConfig(ctx, "pgqueue extend")
	if err != nil {
		return last, err
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return last, err
	}
	defer closeConn(ctx, conn)
	err = s.tryTxOn(ctx, conn, func(ctx context.Context, t *tx) error {
		last, err = s.extendIn(ctx, t, id)
		return err
	})
	return last, err
}

// lock reads the partitions and keeps others from changing them.
func (p *parts) lock(ctx context.Context, t *tx) (all []part, now time.Time, lastID int64, err error) {
	t.queue("part.lock")
	err = t.read(ctx, "part.list", func(rows pgx.Rows) error {
		var one part
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
	var all []part
	var lastID int64
	err := s.query(ctx, "extend partitions", "part.list", func(rows pgx.Rows) error {
		var one part
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
	var all []part
	var lastID int64
	err := s.query(ctx, op, "part.list", func(rows pgx.Rows) error {
		var one part
		err := rows.Scan(&one.lower, &one.upper, &one.createdAt, nil, &lastID)
		all = append(all, one)
		return err
	})
	if err != nil || len(all) < 2 || all[0].upper > lastID { // the one in use stays
		return 0, false, err
	}
	p := all[0]
	past, err := s.isPast(ctx, op, p)
	if err != nil || !past {
		return 0, false, err
	}
	moved, more, err := s.stripPart(ctx, op, p)
	if err != nil || more {
		return moved, err == nil, err
	}
	dropped, err := s.dropPart(ctx, op, p)
	if dropped {
		moved++
	}
	return moved, dropped, err
}

// isPast says whether all tasks of a partition are finished and past retention. Only dropPart's answer counts, under its lock:
// this one keeps it from asking for the lock in vain.
func (s *Store) isPast(ctx context.Context, op string, p part) (bool, error) {
	var past bool
	err := s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
		t.batch.Queue("set local statement_timeout = 0") // ctx bounds it; counting a large partition takes seconds
		var err error
		past, err = t.allPast(ctx, p)
		return err
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42P01" { // another process has just dropped it
		return false, nil
	}
	return past, err
}

// allPast says whether all tasks of a partition are finished and past retention.
func (t *tx) allPast(ctx context.Context, p part) (bool, error) {
	ask := func(name string, into any) error {
		t.batch.Queue(ofPart(t.sql.get(name), p.lower, p.upper)).QueryRow(func(row pgx.Row) error { return row.Scan(into) })
		return t.flush(ctx)
	}
	var young bool
	var unfinished int64
	if err := ask("part.young", &young); err != nil || young {
		return false, err
	}
	err := ask("part.unfinished", &unfinished)
	return unfinished == 0, err
}

// stripPart removes a step of what other tables have of the tasks of a partition: keys, states and errors. The walk over the
// tasks goes on where the last step ended; a process that starts anew walks anew and finds nothing.
func (s *Store) stripPart(ctx context.Context, op string, p part) (moved int, more bool, err error) {
	size, _, _ := s.sieves.strip.next()
	at := s.parts.strip(p.lower)
	next := at
	err = s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
		moved, next = 0, at
		t.batch.Queue(ofPart(t.sql.get("part.strip.keys"), p.lower, p.upper), at.queue, at.id, size).QueryRow(func(row pgx.Row) error {
			var visited int
			var q *int32
			var id *int64
			if err := row.Scan(&visited, &q, &id, &moved); err != nil {
				return err
			}
			if more = visited == size; q != nil {
				next = partCursor{p.lower, *q, *id}
			}
			return nil
		})
		t.batch.Queue(ofPart(t.sql.get("part.strip"), p.lower, p.upper), size).QueryRow(func(row pgx.Row) error {
			var n int
			err := row.Scan(&n)
			moved += n
			more = more || n >= size
			return err
		})
		return t.flush(ctx)
	})
	if err != nil {
		// A row that cannot go keeps its partition, and no more than that: the fault is told with the step's.
		if !ofItsRows(ctx, err) || !s.sieves.strip.halve() {
			return 0, false, err
		}
		return 0, true, nil
	}
	s.sieves.strip.passed()
	s.parts.stripped(next)
	return moved, more, nil
}

// dropPart drops a partition, unless something has changed. Other statements on old tasks of the partition wait for the
// look at them; those of the hot path only while the two tables are dropped. That needs a lock which everything waits
// behind, so it is tried once and given up after dropPatience: a session that reads the tables for long, as pg_dump does,
// holds up nothing. The next tries are further and further apart.
func (s *Store) dropPart(ctx context.Context, op string, p part) (dropped bool, err error) {
	if !s.parts.mayDrop() {
		return false, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err = s.tryTx(ctx, func(ctx context.Context, t *tx) error {
		t.queue("part.drop.lock")
		t.batch.Queue("set local lock_timeout = '" + dropPatience + "'")
		t.batch.Queue("set local statement_timeout = 0") // ctx bounds it; counting a large partition takes seconds
		t.ddl("part.freeze", p.lower, p.upper)
		if err := t.flush(ctx); err != nil {
			return err
		}
		past, err := t.allPast(ctx, p)
		if err != nil || !past {
			return orNothing(err)
		}
		ev := events{}
		var gone []change
		var counts []int32
		t.batch.Queue(ofPart(t.sql.get("part.counts"), p.lower, p.upper)).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var c change
				var n int32
				if err := rows.Scan(&c.queue, &c.was, &n); err != nil {
					return err
				}
				gone, counts = append(gone, c), append(counts, n)
			}
			return rows.Err()
		})
		if err := t.flush(ctx); err != nil {
			return err
		}
		ev.insertCounts(t, gone, counts)
		t.ddl("part.drop", p.lower, p.upper)
		dropped = true
		return nil
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "55P03" || pg.Code == "42P01") {
		s.parts.dropLater()
		return false, nil
	}
	s.parts.dropSoon()
	return dropped && err == nil, translate(op, quietly(err))
}

func orNothing(err error) error {
	if err == nil {
		return errNothing
	}
	return err
}

// partCursor is how far the walk over the tasks of the partition that begins at lower has come.
type partCursor struct {
	lower int64
	queue int32
	id    int64
}

// strip is where the walk over a partition goes on.
func (p *parts) strip(lower int64) partCursor {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cursor.lower != lower {
		p.cursor = partCursor{lower: lower, queue: math.MinInt32}
	}
	return p.cursor
}

func (p *parts) stripped(at partCursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursor = at
}

// mayDrop says whether the rest after a lock that was not to be had is over.
func (p *parts) mayDrop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !time.Now().Before(p.nextDrop)
}

// dropLater lets the next try rest for twice as long as the last.
func (p *parts) dropLater() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropRest = min(max(2*p.dropRest, dropRestLeast), dropRestMost)
	p.nextDrop = time.Now().Add(p.dropRest)
}

func (p *parts) dropSoon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropRest, p.nextDrop = 0, time.Time{}
}
