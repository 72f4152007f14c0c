package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/feed"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// A finished task of a full partition may stay longer than its retention by the share 1/pruneSlack, at most
// pruneSlackMax. Lists hide it meanwhile, and it can leave with the whole partition instead of by a delete of its own.
// The counts contain it until then.
const (
	pruneSlack    = 8
	pruneSlackMax = 24 * time.Hour
)

// These limits bound one step of a kind of removal.
const (
	pruneStep = 5_000  // finished rows
	eventStep = 10_000 // event rows
	stripStep = 20_000 // tasks of a partition that is about to be dropped, and their rows in other tables
	ticksKept = 100    // for each ticker

	tickPruneInterval = time.Minute // between two searches for older ticks
)

// The statements of the pruner.
var (
	listStays         = statement("prune.stays")
	deleteFinished    = statement("prune.done")
	findFinished      = statement("prune.done.first")
	cleanFinished     = statement("prune.clean")
	findDeletedQueue  = statement("prune.deleted")
	deleteRowsOfQueue = statement("prune.deleted.rows")
	deleteEmptyQueue  = statement("prune.deleted.queue")
	deleteLostBeats   = statement("prune.beats")
	deleteEvents      = statement("prune.events")
	deleteSnapshots   = statement("prune.snapshots")
	deleteTicks       = statement("prune.ticks")
	findPrunedTicker  = statement("prune.ticks.first")
	eraseTasks        = statement("erase")
	discardCount      = statement("part.count.discard")
	findOpenPart      = statement("part.open")
)

// stayGroup is a set of queues with the same retention of finished tasks.
type stayGroup struct {
	stay   time.Duration
	queues []int32
}

// prune runs one step of each kind of removal. The kinds are independent: the failure of one is reported as a fault,
// and the others continue.
func (s *Store) prune(ctx context.Context) (queue.Maintained, error) {
	var out queue.Maintained
	groups, now, err := s.readStays(ctx)
	if err != nil {
		return out, err
	}

	removals := []struct {
		name   string
		remove func(context.Context) (queue.Maintained, error)
	}{
		{"next partition", func(ctx context.Context) (queue.Maintained, error) { return queue.Maintained{}, s.keepAhead(ctx) }},
		{"finished tasks", func(ctx context.Context) (queue.Maintained, error) { return s.pruneFinished(ctx, groups, now) }},
		{"deleted queues", s.pruneDeletedQueue},
		{"events", s.pruneEvents},
		{"ticks", func(ctx context.Context) (queue.Maintained, error) { return s.pruneTicks(ctx, now) }},
		{"heartbeats", s.pruneLeaseBeats},
		{"groups", s.auditGroups},
		{"pauses of groups", s.endGroupPauses},
		{"audit", func(ctx context.Context) (queue.Maintained, error) { return s.pruneAuditStep(ctx, now) }},
		{"sessions", func(ctx context.Context) (queue.Maintained, error) { return s.pruneSessionsStep(ctx, now) }},
		// The last, because the walk over a large partition can take all of the time that is left.
		{"old partitions", func(ctx context.Context) (queue.Maintained, error) {
			moved, more, err := s.dropPast(ctx)
			return queue.Maintained{Moved: moved, More: more}, err
		}},
	}

	failed := 0
	for _, r := range removals {
		one, stepErr := r.remove(ctx)
		addStep(&out, one)
		s.knownFaults.clearFault(r.name, stepErr)
		if stepErr == nil {
			continue
		}
		if !canGoOn(ctx, stepErr) {
			return out, stepErr
		}

		failed++
		err = stepErr
		out.Faults = append(out.Faults, queue.Fault{Subject: r.name, Err: stepErr, Known: s.knownFaults.recordFault(r.name, stepErr)})
	}

	// Only the failure of every kind makes the whole step fail.
	if failed == len(removals) {
		return out, err
	}
	return out, nil
}

// canGoOn reports whether other steps may pass after one failed with err: PostgreSQL answered and ctx has not ended.
func canGoOn(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (isFaultOfRows(ctx, err) || txn.IsSentByServer(err))
}

// readStays returns the queues by their retention, and the time of the database.
func (s *Store) readStays(ctx context.Context) (groups []stayGroup, now time.Time, err error) {
	const op = "prune"
	err = s.db.Query(ctx, op, listStays, func(rows pgx.Rows) error {
		var seconds float64
		var g stayGroup
		err := rows.Scan(&seconds, &g.queues, &now)
		g.stay = time.Duration(seconds * float64(time.Second))
		groups = append(groups, g)
		return err
	})
	if err != nil || len(groups) > 0 {
		return groups, now, err
	}

	// Without a queue the statement returns no row and therefore no time.
	err = s.db.Query(ctx, op, readClock, func(rows pgx.Rows) error { return rows.Scan(&now) })
	return nil, now, err
}

// pruneFinished removes finished tasks past retention, in one pass for each group of queues with the same retention.
func (s *Store) pruneFinished(ctx context.Context, groups []stayGroup, now time.Time) (queue.Maintained, error) {
	var out queue.Maintained
	open := int64(0)    // first id of the partition in use
	counted := int64(0) // first id behind the partition that is counted for its drop
	err := s.db.Query(ctx, opPruneTasks, findOpenPart, func(rows pgx.Rows) error { return rows.Scan(&open, &counted) })
	if err != nil {
		return out, err
	}

	// The tasks of a counted partition leave with it, at a lower cost; a removal would begin the count again. While its
	// drop waits for a lock, the pruner removes them.
	if !s.partitions.mayDrop() {
		counted = 0
	}

	for _, g := range groups {
		// Tasks in the open partition leave at their retention, tasks in full ones after the slack.
		past := now.Add(-g.stay)
		for _, pass := range []prunePass{
			{mark: "prune open " + g.stay.String(), queues: g.queues, until: past, fromID: open},
			{mark: "prune full " + g.stay.String(), queues: g.queues, until: past.Add(-min(g.stay/pruneSlack, pruneSlackMax)), fromID: counted},
		} {
			one, err := s.runPrunePass(ctx, pass)
			addStep(&out, one)
			if err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

const opPruneTasks = "prune tasks"

// prunePass is the removal of the tasks of some queues that finished until a time.
type prunePass struct {
	mark   string // key of the watermark
	queues []int32
	until  time.Time
	fromID int64 // the first id
}

// runPrunePass removes the tasks of one step of a pass.
func (s *Store) runPrunePass(ctx context.Context, pass prunePass) (queue.Maintained, error) {
	filter := s.rowFilters.done
	began, from := time.Now(), s.watermarks.get(pass.mark)
	size, tasks, passed := filter.nextStep()
	queues := slices.DeleteFunc(slices.Clone(pass.queues), func(q int32) bool { return slices.Contains(passed, q) })
	if len(queues) == 0 {
		return queue.Maintained{}, nil
	}

	scope := []sqltext.Arg{
		arg("queue_ids", queues), arg("watermark", floorParam(from)), arg("until", pass.until), arg("from_id", pass.fromID),
		arg("passed_task_ids", tasks),
	}
	n, err := s.eraseDone(ctx, opPruneTasks, nil, deleteFinished, append(scope, arg("limit", size))...)
	if err != nil {
		// One refused row must not hold up the others: the filter finds the row and passes over it.
		out, err := filter.retryRefused(ctx, err, func() (row refusedRow, err error) {
			err = s.db.Run(ctx, opPruneTasks, func(ctx context.Context, t *txn.Tx) error {
				t.Queue(allowBitmaps, arg("other_indexes", "on")) // as in eraseDone: an equal plan finds the same row
				return t.Query(ctx, findFinished, row.scanRefusedRow, scope...)
			})
			return row, err
		})
		out.Moved = n
		return out, err
	}

	filter.recordPass()
	more := n >= size // whole runs may exceed the size
	if !more && len(tasks) == 0 {
		// Refused rows must come again, so only a pass without them moves the watermark.
		s.watermarks.set(pass.mark, from, pass.until, began)
	}
	return queue.Maintained{Moved: n, More: more}, nil
}

// eraseDone removes the finished tasks that a statement selects, with all their rows. The function check may be nil;
// its error cancels the removal in the same transaction.
func (s *Store) eraseDone(
	ctx context.Context, op string, check func(context.Context, *txn.Tx) error, selected sqltext.Statement, args ...sqltext.Arg,
) (int, error) {
	moved := 0
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		if check != nil {
			if err := check(ctx, t); err != nil {
				return err
			}
		}

		var places []taskPlace
		ev := events{}
		t.Queue(allowBitmaps, arg("other_indexes", "on"))
		err := t.Query(ctx, selected, func(rows pgx.Rows) error {
			var q int32
			var id, n int64
			var status int16
			err := rows.Scan(&q, &id, &n, &status)
			for last := id + n; id < last; id++ {
				places = append(places, taskPlace{q, id})
				ev.appendIDs(eventChange{queue: q, was: status}, id)
			}
			return err
		}, args...)
		if err != nil {
			return err
		}

		// An empty step rolls back and writes nothing.
		if moved = len(places); moved == 0 {
			return txn.ErrNothing
		}
		queueErase(t, places)
		ev.insertEventRows(t, time.Time{})
		return nil
	})
	return moved, txn.IgnoreNothing(err)
}

// queueErase queues the deletion of all rows about tasks that have no narrow row any more. Their narrow rows went in an
// earlier statement of t: its lock on the partition is the reason why a count that begins meanwhile is seen here.
func queueErase(t *txn.Tx, places []taskPlace) {
	t.Queue(eraseTasks, placeColumns.Arrays(nil, places)...)

	first := slices.MinFunc(places, func(a, b taskPlace) int { return cmp.Compare(a.id, b.id) })
	t.Queue(discardCount, arg("task_id", first.id))
}

// pruneDeletedQueue removes rows of one deleted queue, and the queue itself after its last row. It passes over a queue
// that the database refuses to remove, for refusedRest.
func (s *Store) pruneDeletedQueue(ctx context.Context) (queue.Maintained, error) {
	filter := s.rowFilters.deleted
	size, _, passed := filter.nextStep()
	var out queue.Maintained
	var id int32
	err := s.db.Run(ctx, "prune queue", func(ctx context.Context, t *txn.Tx) error {
		out, id = queue.Maintained{}, 0
		err := t.Query(ctx, findDeletedQueue, func(rows pgx.Rows) error { return rows.Scan(&id) }, arg("passed_queue_ids", passed))
		if err != nil {
			return err
		}
		if id == 0 {
			return txn.ErrNothing
		}

		// The row of the queue is locked, so no other process removes rows of this queue.
		err = t.Query(ctx, deleteRowsOfQueue, func(rows pgx.Rows) error { return rows.Scan(&out.Moved) },
			arg("queue_id", id), arg("limit", size))
		if err != nil {
			return err
		}

		out.More = true // this queue or another one may have more rows
		if out.Moved == 0 {
			t.Queue(deleteEmptyQueue, arg("queue_id", id))
		}
		return nil
	})
	if txn.IgnoreNothing(err) == nil {
		filter.recordPass()
		return out, nil
	}

	return filter.retryRefused(ctx, err, func() (refusedRow, error) {
		return refusedRow{queue: id, subject: "deleted queue " + strconv.Itoa(int(id)), whole: true}, nil
	})
}

// pruneEvents removes old events, and snapshots of cursors of the same age.
func (s *Store) pruneEvents(ctx context.Context) (queue.Maintained, error) {
	if _, err := s.fold(ctx); err != nil { // only events that the counts contain may go
		return queue.Maintained{}, fmt.Errorf("first the counts: %w", err)
	}

	pruned, snapshots := 0, int64(0)
	err := s.db.Run(ctx, "prune events", func(ctx context.Context, t *txn.Tx) error {
		t.QueueCounted(deleteSnapshots, &snapshots, arg("age", int64(feed.Retention+feed.SnapshotRenewal)), arg("limit", eventStep))
		return t.Query(ctx, deleteEvents, func(rows pgx.Rows) error { return rows.Scan(&pruned) },
			arg("age", int64(feed.Retention)), arg("limit", eventStep))
	})
	if err != nil {
		return queue.Maintained{}, err
	}
	return queue.Maintained{Moved: pruned, More: pruned == eventStep || snapshots == eventStep}, nil
}

// pruneTicks removes ticks beyond the newest ticksKept of each ticker, at most once in tickPruneInterval. It also plans
// tickers again after the clock went back. The time now is the database's. It passes over a ticker with refused ticks for
// refusedRest.
func (s *Store) pruneTicks(ctx context.Context, now time.Time) (queue.Maintained, error) {
	s.watermarks.mu.Lock()
	due := now.Sub(s.ticksPruned).Abs() >= tickPruneInterval
	s.watermarks.mu.Unlock()
	if !due {
		return queue.Maintained{}, nil
	}

	// Tickers that were planned too far ahead would not fire until the clock gets there. A failure does not keep the ticks.
	faults, replanErr := s.replanTickers(ctx)
	if replanErr != nil && !canGoOn(ctx, replanErr) {
		return queue.Maintained{Faults: faults}, replanErr
	}

	out, err := s.pruneTicksStep(ctx)
	out.Faults = append(faults, out.Faults...)
	if err = errors.Join(replanErr, err); err != nil || out.More {
		return out, err
	}

	// Only a finished round starts the interval to the next one.
	s.watermarks.mu.Lock()
	s.ticksPruned = now
	s.watermarks.mu.Unlock()
	return out, nil
}

// pruneTicksStep removes the ticks of one step.
func (s *Store) pruneTicksStep(ctx context.Context) (queue.Maintained, error) {
	const op = "prune ticks"
	filter := s.rowFilters.ticks
	size, _, passed := filter.nextStep()
	scope := []sqltext.Arg{arg("keep", ticksKept), arg("passed_ticker_ids", passed)}
	out, err := s.pruneCounted(ctx, op, size, deleteTicks, scope...)
	if err == nil {
		filter.recordPass()
		return out, nil
	}

	return filter.retryRefused(ctx, err, func() (refusedRow, error) {
		row := refusedRow{whole: true} // queue has the id of the ticker
		err := s.db.Query(ctx, op, findPrunedTicker, func(rows pgx.Rows) error {
			var name string
			err := rows.Scan(&row.queue, &row.space, &name)
			row.subject = "ticks of ticker " + name
			return err
		}, scope...)
		return row, err
	})
}

// pruneLeaseBeats removes lease beats after their end.
func (s *Store) pruneLeaseBeats(ctx context.Context) (queue.Maintained, error) {
	return s.pruneCounted(ctx, "prune heartbeats", pruneStep, deleteLostBeats)
}

// pruneCounted runs one statement that deletes at most limit rows.
func (s *Store) pruneCounted(ctx context.Context, op string, limit int, st sqltext.Statement, args ...sqltext.Arg) (queue.Maintained, error) {
	deleted := int64(0)
	err := s.db.Run(ctx, op, func(_ context.Context, t *txn.Tx) error {
		t.QueueCounted(st, &deleted, append(args, arg("limit", limit))...)
		return nil
	})
	return queue.Maintained{Moved: int(deleted), More: int(deleted) == limit}, err
}
