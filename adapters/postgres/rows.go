package postgres

import (
	"encoding/json"
	"strconv"
	"time"
)

// The rows of the narrow tables as columns, ready for unnest or COPY.

// runMost is the most tasks that a ready or done row stands for: the checks of the tables. Long enough that what a row costs a
// task is next to nothing, short enough that a retain which skips a run that another is splitting runs ahead by little.
const runMost = 32

// runBlock is the block of ids that a run of done rows stays in.
func runBlock(id int64) int64 { return (id - 1) / runMost }

var readyColumns = []string{"turn", "task_id", "queue_id", "priority", "attempt", "n", "dies_at"}

type readyRows struct {
	turns      []int64 // their ids too
	queues     []int32
	priorities []int16
	attempts   []int16
	lengths    []int16
	diesAts    []*time.Time
}

// add adds a new task, whose turn is its id. With runs it lengthens the last run where it can: tasks of a bulk.
func (r *readyRows) add(id int64, queue int32, priority int16, diesAt time.Time, runs bool) {
	if last := len(r.turns) - 1; runs && last >= 0 && r.lengths[last] < runMost && r.turns[last]+int64(r.lengths[last]) == id &&
		r.queues[last] == queue && r.priorities[last] == priority && timeOf(r.diesAts[last]).Equal(diesAt) {
		r.lengths[last]++
		return
	}
	r.turns, r.lengths = append(r.turns, id), append(r.lengths, 1)
	r.queues, r.priorities = append(r.queues, queue), append(r.priorities, priority)
	r.attempts, r.diesAts = append(r.attempts, 0), append(r.diesAts, timePtr(diesAt))
}

func (r *readyRows) insert(t *tx) {
	if len(r.turns) > 0 {
		t.queue("create.ready", r.turns, r.turns, r.queues, r.priorities, r.attempts, r.lengths, r.diesAts)
	}
}

func (r *readyRows) row(i int) ([]any, error) {
	return []any{r.turns[i], r.turns[i], r.queues[i], r.priorities[i], r.attempts[i], r.lengths[i], r.diesAts[i]}, nil
}

var delayedColumns = []string{"due_at", "task_id", "queue_id", "priority", "attempt", "dies_at"}

type delayedRows struct {
	dueAts     []time.Time
	ids        []int64
	queues     []int32
	priorities []int16
	attempts   []int16
	diesAts    []*time.Time
}

func (r *delayedRows) add(dueAt time.Time, id int64, queue int32, priority int16, attempt int, diesAt time.Time) {
	r.dueAts, r.ids = append(r.dueAts, dueAt), append(r.ids, id)
	r.queues, r.priorities = append(r.queues, queue), append(r.priorities, priority)
	r.attempts, r.diesAts = append(r.attempts, int16(attempt)), append(r.diesAts, timePtr(diesAt))
}

func (r *delayedRows) insert(t *tx) {
	if len(r.ids) > 0 {
		t.queue("create.delayed", r.dueAts, r.ids, r.queues, r.priorities, r.attempts, r.diesAts)
	}
}

func (r *delayedRows) row(i int) ([]any, error) {
	return []any{r.dueAts[i], r.ids[i], r.queues[i], r.priorities[i], r.attempts[i], r.diesAts[i]}, nil
}

// micros is t as PostgreSQL keeps it.
func micros(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Microsecond)
}

func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func timeOf(p *time.Time) time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.UTC()
}

func textPtr(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func textOf(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// jsonParam is b, or nothing at all: empty is no JSON.
func jsonParam(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func headerJSON(h map[string]string) []byte {
	if len(h) == 0 {
		return nil
	}
	b, err := json.Marshal(h)
	if err != nil { // strings always marshal
		return nil
	}
	return b
}

func headersOf(b []byte) (map[string]string, error) {
	if b == nil {
		return nil, nil
	}
	var h map[string]string
	return h, json.Unmarshal(b, &h)
}

// arrayText is ids as a PostgreSQL array in text: arrays of arrays of unequal length travel so.
func arrayText[N int16 | int64](ids []N) string {
	b := make([]byte, 0, 2+12*len(ids))
	b = append(b, '{')
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(id), 10)
	}
	return string(append(b, '}'))
}
