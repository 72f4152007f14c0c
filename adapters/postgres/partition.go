package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// task and done are partitioned by ranges of ids, both by the same, so that a range that is wholly past retention leaves
// by dropping two tables. A partition is made before its first id is used; its size follows the rate.

// partClass is the class of the advisory lock under which partitions are made and dropped.
const partClass = gateClass + 1

const (
	partMax    = 1 << 26          // most ids in a partition
	partSoon   = 10 * time.Minute // filled faster than this: the next is twice as large
	partLong   = 24 * time.Hour   // lasted longer than this: the next is half as large
	ddlTimeout = "200ms"          // a lock that is not to be had by then is tried again later
)

// parts remembers up to which id there are partitions.
type parts struct{ upper atomic.Int64 }

func (p *parts) covers(id int64) bool { return id < p.upper.Load() }

// errNeedPartition ends a create whose ids have no partition yet, before it has written anything.
var errNeedPartition = errors.New("no partition for these ids yet")

func needPartition(err error) bool {
	if errors.Is(err, errNeedPartition) {
		return true
	}
	pg, ok := errors.AsType[*pgconn.PgError](err) // another process dropped what this one remembered
	return ok && pg.Code == "23514" && strings.Contains(pg.Message, "no partition")
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
	upper := int64(0)
	err := s.query(ctx, "list partitions", "part.list", func(rows pgx.Rows) error { return rows.Scan(nil, &upper, nil, nil, nil) })
	if err != nil {
		return err
	}
	if upper == 0 {
		return s.extendTo(ctx, 1)
	}
	s.parts.upper.CompareAndSwap(0, upper)
	return nil
}

// extend makes partitions until b's ids are covered.
func (s *Store) extend(ctx context.Context, b *birth) error {
	return s.extendTo(ctx, b.maxID)
}

func (s *Store) extendTo(ctx context.Context, id int64) error {
	var upper int64
	err := s.inTx(ctx, "extend partitions", func(ctx context.Context, t *tx) error {
		all, now, _, err := s.parts.lock(ctx, t)
		if err != nil {
			return err
		}
		upper = 1
		size := s.opt.partitionMin
		if n := len(all); n > 0 {
			last := all[n-1]
			upper, size = last.upper, last.upper-last.lower
			switch age := now.Sub(last.createdAt); {
			case age < partSoon && n > 1:
				size = min(2*size, partMax)
			case age > partLong:
				size = max(size/2, s.opt.partitionMin)
			}
		}
		for upper <= id {
			t.batch.Queue("set local lock_timeout = '" + ddlTimeout + "'")
			t.ddl("part.create", upper, upper+size)
			t.queue("part.insert", upper, upper+size)
			upper += size
		}
		return nil
	})
	if err == nil {
		s.parts.upper.Store(upper)
	}
	return err
}

// lock reads the partitions and keeps others from changing them.
func (p *parts) lock(ctx context.Context, t *tx) (all []part, now time.Time, lastID int64, err error) {
	t.queue("part.lock", int32(partClass))
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

// keepAhead makes the next partition when more than half of the last is used.
func (s *Store) keepAhead(ctx context.Context) error {
	var all []part
	var lastID int64
	err := s.query(ctx, "extend partitions", "part.list", func(rows pgx.Rows) error {
		var one part
		err := rows.Scan(&one.lower, &one.upper, &one.createdAt, nil, &lastID)
		all = append(all, one)
		return err
	})
	if err != nil || len(all) == 0 {
		return err
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
