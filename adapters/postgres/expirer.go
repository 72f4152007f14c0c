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
	takeExpiredWaiting = statement("expire.waiting")
	findExpiredWaiting = statement("expire.waiting.first")
	findExpiredReady   = statement("expire.ready.first")
	findExpiredDelayed = statement("expire.delayed.first")
	findNextExpiry     = statement("expire.next")
	writeExpired       = statement("expire.done")
)

// expire ends waiting tasks after their ttl, one step of ready tasks, one of delayed tasks, and one of those that wait for their group.
func (s *Store) expire(ctx context.Context) (queue.Maintained, error) {
	var out queue.Maintained
	for _, e := range []struct {
		sweep
		take sqltext.Statement // removes the rows of one step
	}{
		{sweep{opExpire, markExpireReady, s.rowFilters.expireReady, findExpiredReady}, takeExpiredReady},
		{sweep{opExpire, markExpireDelayed, s.rowFilters.expireDelayed, findExpiredDelayed}, takeExpiredDelayed},
		{sweep{opExpire, markExpireWaiting, s.rowFilters.expireWaiting, findExpiredWaiting}, takeExpiredWaiting},
	} {
		one, size, err := s.runSweep(ctx, e.sweep, func(ctx context.Context, t *txn.Tx, r *sweepStep) error {
			return r.expireWaiting(ctx, t, e.take)
		})
		if err != nil {
			return out, err
		}
		one.More = one.More || one.Moved >= size
		addStep(&out, one)
	}
	return out, nil
}

const opExpire = "expire tasks"

// expiredTask is a task that a step removed from its table.
type expiredTask struct {
	queueID int32
	taskID  int64
	attempt int16
	delayed bool
	diesAt  time.Time
	grp     *int64
	waited  bool // for its group
}

var (
	expiredColumns        = table.Of[expiredTask]()
	writtenExpiredColumns = expiredColumns.Only("queue_id", "task_id", "attempt", "delayed")
)

// expireWaiting removes the rows that take selects, and writes the ends of their tasks.
func (r *sweepStep) expireWaiting(ctx context.Context, t *txn.Tx, take sqltext.Statement) error {
	var now time.Time
	t.QueueQuery(readClock, func(rows pgx.Rows) error { return rows.Scan(&now) })

	// All rows share one row struct and its targets.
	var expired []expiredTask
	var task expiredTask
	targets := expiredColumns.Targets(nil, &task)
	err := t.Query(ctx, take, func(rows pgx.Rows) error {
		err := rows.Scan(targets...)
		expired = append(expired, task)
		r.top = later(r.top, task.diesAt)
		return err
	}, append(r.scope, arg("limit", r.size))...)
	if err != nil {
		return err
	}

	if r.out.Moved = len(expired); r.out.Moved == 0 {
		return txn.ErrNothing
	}
	r.out.Lag = now.Sub(r.top)
	queueExpiredGroups(t, expired)
	t.QueueQuery(writeExpired, func(rows pgx.Rows) error {
		var namespace, name string
		var was int16
		var n int
		err := rows.Scan(&namespace, &name, &was, &n)
		r.out.Tallies.Add(namespace, name, decodeStatus(was), queue.StatusExpired, n)
		return err
	}, writtenExpiredColumns.Arrays([]sqltext.Arg{arg("now", truncateToMicros(now))}, expired)...)
	return nil
}

// queueExpiredGroups queues the markers of the groups of expired tasks, which may have kept a place.
func queueExpiredGroups(t *txn.Tx, expired []expiredTask) {
	var marks []markerRow
	counts := map[int32]int{}
	for _, e := range expired {
		if e.grp != nil {
			marks = append(marks, markerRow{queueID: e.queueID, grp: *e.grp, taskID: e.taskID})
		}
		if e.waited {
			counts[e.queueID]--
		}
	}
	queueRows(t, markGroups, markerColumns, marks)
	events{}.addGroupWaiting(t, counts)
}
