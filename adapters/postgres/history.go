package postgres

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The statements of the history of queues.
var (
	claimHistory = statement("history.claim")
	takeGains    = statement("history.gain")
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

// historyPoint is a point of one queue as it is written.
type historyPoint struct {
	queueID int32
	hourly  bool
	historyRow
}

var historyPointColumns = table.Of[historyPoint]()

const opHistory = "write history"

// writeHistory writes the history of the minute that has just ended, and deletes old rows, unless another process does. A crash
// leaves the numbers to the next minute, and so does a queue with refused rows, which it passes over for refusedRest.
func (s *Store) writeHistory(ctx context.Context) (queue.Maintained, error) {
	// The ages come from the cursors of the lanes, and so from outside of the transaction.
	all, err := s.counts(ctx, "", "")
	if err != nil {
		return queue.Maintained{}, err
	}
	stats, err := s.stats(ctx, opHistory, all)
	if err != nil {
		return queue.Maintained{}, err
	}

	points := map[int32]historyPoint{}
	for i, st := range stats {
		if st.Ready > 0 {
			points[all[i].id] = historyPoint{queueID: all[i].id, historyRow: historyRow{ready: st.Ready, oldestAge: int64(st.OldestReadyAge)}}
		}
	}

	filter := s.rowFilters.history
	_, _, passed := filter.nextStep()
	if _, err = s.writeHistoryWithout(ctx, points, passed, false); err == nil {
		return queue.Maintained{}, nil
	}
	done, err := filter.retryRefused(ctx, err, func() (refusedRow, error) {
		var suspects []refusedRow
		for _, c := range all {
			if !slices.Contains(passed, c.id) {
				suspects = append(suspects, refusedRow{queue: c.id, space: c.namespace, subject: "history of queue " + c.name, whole: true})
			}
		}
		return findRefusedQueue(ctx, suspects, passed, func(without []int32) (bool, error) { return s.writeHistoryWithout(ctx, points, without, true) })
	})
	if errors.Is(err, errOtherFolds) {
		return queue.Maintained{}, nil
	}
	return done, err
}

// writeHistoryWithout writes the history of all queues except passed, from their ready tasks in points. It returns false when
// another process was first. A trial changes nothing.
func (s *Store) writeHistoryWithout(ctx context.Context, points map[int32]historyPoint, passed []int32, trial bool) (first bool, err error) {
	err = s.db.Run(ctx, opHistory, func(ctx context.Context, t *txn.Tx) error {
		var at time.Time
		if err := t.Query(ctx, claimHistory, func(rows pgx.Rows) error { return rows.Scan(&at) }); err != nil {
			return err
		}
		if first = !at.IsZero(); !first {
			return txn.ErrNothing
		}

		written := maps.Clone(points)
		maps.DeleteFunc(written, func(id int32, _ historyPoint) bool { return slices.Contains(passed, id) })
		err := t.Query(ctx, takeGains, func(rows pgx.Rows) error {
			var p historyPoint
			if err := rows.Scan(&p.queueID, &p.created, &p.released, &p.failed, &p.retried); err != nil {
				return err
			}
			p.ready, p.oldestAge = points[p.queueID].ready, points[p.queueID].oldestAge
			written[p.queueID] = p
			return nil
		}, arg("passed_queue_ids", passed))
		if err != nil {
			return err
		}

		queueHistory(t, at, written)
		t.Queue(pruneHistory, arg("minute_age", int64(queue.HistoryMinutesKept)), arg("hour_age", int64(queue.HistoryHoursKept)), arg("limit", historyPruned),
			arg("passed_queue_ids", passed))
		if err := t.Flush(ctx); err != nil || !trial {
			return err
		}
		return txn.ErrNothing
	})
	return first, txn.IgnoreNothing(err)
}

// queueHistory queues the rows of the minute at and of its hour.
func queueHistory(t *txn.Tx, at time.Time, points map[int32]historyPoint) {
	var rows []historyPoint
	for _, p := range points {
		p.at = at
		rows = append(rows, p)
		p.hourly, p.at = true, at.UTC().Truncate(time.Hour)
		rows = append(rows, p)
	}
	queueRows(t, writeHistory, historyPointColumns, rows)
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
