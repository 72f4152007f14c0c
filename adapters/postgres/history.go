package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The statements of the history of queues.
var (
	claimHistory = statement("history.claim")
	writeHistory = statement("history.write")
	pruneHistory = statement("history.prune")
	listHistory  = statement("history.list")
)

// historyPruned bounds the rows that one minute deletes: four times the rows of 5,000 queues that a minute makes.
const historyPruned = 40_000

// historyRow is a point as the statement reads it.
type historyRow struct {
	at        time.Time
	created   int64
	released  int64
	failed    int64
	retried   int64
	ready     int64
	oldestAge int64 // ns
}

var historyColumns = table.Of[historyRow]()

// writeHistory writes the history of the minute that has just ended, and deletes old rows, unless another process does. A crash
// leaves the numbers to the next minute.
func (s *Store) writeHistory(ctx context.Context) error {
	const op = "write history"

	// The ages come from the cursors of the lanes, and so from outside of the transaction.
	all, err := s.counts(ctx, "", "")
	if err != nil {
		return err
	}
	stats, err := s.stats(ctx, op, all)
	if err != nil {
		return err
	}

	ids, ready, ages := []int32{}, []int64{}, []int64{}
	for i, st := range stats {
		if st.Ready > 0 {
			ids = append(ids, all[i].id)
			ready = append(ready, st.Ready)
			ages = append(ages, int64(st.OldestReadyAge))
		}
	}

	err = s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		var at time.Time
		if err := t.Query(ctx, claimHistory, func(rows pgx.Rows) error { return rows.Scan(&at) }); err != nil {
			return err
		}
		if at.IsZero() { // another process was first
			return txn.ErrNothing
		}

		t.Queue(writeHistory, arg("queue_ids", ids), arg("ready", ready), arg("oldest_age", ages), arg("at", at))
		t.Queue(pruneHistory, arg("minute_age", int64(queue.HistoryMinutesKept)), arg("hour_age", int64(queue.HistoryHoursKept)), arg("limit", historyPruned))
		return nil
	})
	return txn.IgnoreNothing(err)
}

// QueueHistory implements queue.Store.
func (s *Store) QueueHistory(ctx context.Context, namespace, name string, q queue.HistoryQuery) (*queue.QueueHistory, error) {
	queues, err := s.findQueues(ctx, namespace, []string{name})
	if err != nil {
		return nil, err
	}

	out := &queue.QueueHistory{Namespace: namespace, Queue: name, Step: q.Step, Points: []queue.HistoryPoint{}}
	return out, s.db.Query(ctx, "queue history", listHistory, scanRows(historyColumns, func(r historyRow) {
		out.Points = append(out.Points, queue.HistoryPoint{
			At: r.at.UTC(), Created: r.created, Released: r.released, Failed: r.failed, Retried: r.retried,
			Ready: r.ready, OldestReadyAge: time.Duration(r.oldestAge),
		})
	}), arg("queue_id", queues[0].id), arg("hourly", q.Step == queue.HistoryHour), arg("age", int64(q.Step.Kept())),
		arg("after", timePointer(q.After)), arg("before", timePointer(q.Before)))
}
