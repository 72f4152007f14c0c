package postgres

import (
	"context"
	"encoding/base64"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// nowRow is a row of the view task_now: a task and where its narrow row lies.
type nowRow struct {
	task      *queue.Task
	queue     int32
	token     int64 // of the present lease row
	turn      int64
	lastToken int64
}

func scanNow(rows pgx.Rows) (*nowRow, error) {
	var (
		n                                        nowRow
		t                                        queue.Task
		key, worker                              *string
		headers, result, progress                []byte
		delayedAt, diesAt, startedAt, finishedAt *time.Time
		status, attempt                          int16
		token                                    *int64
	)
	err := rows.Scan(&t.ID, &n.queue, &t.Namespace, &t.Queue, &t.Priority, &key, &headers, (*[]byte)(&t.Payload), &t.CreatedAt, &result,
		&status, &worker, &delayedAt, &diesAt, &startedAt, &finishedAt, &t.Retries, &attempt, &progress, &t.CancelRequested, &token,
		&n.turn, &n.lastToken)
	if err != nil {
		return nil, err
	}
	t.Key, t.Worker, t.Result, t.Progress = textOf(key), textOf(worker), result, progress
	t.CreatedAt, t.DelayedAt, t.DiesAt = t.CreatedAt.UTC(), timeOf(delayedAt), timeOf(diesAt)
	t.StartedAt, t.FinishedAt = timeOf(startedAt), timeOf(finishedAt)
	t.Status, t.Attempt = statusOf(status), int(attempt)
	if token != nil {
		n.token = *token
	}
	n.task = &t
	t.Headers, err = headersOf(headers)
	return &n, err
}

// nowIn reads tasks of a namespace as they are, within t.
func (s *Store) nowIn(ctx context.Context, t *tx, namespace string, ids []int64) (map[int64]*nowRow, error) {
	out := make(map[int64]*nowRow, len(ids))
	err := t.read(ctx, "task.now.any", func(rows pgx.Rows) error {
		n, err := scanNow(rows)
		if err == nil {
			out[n.task.ID] = n
		}
		return err
	}, namespace, ids)
	return out, err
}

// GetTasks implements queue.Store.
func (s *Store) GetTasks(ctx context.Context, namespace string, ids []int64, withErrors bool) ([]*queue.Task, error) {
	const op = "get tasks"
	if len(ids) == 0 {
		return nil, nil
	}
	var rowsNow []*nowRow
	err := s.query(ctx, op, "task.now.any", func(rows pgx.Rows) error {
		n, err := scanNow(rows)
		rowsNow = append(rowsNow, n)
		return err
	}, namespace, ids)
	if err != nil {
		return nil, err
	}
	out := make([]*queue.Task, len(rowsNow))
	byID := make(map[int64]*queue.Task, len(rowsNow))
	queues, found := make([]int32, len(rowsNow)), make([]int64, len(rowsNow))
	for i, n := range rowsNow {
		out[i], queues[i], found[i] = n.task, n.queue, n.task.ID
		byID[n.task.ID] = n.task
	}
	if !withErrors || len(out) == 0 {
		return out, nil
	}
	return out, s.query(ctx, op, "task.errors", func(rows pgx.Rows) error {
		var id int64
		var e queue.AttemptError
		err := rows.Scan(&id, &e.Attempt, &e.At, &e.Worker, (*[]byte)(&e.Error))
		e.At = e.At.UTC()
		byID[id].Errors = append(byID[id].Errors, e)
		return err
	}, queues, found)
}

// ListTasks implements queue.Store.
func (s *Store) ListTasks(ctx context.Context, namespace string, q queue.TaskQuery) (queue.TaskPage, error) {
	const op = "list tasks"
	page := queue.TaskPage{Tasks: []*queue.Task{}}
	var err error
	if q.Page, err = q.Page.Normalize(); err != nil {
		return page, queue.WithOp(op, err)
	}
	before, err := decodeCursor(q.Cursor)
	if err != nil {
		return page, queue.WithOp(op, err)
	}
	l, err := s.listing(ctx, op, namespace, q.TaskFilter)
	if err != nil || len(l.queues) == 0 {
		return page, queue.WithOp(op, err)
	}
	found, err := s.walk(ctx, op, l, before, q.Offset, q.Limit+1)
	if err != nil {
		return page, err
	}
	cut := len(found.ids) > q.Limit
	switch {
	case cut:
		found.cut(q.Limit)
		page.Next = encodeCursor(found.ids[q.Limit-1])
	case found.more:
		page.Next = encodeCursor(found.end)
	}
	if page.Tasks, err = s.tasksNow(ctx, op, found.queues, found.ids); err != nil {
		return page, err
	}
	if !l.counted && q.Cursor == "" && q.Offset == 0 && !cut { // no more would be counted
		page.Count, page.AtLeast = int64(len(page.Tasks)), found.more
		return page, nil
	}
	page.Count, page.AtLeast, err = s.count(ctx, op, l)
	page.Count = max(page.Count, int64(len(page.Tasks)))
	return page, err
}

// tasksNow reads tasks in the order of ids; those that have gone meanwhile are left out.
func (s *Store) tasksNow(ctx context.Context, op string, queues []int32, ids []int64) ([]*queue.Task, error) {
	byID := make(map[int64]*queue.Task, len(ids))
	err := s.query(ctx, op, "task.now", func(rows pgx.Rows) error {
		n, err := scanNow(rows)
		if err == nil {
			byID[n.task.ID] = n.task
		}
		return err
	}, queues, ids)
	out := make([]*queue.Task, 0, len(ids))
	for _, id := range ids {
		if t := byID[id]; t != nil {
			out = append(out, t)
		}
	}
	return out, err
}

// maxID is above every id.
const maxID = int64(math.MaxInt64)

func encodeCursor(id int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte("t" + strconv.FormatInt(id, 36)))
}

func decodeCursor(c string) (int64, error) {
	if c == "" {
		return maxID, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(c)
	if err == nil && len(b) > 1 && b[0] == 't' {
		if id, err := strconv.ParseInt(string(b[1:]), 36, 64); err == nil && id > 0 {
			return id, nil
		}
	}
	return 0, queue.Invalid("cursor", "is not one that a list gave")
}

// ListWorkers implements queue.Store.
func (s *Store) ListWorkers(ctx context.Context, namespace string) ([]queue.Worker, error) {
	out := []queue.Worker{}
	err := s.query(ctx, "list workers", "worker.list", func(rows pgx.Rows) error {
		var w queue.Worker
		err := rows.Scan(&w.Name, &w.Held, &w.Since, &w.Queues, &w.ExpiresAt)
		w.Since, w.ExpiresAt = w.Since.UTC(), w.ExpiresAt.UTC()
		out = append(out, w)
		return err
	}, namespace)
	return out, err
}
