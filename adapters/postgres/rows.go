package postgres

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
)

// This file holds the rows of the narrow tables as columns for unnest or COPY.

// runMost is the largest number of tasks in one ready or done row, as in the checks of the tables. It is large enough
// that the cost of a row is small for each task. It is small enough that a retain gains little lead when it passes over
// a run that another retain splits.
const runMost = 32

// blockOfRun returns the block of ids in which a run of done rows must stay.
func blockOfRun(id int64) int64 { return (id - 1) / runMost }

// readyRow is a run of new tasks that are ready. The turn of a new task is its id. A row with n = 0 is a marker of a group.
type readyRow struct {
	turn    int64
	taskID  int64
	queueID int32
	lane    int32
	attempt int16
	n       int16
	diesAt  *time.Time
	grp     *int64 // hash of the group
}

var readyColumns = table.Of[readyRow]()

// runColumns are the columns of a run that a retain locks or puts back. It locks no run past its end, and the end of a run
// that it puts back comes from the task.
var runColumns = readyColumns.Without("dies_at")

type readyRows []readyRow

// addReadyRow adds a new task. With runs set it extends the last run if possible, as for the tasks of one batch
// that no later create replaces.
func (r *readyRows) addReadyRow(id int64, queue int32, at groupPlace, diesAt time.Time, runs bool) {
	if rows := *r; runs && len(rows) > 0 {
		last := &rows[len(rows)-1]
		if last.n > 0 && last.n < runMost && last.turn+int64(last.n) == id && last.queueID == queue && last.lane == at.lane &&
			groupFromPointer(last.grp) == at.grp && timeFromPointer(last.diesAt).Equal(diesAt) {
			last.n++
			return
		}
	}
	*r = append(*r, readyRow{turn: id, taskID: id, queueID: queue, lane: at.lane, n: 1, diesAt: timePointer(diesAt), grp: groupPointer(at.grp)})
}

// delayedRow is a new task that is due later.
type delayedRow struct {
	dueAt    time.Time
	taskID   int64
	queueID  int32
	priority int16
	attempt  int16
	diesAt   *time.Time
	bucket   *int16
	grp      *int64
}

var delayedColumns = table.Of[delayedRow]()

// truncateToMicros returns t in UTC with the precision of PostgreSQL.
func truncateToMicros(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Microsecond)
}

func timePointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t) // &t would allocate for a zero time too
}

func timeFromPointer(p *time.Time) time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.UTC()
}

func textPointer(s string) *string {
	if s == "" {
		return nil
	}
	return new(s)
}

func textFromPointer(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// nullableJSON returns b, or nil for an empty b, because empty text is invalid JSON.
func nullableJSON(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func encodeHeaders(h map[string]string) []byte {
	if len(h) == 0 {
		return nil
	}
	b, err := json.Marshal(h)
	if err != nil { // strings always marshal
		return nil
	}
	return b
}

func decodeHeaders(b []byte) (map[string]string, error) {
	if b == nil {
		return nil, nil
	}
	var h map[string]string
	return h, json.Unmarshal(b, &h)
}

// encodeArray returns ids as a PostgreSQL array in text. Arrays of unequal length travel in this form.
func encodeArray[N int16 | int64](ids []N) string {
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
