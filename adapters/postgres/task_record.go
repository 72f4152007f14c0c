package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// taskRecord is a held task as its rows in task and state have it.
type taskRecord struct {
	task *queue.Task
	// bucket of the lane; nil stands for bucket 0
	bucket *int16
	// life lacks Status, Attempt and CancelRequested: heldTask.lifeOfTask reads them from the lease row.
	life queue.Life
}

// taskRecords holds records by task id.
type taskRecords map[int64]taskRecord

// makeScanner returns a function that reads one record from a row: columns of the task, then those of its state row, in the order of
// the targets below. All rows share the targets. It drops tasks that are not in asked; asked nil keeps all.
func (f taskRecords) makeScanner(columns table.Table[taskRow], asked map[int64]bool) func(pgx.Rows) error {
	var (
		r                 taskRow
		stated            bool
		delayedAt, diesAt *time.Time
		retries           *int16
		losses            int16
		result, progress  []byte
	)

	targets := append(columns.Targets(nil, &r), &stated, &delayedAt, &diesAt, &retries, &losses, &result, &progress)
	return func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if asked != nil && !asked[r.id] {
			return nil
		}

		// A state row has the present values; the task row has those of the create.
		if stated {
			r.delayedAt, r.diesAt, r.retries = delayedAt, diesAt, *retries
		}

		t := &queue.Task{ID: r.id, Priority: r.priority, Result: result, Progress: progress}
		err := r.fillTask(t)
		life := queue.Life{DelayedAt: t.DelayedAt, DiesAt: t.DiesAt, Retries: t.Retries, Losses: losses}
		f[t.ID] = taskRecord{t, r.bucket, life}
		return err
	}
}
