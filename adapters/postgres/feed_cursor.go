package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// A cursor of the feed is the id of a server-sent event and thus a header of requests: proxies refuse long ones. A
// snapshot lists each open write transaction of the server, hundreds at times. A snapshot that does not fit into a
// cursor goes into a row of event_snapshot, and the cursor has the id of that row. Every process reads it there. Only
// readers of the feed write such rows, at most once a page, and only while many transactions are open. Writers of
// events pay nothing.
const (
	// maxFeedBytes is the most bytes of a cursor before base64.
	maxFeedBytes = queue.MaxEventCursor / 4 * 3
	// eventsKept is the age at which events leave the feed.
	eventsKept = time.Hour
	// snapshotKeptAgain is the largest age of the time in a row of event_snapshot when a cursor refers to it. Rows
	// stay for the retention of events, an hour.
	snapshotKeptAgain = time.Minute
	// snapshotAhead is the number of transactions that a reader without events reads again rather than write a
	// snapshot.
	snapshotAhead = 1000
	// snapshotsKnown is the number of snapshots that a process remembers, a few kB each at 500 open transactions.
	snapshotsKnown = 64
)

// The flags of a cursor, in its first byte.
const (
	cursorWindow byte = 1 << iota // seen, until and a position between them; otherwise seen alone
	cursorNames                   // ids of snapshots in event_snapshot; otherwise the snapshots
)

// feedPos is a position in the feed. It lies behind all events that the snapshot seen contains. With until it lies
// inside a window, the events that committed between seen and until: behind one task of one row. Without until it
// lies between two windows.
type feedPos struct {
	seen, until string
	xid, id     int64
	index       int // tasks of the row that lie behind the position
}

// appendPosition encodes p. It calls snapshot to encode each of its snapshots.
func (p feedPos) appendPosition(b []byte, form byte, snapshot func([]byte, string) []byte) []byte {
	if p.until == "" {
		return snapshot(append(b, form), p.seen)
	}

	b = append(b, form|cursorWindow)
	b = snapshot(snapshot(b, p.seen), p.until)
	b = binary.AppendUvarint(b, uint64(p.xid))
	b = binary.AppendUvarint(b, uint64(p.id))
	return binary.AppendUvarint(b, uint64(p.index))
}

// appendSnapshot encodes a snapshot, given as the text xmin:xmax:xip,… of PostgreSQL. It writes xmin, and then each
// number as the distance to the one before. It stops when the cursor is too long.
func appendSnapshot(b []byte, text string) []byte {
	xmin, rest, _ := strings.Cut(text, ":")
	xmax, xips, _ := strings.Cut(rest, ":")

	last := parseTransactionID(xmin)
	b = binary.AppendUvarint(b, last)
	b = binary.AppendUvarint(b, parseTransactionID(xmax)-last)
	if xips == "" {
		return append(b, 0)
	}

	b = binary.AppendUvarint(b, uint64(strings.Count(xips, ",")+1))
	for xip := range strings.SplitSeq(xips, ",") {
		x := parseTransactionID(xip)
		b = binary.AppendUvarint(b, x-last)
		last = x
		if len(b) > maxFeedBytes {
			break // too long: the cursor takes an id instead
		}
	}
	return b
}

// appendSnapshotID encodes the id of a snapshot.
func appendSnapshotID(b []byte, text string) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(hashSnapshot(text)))
}

// hashSnapshot returns the id of a snapshot in event_snapshot. All processes give a snapshot the same id, and a
// restored database gives it to no other snapshot.
func hashSnapshot(text string) int64 {
	sum := sha256.Sum256([]byte(text))
	return int64(binary.BigEndian.Uint64(sum[:]) >> 1)
}

// parseTransactionID parses a number that PostgreSQL wrote.
func parseTransactionID(s string) uint64 {
	v, _ := strconv.ParseUint(s, 10, 63)
	return v
}

func snapshotXmin(s string) int64 {
	xmin, _, _ := strings.Cut(s, ":")
	return int64(parseTransactionID(xmin))
}

func snapshotXmax(s string) int64 {
	_, rest, _ := strings.Cut(s, ":")
	xmax, _, _ := strings.Cut(rest, ":")
	return int64(parseTransactionID(xmax))
}

// cursorReader decodes a cursor. A fault in the cursor sets bad.
type cursorReader struct {
	b   []byte
	bad bool
}

func (r *cursorReader) readNumber() int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > math.MaxInt64 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

// readDistance reads a distance and adds it to from.
func (r *cursorReader) readDistance(from int64) int64 {
	d := r.readNumber()
	if d > math.MaxInt64-from {
		r.bad = true
		return from
	}
	return from + d
}

// readSnapshot reads a snapshot that the cursor contains, as the text that PostgreSQL parses.
func (r *cursorReader) readSnapshot() string {
	xmin := r.readNumber()
	xmax := r.readDistance(xmin)

	b := strconv.AppendInt(nil, xmin, 10)
	b = strconv.AppendInt(append(b, ':'), xmax, 10)
	b = append(b, ':')
	r.bad = r.bad || xmin == 0 // PostgreSQL refuses such a snapshot

	last := xmin
	for n := r.readNumber(); n > 0 && !r.bad; n-- {
		last = r.readDistance(last)
		r.bad = r.bad || last >= xmax
		b = strconv.AppendInt(b, last, 10)
		if n > 1 {
			b = append(b, ',')
		}
	}
	return string(b)
}

func (r *cursorReader) readSnapshotID() int64 {
	if len(r.b) < 8 {
		r.b, r.bad = nil, true
		return 0
	}

	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	r.bad = r.bad || v > math.MaxInt64
	return int64(v)
}

// readFeedCursor returns the position of a cursor. It reads snapshots that the cursor refers to by id from memory or
// from event_snapshot.
func (s *Store) readFeedCursor(ctx context.Context, op, cursor string) (feedPos, error) {
	bad := queue.Invalid("cursor", fmt.Sprintf("must be a cursor of the feed, got %.64q; use the cursor of the last event", cursor))
	if len(cursor) > queue.MaxEventCursor {
		return feedPos{}, bad
	}

	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) == 0 || b[0] > cursorWindow|cursorNames {
		return feedPos{}, bad
	}

	var p feedPos
	var ids []int64
	form, r := b[0], cursorReader{b: b[1:]}

	texts := []*string{&p.seen, &p.until}
	if form&cursorWindow == 0 {
		texts = texts[:1]
	}

	for _, text := range texts {
		if form&cursorNames == 0 {
			*text = r.readSnapshot()
		} else {
			ids = append(ids, r.readSnapshotID())
		}
	}

	if form&cursorWindow != 0 {
		p.xid, p.id = r.readNumber(), r.readNumber()
		index := r.readNumber()
		p.index = int(index)
		r.bad = r.bad || index > math.MaxInt32
	}

	// Bytes after the position mean that another program made the cursor.
	if r.bad || len(r.b) > 0 {
		return feedPos{}, bad
	}
	if len(ids) == 0 {
		return p, nil
	}

	// The rows of event_snapshot leave with the events: a cursor without its row is too old.
	kept, err := s.readSnapshots(ctx, op, ids)
	if err != nil {
		return feedPos{}, err
	}
	for i, id := range ids {
		if *texts[i] = kept[id]; kept[id] == "" {
			return feedPos{}, cursorExpired(op)
		}
	}
	return p, nil
}

// writeFeedCursors returns the cursor of each position. First it writes the snapshots that are too long for a cursor
// to event_snapshot.
func (s *Store) writeFeedCursors(ctx context.Context, op string, positions []feedPos) ([]string, error) {
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
	return cursors, s.keepSnapshots(ctx, op, long)
}

// keepSnapshots writes the snapshots texts to event_snapshot, where they stay as long as events. It skips those that
// this process wrote less than snapshotKeptAgain ago.
func (s *Store) keepSnapshots(ctx context.Context, op string, texts []string) error {
	texts = slices.DeleteFunc(texts, s.feedSnapshots.isFreshSnapshot)
	if len(texts) == 0 {
		return nil
	}

	ids := make([]int64, len(texts))
	for i, text := range texts {
		ids[i] = hashSnapshot(text)
	}

	// The time before the write, so that the row is never older than this process assumes.
	began := time.Now()
	err := s.queryRows(ctx, op, keepSnapshots, func(pgx.Rows) error { return nil }, arg("id", ids), arg("seen", texts))
	if err != nil {
		return err
	}

	for i, id := range ids {
		s.feedSnapshots.addSnapshot(id, texts[i], began)
	}
	return nil
}

// readSnapshots returns the snapshots with ids. The text of a missing one is "".
func (s *Store) readSnapshots(ctx context.Context, op string, ids []int64) (map[int64]string, error) {
	kept, missing := map[int64]string{}, false
	for _, id := range ids {
		kept[id] = s.feedSnapshots.getSnapshot(id)
		missing = missing || kept[id] == ""
	}
	if !missing {
		return kept, nil
	}

	err := s.queryRows(ctx, op, readSnapshots, func(rows pgx.Rows) error {
		var id int64
		var text string
		err := rows.Scan(&id, &text)
		kept[id] = text
		s.feedSnapshots.addSnapshot(id, text, time.Time{})
		return err
	}, arg("ids", ids))
	return kept, err
}

func cursorExpired(op string) error {
	return &queue.Error{
		Op: op, Kind: queue.KindCursorExpired, Field: "cursor",
		Msg: "is older than the events that are kept; start anew",
	}
}

// feedSnapshots remembers the last snapshots of the cursors of this process: a reader that continues at its own
// cursor needs no query. The oldest leaves first. It is safe for concurrent use.
type feedSnapshots struct {
	mu    sync.Mutex
	known []knownSnapshot // at most snapshotsKnown
}

type knownSnapshot struct {
	id   int64
	text string
	kept time.Time // written by this process; zero when another one wrote it
}

func (k *feedSnapshots) addSnapshot(id int64, text string, kept time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.known = slices.DeleteFunc(k.known, func(s knownSnapshot) bool { return s.id == id })
	// The slice is in the order of the additions, so the first entry is the oldest.
	if len(k.known) == snapshotsKnown {
		k.known = slices.Delete(k.known, 0, 1)
	}
	k.known = append(k.known, knownSnapshot{id, text, kept})
}

func (k *feedSnapshots) getSnapshot(id int64) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.known {
		if s.id == id {
			return s.text
		}
	}
	return ""
}

// isFreshSnapshot reports whether this process wrote the row of text less than snapshotKeptAgain ago.
func (k *feedSnapshots) isFreshSnapshot(text string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.known {
		if s.text == text {
			return time.Since(s.kept) < snapshotKeptAgain
		}
	}
	return false
}

// isSameSnapshot reports whether a reader between windows, without events from seen to now, keeps its cursor. A new
// cursor would write another snapshot, and it costs less to read the transactions between them again.
func (k *feedSnapshots) isSameSnapshot(seen, now string) bool {
	return k.isFreshSnapshot(seen) && snapshotXmax(now)-snapshotXmax(seen) < snapshotAhead
}
