package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// rowCodes are the SQLSTATEs, whole or by class, that may be about some of the rows that a statement deals with: triggers and
// functions, values, constraints, limits, damaged rows, and a timeout, which fewer rows may keep.
var rowCodes = []string{"09", "21", "22", "23", "27", "2F", "38", "39", "44", "54", "57014", "P0", "XX"}

// isFaultOfRows says that err may be about some of the rows that a step dealt with, so that others may pass without them: not
// about the database as a whole, and there is time left.
func isFaultOfRows(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return slices.Contains(rowCodes, pg.Code) || len(pg.Code) == 5 && slices.Contains(rowCodes, pg.Code[:2])
	}
	switch queue.KindOf(err) {
	case queue.KindUnavailable, queue.KindCanceled, queue.KindDeadline, queue.KindIndeterminate:
		return false
	default: // as a message that is too large to be sent
		return true
	}
}

// Bounds of what a sieve passes over.
const (
	refusedRest   = time.Minute // how long a row is passed over before it is tried again
	refusedRows   = 10          // of one queue; from then on the whole queue is passed over
	refusedQueues = 100         // at once; a chore that needs more fails as a whole
)

// rowFilter bounds the steps of one kind of background work, and finds the rows that the database refuses, so that it can pass
// over them and do the others. A step that fails is tried again with half as many rows, down to one: that one is refused.
// Steps that succeed grow again. It works for statements that are too slow for a timeout, too.
type rowFilter struct {
	mu     sync.Mutex
	most   int
	size   int
	rows   map[int64]refusedRow // by task
	queues map[int32]refusedRow
}

// refusedRow is one row, or a whole queue, that a step cannot deal with.
type refusedRow struct {
	queue   int32
	task    int64
	space   string
	subject string // for people
	whole   bool   // the queue as a whole
	until   time.Time
}

func makeRowFilter(most int) *rowFilter {
	return &rowFilter{most: most, size: most, rows: map[int64]refusedRow{}, queues: map[int32]refusedRow{}}
}

// rowFilters are those of the store, one for each kind of work that goes by rows of many owners.
type rowFilters struct{ promote, expireReady, expireDelayed, done, deleted, strip, fold *rowFilter }

func (s *rowFilters) init() {
	s.promote, s.expireReady, s.expireDelayed = makeRowFilter(promoteStep), makeRowFilter(expireStep), makeRowFilter(expireStep)
	s.done, s.deleted, s.strip = makeRowFilter(pruneStep), makeRowFilter(pruneStep), makeRowFilter(stripStep)
	s.fold = makeRowFilter(1) // a fold takes all rows; only queues are passed over
}

// scanRefusedRow reads queue, task, namespace and name of a row.
func (r *refusedRow) scanRefusedRow(rows pgx.Rows) error {
	var name string
	err := rows.Scan(&r.queue, &r.task, &r.space, &name)
	r.subject = "task " + strconv.FormatInt(r.task, 10) + " of queue " + name
	return err
}

// nextStep is how many rows the next step may take, and which tasks and queues it must pass over.
func (v *rowFilter) nextStep() (size int, rows []int64, queues []int32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	rows, queues = []int64{}, []int32{}
	for id, r := range v.rows {
		if now.Before(r.until) {
			rows = append(rows, id)
		} else {
			delete(v.rows, id)
		}
	}

	for id, r := range v.queues {
		if now.Before(r.until) {
			queues = append(queues, id)
		} else {
			delete(v.queues, id)
		}
	}

	slices.Sort(rows)
	slices.Sort(queues)
	return v.size, rows, queues
}

// recordPass notes a step that succeeded.
func (v *rowFilter) recordPass() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.size = min(2*v.size, v.most)
}

// halveStep has the next step take half as many rows; false when it takes one already.
func (v *rowFilter) halveStep() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.size == 1 {
		return false
	}
	v.size /= 2
	return true
}

// recordFailure notes a step that failed with err. It answers without an error when the next step may do better: it takes fewer
// rows, or passes over the one that first gives, which is what it then tells.
func (v *rowFilter) recordFailure(ctx context.Context, err error, first func() (refusedRow, error)) ([]queue.Fault, error) {
	if !isFaultOfRows(ctx, err) {
		return nil, err
	}

	if v.halveStep() {
		return nil, nil
	}

	row, ferr := first()
	if ferr != nil {
		return nil, errors.Join(err, ferr)
	}

	if row.queue == 0 { // it has gone meanwhile
		return nil, nil
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	ofQueue := 0
	for _, r := range v.rows {
		if r.queue == row.queue {
			ofQueue++
		}
	}

	if len(v.queues) >= refusedQueues {
		return nil, err
	}

	row.until = time.Now().Add(refusedRest)
	if row.whole || ofQueue >= refusedRows {
		for id, r := range v.rows {
			if r.queue == row.queue {
				delete(v.rows, id)
			}
		}
		v.queues[row.queue] = row
	} else {
		v.rows[row.task] = row
	}

	return []queue.Fault{{Namespace: row.space, Subject: row.subject, Err: err}}, nil
}

// retryRefused is failed, as a step of a chore answers it.
func (v *rowFilter) retryRefused(ctx context.Context, err error, first func() (refusedRow, error)) (queue.Maintained, error) {
	faults, err := v.recordFailure(ctx, err, first)
	return queue.Maintained{More: err == nil, Faults: faults}, err
}

// knownFaults remembers what steps have told, by subject, so that it is told once.
type knownFaults struct {
	mu   sync.Mutex
	text map[string]string
}

// isKnownFault says whether err of a subject was told by the step before, and notes it.
func (f *knownFaults) isKnownFault(subject string, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.text == nil {
		f.text = map[string]string{}
	}
	was, ok := f.text[subject]
	f.text[subject] = err.Error()
	return ok && was == err.Error()
}

// clearFault forgets a subject that is well.
func (f *knownFaults) clearFault(subject string, err error) {
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.text, subject)
}
