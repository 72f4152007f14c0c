package postgres

import (
	"context"
	"encoding/base64"
	"math"
	"slices"
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

// fewWaiting is up to how many waiting tasks the narrow rows are read and sorted whole for a list.
const fewWaiting = 20_000

// mostHidden bounds the count of tasks past retention that are counted still.
const mostHidden = 100_000

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
	l, err := s.listing(ctx, namespace, q.TaskFilter)
	if err != nil || len(l.queues) == 0 {
		return page, queue.WithOp(op, err)
	}
	queues, ids, err := s.listIDs(ctx, op, l, before, q.Offset, q.Limit+1)
	if err != nil {
		return page, err
	}
	more := len(ids) > q.Limit
	if more {
		queues, ids = queues[:q.Limit], ids[:q.Limit]
	}
	if page.Tasks, err = s.tasksNow(ctx, op, queues, ids); err != nil {
		return page, err
	}
	if more {
		page.Next = encodeCursor(ids[len(ids)-1])
	}
	if l.counted {
		var hidden int64
		if slices.ContainsFunc(l.statuses, func(c int16) bool { return c >= statusReleased }) {
			err = s.query(ctx, op, "list.hidden", func(rows pgx.Rows) error { return rows.Scan(&hidden) }, l.queues, l.statuses, mostHidden)
		}
		page.Count = max(l.count-hidden, int64(len(page.Tasks)))
		return page, err
	}
	return page, s.query(ctx, op, "list.count", func(rows pgx.Rows) error { return rows.Scan(&page.Count) },
		l.queues, timePtr(q.CreatedAfter), timePtr(q.CreatedBefore), q.Worker, l.statuses)
}

// listing is a filter in the tables' terms, and the way to walk it.
type listing struct {
	filter   queue.TaskFilter
	queues   []int32
	statuses []int16
	way      string
	count    int64
	counted  bool // the kept counts answer it
}

func (s *Store) listing(ctx context.Context, namespace string, f queue.TaskFilter) (*listing, error) {
	l := &listing{filter: f}
	var names []string
	if f.Queue != "" {
		names = []string{f.Queue}
	}
	queues, err := s.named(ctx, namespace, names)
	if queue.KindOf(err) == queue.KindNotFound { // an unknown queue has no tasks
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	for _, q := range queues {
		l.queues = append(l.queues, q.id)
	}
	statuses := f.Statuses
	if len(statuses) == 0 {
		statuses = queue.Statuses()
	}
	for _, st := range statuses {
		if c := statusCodes[st]; !slices.Contains(l.statuses, c) {
			l.statuses = append(l.statuses, c)
		}
	}
	stats, err := s.counts(ctx, namespace, f.Queue)
	if err != nil {
		return nil, err
	}
	waiting := int64(0)
	for _, c := range stats {
		waiting += c.by[statusNew] + c.by[statusRetry]
		for _, st := range l.statuses {
			l.count += c.by[st]
		}
	}
	l.counted = f.Worker == "" && f.CreatedAfter.IsZero() && f.CreatedBefore.IsZero()
	all := func(set ...int16) bool {
		return !slices.ContainsFunc(l.statuses, func(s int16) bool { return !slices.Contains(set, s) })
	}
	switch {
	case all(statusRetained):
		l.way = "list.retained"
	case all(statusReleased):
		l.way = "list.released"
	case all(statusFailed, statusExpired, statusCancelled):
		l.way = "list.unwell"
	case all(statusRetry):
		l.way = "list.retry"
	case all(statusNew, statusRetry) && waiting <= fewWaiting:
		l.way = "list.waiting"
	default:
		l.way = "list.all"
	}
	return l, nil
}

func (s *Store) listIDs(ctx context.Context, op string, l *listing, before int64, offset, limit int) (queues []int32, ids []int64, err error) {
	err = s.query(ctx, op, l.way, func(rows pgx.Rows) error {
		var q int32
		var id int64
		err := rows.Scan(&q, &id)
		queues, ids = append(queues, q), append(ids, id)
		return err
	}, l.queues, before, timePtr(l.filter.CreatedAfter), timePtr(l.filter.CreatedBefore), l.filter.Worker, offset, limit, l.statuses)
	return queues, ids, err
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
