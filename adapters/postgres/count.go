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

// queueCounts holds the kept counts of a queue.
type queueCounts struct {
	id           int32
	namespace    string
	name         string
	paused       bool
	concurrency  int     // tasks that may be retained at once; 0 = no limit
	byStatus     []int64 // number of tasks by status code
	delayed      int64
	groupWaiting int64
	created      float64 // tasks created in the window
	finished     float64 // tasks finished in the window
	seconds      float64 // length of the window

	pausedUntil     *time.Time // end of a pause that ends by itself; nil = none now
	startsPerSecond float64    // by the rate limit; 0 = no limit
}

var queueCountColumns = table.Of[queueCounts]()

// counts reads the kept counts of one queue, of all queues of a namespace (name ""), or of all namespaces (both "").
func (s *Store) counts(ctx context.Context, namespace, name string) ([]queueCounts, error) {
	var out []queueCounts
	err := s.db.Query(ctx, "count tasks", readCounts, scanRows(queueCountColumns, func(c queueCounts) { out = append(out, c) }),
		arg("namespace", namespace), arg("name", name))
	return out, err
}

// queueReadOfCounts queues the same read of one queue in a transaction, for repairs.
func queueReadOfCounts(t *txn.Tx, namespace, name string, into func(byStatus []int64, delayed int64)) {
	t.QueueQuery(readCounts, scanRows(queueCountColumns, func(c queueCounts) { into(append(c.byStatus[1:], c.groupWaiting), c.delayed) }),
		arg("namespace", namespace), arg("name", name))
}

// QueueStats implements queue.Store.
func (s *Store) QueueStats(ctx context.Context, namespace, name string) ([]*queue.QueueStats, error) {
	const op = "queue stats"
	all, err := s.counts(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if name != "" && len(all) == 0 {
		return nil, queue.WithOp(op, queue.NotFoundQueue(name))
	}
	return s.stats(ctx, op, all)
}

// AllQueueStats implements queue.StatsLister.
func (s *Store) AllQueueStats(ctx context.Context) ([]*queue.QueueStats, error) {
	const op = "all queue stats"
	all, err := s.counts(ctx, "", "")
	if err != nil {
		return nil, err
	}
	return s.stats(ctx, op, all)
}

// The statements of the counts. findOldestReady reads the age of the first ready task of each queue.
var (
	readCounts      = statement("counts")
	findOldestReady = statement("count.oldest")
	recountTasks    = statement("recount")
)

// stats turns kept counts into statistics, and reads the age of the oldest ready task of each queue that has one.
func (s *Store) stats(ctx context.Context, op string, all []queueCounts) ([]*queue.QueueStats, error) {
	out := make([]*queue.QueueStats, len(all))
	byID := make(map[int32]*queue.QueueStats, len(all))
	var ids []int32
	var cursors []laneCursor

	for i, c := range all {
		st := &queue.QueueStats{
			Namespace: c.namespace, Queue: c.name, Counts: make(map[queue.Status]int64, len(queue.Statuses())), Paused: c.paused, Concurrency: c.concurrency,
			Ready: c.byStatus[statusNew] + c.byStatus[statusRetry] - c.delayed - c.groupWaiting, Delayed: c.delayed, GroupWaiting: c.groupWaiting,
			CreatedPerSecond: c.created / c.seconds, FinishedPerSecond: c.finished / c.seconds,
			PausedUntil: timeFromPointer(c.pausedUntil), StartsPerSecond: c.startsPerSecond,
		}

		// The result lists each status, with 0 for those without a task.
		for _, status := range queue.Statuses() {
			st.Counts[status] = c.byStatus[statusCodes[status]]
		}

		out[i], byID[c.id] = st, st
		// The lagging cursor skips most dead rows and still finds rows that committed up to a second late.
		if st.Ready > 0 {
			ids = append(ids, c.id)
			cursors, _ = s.lanes.lanesOfQueue(c.id).appendCursors(cursors, lagLevel, c.id)
		}
	}

	if len(ids) == 0 {
		return out, nil
	}

	return out, s.db.Query(ctx, op, findOldestReady, func(rows pgx.Rows) error {
		var id int32
		var seconds float64
		err := rows.Scan(&id, &seconds)
		byID[id].OldestReadyAge = max(0, time.Duration(seconds*float64(time.Second)))
		return err
	}, cursorColumns.Arrays([]sqltext.Arg{arg("queue_id", ids)}, cursors)...)
}

// Recount counts the tasks of a namespace by queue and status from the tasks themselves. It reads all of them: it is
// for tests, and for operators that want to check the kept counts.
func (s *Store) Recount(ctx context.Context, namespace string) (map[string]map[queue.Status]int64, error) {
	out := map[string]map[queue.Status]int64{}
	err := s.db.Query(ctx, "recount tasks", recountTasks, func(rows pgx.Rows) error {
		var name string
		var status int16
		var n int64
		err := rows.Scan(&name, &status, &n)
		if out[name] == nil {
			out[name] = map[queue.Status]int64{}
		}
		out[name][decodeStatus(status)] = n
		return err
	}, arg("namespace", namespace))
	return out, err
}
