package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// A cursor of the feed is an id of server-sent events and so a header of requests: proxies refuse long ones. A snapshot
// names each open write transaction of the server, hundreds at times. Where snapshots do not fit into a cursor, they are
// kept in rows of event_snapshot, and the cursor names the rows. Another process reads them there. What a row costs falls
// to a reader of the feed, once a page, and only while many transactions are open; writers of events pay nothing.
const (
	// maxFeedBytes is the most bytes of a cursor before base64.
	maxFeedBytes = queue.MaxEventCursor / 4 * 3
	// eventsKept is the age at which events leave the feed.
	eventsKept = time.Hour
	// snapshotKeptAgain is how old the time in a row of event_snapshot may be when a cursor names it; rows stay for the
	// retention of events, an hour.
	snapshotKeptAgain = time.Minute
	// snapshotAhead is how many transactions a reader that finds nothing reads again rather than keep a snapshot.
	snapshotAhead = 1000
	// snapshotsKnown is how many snapshots a process remembers, a few kB each at 500 open transactions.
	snapshotsKnown = 64
)

// The forms of a cursor, its first byte.
const (
	cursorWindow byte = 1 << iota // seen, until and a place between them; otherwise seen alone
	cursorNames                   // snapshots are named by their ids in event_snapshot; otherwise they are written out
)

// feedPos is a place in the feed: behind everything that snapshot seen has seen, and, inside the window of what committed
// between seen and until, behind one task of one row. Without a window it is between two windows.
type feedPos struct {
	seen, until string
	xid, id     int64
	index       int // tasks of the row that are behind
}

// appendPosition writes p; snapshot writes one of its snapshots.
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

// appendSnapshot writes the snapshot that has the text xmin:xmax:xip,…: xmin, and then each number less the one before.
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
			break // it will be named
		}
	}
	return b
}

// appendSnapshotID writes the name of a snapshot.
func appendSnapshotID(b []byte, text string) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(hashSnapshot(text)))
}

// hashSnapshot is the id of a snapshot in event_snapshot. All processes give a snapshot the same one, and a database that
// was restored gives it to no other.
func hashSnapshot(text string) int64 {
	sum := sha256.Sum256([]byte(text))
	return int64(binary.BigEndian.Uint64(sum[:]) >> 1)
}

// parseTransactionID reads a number that PostgreSQL wrote.
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

// cursorReader takes a cursor apart. What is wrong in it leaves bad set.
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

// readDistance reads a number that is added to from.
func (r *cursorReader) readDistance(from int64) int64 {
	d := r.readNumber()
	if d > math.MaxInt64-from {
		r.bad = true
		return from
	}
	return from + d
}

// readSnapshot reads a snapshot that is written out, as the text that PostgreSQL reads.
func (r *cursorReader) readSnapshot() string {
	xmin := r.readNumber()
	xmax := r.readDistance(xmin)
	b := strconv.AppendInt(nil, xmin, 10)
	b = strconv.AppendInt(append(b, ':'), xmax, 10)
	b = append(b, ':')
	r.bad = r.bad || xmin == 0
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

// readFeedCursor is the position that a cursor tells. Snapshots that it names are read where they are kept.
func (s *Store) readFeedCursor(ctx context.Context, op, cursor string) (feedPos, error) {
	bad := queue.Invalid("cursor", "is not one that the feed gave")
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
	if r.bad || len(r.b) > 0 {
		return feedPos{}, bad
	}
	if len(ids) == 0 {
		return p, nil
	}

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

// writeFeedCursors is the cursor of each position. The snapshots of those that would be too long are kept first.
func (s *Store) writeFeedCursors(ctx context.Context, op string, positions []feedPos) ([]string, error) {
	cursors := make([]string, len(positions))
	var long []string
	var buf [2 * maxFeedBytes]byte
	for i, p := range positions {
		b := p.appendPosition(buf[:0], 0, appendSnapshot)
		if len(b) > maxFeedBytes {
			b = p.appendPosition(buf[:0], cursorNames, appendSnapshotID)
			for _, text := range []string{p.seen, p.until} {
				if text != "" && !slices.Contains(long, text) { // two or three at most: a page is of one window
					long = append(long, text)
				}
			}
		}
		cursors[i] = base64.RawURLEncoding.EncodeToString(b)
	}
	return cursors, s.keepSnapshots(ctx, op, long)
}

// keepSnapshots has event_snapshot hold texts for as long as events stay.
func (s *Store) keepSnapshots(ctx context.Context, op string, texts []string) error {
	texts = slices.DeleteFunc(texts, s.feedSnapshots.isFreshSnapshot)
	if len(texts) == 0 {
		return nil
	}
	ids := make([]int64, len(texts))
	for i, text := range texts {
		ids[i] = hashSnapshot(text)
	}
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

// readSnapshots is the snapshots with ids, without those that are not kept.
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

// feedSnapshots remembers the snapshots that cursors of this process named last, so that a reader that goes on at its own
// cursor asks for none. The oldest leaves first.
type feedSnapshots struct {
	mu    sync.Mutex
	known []knownSnapshot // at most snapshotsKnown
}

type knownSnapshot struct {
	id   int64
	text string
	kept time.Time // by this process; zero when another did
}

func (k *feedSnapshots) addSnapshot(id int64, text string, kept time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known = slices.DeleteFunc(k.known, func(s knownSnapshot) bool { return s.id == id })
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

// isFreshSnapshot says that this process had the row of text kept a moment ago.
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

// isSameSnapshot says that a reader between windows, who found nothing from seen to now, keeps its cursor: going on would keep
// another snapshot, and reading the transactions between them again costs less.
func (k *feedSnapshots) isSameSnapshot(seen, now string) bool {
	return k.isFreshSnapshot(seen) && snapshotXmax(now)-snapshotXmax(seen) < snapshotAhead
}
