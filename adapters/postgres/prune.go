package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// A finished task of a full partition may stay longer than its retention by the share 1/pruneSlack, at most
// pruneSlackMax. Lists hide it meanwhile, and it can leave with the whole partition instead of by a delete of its own.
// The counts contain it until then.
const (
	pruneSlack    = 8
	pruneSlackMax = 24 * time.Hour
	pruneSteps    = 7 // number of kinds of removal
)

// stayGroup is a set of queues with the same retention of finished tasks.
type stayGroup struct {
	stay   time.Duration
	queues []int32
}

// prune runs one step of each kind of removal. The kinds are independent: the failure of one is reported as a fault,
// and the others continue.
func (s *Store) prune(ctx context.Context) (queue.Maintained, error) {
	const op = "prune"
	var out queue.Maintained
	var groups []stayGroup
	var now time.Time
	err := s.query(ctx, op, "prune.stays", func(rows pgx.Rows) error {
		var seconds float64
		var g stayGroup
		err := rows.Scan(&seconds, &g.queues, &now)
		g.stay = time.Duration(seconds * float64(time.Second))
		groups = append(groups, g)
		return err
	})
	if err != nil {
		return out, err
	}

	// Without a queue the first statement returns no row and therefore no time.
	if len(groups) == 0 {
		if err := s.query(ctx, op, "clock", func(rows pgx.Rows) error { return rows.Scan(&now) }); err != nil {
			return out, err
		}
	}

	failed := 0
	for _, step := range []struct {
		name string
		do   func() (int, bool, error)
	}{
		{"next partition", func() (int, bool, error) { return 0, false, s.keepAhead(ctx) }},
		{"finished tasks", func() (int, bool, error) { return s.pruneDone(ctx, groups, now, &out.Faults) }},
		{"deleted queues", func() (int, bool, error) { return s.pruneDeleted(ctx, &out.Faults) }},
		{"events", func() (int, bool, error) { return s.pruneEvents(ctx) }},
		{"ticks", func() (int, bool, error) { return s.pruneOldTicks(ctx, now) }},
		{"heartbeats", func() (int, bool, error) { return s.pruneBeats(ctx) }},
		// The last, because the walk over a large partition can take all of the time that is left.
		{"old partitions", func() (int, bool, error) { return s.dropPast(ctx) }},
	} {
		n, more, stepErr := step.do()
		out.Moved += n
		out.More = out.More || more
		s.knownFaults.clearFault(step.name, stepErr)
		if stepErr == nil {
			continue
		}

		if !canGoOn(ctx, stepErr) {
			return out, stepErr
		}

		failed++
		err = stepErr
		out.Faults = append(out.Faults, queue.Fault{Subject: step.name, Err: stepErr, Known: s.knownFaults.isKnownFault(step.name, stepErr)})
	}

	// Only the failure of every kind makes the whole step fail.
	if failed == pruneSteps {
		return out, err
	}

	return out, nil
}

// canGoOn reports whether other steps may pass after one failed with err: PostgreSQL answered and ctx has not ended.
func canGoOn(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (isFaultOfRows(ctx, err) || isSentByServer(err))
}

// pruneDone removes finished tasks past retention, in one pass for each group of queues with the same retention.
func (s *Store) pruneDone(ctx context.Context, groups []stayGroup, now time.Time, faults *[]queue.Fault) (int, bool, error) {
	const op = "prune tasks"
	open := int64(0) // first id of the partition in use
	err := s.query(ctx, op, "part.open", func(rows pgx.Rows) error { return rows.Scan(&open) })
	if err != nil {
		return 0, false, err
	}

	moved, more := 0, false
	for _, g := range groups {
		// Tasks in the open partition leave at their retention, tasks in full ones after the slack.
		past := now.Add(-g.stay)
		for _, pass := range []struct {
			name   string
			until  time.Time
			fromID int64
		}{
			{"prune open " + g.stay.String(), past, open},
			{"prune full " + g.stay.String(), past.Add(-min(g.stay/pruneSlack, pruneSlackMax)), 0},
		} {
			began, from := time.Now(), s.watermarks.get(pass.name)
			size, rows, passed := s.rowFilters.done.nextStep()
			queues := slices.DeleteFunc(slices.Clone(g.queues), func(q int32) bool { return slices.Contains(passed, q) })
			if len(queues) == 0 {
				continue
			}

			n, err := s.eraseDone(ctx, op, nil, "prune.done", queues, floorParam(from), pass.until, pass.fromID, size, rows)
			moved += n
			if err != nil {
				fault, err := s.rowFilters.done.recordFailure(ctx, err, func() (row refusedRow, err error) {
					err = s.runInTx(ctx, op, func(ctx context.Context, t *tx) error {
						t.queue("tx.bitmaps", "on") // as in prune.done: an equal plan finds the same row
						return t.read(ctx, "prune.done.first", row.scanRefusedRow, queues, floorParam(from), pass.until, pass.fromID, rows)
					})
					return row, err
				})
				if err != nil {
					return moved, more, err
				}

				*faults = append(*faults, fault...)
				more = true
				continue
			}

			s.rowFilters.done.recordPass()
			if n >= size { // whole runs may exceed the size
				more = true
				continue
			}

			if len(rows) == 0 { // excluded rows must come again, so only a pass without them moves the watermark
				s.watermarks.set(pass.name, from, pass.until, began)
			}
		}
	}

	return moved, more, nil
}

// eraseDone removes the finished tasks that a statement selects, with all their rows. The function check may be nil;
// its error cancels the removal in the same transaction.
func (s *Store) eraseDone(
	ctx context.Context, op string, check func(context.Context, *tx) error, name string, args ...any,
) (int, error) {
	moved := 0
	err := s.runInTx(ctx, op, func(ctx context.Context, t *tx) error {
		var queues []int32
		var ids []int64
		ev := events{}
		if check != nil {
			if err := check(ctx, t); err != nil {
				return err
			}
		}

		t.queue("tx.bitmaps", "on")
		err := t.read(ctx, name, func(rows pgx.Rows) error {
			var q int32
			var id, n int64
			var status int16
			err := rows.Scan(&q, &id, &n, &status)
			for last := id + n; id < last; id++ {
				queues, ids = append(queues, q), append(ids, id)
				ev.appendIDs(eventChange{queue: q, was: status}, id)
			}
			return err
		}, args...)
		if err != nil {
			return err
		}

		// An empty step rolls back and writes nothing.
		if moved = len(ids); moved == 0 {
			return errNothing
		}

		t.queue("erase", queues, ids)
		ev.insertEventRows(t, time.Time{})
		return nil
	})

	return moved, ignoreNothingToDo(err)
}

// CleanQueue implements queue.Store. It removes finished tasks in steps until within has passed; 0 = no limit.
func (s *Store) CleanQueue(ctx context.Context, namespace, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	const op = "clean queue"
	var out queue.Cleaned
	versioned := queue.RequiredVersion(only) != 0
	if versioned {
		s.catalog.forgetNamespace(namespace) // the version belongs to the queue that has the name now
	}
	queues, err := s.findQueues(ctx, namespace, []string{name})
	if err != nil {
		return out, queue.WithOp(op, err)
	}

	var check func(context.Context, *tx) error
	if versioned {
		check = func(ctx context.Context, t *tx) error {
			q, err := lockQueueByName(ctx, t, namespace, name)
			switch {
			case err != nil:
				return err
			case q.id != queues[0].id:
				return makeNoQueueError(name)
			}
			return queue.CheckVersion("queue "+name, q.Version, only...)
		}
	}

	for began := time.Now(); ; {
		n, err := s.eraseDone(ctx, op, check, "prune.clean", queues[0].id, pruneStep)
		out.Count += int64(n)
		if out.More = err != nil || n >= pruneStep; !out.More || err != nil {
			return out, err
		}
		if within > 0 && time.Since(began) >= within {
			return out, nil
		}
	}
}

// pruneDeleted removes rows of one deleted queue, and the queue itself after its last row. It passes over a queue that
// the database refuses to remove, for refusedRest.
func (s *Store) pruneDeleted(ctx context.Context, faults *[]queue.Fault) (int, bool, error) {
	const op = "prune queue"
	moved, more := 0, false
	var id int32
	size, _, passed := s.rowFilters.deleted.nextStep()
	err := s.runInTx(ctx, op, func(ctx context.Context, t *tx) error {
		moved, more, id = 0, false, 0
		if err := t.read(ctx, "prune.deleted", func(rows pgx.Rows) error { return rows.Scan(&id) }, passed); err != nil {
			return err
		}

		if id == 0 {
			return errNothing
		}

		if err := t.read(ctx, "prune.deleted.rows", func(rows pgx.Rows) error { return rows.Scan(&moved) }, id, size); err != nil {
			return err
		}

		more = true // this queue or another one may have more rows
		if moved == 0 {
			t.queue("prune.deleted.queue", id)
		}
		return nil
	})

	if ignoreNothingToDo(err) == nil {
		s.rowFilters.deleted.recordPass()
		return moved, more, nil
	}

	fault, err := s.rowFilters.deleted.recordFailure(ctx, err, func() (refusedRow, error) {
		return refusedRow{queue: id, subject: "deleted queue " + strconv.Itoa(int(id)), whole: true}, nil
	})

	*faults = append(*faults, fault...)
	return 0, err == nil, err
}

// pruneEvents removes old events, and snapshots of cursors of the same age.
func (s *Store) pruneEvents(ctx context.Context) (int, bool, error) {
	n, snapshots := 0, 0
	if _, err := s.fold(ctx); err != nil { // only events that the counts contain may go
		return 0, false, fmt.Errorf("first the counts: %w", err)
	}
	err := s.runInTx(ctx, "prune events", func(ctx context.Context, t *tx) error {
		t.batch.Queue(t.sql.get("event.snapshot.prune"), int64(eventsKept+snapshotKeptAgain), eventStep).Exec(func(tag pgconn.CommandTag) error {
			snapshots = int(tag.RowsAffected())
			return nil
		})
		return t.read(ctx, "event.prune", func(rows pgx.Rows) error { return rows.Scan(&n) }, int64(eventsKept), eventStep)
	})
	if err != nil {
		return 0, false, err
	}
	return n, n == eventStep || snapshots == eventStep, nil
}

// pruneBeats removes lease beats after their end.
func (s *Store) pruneBeats(ctx context.Context) (int, bool, error) {
	n := 0
	err := s.runInTx(ctx, "prune heartbeats", func(ctx context.Context, t *tx) error {
		t.batch.Queue(t.sql.get("prune.beats"), pruneStep).Exec(func(tag pgconn.CommandTag) error {
			n = int(tag.RowsAffected())
			return nil
		})
		return nil
	})
	return n, n == pruneStep, err
}
