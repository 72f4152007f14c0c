package postgres

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
)

// shrinkLeases queues the delete of locked lease rows without tasks, and the update of those that lost some tasks.
func (h *lockedLeases) shrinkLeases(t *txn.Tx) {
	var gone []pgtype.TID
	var kept leaseWrites
	for _, l := range h.all {
		switch {
		case l.heldNow == l.heldAtLock: // no lease ended
		case l.heldNow == 0:
			gone = append(gone, l.ctid)
		default:
			kept.addLeaseRow(l, l.part, nil, nil)
		}
	}

	if len(gone) > 0 {
		t.Queue(deleteLeases, arg("rows", gone))
	}
	kept.queueUpdate(t)
}

// writtenLease is a lease row to be written. The arrays of a new row travel as text, because one parameter cannot contain arrays of
// unequal length.
type writtenLease struct {
	ctid       pgtype.TID // of the row before the write; not used for a new row
	idsByIndex []int64    `col:"-"` // 0 where a task has left
	cancelIDs  []int64    `col:"-"`
	token      int64
	part       int16
	queueID    int32
	retainedAt time.Time
	expiresAt  time.Time
	worker     string
	held       int16
	ids        string
	attempts   *string
	cancels    *string
	grps       *string
	granted    int64 // 0 is stored as null
}

var writtenLeaseColumns = table.Of[writtenLease]()

// The columns of a statement that updates lease rows, and of one that inserts them.
var (
	leaseUpdateColumns   = table.Of[leaseUpdate]()
	insertedLeaseColumns = writtenLeaseColumns.Without("ctid")
)

// leaseUpdate is a lease row to be updated. Its arrays are slices of two parameters for all rows: as arrays, PostgreSQL need not parse
// them. first and last count from 1 and are inclusive, as in PostgreSQL's slices.
type leaseUpdate struct {
	ctid        pgtype.TID
	held        int16
	firstID     int32
	lastID      int32
	firstCancel int32
	lastCancel  int32
	expiresAt   time.Time
	granted     int64 // 0 is stored as null
}

// leaseWrites are lease rows to be written, by an update or an insert.
type leaseWrites []writtenLease

// addLeaseRow appends a row with the tasks of l for which stay returns true; stay nil keeps all of them. end nil keeps the present end
// of the lease.
func (r *leaseWrites) addLeaseRow(l *storedLease, part int16, stay func(i int) bool, end *leaseEnd) {
	row := writtenLease{ctid: l.ctid, token: l.token, part: part, queueID: l.q.id, retainedAt: l.retainedAt, expiresAt: l.expiresAt, worker: l.worker}
	switch {
	case end != nil:
		row.expiresAt = end.at
		row.granted = int64(end.length)
	case l.granted != nil:
		row.granted = *l.granted
	}

	// Each task keeps its index, because its token is the token of the row plus its index.
	var cancels []int64
	ids := make([]int64, len(l.ids))
	for i, id := range l.ids {
		if id == 0 || stay != nil && !stay(i) {
			continue
		}
		ids[i] = id
		row.held++
		if slices.Contains(l.cancels, id) {
			cancels = append(cancels, id)
		}
	}

	row.idsByIndex, row.cancelIDs = ids, cancels
	row.attempts = arrayTextPointer(l.attempts)
	row.grps = arrayTextPointer(l.grps)
	*r = append(*r, row)
}

// queueUpdate queues the update of rows that exist.
func (r leaseWrites) queueUpdate(t *txn.Tx) {
	var ids, cancels []int64
	kept := make([]leaseUpdate, len(r))

	for i, row := range r {
		kept[i] = leaseUpdate{
			ctid: row.ctid, held: row.held, expiresAt: row.expiresAt, granted: row.granted,
			firstID: int32(len(ids)) + 1, firstCancel: int32(len(cancels)) + 1,
		}
		ids = append(ids, row.idsByIndex...)
		cancels = append(cancels, row.cancelIDs...)
		kept[i].lastID, kept[i].lastCancel = int32(len(ids)), int32(len(cancels))
	}
	queueRows(t, updateLeases, leaseUpdateColumns, kept, arg("task_ids", ids), arg("cancel_ids", cancels))
}

// queueInsert queues the insert of new rows.
func (r leaseWrites) queueInsert(t *txn.Tx) {
	for i := range r {
		r[i].ids = encodeArray(r[i].idsByIndex)
		r[i].cancels = arrayTextPointer(r[i].cancelIDs)
	}
	queueRows(t, insertLeases, insertedLeaseColumns, r)
}

func arrayTextPointer[N int16 | int64](s []N) *string {
	if len(s) == 0 {
		return nil
	}
	text := encodeArray(s)
	return &text
}
