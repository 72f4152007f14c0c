package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const expireStep = 2_000 // waiting rows of one step

// The statements of the expirer.
var (
	takeExpiredReady   = statement("expire.ready")
	takeExpiredDelayed = statement("expire.delayed")
	findExpiredReady   = statement("expire.ready.first")
	findExpiredDelayed = statement("expire.delayed.first")
	findNextExpiry     = statement("expire.next")
	writeExpired       = statement("expire.done")
)

// expire ends waiting tasks after their ttl, one step of ready tasks and one of delayed tasks.
func (s *Store) expire(ctx context.Context) (queue.Maintained, error) {
	var out queue.Maintained
	for _, e := range []expiry{
		{markExpireReady, takeExpiredReady, findExpiredReady, s.rowFilters.expireReady},
		{markExpireDelayed, takeExpiredDelayed, findExpiredDelayed, s.rowFilters.expireDelayed},
	} {
		one, err := s.expireWaiting(ctx, e)
		if err != nil {
			return out, err
		}
		addStep(&out, one)
	}
	return out, nil
}

// expiry is the work of the expirer on one table of waiting tasks.
type expiry struct {
	mark   string            // key of the watermark
	take   sqltext.Statement // removes the rows of one step
	first  sqltext.Statement // finds the first row that take would remove
	filter *rowFilter
}

// expiredTask is a task that a step removed from its table.
type expiredTask struct {
	queueID int32
	taskID  int64
	attempt int16
	delayed bool
	diesAt  time.Time
}

var (
	expiredColumns = table.New(
		table.Col("queue_id", func(e *expiredTask) *int32 { return &e.queueID }),
		table.Col("task_id", func(e *expiredTask) *int64 { return &e.taskID }),
		table.Col("attempt", func(e *expiredTask) *int16 { return &e.attempt }),
		table.Col("delayed", func(e *expiredTask) *bool { return &e.delayed }),
		table.Col("dies_at", func(e *expiredTask) *time.Time { return &e.diesAt }),
	)
	writtenExpiredColumns = expiredColumns.Only("queue_id", "task_id", "attempt", "delayed")
)

// expireWaiting runs one step on one table.
func (s *Store) expireWaiting(ctx context.Context, e expiry) (queue.Maintained, error) {
	const op = "expire tasks"
	began, from := time.Now(), s.watermarks.get(e.mark)
	size, tasks, queues := e.filter.nextStep()
	scope := []sqltext.Arg{arg("watermark", floorParam(from)), arg("passed_task_ids", tasks), arg("passed_queue_ids", queues)}

	var out queue.Maintained
	var top time.Time
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		out, top = queue.Maintained{}, from
		var now time.Time
		t.QueueQuery(readClock, func(rows pgx.Rows) error { return rows.Scan(&now) })

		var expired []expiredTask
		var task expiredTask
		targets := expiredColumns.Targets(nil, &task)
		err := t.Query(ctx, e.take, func(rows pgx.Rows) error {
			err := rows.Scan(targets...)
			expired = append(expired, task)
			top = later(top, task.diesAt)
			return err
		}, append(scope, arg("limit", size))...)
		if err != nil {
			return err
		}

		if out.Moved = len(expired); out.Moved == 0 {
			return txn.ErrNothing
		}
		out.Lag = now.Sub(top)
		t.QueueQuery(writeExpired, func(rows pgx.Rows) error {
			var namespace, name string
			var was int16
			var n int
			err := rows.Scan(&namespace, &name, &was, &n)
			out.Tallies.Add(namespace, name, decodeStatus(was), queue.StatusExpired, n)
			return err
		}, writtenExpiredColumns.Arrays([]sqltext.Arg{arg("now", truncateToMicros(now))}, expired)...)
		return nil
	})
	// One refused row must not hold up the others: the filter finds the row and passes over it.
	if txn.IgnoreNothing(err) != nil {
		return e.filter.retryRefused(ctx, err, func() (row refusedRow, err error) {
			err = s.db.Query(ctx, op, e.first, row.scanRefusedRow, scope...)
			return row, err
		})
	}

	e.filter.recordPass()
	if len(tasks)+len(queues) == 0 { // a step that passed over rows keeps its watermark, so that these rows come again
		s.watermarks.set(e.mark, from, top, began)
	}
	out.More = out.Moved >= size
	return out, nil
}
