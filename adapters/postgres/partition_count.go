package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// Before the drop of a partition its finished tasks are counted in bounded steps. Each step saves the sums in the row of
// the partition, so that any process goes on there. Only the drop changes the counts of the queues, so each task is
// counted once. A step that deletes tasks of the partition discards its count.

// The statements of the count. beginCount runs beside freezePart, so no transaction that deletes tasks spans the begin.
var (
	beginCount    = statement("part.count.begin")
	lockCount     = statement("part.count.lock")
	countPartRows = statement("part.count.step")
	saveCount     = statement("part.count.save")
)

// partCount is the progress of the count of a partition's finished tasks, as its row stores it.
type partCount struct {
	QueueID int32     `json:"queue_id"` // of the last counted row
	TaskID  int64     `json:"task_id"`  // of the last counted row
	Sums    []partSum `json:"sums"`
	IsWhole bool      `json:"whole"` // no row follows
	// IsSubtracted means that the counts have lost the tasks: only the tables are left.
	IsSubtracted bool `json:"subtracted,omitempty"`
}

// partSum is the sum of the finished tasks of one queue and status.
type partSum struct {
	QueueID    int32     `json:"queue_id"`
	Status     int16     `json:"status"`
	Tasks      int32     `json:"tasks"`
	FinishedAt time.Time `json:"finished_at"` // the newest
}

var partSumColumns = table.Of[partSum]().Only("queue_id", "finished_at")

// addSum adds the tasks of one step.
func (c *partCount) addSum(step partSum) {
	for i := range c.Sums {
		sum := &c.Sums[i]
		if sum.QueueID != step.QueueID || sum.Status != step.Status {
			continue
		}

		sum.Tasks += step.Tasks
		if step.FinishedAt.After(sum.FinishedAt) {
			sum.FinishedAt = step.FinishedAt
		}
		return
	}
	c.Sums = append(c.Sums, step)
}

// lockPartCount locks the count of a partition. It returns nil without a count, or while another transaction has it.
func lockPartCount(ctx context.Context, t *txn.Tx, p partition) (count *partCount, err error) {
	err = t.Query(ctx, lockCount, func(rows pgx.Rows) error {
		count = &partCount{}
		return rows.Scan(count)
	}, arg("lower", p.lower))
	return count, err
}

// beginPartCount begins the count of a partition that stripPart has walked.
func (s *Store) beginPartCount(ctx context.Context, op string, p partition) (bool, error) {
	return s.changePart(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		queueDDL(t, freezePart, p.lower, p.upper)
		t.Queue(beginCount, arg("lower", p.lower))
		return nil
	})
}

// countPartStep counts as many finished rows as a step of stripPart walks tasks.
func (s *Store) countPartStep(ctx context.Context, op string, p partition) (rest partRest, err error) {
	size, _, _ := s.rowFilters.strip.nextStep()
	err = s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		rest = partHasMore
		count, err := lockPartCount(ctx, t, p)
		if err != nil {
			return err
		}
		if count == nil {
			rest = partNeeded // the next call finds the partition without a count, or another process goes on
			return txn.ErrNothing
		}
		if count.IsWhole {
			rest = partCounted
			return txn.ErrNothing
		}

		visited := 0
		at := *count
		askPart(t, countPartRows, p, func(rows pgx.Rows) error {
			var sum partSum
			var lastID int64
			var n int
			if err := rows.Scan(&sum.QueueID, &sum.Status, &sum.Tasks, &sum.FinishedAt, &lastID, &n); err != nil {
				return err
			}

			visited += n
			count.addSum(sum)
			if sum.QueueID > count.QueueID || sum.QueueID == count.QueueID && lastID > count.TaskID {
				count.QueueID, count.TaskID = sum.QueueID, lastID
			}
			return nil
		}, arg("queue_id", at.QueueID), arg("task_id", at.TaskID), arg("limit", size))
		if err := t.Flush(ctx); err != nil {
			return err
		}

		count.IsWhole = visited < size
		t.Queue(saveCount, arg("counted", count), arg("lower", p.lower))
		return nil
	})

	if err = txn.IgnoreNothing(err); err == nil {
		s.rowFilters.strip.recordPass()
		return rest, nil
	}
	if isPgCode(err, sqlstate.UndefinedTable) { // another process has dropped the partition
		return partNeeded, nil
	}
	if s.halvePartStep(ctx, err) {
		return partHasMore, nil
	}

	// Without a count the pruner deletes the tasks of the partition.
	if ctx.Err() == nil {
		_ = s.db.Run(ctx, op, func(_ context.Context, t *txn.Tx) error {
			t.Queue(discardCount, arg("task_id", p.lower))
			return nil
		})
	}
	return partNeeded, err
}
