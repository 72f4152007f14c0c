package feed

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxRows is the most rows that one read of the feed returns. Each may stand for many tasks.
const maxRows = 100

// Reader reads the feed. It remembers a few snapshots of its cursors.
type Reader struct {
	db    *txn.Database
	known knownSnapshots
}

// NewReader returns a reader of the events in db.
func NewReader(db *txn.Database) *Reader { return &Reader{db: db} }

// ListEvents implements queue.Store.
func (r *Reader) ListEvents(ctx context.Context, namespace string, f queue.EventFilter, limit int) (queue.EventPage, error) {
	const op = "list events"
	pos, err := r.findStart(ctx, op, f.After)
	if err != nil {
		return queue.EventPage{}, err
	}

	p := pageScan{namespace: namespace, filter: f, limit: limit, start: pos, at: pos}
	if p.at.until == "" {
		if p.at.until, err = r.readSnapshot(ctx, op); err != nil {
			return queue.EventPage{}, err
		}
	}
	if err := p.readRows(ctx, op, r.db); err != nil {
		return queue.EventPage{}, err
	}

	// Events behind the cursor may be pruned already: an error is better than a gap.
	if snapshotXmin(pos.seen) < p.pruned && f.After != "" {
		return queue.EventPage{}, cursorExpired(op)
	}

	page := queue.EventPage{Events: p.events}
	end := position{seen: p.at.until}
	page.More = pos.until != "" // a window of the past is over; the later commits are next
	if p.full || p.rows == maxRows {
		end, page.More = p.at, true
	}

	// An idle reader keeps its cursor, so that it causes no further row of event_snapshot.
	if len(page.Events) == 0 && !page.More && r.known.isSameSnapshot(pos.seen, end.seen) {
		page.Next = f.After
		return page, nil
	}

	cursors, err := r.writeCursors(ctx, op, append(p.behind, end))
	if err != nil {
		return queue.EventPage{}, err
	}
	for i := range page.Events {
		page.Events[i].Cursor = cursors[i]
	}
	page.Next = cursors[len(page.Events)]
	return page, nil
}

// findStart returns the position of the cursor after; "" means before the oldest event.
func (r *Reader) findStart(ctx context.Context, op, after string) (position, error) {
	if after != "" {
		pos, err := r.readCursor(ctx, op, after)
		return pos, queue.WithOp(op, err)
	}

	var pos position
	err := r.db.Query(ctx, op, findOldestEvent, func(rows pgx.Rows) error {
		var xid string
		err := rows.Scan(&xid)
		pos.seen = xid + ":" + xid + ":"
		return err
	})
	return pos, err
}

// LastEvent implements queue.Store.
func (r *Reader) LastEvent(ctx context.Context) (string, error) {
	const op = "last event"
	now, err := r.readSnapshot(ctx, op)
	if err != nil {
		return "", err
	}
	cursors, err := r.writeCursors(ctx, op, []position{{seen: now}})
	if err != nil {
		return "", err
	}
	return cursors[0], nil
}

// readSnapshot returns the present snapshot. It contains no event that commits later, so it may be older than the read of the
// events.
func (r *Reader) readSnapshot(ctx context.Context, op string) (now string, err error) {
	err = r.db.Query(ctx, op, readSnapshotNow, func(rows pgx.Rows) error { return rows.Scan(&now) })
	return now, err
}

// pageScan collects the events of one page from event rows.
type pageScan struct {
	namespace string
	filter    queue.EventFilter
	limit     int
	start     position

	at     position // behind the last event that was read
	events []queue.Event
	behind []position // the position behind each event of the page
	rows   int
	full   bool  // the page has limit events, and another one follows
	pruned int64 // the transactions below it have no events any more
}

// readRows reads the event rows behind the start of the page.
func (p *pageScan) readRows(ctx context.Context, op string, db *txn.Database) error {
	wanted := make([]int16, 0, len(p.filter.Kinds))
	for _, kind := range p.filter.Kinds {
		wanted = append(wanted, CodeOf(kind))
	}

	// A position inside a row reads that row again: it starts just before the row.
	afterID := p.start.id
	if p.start.index > 0 {
		afterID--
	}

	return db.Query(ctx, op, listEvents, p.scanRow,
		arg("namespace", p.namespace), arg("seen", p.start.seen), arg("until", p.at.until),
		arg("after_xid", strconv.FormatInt(p.start.xid, 10)), arg("after_id", afterID), arg("queue", p.filter.Queue),
		arg("kinds", wanted), arg("limit", maxRows))
}

// scanRow adds the events of one row, until the page is full.
func (p *pageScan) scanRow(rows pgx.Rows) error {
	var (
		name, worker *string
		xid, id      *int64
		when         *time.Time
		kind         *int16
		packed       []int64
	)
	if err := rows.Scan(&p.pruned, &xid, &id, &when, &name, &kind, &worker, &packed); err != nil {
		return err
	}

	// Without events the statement returns one row, which has only the end of the pruned events.
	if xid == nil || p.full {
		return nil
	}
	p.rows++

	event := queue.Event{Kind: kinds[*kind-1], Namespace: p.namespace, Queue: *name, At: when.UTC()}
	if worker != nil {
		event.Worker = *worker
	}

	// The row at the start of the page has events of the page before.
	first := 0
	if *xid == p.start.xid && *id == p.start.id {
		first = p.start.index
	}

	p.at.xid = *xid
	p.at.id = *id
	ids := unpackIDs(packed)
	for i := first; i < len(ids); i++ {
		if p.full = len(p.events) == p.limit; p.full {
			return nil
		}

		p.at.index = i + 1
		event.TaskID = ids[i]
		if p.filter.Matches(event) {
			p.events = append(p.events, event)
			p.behind = append(p.behind, p.at)
		}
	}
	return nil
}
