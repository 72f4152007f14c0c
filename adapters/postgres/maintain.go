package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// These limits bound one step of background work.
const (
	promoteStep = 2_000  // delayed rows
	expireStep  = 2_000  // waiting rows
	pruneStep   = 5_000  // finished rows
	eventStep   = 10_000 // event rows
	stripStep   = 20_000 // tasks of a partition that is about to be dropped, and their rows in other tables
)

// Maintain implements queue.Store. It runs one step of chore, or returns at once if nothing can be due.
func (s *Store) Maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	// After an idle step, one short query replaces the step until something is due.
	if out, nothing := s.nothingDue(ctx, chore); nothing {
		return out, nil
	}
	out, err := s.maintain(ctx, chore)
	s.idle.note(chore, err == nil && out.Moved == 0 && !out.More)
	return out, err
}

func (s *Store) maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	switch chore {
	case queue.ChorePromote:
		return s.promote(ctx)
	case queue.ChoreRescue:
		return s.rescue(ctx)
	case queue.ChoreExpire:
		return s.expire(ctx)
	case queue.ChorePrune:
		return s.prune(ctx)
	case queue.ChoreFold:
		return s.fold(ctx)
	case queue.ChoreTick:
		return s.fireDueTickers(ctx)
	}
	return queue.Maintained{}, queue.Invalid("chore", fmt.Sprintf("must be one of queue.Chores(), got %.64q", chore))
}

// watermarks record the time up to which background work has finished the rows of tables ordered by time. A step starts
// there and does not read dead rows again. A row may still appear below a watermark, so a step sometimes starts at the
// beginning; the interval follows the cost of such a step.
type watermarks struct {
	mu sync.Mutex
	at map[string]*floor
}

// floor is the watermark of one table.
type floor struct {
	time time.Time
	next time.Time // time of the next start at the beginning
}

func (f *watermarks) init() { f.at = map[string]*floor{} }

// get returns the watermark of name, or zero when the step must start at the beginning.
func (f *watermarks) get(name string) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.at[name]; l != nil && time.Now().Before(l.next) {
		return l.time
	}
	return time.Time{}
}

// set moves the watermark of name to the time to, after a step that ran from used and started at began.
func (f *watermarks) set(name string, used, to, began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.at[name]
	if l == nil {
		l = &floor{}
		f.at[name] = l
	}

	// A full pass may lower the watermark and sets the interval to the next one; a partial pass only raises it.
	if used.IsZero() {
		cost := time.Since(began)
		l.time, l.next = to, time.Now().Add(max(startEvery, startShare*cost))
	} else if to.After(l.time) {
		l.time = to
	}
}

// floorParam returns t, or 1970 for a zero t, as an argument of statements that compare with a watermark.
func floorParam(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return t
}

// promote makes due delayed tasks ready, at most promoteStep of them, and wakes their queues.
func (s *Store) promote(ctx context.Context) (queue.Maintained, error) {
	const op, name = "promote tasks", "promote"
	var out queue.Maintained
	var top time.Time
	began, from := time.Now(), s.watermarks.get(name)
	size, rows, queues := s.rowFilters.promote.nextStep()
	err := s.runInTx(ctx, op, func(ctx context.Context, t *tx) error {
		out, top = queue.Maintained{}, from
		t.queueRows("promote", func(rows pgx.Rows) error {
			var w queue.Wake
			var n int
			var first, last, now time.Time
			if err := rows.Scan(&w.Namespace, &w.Queue, &n, &first, &last, &now); err != nil {
				return err
			}

			out.Moved += n
			out.Woken = append(out.Woken, w)
			out.Lag = max(out.Lag, now.Sub(first))
			if last.After(top) {
				top = last
			}
			return nil
		}, floorParam(from), size, rows, queues)

		t.queueRows("promote.next", nextIn(&out), floorParam(from))
		return nil
	})
	// One refused row must not hold up the others: the filter finds the row and passes over it.
	if err != nil {
		return s.rowFilters.promote.retryRefused(ctx, err, func() (row refusedRow, err error) {
			err = s.query(ctx, op, "promote.first", row.scanRefusedRow, floorParam(from), rows, queues)
			return row, err
		})
	}

	s.rowFilters.promote.recordPass()

	// A step that excluded rows keeps its watermark, so that these rows come again.
	if len(rows) == 0 && len(queues) == 0 {
		s.watermarks.set(name, from, top, began)
	}

	// A full step suggests that more tasks are due.
	out.More = out.Moved == size
	s.notify.notifyReady(out.Woken)
	return out, nil
}

// nextIn reads a row (due time, now) into out.NextIn, at least 1 ms.
func nextIn(out *queue.Maintained) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var at *time.Time
		var now time.Time
		if err := rows.Scan(&at, &now); err != nil || at == nil {
			return err
		}
		out.NextIn = max(at.Sub(now), time.Millisecond)
		return nil
	}
}

// expire ends waiting tasks after their ttl, one step of ready tasks and one of delayed tasks.
func (s *Store) expire(ctx context.Context) (queue.Maintained, error) {
	const op = "expire tasks"
	var out queue.Maintained
	for _, kind := range []struct {
		name  string
		sieve *rowFilter
	}{{"expire.ready", s.rowFilters.expireReady}, {"expire.delayed", s.rowFilters.expireDelayed}} {
		name := kind.name
		began, from := time.Now(), s.watermarks.get(name)
		size, rows, skipped := kind.sieve.nextStep()
		var top time.Time
		var tallies queue.Tallies
		moved := 0

		err := s.runInTx(ctx, op, func(ctx context.Context, t *tx) error {
			top, moved = from, 0
			var (
				queues   []int32
				ids      []int64
				attempts []int16
				late     []bool
			)

			var now time.Time
			t.queueRows("clock", func(rows pgx.Rows) error { return rows.Scan(&now) })
			err := t.read(ctx, name, func(rows pgx.Rows) error {
				var q int32
				var id int64
				var attempt int16
				var diesAt time.Time
				var delayed bool
				err := rows.Scan(&q, &id, &attempt, &diesAt, &delayed)
				queues, ids, attempts, late = append(queues, q), append(ids, id), append(attempts, attempt), append(late, delayed)

				if diesAt.After(top) {
					top = diesAt
				}
				return err
			}, floorParam(from), size, rows, skipped)
			if err != nil {
				return err
			}

			if moved = len(ids); moved == 0 {
				return errNothing
			}
			out.Lag = max(out.Lag, now.Sub(top))
			tallies = nil
			t.queueRows("expire.done", func(rows pgx.Rows) error {
				var namespace, name string
				var was int16
				var n int
				err := rows.Scan(&namespace, &name, &was, &n)
				tallies.Add(namespace, name, decodeStatus(was), queue.StatusExpired, n)
				return err
			}, truncateToMicros(now), queues, ids, attempts, late)
			return nil
		})
		// One refused row must not hold up the others: the filter finds the row and passes over it.
		if ignoreNothingToDo(err) != nil {
			again, err := kind.sieve.retryRefused(ctx, err, func() (row refusedRow, err error) {
				err = s.query(ctx, op, name+".first", row.scanRefusedRow, floorParam(from), rows, skipped)
				return row, err
			})
			if err != nil {
				return out, err
			}
			out.Faults, out.More = append(out.Faults, again.Faults...), true
			continue
		}
		kind.sieve.recordPass()
		// A step that excluded rows keeps its watermark, so that these rows come again.
		if len(rows) == 0 && len(skipped) == 0 {
			s.watermarks.set(name, from, top, began)
		}
		out.Moved += moved
		out.Tallies.Merge(tallies)
		out.More = out.More || moved >= size
	}
	return out, nil
}
