package postgres

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// eventRows is the most rows that one look at the feed reads; each may stand for many tasks.
const eventRows = 100

// feedPos is a place in the feed: behind everything that snapshot seen has seen, and, inside the window of what committed
// between seen and until, behind one task of one row. Without a window it is between two windows.
type feedPos struct {
	seen, until string
	xid         string
	id          int64
	index       int // tasks of the row that are behind
}

func (p feedPos) encode() string {
	text := p.seen
	if p.until != "" {
		text = fmt.Sprintf("%s;%s;%s;%d;%d", p.seen, p.until, p.xid, p.id, p.index)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func decodePos(cursor string) (feedPos, error) {
	bad := queue.Invalid("cursor", "is not one that the feed gave")
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return feedPos{}, bad
	}
	f := strings.Split(string(b), ";")
	p := feedPos{seen: f[0], xid: "0"}
	if len(f) == 5 {
		p.until, p.xid = f[1], f[2]
		p.id, err = strconv.ParseInt(f[3], 10, 64)
		if err == nil {
			p.index, err = strconv.Atoi(f[4])
		}
		if _, xerr := strconv.ParseUint(p.xid, 10, 64); err != nil || xerr != nil || !isSnapshot(p.until) {
			return feedPos{}, bad
		}
	} else if len(f) != 1 {
		return feedPos{}, bad
	}
	if !isSnapshot(p.seen) {
		return feedPos{}, bad
	}
	return p, nil
}

// isSnapshot says that s has the form xmin:xmax:xip,… and so will be read by PostgreSQL.
func isSnapshot(s string) bool {
	f := strings.Split(s, ":")
	if len(f) != 3 {
		return false
	}
	last := uint64(0)
	for i, n := range append(f[:2:2], strings.Split(f[2], ",")...) {
		if n == "" && i == 2 && f[2] == "" {
			return true
		}
		v, err := strconv.ParseUint(n, 10, 63)
		if err != nil || v == 0 || i == 1 && v < last {
			return false
		}
		last = v
	}
	return true
}

func snapshotXmin(s string) int64 {
	xmin, _, _ := strings.Cut(s, ":")
	v, err := strconv.ParseInt(xmin, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// ListEvents implements queue.Store.
func (s *Store) ListEvents(ctx context.Context, namespace string, f queue.EventFilter, limit int) (queue.EventPage, error) {
	const op = "list events"
	var page queue.EventPage
	pos := feedPos{xid: "0"}
	if f.After == "" {
		err := s.query(ctx, op, "event.oldest", func(rows pgx.Rows) error {
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
		if pos, err = decodePos(f.After); err != nil {
			return page, queue.WithOp(op, err)
		}
	}
	kinds := make([]int16, 0, len(f.Kinds))
	for _, k := range f.Kinds {
		kinds = append(kinds, eventCodes[k])
	}
	// The row that the position is in is read again: from just before it.
	afterID := pos.id
	if pos.index > 0 {
		afterID--
	}
	at := pos // advances
	rowsRead, full := 0, false
	var pruned int64
	err := s.query(ctx, op, "event.list", func(rows pgx.Rows) error {
		var (
			now               string
			xid, name, worker *string
			id                *int64
			when              *time.Time
			kind              *int16
			ids               []int64
		)
		if err := rows.Scan(&now, &pruned, &xid, &id, &when, &name, &kind, &worker, &ids); err != nil {
			return err
		}
		if at.until == "" {
			at.until = now
		}
		if xid == nil || full {
			return nil
		}
		rowsRead++
		ids = unpackRuns(ids)
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
				Kind: queue.EventKinds()[*kind-1], Namespace: namespace, Queue: *name, TaskID: ids[i], Worker: textOf(worker), At: when.UTC(),
			}
			if f.Matches(e) {
				e.Cursor = at.encode()
				page.Events = append(page.Events, e)
			}
		}
		return nil
	}, namespace, pos.seen, textPtr(pos.until), pos.xid, afterID, f.Queue, kinds, eventRows)
	if err != nil {
		return page, err
	}
	if snapshotXmin(pos.seen) < pruned && f.After != "" {
		return queue.EventPage{}, &queue.Error{
			Op: op, Kind: queue.KindCursorExpired, Field: "cursor",
			Msg: "is older than the events that are kept; start anew",
		}
	}
	if full || rowsRead == eventRows {
		page.Next, page.More = at.encode(), true
		return page, nil
	}
	page.Next = feedPos{seen: at.until}.encode()
	page.More = pos.until != "" // a window of the past is over; what came after it is next
	return page, nil
}

// LastEvent implements queue.Store.
func (s *Store) LastEvent(ctx context.Context) (string, error) {
	var now string
	err := s.query(ctx, "last event", "event.now", func(rows pgx.Rows) error { return rows.Scan(&now) })
	return feedPos{seen: now}.encode(), err
}
