package sqltx

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// DefaultSchema is the schema of the tables unless [WithSchema] names another.
const DefaultSchema = "pgqueue"

// Querier runs a statement within the transaction of the caller.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Option is a setting of a call.
type Option func(*settings)

type settings struct{ schema, namespace string }

// WithSchema names the schema of the tables (default "pgqueue").
func WithSchema(name string) Option { return func(s *settings) { s.schema = name } }

// WithNamespace names the namespace of the queue (default "default").
func WithNamespace(name string) Option { return func(s *settings) { s.namespace = name } }

func applyOptions(options []Option) settings {
	s := settings{schema: DefaultSchema, namespace: queue.DefaultNamespace}
	for _, o := range options {
		o(&s)
	}
	return s
}

// call returns the statement that calls a function of the schema.
func (s settings) call(function, arguments string) string {
	return "select " + `"` + strings.ReplaceAll(s.schema, `"`, `""`) + `".` + function + "(" + arguments + ")"
}

// sharedArguments are the arguments that create_task and create_tasks have in common, behind the queue and the payloads. Texts
// with a cast need no codec of a driver for intervals, times or JSON.
const sharedArguments = ", delay => $3::text::interval, delayed_at => $4::text::timestamptz, priority => $5::bigint::integer, " +
	"headers => $6::text::json, namespace => $7::text, options => $8::text::jsonb"

// CreateTask creates a task of a queue within the transaction of q and returns its id. When a task with the key of meta
// exists, its id is the answer. KindNotFound for an unknown queue, KindKeyReused for a key with another payload, KindInvalid
// and KindTooLarge for bad input, KindUnavailable when the database cannot create tasks now.
func CreateTask(ctx context.Context, q Querier, name string, meta queue.TaskMeta, options ...Option) (int64, error) {
	const op = "create task"
	s := applyOptions(options)
	task, err := queue.NewTask{Queue: name, TaskMeta: meta}.Normalize(queue.DefaultMaxPayloadBytes)
	if err != nil {
		return 0, queue.WithOp(op, err)
	}

	ids, err := s.createAlike(ctx, q, []queue.NewTask{task})
	if err != nil {
		return 0, translateCreate(op, &task, err)
	}
	if len(ids) != 1 {
		return 0, &queue.Error{Op: op, Kind: queue.KindInternal, Msg: fmt.Sprintf("must return one id, got %d; check the schema %.64q", len(ids), s.schema)}
	}
	return ids[0], nil
}

// CreateTasks creates up to queue.MaxBatch tasks within the transaction of q, all or none, and returns their ids in their
// order. It returns the errors of [CreateTask]. Neighbours that differ in their payload alone travel in one statement. *sql.DB
// has no transaction, so CreateTasks begins one of its own there. A *sql.Conn must be in one when the tasks are not alike.
func CreateTasks(ctx context.Context, q Querier, tasks []queue.NewTask, options ...Option) ([]int64, error) {
	const op = "create tasks"
	if err := queue.CheckInt("tasks", len(tasks), 1, queue.MaxBatch); err != nil {
		return nil, queue.WithOp(op, err)
	}
	s := applyOptions(options)
	sound, err := queue.NormalizeTasks(tasks, queue.DefaultMaxPayloadBytes)
	if err != nil {
		return nil, queue.WithOp(op, err)
	}

	if _, ok := q.(pool); ok && countAlike(sound) < len(sound) {
		return s.createInTx(ctx, q, sound)
	}
	return s.createAll(ctx, q, sound)
}

// pool is *sql.DB and what embeds it.
type pool interface{ SetMaxOpenConns(n int) }

// createInTx creates tasks in a transaction of its own.
func (s settings) createInTx(ctx context.Context, q Querier, tasks []queue.NewTask) ([]int64, error) {
	const op = "create tasks"
	db, ok := q.(interface {
		BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
	})
	if !ok { // as bun.DB: its transactions have a type of their own
		return nil, &queue.Error{Op: op, Kind: queue.KindInvalid, Field: "q", Msg: fmt.Sprintf("must be a transaction, got %T; begin one", q)}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, translate(op, err)
	}
	defer func() { _ = tx.Rollback() }() // without effect after the commit

	ids, err := s.createAll(ctx, tx, tasks)
	if err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, translate(op, err)
	}
	return ids, nil
}

// createAll creates tasks by as few statements as they need.
func (s settings) createAll(ctx context.Context, q Querier, tasks []queue.NewTask) ([]int64, error) {
	ids := make([]int64, 0, len(tasks))
	for first := 0; first < len(tasks); {
		end := first + countAlike(tasks[first:])
		some, err := s.createAlike(ctx, q, tasks[first:end])
		if err != nil {
			return nil, queue.At(fmt.Sprintf("tasks[%d]", first), translateCreate("create tasks", &tasks[first], err))
		}
		ids = append(ids, some...)
		first = end
	}
	return ids, nil
}

// countAlike returns the number of tasks from the first on that one statement creates.
func countAlike(tasks []queue.NewTask) int {
	n, size := 1, len(tasks[0].Payload)
	for n < len(tasks) && isAlike(&tasks[0], &tasks[n]) && size+len(tasks[n].Payload) <= maxStatementBytes {
		size += len(tasks[n].Payload)
		n++
	}
	return n
}

// maxStatementBytes bounds the payloads of one statement: 8 MiB, of which a driver and PostgreSQL each make copies. A single
// payload always fits.
const maxStatementBytes = 8 << 20

// isAlike reports whether two tasks differ in their payload alone.
func isAlike(a, b *queue.NewTask) bool {
	return a.Queue == b.Queue && a.Key == "" && b.Key == "" && a.Delay == b.Delay && a.DelayedAt.Equal(b.DelayedAt) && a.Priority == b.Priority &&
		a.Group == b.Group && a.KeyRule == b.KeyRule && len(a.Headers) == 0 && len(b.Headers) == 0
}

// createAlike creates tasks that differ in their payload alone.
func (s settings) createAlike(ctx context.Context, q Querier, tasks []queue.NewTask) ([]int64, error) {
	t := &tasks[0]
	var delay, delayedAt, headers any
	if t.Delay > 0 {
		delay = formatInterval(t.Delay)
	}
	if !t.DelayedAt.IsZero() {
		delayedAt = t.DelayedAt.UTC().Format(time.RFC3339Nano)
	}
	if len(t.Headers) > 0 {
		text, _ := json.Marshal(t.Headers) // cannot fail: a map of texts
		headers = string(text)
	}
	if t.Debounce > 0 {
		delay = nil // it says the same
	}
	shared := []any{delay, delayedAt, int64(t.Priority), headers, s.namespace, formatOptions(t)}

	if len(tasks) == 1 {
		return queryIDs(ctx, q, s.call("create_task", "$1::text, $2::text::json"+sharedArguments+", key => $9::text"),
			append(append([]any{t.Queue, string(t.Payload)}, shared...), t.Key)...)
	}

	// The payloads travel as one JSON array, because an element keeps its text.
	payloads := make([][]byte, len(tasks))
	for i := range tasks {
		payloads[i] = tasks[i].Payload
	}
	all := "[" + string(bytes.Join(payloads, []byte(","))) + "]"
	return queryIDs(ctx, q, s.call("create_tasks", "$1::text, array(select e from json_array_elements($2::text::json) e)"+sharedArguments),
		append([]any{t.Queue, all}, shared...)...)
}

// Complete ends a retained task with success within the transaction of q, so that its effects and its end commit together.
// task is the result of a retain; result is any value that queue.Marshal takes. A repeat does nothing. KindLeaseLost when
// another lease has followed: roll back then, because another worker may hold the task.
func Complete(ctx context.Context, q Querier, task *queue.Task, result any, options ...Option) error {
	const op = "complete task"
	s := applyOptions(options)
	if task.Lease == nil {
		return &queue.Error{Op: op, Kind: queue.KindInvalid, Field: "lease", Msg: "must be that of a retain, got none; pass the task that the retain returned"}
	}
	text, err := queue.Marshal(result)
	if err != nil {
		return queue.WithOp(op, err)
	}
	if len(text) > 0 {
		if err := queue.CheckJSON("result", text, queue.DefaultMaxPayloadBytes); err != nil {
			return queue.WithOp(op, err)
		}
	}

	rows, err := q.QueryContext(ctx, s.call("complete_task", "$1::bigint, $2::bigint, nullif($3::text, '')::json"), task.ID, task.Lease.Token, string(text))
	if err != nil {
		return translate(op, err)
	}
	defer rows.Close()
	rows.Next() // the function returns one row without a value
	return translate(op, errors.Join(rows.Err(), rows.Close()))
}

// queryIDs runs a statement that returns ids.
func queryIDs(ctx context.Context, q Querier, statement string, args ...any) (ids []int64, err error) {
	rows, err := q.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// formatOptions writes the settings of a task that are not arguments of create_task.
func formatOptions(t *queue.NewTask) string {
	options := map[string]string{}
	for name, value := range map[string]string{"group": t.Group, "on_conflict": string(t.OnConflict), "unique_until": string(t.UniqueUntil)} {
		if value != "" {
			options[name] = value
		}
	}
	for name, value := range map[string]time.Duration{"debounce": t.Debounce, "debounce_max": t.DebounceMax} {
		if value > 0 {
			options[name] = formatInterval(value)
		}
	}
	text, _ := json.Marshal(options) // cannot fail: a map of texts
	return string(text)
}

// formatInterval writes a duration as hours, minutes and seconds. PostgreSQL 14 takes no more than 2,147 s as microseconds.
func formatInterval(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign = "-"
	}
	us := d.Microseconds()
	if us < 0 {
		us = -us // cannot overflow: a duration has 1,000 times as many nanoseconds
	}
	return fmt.Sprintf("%s%d:%02d:%02d.%06d", sign, us/3_600_000_000, us/60_000_000%60, us/1_000_000%60, us%1_000_000)
}
