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
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// isFaultOfRows reports whether err may come from single rows of a step, so that other rows can pass without them. It
// returns false for faults of the whole database and after the end of ctx.
func isFaultOfRows(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return sqlstate.Classify(pg.Code).Rows
	}
	switch queue.KindOf(err) {
	case queue.KindUnavailable, queue.KindCanceled, queue.KindDeadline, queue.KindIndeterminate:
		return false
	default: // for example a message that is too large to send
		return true
	}
}

// These limits bound the rows that a filter passes over.
const (
	refusedRest   = time.Minute // time for which a row is excluded before the next try
	refusedRows   = 10          // rows of one queue; beyond that the whole queue is excluded
	refusedQueues = 100         // queues at once; beyond that the step fails
)

// rowFilter bounds the steps of one kind of background work. It finds the rows that the database refuses and excludes
// them, so that all other rows proceed. A failed step is repeated with half as many rows, down to one row, which is
// then refused. Successful steps grow again. The filter also serves statements that exceed a timeout. It is safe for
// concurrent use.
type rowFilter struct {
	mu     sync.Mutex
	most   int
	size   int
	rows   map[int64]refusedRow // by task id
	queues map[int32]refusedRow
}

// refusedRow is one row, or a whole queue, that makes a step fail.
type refusedRow struct {
	queue   int32
	task    int64
	space   string
	subject string // text for people
	whole   bool   // stands for the whole queue
	until   time.Time
}

func makeRowFilter(most int) *rowFilter {
	return &rowFilter{most: most, size: most, rows: map[int64]refusedRow{}, queues: map[int32]refusedRow{}}
}

// rowFilters are the filters of a store, one for each kind of work on rows of many queues.
type rowFilters struct {
	promote, expireReady, expireDelayed, expireWaiting, done, deleted, strip, fold, history, wake, audit, ticks *rowFilter
}

func (s *rowFilters) init() {
	s.promote, s.expireReady, s.expireDelayed = makeRowFilter(promoteStep), makeRowFilter(expireStep), makeRowFilter(expireStep)
	s.expireWaiting = makeRowFilter(expireStep)
	s.done, s.deleted, s.strip = makeRowFilter(pruneStep), makeRowFilter(pruneStep), makeRowFilter(stripStep)
	s.fold, s.history = makeRowFilter(1), makeRowFilter(1) // they take all rows; only queues are excluded
	s.wake, s.audit, s.ticks = makeRowFilter(wakeStep), makeRowFilter(auditStep), makeRowFilter(pruneStep)
}

// scanRefusedRow reads queue id, task id, namespace and queue name of a row.
func (r *refusedRow) scanRefusedRow(rows pgx.Rows) error {
	var name string
	err := rows.Scan(&r.queue, &r.task, &r.space, &name)
	r.subject = "task " + strconv.FormatInt(r.task, 10) + " of queue " + name
	return err
}

// nextStep returns the largest number of rows for the next step, and the tasks and queues that it must exclude.
func (v *rowFilter) nextStep() (size int, rows []int64, queues []int32) {
	v.mu.Lock()
	defer v.mu.Unlock()

	// An exclusion that has ended gives its row another try.
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

// recordPass records a successful step and doubles the size of the next one.
func (v *rowFilter) recordPass() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.size = min(2*v.size, v.most)
}

// halveStep halves the size of the next step. It returns false if the size is one already.
func (v *rowFilter) halveStep() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.size == 1 {
		return false
	}
	v.size /= 2
	return true
}

// recordFailure records a step that failed with err. It returns nil as the error if the next step may succeed: with
// fewer rows, or without the row that first returns. The faults name that row.
func (v *rowFilter) recordFailure(ctx context.Context, err error, first func() (refusedRow, error)) ([]queue.Fault, error) {
	if !isFaultOfRows(ctx, err) {
		return nil, err
	}

	// Fewer rows isolate the faulty one with a logarithmic number of steps.
	if v.halveStep() {
		return nil, nil
	}

	row, ferr := first()
	if ferr != nil {
		return nil, errors.Join(err, ferr)
	}

	if row.queue == 0 { // the row has left meanwhile
		return nil, nil
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	// A queue with many refused rows is excluded as a whole, which bounds the memory.
	ofQueue := 0
	for _, r := range v.rows {
		if r.queue == row.queue {
			ofQueue++
		}
	}

	// So many refused queues point at a fault of the database, and not of rows.
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

// retryRefused is recordFailure in the form of a result of Maintain.
func (v *rowFilter) retryRefused(ctx context.Context, err error, first func() (refusedRow, error)) (queue.Maintained, error) {
	faults, err := v.recordFailure(ctx, err, first)
	return queue.Maintained{More: err == nil, Faults: faults}, err
}

// knownFaults records the last fault of each subject, so that a repeated fault is reported once.
type knownFaults struct {
	mu   sync.Mutex
	text map[string]string
}

// recordFault records the error of a step for a subject, and reports whether the previous step had the same.
func (f *knownFaults) recordFault(subject string, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.text == nil {
		f.text = map[string]string{}
	}
	was, ok := f.text[subject]
	f.text[subject] = err.Error()
	return ok && was == err.Error()
}

// clearFault forgets the fault of a subject after a step without an error.
func (f *knownFaults) clearFault(subject string, err error) {
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.text, subject)
}
