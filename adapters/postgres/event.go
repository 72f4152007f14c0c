package postgres

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// eventRows is the most rows that one read of the feed returns. Each may stand for many tasks.
const eventRows = 100

// The statements of the feed.
var (
	listEvents      = statement("event.list")
	readSnapshotNow = statement("event.now")
	findOldestEvent = statement("event.oldest")
	keepSnapshots   = statement("event.snapshot.keep")
	readSnapshots   = statement("event.snapshot.read")
)

// ListEvents implements queue.Store.
func (s *Store) ListEvents(ctx context.Context, namespace string, f queue.EventFilter, limit int) (queue.EventPage, error) {
	const op = "list events"
	var page queue.EventPage
	var pos feedPos
	if f.After == "" {
		err := s.queryRows(ctx, op, findOldestEvent, func(rows pgx.Rows) error {
			var xid string
			err := rows.Scan(&xid)
			pos.seen = xid + ":" + xid + ":"
			return err
		})
		if err != nil {
			return page, err
		}
	} else {
		var err error
		if pos, err = s.readFeedCursor(ctx, op, f.After); err != nil {
			return page, queue.WithOp(op, err)
		}
	}

	kinds := make([]int16, 0, len(f.Kinds))
	for _, k := range f.Kinds {
		kinds = append(kinds, eventCodes[k])
	}

	// A position inside a row reads that row again: it starts just before the row.
	afterID := pos.id
	if pos.index > 0 {
		afterID--
	}

	at := pos            // the position behind the last event that was read
	var behind []feedPos // the position behind each event of the page
	rowsRead, full := 0, false
	var pruned int64
	err := s.queryRows(ctx, op, listEvents, func(rows pgx.Rows) error {
		var (
			now          string
			name, worker *string
			xid, id      *int64
			when         *time.Time
			kind         *int16
			ids          []int64
		)

		if err := rows.Scan(&now, &pruned, &xid, &id, &when, &name, &kind, &worker, &ids); err != nil {
			return err
		}

		if at.until == "" {
			at.until = now
		}

		// Without events the statement returns one row, which has only the snapshots.
		if xid == nil || full {
			return nil
		}

		rowsRead++
		ids = unpackIDRuns(ids)

		start := 0
		if *xid == pos.xid && *id == pos.id {
			start = pos.index
		}

		at.xid, at.id = *xid, *id
		for i := start; i < len(ids); i++ {
			if full = len(page.Events) == limit; full {
				return nil
			}

			at.index = i + 1
			e := queue.Event{
				Kind: queue.EventKinds()[*kind-1], Namespace: namespace, Queue: *name, TaskID: ids[i], Worker: textFromPointer(worker), At: when.UTC(),
			}
			if f.Matches(e) {
				page.Events = append(page.Events, e)
				behind = append(behind, at)
			}
		}
		return nil
	}, arg("namespace", namespace), arg("seen", pos.seen), arg("until", textPointer(pos.until)),
		arg("after_xid", strconv.FormatInt(pos.xid, 10)), arg("after_id", afterID), arg("queue", f.Queue), arg("kinds", kinds),
		arg("limit", eventRows))
	if err != nil {
		return page, err
	}

	// Events behind the cursor may be pruned already: an error is better than a gap.
	if snapshotXmin(pos.seen) < pruned && f.After != "" {
		return queue.EventPage{}, cursorExpired(op)
	}

	end := feedPos{seen: at.until}
	page.More = pos.until != "" // a window of the past is over; the later commits are next
	if full || rowsRead == eventRows {
		end, page.More = at, true
	}

	// An idle reader keeps its cursor, so that it causes no further row of event_snapshot.
	if len(page.Events) == 0 && !page.More && s.feedSnapshots.isSameSnapshot(pos.seen, end.seen) {
		page.Next = f.After
		return page, nil
	}

	cursors, err := s.writeFeedCursors(ctx, op, append(behind, end))
	if err != nil {
		return queue.EventPage{}, err
	}
	for i := range page.Events {
		page.Events[i].Cursor = cursors[i]
	}
	page.Next = cursors[len(behind)]
	return page, nil
}

// LastEvent implements queue.Store.
func (s *Store) LastEvent(ctx context.Context) (string, error) {
	const op = "last event"
	var now string
	err := s.queryRows(ctx, op, readSnapshotNow, func(rows pgx.Rows) error { return rows.Scan(&now) })
	if err != nil {
		return "", err
	}
	cursors, err := s.writeFeedCursors(ctx, op, []feedPos{{seen: now}})
	if err != nil {
		return "", err
	}
	return cursors[0], nil
}
