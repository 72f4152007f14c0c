package feed

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

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
)

// The flags of a cursor, in its first byte.
const (
	cursorWindow byte = 1 << iota // seen, until and a position between them; otherwise seen alone
	cursorNames                   // ids of snapshots in event_snapshot; otherwise the snapshots
)

// position is a position in the feed. It lies behind all events that the snapshot seen contains. With until it lies
// inside a window, the events that committed between seen and until: behind one task of one row. Without until it
// lies between two windows.
type position struct {
	seen, until string
	xid, id     int64
	index       int // tasks of the row that lie behind the position
}

// appendPosition encodes p. It calls snapshot to encode each of its snapshots.
func (p position) appendPosition(b []byte, form byte, snapshot func([]byte, string) []byte) []byte {
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

// decodeCursor returns the position of a cursor. A cursor with ids of snapshots gives these ids, and a position without
// snapshots.
func decodeCursor(cursor string) (p position, ids []int64, err error) {
	bad := queue.Invalid("cursor", fmt.Sprintf("must be a cursor of the feed, got %.64q; use the cursor of the last event", cursor))
	if len(cursor) > queue.MaxEventCursor {
		return position{}, nil, bad
	}

	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) == 0 || b[0] > cursorWindow|cursorNames {
		return position{}, nil, bad
	}

	form, r := b[0], cursorReader{b: b[1:]}
	for _, text := range p.snapshots(form&cursorWindow != 0) {
		if form&cursorNames == 0 {
			*text = r.readSnapshot()
		} else {
			ids = append(ids, r.readSnapshotID())
		}
	}

	if form&cursorWindow != 0 {
		p.xid = r.readNumber()
		p.id = r.readNumber()
		index := r.readNumber()
		p.index = int(index)
		r.bad = r.bad || index > math.MaxInt32
	}

	// Bytes after the position mean that another program made the cursor.
	if r.bad || len(r.b) > 0 {
		return position{}, nil, bad
	}
	return p, ids, nil
}

// snapshots returns the snapshots of p: two with a window, otherwise one.
func (p *position) snapshots(window bool) []*string {
	if window {
		return []*string{&p.seen, &p.until}
	}
	return []*string{&p.seen}
}

func cursorExpired(op string) error {
	return &queue.Error{
		Op: op, Kind: queue.KindCursorExpired, Field: "cursor",
		Msg: "is older than the events that are kept; start anew",
	}
}
