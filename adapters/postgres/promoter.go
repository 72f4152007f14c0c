package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
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
	const op = "promote tasks"
	filter := s.rowFilters.promote
	began, from := time.Now(), s.watermarks.get(markPromote)
	size, tasks, queues := filter.nextStep()
	scope := []sqltext.Arg{arg("watermark", floorParam(from)), arg("passed_task_ids", tasks), arg("passed_queue_ids", queues)}

	var out queue.Maintained
	var top time.Time
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		out, top = queue.Maintained{}, from
		t.QueueQuery(promoteDue, func(rows pgx.Rows) error {
			var w queue.Wake
			var n int
			var first, last, now time.Time
			err := rows.Scan(&w.Namespace, &w.Queue, &n, &first, &last, &now)

			out.Moved += n
			out.Woken = append(out.Woken, w)
			out.Lag = max(out.Lag, now.Sub(first))
			top = later(top, last)
			return err
		}, append(scope, arg("limit", size))...)

		t.QueueQuery(findNextDue, nextIn(&out), arg("watermark", floorParam(from)))
		return nil
	})
	// One refused row must not hold up the others: the filter finds the row and passes over it.
	if err != nil {
		return filter.retryRefused(ctx, err, func() (row refusedRow, err error) {
			err = s.db.Query(ctx, op, findPromotable, row.scanRefusedRow, scope...)
			return row, err
		})
	}

	filter.recordPass()
	if len(tasks)+len(queues) == 0 { // a step that passed over rows keeps its watermark, so that these rows come again
		s.watermarks.set(markPromote, from, top, began)
	}

	// A full step suggests that more tasks are due.
	out.More = out.Moved == size
	s.notify.NotifyReady(out.Woken)
	return out, nil
}
