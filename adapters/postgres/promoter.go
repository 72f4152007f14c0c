package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const promoteStep = 2_000 // delayed rows of one step

// The statements of the promoter.
var (
	promoteDue     = statement("promote")
	findPromotable = statement("promote.first")
	findNextDue    = statement("promote.next")
)

// promote makes due delayed tasks ready, at most promoteStep of them, and wakes their queues.
func (s *Store) promote(ctx context.Context) (queue.Maintained, error) {
	due := sweep{op: "promote tasks", mark: markPromote, filter: s.rowFilters.promote, first: findPromotable}
	out, size, err := s.runSweep(ctx, due, func(_ context.Context, t *txn.Tx, r *sweepStep) error {
		t.QueueQuery(promoteDue, func(rows pgx.Rows) error {
			var w queue.Wake
			var n int
			var first, last, now time.Time
			err := rows.Scan(&w.Namespace, &w.Queue, &n, &first, &last, &now)

			r.out.Moved += n
			r.out.Woken = append(r.out.Woken, w)
			r.out.Lag = max(r.out.Lag, now.Sub(first))
			r.top = later(r.top, last)
			return err
		}, append(r.scope, arg("limit", r.size))...)

		t.QueueQuery(findNextDue, nextIn(&r.out), arg("watermark", floorParam(r.from)))
		return nil
	})

	// A full step suggests that more tasks are due.
	out.More = out.More || out.Moved == size
	s.notify.NotifyReady(out.Woken)
	if err != nil {
		return out, err
	}

	woken, err := s.wakeGroups(ctx)
	addStep(&out, woken)
	return out, err
}
