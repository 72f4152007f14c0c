package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// pruneSlack is the share of its retention that a finished task of a full partition may stay longer, out of sight, so that
// it can leave with the whole partition instead of by itself. Until then it is still counted.
const (
	pruneSlack    = 8
	pruneSlackMax = 24 * time.Hour
)

// prune does one step of each kind of removal.
func (s *Store) prune(ctx context.Context) (queue.Maintained, error) {
	var out queue.Maintained
	if err := s.keepAhead(ctx); err != nil {
		return out, err
	}
	dropped, err := s.dropPast(ctx)
	if err != nil {
		return out, err
	}
	if dropped {
		out.Moved++
		out.More = true
	}
	for _, step := range []func(context.Context) (int, bool, error){s.pruneDone, s.pruneDeleted, s.pruneEvents, s.pruneTicks, s.pruneBeats} {
		n, more, err := step(ctx)
		out.Moved += n
		out.More = out.More || more
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// pruneDone removes finished tasks past retention, queue by queue with the same retention.
func (s *Store) pruneDone(ctx context.Context) (int, bool, error) {
	const op = "prune tasks"
	type group struct {
		stay   time.Duration
		queues []int32
	}
	var groups []group
	var now time.Time
	open := int64(0) // the first id of the partition in use
	err := s.query(ctx, op, "part.open", func(rows pgx.Rows) error { return rows.Scan(&open) })
	if err != nil {
		return 0, false, err
	}
	err = s.query(ctx, op, "prune.stays", func(rows pgx.Rows) error {
		var seconds float64
		var g group
		err := rows.Scan(&seconds, &g.queues, &now)
		g.stay = time.Duration(seconds * float64(time.Second))
		groups = append(groups, g)
		return err
	})
	if err != nil {
		return 0, false, err
	}
	moved, more := 0, false
	for _, g := range groups {
		past := now.Add(-g.stay)
		for _, pass := range []struct {
			name   string
			until  time.Time
			fromID int64
		}{
			{"prune open " + g.stay.String(), past, open},
			{"prune full " + g.stay.String(), past.Add(-min(g.stay/pruneSlack, pruneSlackMax)), 0},
		} {
			began, from := time.Now(), s.floors.get(pass.name)
			n, err := s.eraseDone(ctx, op, "prune.done", g.queues, floorParam(from), pass.until, pass.fromID, pruneStep)
			moved += n
			if err != nil {
				return moved, more, err
			}
			if n >= pruneStep { // whole runs: it may be some more
				more = true
				continue
			}
			s.floors.set(pass.name, from, pass.until, began)
		}
	}
	return moved, more, nil
}

// eraseDone removes the finished tasks that a statement picks, and everything about them.
func (s *Store) eraseDone(ctx context.Context, op, name string, args ...any) (int, error) {
	moved := 0
	err := s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
		var queues []int32
		var ids []int64
		ev := events{}
		t.queue("tx.bitmaps", "on")
		err := t.read(ctx, name, func(rows pgx.Rows) error {
			var q int32
			var id, n int64
			var status int16
			err := rows.Scan(&q, &id, &n, &status)
			for last := id + n; id < last; id++ {
				queues, ids = append(queues, q), append(ids, id)
				ev.add(change{queue: q, was: status}, id)
			}
			return err
		}, args...)
		if err != nil {
			return err
		}
		if moved = len(ids); moved == 0 {
			return errNothing
		}
		t.queue("erase", queues, ids)
		ev.insert(t, time.Time{})
		return nil
	})
	return moved, quietly(err)
}

// CleanQueue implements queue.Store.
func (s *Store) CleanQueue(ctx context.Context, namespace, name string, within time.Duration) (queue.Cleaned, error) {
	const op = "clean queue"
	var out queue.Cleaned
	queues, err := s.named(ctx, namespace, []string{name})
	if err != nil {
		return out, queue.WithOp(op, err)
	}

	for began := time.Now(); ; {
		n, err := s.eraseDone(ctx, op, "prune.clean", queues[0].id, pruneStep)
		out.Count += int64(n)
		if out.More = err != nil || n >= pruneStep; !out.More || err != nil {
			return out, err
		}
		if within > 0 && time.Since(began) >= within {
			return out, nil
		}
	}
}

// pruneDeleted removes rows of one deleted queue, and the queue itself when nothing is left of it.
func (s *Store) pruneDeleted(ctx context.Context) (int, bool, error) {
	moved, more := 0, false
	err := s.inTx(ctx, "prune queue", func(ctx context.Context, t *tx) error {
		moved, more = 0, false
		var id int32
		if err := t.read(ctx, "prune.deleted", func(rows pgx.Rows) error { return rows.Scan(&id) }); err != nil {
			return err
		}
		if id == 0 {
			return errNothing
		}
		if err := t.read(ctx, "prune.deleted.rows", func(rows pgx.Rows) error { return rows.Scan(&moved) }, id, pruneStep); err != nil {
			return err
		}
		if more = moved > 0; !more {
			t.queue("prune.deleted.queue", id)
		}
		return nil
	})
	return moved, more, quietly(err)
}

// pruneEvents removes old events.
func (s *Store) pruneEvents(ctx context.Context) (int, bool, error) {
	n := 0
	if _, err := s.fold(ctx); err != nil { // only what the counts have seen may go
		return 0, false, err
	}
	err := s.inTx(ctx, "prune events", func(ctx context.Context, t *tx) error {
		return t.read(ctx, "event.prune", func(rows pgx.Rows) error { return rows.Scan(&n) }, int64(s.opt.eventsStay), eventStep)
	})
	if err != nil {
		return 0, false, err
	}
	return n, n == eventStep, nil
}

// pruneBeats removes heartbeats that were written beside a locked lease row and are over.
func (s *Store) pruneBeats(ctx context.Context) (int, bool, error) {
	n := 0
	err := s.inTx(ctx, "prune heartbeats", func(ctx context.Context, t *tx) error {
		t.batch.Queue(t.sql.get("prune.beats"), pruneStep).Exec(func(tag pgconn.CommandTag) error {
			n = int(tag.RowsAffected())
			return nil
		})
		return nil
	})
	return n, n == pruneStep, err
}
