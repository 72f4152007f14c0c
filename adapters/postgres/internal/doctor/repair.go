package doctor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	// repairLockTimeout is the longest wait of a repair for open transactions. All other transactions of the schema
	// wait behind the repair meanwhile.
	repairLockTimeout = "5s"
	// repairTimeout bounds the repair of one queue, which reads all rows of the queue.
	repairTimeout = 10 * time.Minute
)

var (
	limitLockWait  = Statements.Named("repair.hurry")
	lockTables     = Statements.Named("repair.lock")
	repairLeases   = Statements.Named("repair.lease")
	correctHeld    = Statements.Named("repair.held")
	deleteEmpty    = Statements.Named("repair.empty")
	repairReady    = Statements.Named("repair.ready")
	repairWaiting  = Statements.Named("repair.waiting")
	placeWaiting   = Statements.Named("repair.waiting.place")
	markWaiting    = Statements.Named("repair.waiting.mark")
	repairDelayed  = Statements.Named("repair.delayed")
	repairDueTimes = Statements.Named("repair.due")
	recountQueue   = Statements.Named("repair.recount")
	correctCounts  = Statements.Named("repair.counts")
)

const opRepair = "repair contradictions"

// brokenQueue is a queue with contradictions.
type brokenQueue struct {
	id              int32
	namespace, name string
}

// RepairContradictions repairs every contradiction and returns the list of them. A finished task stays finished, a held
// task stays under its newest token, and a waiting task waits once. It also corrects the counts of the affected queues
// and changes nothing else. The repair of one queue is one transaction of at most 10 minutes; no other transaction of
// the schema can write meanwhile. A queue that it cannot repair does not stop the others: the error has the faults of all such
// queues, beside the list of what was repaired.
func (doc *Doctor) RepairContradictions(ctx context.Context) ([]Contradiction, error) {
	r := repair{doc: doc, known: map[Contradiction]bool{}, failed: map[int32]error{}}
	err := doc.searchAll(ctx, func(found []Contradiction) (again bool, err error) { return r.settle(ctx, found) })

	for _, id := range slices.Sorted(maps.Keys(r.failed)) {
		err = errors.Join(err, r.failed[id])
	}
	return sortContradictions(r.repaired), err
}

// repair is one walk through all rows that repairs what contradicts.
type repair struct {
	doc      *Doctor
	known    map[Contradiction]bool // with a repair
	repaired []Contradiction
	failed   map[int32]error // by id of the queue
}

// settle repairs the contradictions that a step of the walk found, but for those of queues with a failed repair. The step is
// due again after a repair.
func (r *repair) settle(ctx context.Context, found []Contradiction) (again bool, err error) {
	ofQueue := map[brokenQueue][]Contradiction{}
	for _, c := range found {
		q := brokenQueue{c.queueID, c.Namespace, c.Queue}
		// The step found the same again after its repair: another repair would not end either.
		if r.known[c] && r.failed[q.id] == nil {
			r.failed[q.id] = q.fault(&queue.Error{Op: opRepair, Kind: queue.KindInternal, Msg: c.String() + " still; report this"})
		}
		r.known[c] = true
		ofQueue[q] = append(ofQueue[q], c)
	}

	// A transaction for each queue, so that the others are stopped for a moment only.
	for q, contradictions := range ofQueue {
		if r.failed[q.id] != nil {
			continue
		}
		var ids []int64
		for _, c := range contradictions {
			ids = append(ids, c.TaskID)
		}
		slices.Sort(ids)
		if err := r.doc.repairQueue(ctx, q, slices.Compact(ids)); err != nil {
			if ctx.Err() != nil {
				return false, err
			}
			r.failed[q.id] = q.fault(err)
			continue
		}
		r.repaired, again = append(r.repaired, contradictions...), true
	}
	return again, nil
}

// fault returns err with the name of the queue.
func (q brokenQueue) fault(err error) error {
	return &queue.Error{Kind: queue.KindOf(err), Subject: "queue " + q.name + " of namespace " + q.namespace, Err: err}
}

// repairQueue repairs the contradictions of tasks of one queue and corrects the counts of the queue.
func (doc *Doctor) repairQueue(ctx context.Context, q brokenQueue, ids []int64) error {
	ofQueue, ofTasks := arg("queue_id", q.id), arg("task_ids", ids)
	return doc.DB.RunWithin(ctx, repairTimeout, opRepair, func(ctx context.Context, t *txn.Tx) error {
		// Before the lock: without the limit, a forgotten transaction would stop the whole schema behind this repair.
		t.Queue(limitLockWait, arg("timeout", repairLockTimeout))
		t.Queue(lockTables) // no task moves during the repair
		t.Queue(repairLeases, ofQueue, ofTasks)
		t.Queue(correctHeld, ofQueue)
		t.Queue(deleteEmpty, ofQueue)
		t.Queue(repairReady, ofQueue, ofTasks)
		t.Queue(repairWaiting, ofQueue, ofTasks)
		t.Queue(placeWaiting, ofQueue, ofTasks)
		t.Queue(markWaiting, ofQueue, ofTasks)
		t.Queue(repairDelayed, ofQueue, ofTasks)
		t.Queue(repairDueTimes, ofQueue, ofTasks)
		if err := t.Flush(ctx); err != nil {
			return err
		}
		return doc.correctCountsIn(ctx, t, q)
	})
}

// correction is a change of the kept counts: n tasks move from the status was to the status is, where 0 means outside
// of the queue, and the delayed ones grow by delayed.
type correction struct {
	was, is    int16
	n, delayed int32
}

var correctionColumns = table.Of[correction]()

// correctCountsIn sets the kept counts of a queue to the numbers in its rows. It writes the differences as event rows
// that change only the counts.
func (doc *Doctor) correctCountsIn(ctx context.Context, t *txn.Tx, q brokenQueue) error {
	var kept, actual []int64 // tasks by code in event rows, from 1 on: the statuses, and 8 for those that wait for their group
	var keptDelayed, actualDelayed int64
	doc.QueueCounts(t, q.namespace, q.name, func(byStatus []int64, delayed int64) { kept, keptDelayed = byStatus, delayed })
	err := t.Query(ctx, recountQueue, func(rows pgx.Rows) error { return rows.Scan(&actual, &actualDelayed) }, arg("queue_id", q.id))
	if err != nil {
		return err
	}

	// A missing task counts as created, a surplus one as deleted.
	var corrections []correction
	for i := range actual {
		status := int16(i + 1)
		switch missing := actual[i] - kept[i]; {
		case missing > 0:
			corrections = append(corrections, correction{is: status, n: int32(missing)})
		case missing < 0:
			corrections = append(corrections, correction{was: status, n: int32(-missing)})
		}
	}
	if actualDelayed != keptDelayed {
		corrections = append(corrections, correction{delayed: int32(actualDelayed - keptDelayed)})
	}

	if len(corrections) > 0 {
		t.Queue(correctCounts, correctionColumns.Arrays([]sqltext.Arg{arg("queue_id", q.id)}, corrections)...)
	}
	return nil
}
