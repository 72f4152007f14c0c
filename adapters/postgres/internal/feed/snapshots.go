package feed

import (
	"context"
	"encoding/base64"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// Retention is the age at which events leave the feed.
	Retention = time.Hour
	// SnapshotRenewal is the largest age of the time in a row of event_snapshot when a cursor refers to it. Rows stay
	// for the retention of events and for this time.
	SnapshotRenewal = time.Minute
	// snapshotAhead is the number of transactions that a reader without events reads again rather than write a
	// snapshot.
	snapshotAhead = 1000
	// maxKnown is the number of snapshots that a process remembers, a few kB each at 500 open transactions.
	maxKnown = 64
)

// readCursor returns the position of a cursor. It reads snapshots that the cursor refers to by id from memory or from
// event_snapshot.
func (r *Reader) readCursor(ctx context.Context, op, cursor string) (position, error) {
	p, ids, err := decodeCursor(cursor)
	if err != nil || len(ids) == 0 {
		return p, err
	}

	// The rows of event_snapshot leave with the events: a cursor without its row is too old.
	kept, err := r.readSnapshots(ctx, op, ids)
	if err != nil {
		return position{}, err
	}
	for i, text := range p.snapshots(len(ids) > 1) {
		if *text = kept[ids[i]]; *text == "" {
			return position{}, cursorExpired(op)
		}
	}
	return p, nil
}

// writeCursors returns the cursor of each position. First it writes the snapshots that are too long for a cursor
// to event_snapshot.
func (r *Reader) writeCursors(ctx context.Context, op string, positions []position) ([]string, error) {
	cursors := make([]string, len(positions))
	var long []string
	var buf [2 * maxFeedBytes]byte

	for i, p := range positions {
		b := p.appendPosition(buf[:0], 0, appendSnapshot)
		if len(b) > maxFeedBytes {
			b = p.appendPosition(buf[:0], cursorNames, appendSnapshotID)
			for _, text := range []string{p.seen, p.until} {
				if text != "" && !slices.Contains(long, text) { // two or three at most: a page has one window
					long = append(long, text)
				}
			}
		}

		cursors[i] = base64.RawURLEncoding.EncodeToString(b)
	}
	return cursors, r.keepSnapshots(ctx, op, long)
}

// keepSnapshots writes the snapshots texts to event_snapshot, where they stay as long as events. It skips those that
// this process wrote less than SnapshotRenewal ago.
func (r *Reader) keepSnapshots(ctx context.Context, op string, texts []string) error {
	texts = slices.DeleteFunc(texts, r.known.isFreshSnapshot)
	if len(texts) == 0 {
		return nil
	}

	ids := make([]int64, len(texts))
	for i, text := range texts {
		ids[i] = hashSnapshot(text)
	}

	// The time before the write, so that the row is never older than this process assumes.
	began := time.Now()
	err := r.db.Query(ctx, op, keepSnapshots, func(pgx.Rows) error { return nil }, arg("id", ids), arg("seen", texts))
	if err != nil {
		return err
	}

	for i, id := range ids {
		r.known.addSnapshot(id, texts[i], began)
	}
	return nil
}

// readSnapshots returns the snapshots with ids. The text of a missing one is "".
func (r *Reader) readSnapshots(ctx context.Context, op string, ids []int64) (map[int64]string, error) {
	kept, missing := map[int64]string{}, false
	for _, id := range ids {
		kept[id] = r.known.getSnapshot(id)
		missing = missing || kept[id] == ""
	}
	if !missing {
		return kept, nil
	}

	err := r.db.Query(ctx, op, readSnapshots, func(rows pgx.Rows) error {
		var id int64
		var text string
		err := rows.Scan(&id, &text)
		kept[id] = text
		r.known.addSnapshot(id, text, time.Time{})
		return err
	}, arg("ids", ids))
	return kept, err
}

// knownSnapshots remembers the last snapshots of the cursors of this process: a reader that continues at its own
// cursor needs no query. The oldest leaves first. It is safe for concurrent use.
type knownSnapshots struct {
	mu   sync.Mutex
	last []knownSnapshot // at most maxKnown
}

type knownSnapshot struct {
	id   int64
	text string
	kept time.Time // written by this process; zero when another one wrote it
}

func (k *knownSnapshots) addSnapshot(id int64, text string, kept time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.last = slices.DeleteFunc(k.last, func(s knownSnapshot) bool { return s.id == id })
	// The slice is in the order of the additions, so the first entry is the oldest.
	if len(k.last) == maxKnown {
		k.last = slices.Delete(k.last, 0, 1)
	}
	k.last = append(k.last, knownSnapshot{id, text, kept})
}

func (k *knownSnapshots) getSnapshot(id int64) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.last {
		if s.id == id {
			return s.text
		}
	}
	return ""
}

// isFreshSnapshot reports whether this process wrote the row of text less than SnapshotRenewal ago.
func (k *knownSnapshots) isFreshSnapshot(text string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.last {
		if s.text == text {
			return time.Since(s.kept) < SnapshotRenewal
		}
	}
	return false
}

// isSameSnapshot reports whether a reader between windows, without events from seen to now, keeps its cursor. A new
// cursor would write another snapshot, and it costs less to read the transactions between them again.
func (k *knownSnapshots) isSameSnapshot(seen, now string) bool {
	return k.isFreshSnapshot(seen) && snapshotXmax(now)-snapshotXmax(seen) < snapshotAhead
}
