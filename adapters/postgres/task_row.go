package postgres

import (
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// taskRow is a row of the table task: a task as its create wrote it. All statements that write or read such rows take
// their columns from here, so a new field of a task is a column of the migration and of this file.
type taskRow struct {
	id        int64
	createdAt time.Time
	delayedAt *time.Time
	diesAt    *time.Time
	queueID   int32
	priority  int16
	retries   int16
	key       *string
	headers   []byte
	payload   []byte
	bucket    *int16  // of the lane; nil = 0
	groupName *string // the group
}

var taskColumns = table.Of[taskRow]()

// makeTaskRow returns the row of a new task.
func makeTaskRow(t *queue.Task, queueID int32) taskRow {
	return taskRow{
		id:        t.ID,
		createdAt: t.CreatedAt,
		delayedAt: timePointer(t.DelayedAt),
		diesAt:    timePointer(t.DiesAt),
		queueID:   queueID,
		priority:  t.Priority,
		retries:   int16(t.Retries), //nolint:gosec // at most queue.MaxRetries
		key:       textPointer(t.Key),
		headers:   encodeHeaders(t.Headers),
		payload:   t.Payload,
		groupName: textPointer(t.Group),
	}
}

// fillTask copies the row into t. It leaves id and priority alone, which a retain has from the ready row.
func (r *taskRow) fillTask(t *queue.Task) (err error) {
	t.CreatedAt = r.createdAt.UTC()
	t.DelayedAt = timeFromPointer(r.delayedAt)
	t.DiesAt = timeFromPointer(r.diesAt)
	t.Retries = int(r.retries)
	t.Key = textFromPointer(r.key)
	t.Group = textFromPointer(r.groupName)
	t.Payload = r.payload
	t.Headers, err = decodeHeaders(r.headers)
	return err
}

// Selections of columns for statements that need fewer.
var (
	// The tasks of a create share the time of the create.
	insertedTaskColumns = taskColumns.Without("created_at")
	// The database copies the payload of a dead letter.
	letterTaskColumns = insertedTaskColumns.Without("payload")
	// The ready row has queue and lane.
	pickedTaskColumns = taskColumns.Without("queue_id", "priority", "bucket")
	// A move of a task needs no content.
	taskLifeColumns = taskColumns.Without("key", "headers", "payload")
)

// letterRow is a row of a dead letter beside the task with its payload.
type letterRow struct {
	taskRow
	sourceQueueID int32
	sourceID      int64
}

var letterColumns = table.Of[letterRow]().Without("created_at", "payload")

// stateRow is a row of the table state: the values that changed since the create.
type stateRow struct {
	taskID    int64
	delayedAt *time.Time
	diesAt    *time.Time
	retries   int16
	result    []byte
	progress  []byte
}

var stateColumns = table.Of[stateRow]()

// presentRow is a row of the view task_now: a task and the place of its narrow row.
type presentRow struct {
	taskRow
	namespace       string
	queue           string
	status          int16
	worker          *string
	startedAt       *time.Time
	finishedAt      *time.Time
	attempt         int16
	result          []byte
	progress        []byte
	cancelRequested bool
	token           *int64 // of the present lease row
	turn            int64
	lastToken       int64
}

var presentColumns = table.Of[presentRow]()

// Selections of the view for statements that need no content.
var (
	presentLifeColumns  = presentColumns.Without("key", "headers", "payload", "progress")
	presentStateColumns = presentLifeColumns.Without("result")
)

// sumTaskBytes returns the size in bytes of the content in a task row.
func sumTaskBytes(alias string) string { return sumBytes(alias, "headers", "payload") }

// sumStateBytes returns the size in bytes of the content in a state row, which may be null.
func sumStateBytes(alias string) string { return sumBytes(alias, "result", "progress") }

// sumBytes returns an expression for the size of uncompressed values. It decompresses compressed values, and reads no
// others.
func sumBytes(alias string, columns ...string) string {
	sizes := make([]string, len(columns))
	for i, column := range columns {
		sizes[i] = strings.ReplaceAll(
			"coalesce(case when pg_column_compression(v) is null then pg_column_size(v) else octet_length(v::text) end, 0)",
			"(v", "("+alias+"."+column)
	}
	return strings.Join(sizes, " + ")
}

// listFittingPresent lists the columns of the view with null for the large ones where the column fits is not true.
func listFittingPresent(alias string) string {
	return presentColumns.ListIf(alias, "fits", "headers", "payload", "result", "progress")
}

// listBriefPresent lists the columns of the view with null for the large ones, and with the column short as the result.
func listBriefPresent(alias string) string {
	list := presentColumns.ListIf(alias, "fits", "headers", "payload", "progress")
	return strings.ReplaceAll(list, alias+".result", alias+".short as result")
}

// nowRow is a task as it is now, and the place of its narrow row.
type nowRow struct {
	task      *queue.Task
	queue     int32
	token     int64 // of the present lease row
	turn      int64
	lastToken int64
	bucket    *int16
	// waitsForGroup is set when the task was taken from those that wait for their group.
	waitsForGroup bool
}

// scanPresent returns a function that reads a row of the view by columns, passes it to each, and reads the further columns of
// the statement into more.
func scanPresent(columns table.Table[presentRow], each func(*nowRow), more ...any) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		// 32 targets fit all columns of the view and those of a statement.
		var r presentRow
		targets := columns.Targets(make([]any, 0, 32), &r)
		if err := rows.Scan(append(targets, more...)...); err != nil {
			return err
		}

		t := &queue.Task{
			ID:              r.id,
			Priority:        r.priority,
			Namespace:       r.namespace,
			Queue:           r.queue,
			Status:          decodeStatus(r.status),
			Worker:          textFromPointer(r.worker),
			StartedAt:       timeFromPointer(r.startedAt),
			FinishedAt:      timeFromPointer(r.finishedAt),
			Attempt:         int(r.attempt),
			Result:          r.result,
			Progress:        r.progress,
			CancelRequested: r.cancelRequested,
		}
		if err := r.fillTask(t); err != nil {
			return err
		}

		n := &nowRow{task: t, queue: r.queueID, turn: r.turn, lastToken: r.lastToken, bucket: r.bucket}
		if r.token != nil {
			n.token = *r.token
		}
		each(n)
		return nil
	}
}
