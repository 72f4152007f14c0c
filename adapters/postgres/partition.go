package postgres

import (
	"context"
	"errors"
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

// parts remembers how far the partitions go.
type parts struct {
	upper atomic.Int64 // ids below have a partition; 0 = not known yet
	soon  atomic.Int64 // from this id on the next partition is made ahead of need

	mu      sync.Mutex
	running *extension // at most one
	rested  time.Time  // no extension ahead of need before
	ending  context.Context
	end     context.CancelFunc
	done    sync.WaitGroup
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

// dropPast drops the oldest partition when all of its tasks are finished and past retention. It reports whether it did.
func (s *Store) dropPast(ctx context.Context) (bool, error) {
	const op = "drop partition"
	dropped := false
	err := s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
		all, _, lastID, err := s.parts.lock(ctx, t)
		if err != nil {
			return err
		}
		if len(all) < 2 || all[0].upper > lastID { // the one in use stays
			return errNothing
		}
		p := all[0]
		ask := func(name string, into any) error {
			t.batch.Queue(ofPart(t.sql.get(name), p.lower, p.upper)).QueryRow(func(row pgx.Row) error { return row.Scan(into) })
			return t.flush(ctx)
		}
		var young bool
		var unfinished int64
		if err := ask("part.young", &young); err != nil || young {
			return orNothing(err)
		}
		if err := ask("part.unfinished", &unfinished); err != nil || unfinished != 0 {
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
		t.batch.Queue("set local lock_timeout = '" + ddlTimeout + "'")
		t.ddl("part.drop", p.lower, p.upper)
		ev.insertCounts(t, gone, counts)
		dropped = true
		return nil
	})
	if err != nil && quietly(err) == nil || errors.Is(err, queue.ErrUnavailable) { // the lock was not to be had: later
		return false, nil
	}
	return dropped && err == nil, err
}

func orNothing(err error) error {
	if err == nil {
		return errNothing
	}
	return err
}
