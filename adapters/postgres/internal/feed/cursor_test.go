package feed

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// snapshotOf is a snapshot from xmin on with n open transactions, gap apart.
func snapshotOf(xmin int64, n int, gap int64) string {
	open := make([]string, n)
	for i := range open {
		open[i] = strconv.FormatInt(xmin+int64(i)*gap, 10)
	}
	return fmt.Sprintf("%d:%d:%s", xmin, xmin+int64(n)*gap, strings.Join(open, ","))
}

func TestFeedCursorsAreBounded(t *testing.T) {
	const xid = math.MaxUint32 * 5
	for _, p := range []position{
		{seen: "3:3:"},
		{seen: snapshotOf(xid, 10, 3)},
		{seen: snapshotOf(xid, 500, 200)},
		{seen: snapshotOf(xid, 9, 1), until: snapshotOf(xid+5, 9, 1), xid: xid + 1, id: 1 << 40, index: 1000},
		{seen: "3:3:", until: snapshotOf(xid, 500, 200), xid: xid, id: 1, index: 1},
		{seen: snapshotOf(xid, 500, 1), until: snapshotOf(math.MaxInt64-1e6, 500, 1), xid: math.MaxInt64, id: math.MaxInt64, index: math.MaxInt32},
	} {
		// A reader with known snapshots needs no database.
		s := &Reader{}
		for _, text := range []string{p.seen, p.until} {
			s.known.addSnapshot(hashSnapshot(text), text, time.Now())
		}
		cursors, err := s.writeCursors(t.Context(), "test", []position{p})
		if err != nil {
			t.Fatal(err)
		}
		if len(cursors[0]) > queue.MaxEventCursor {
			t.Errorf("the cursor %s has %d bytes, want at most %d", cursors[0], len(cursors[0]), queue.MaxEventCursor)
		}
		back, err := s.readCursor(t.Context(), "test", cursors[0])
		if err != nil || back != p {
			t.Errorf("the cursor of %+v is read as %+v, %v", p, back, err)
		}
	}
}

func TestFeedCursorsAreChecked(t *testing.T) {
	form := func(b ...byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	for name, cursor := range map[string]string{
		"a form that is unknown":                      form(4, 3, 0, 0),
		"nothing but a form":                          form(0),
		"a snapshot from transaction 0 on":            form(0, 0, 0, 0),
		"an open transaction behind the end":          form(0, 3, 1, 1, 1),
		"fewer open transactions than it says":        form(0, 3, 9, 2, 1),
		"a number that is too long":                   form(0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1),
		"a sum that is too large":                     form(0, 255, 255, 255, 255, 255, 255, 255, 255, 127, 255, 255, 255, 255, 255, 255, 255, 255, 127, 0),
		"more behind it":                              form(0, 3, 0, 0, 0),
		"a window without a place":                    form(1, 3, 0, 0, 3, 0, 0),
		"half an id":                                  form(2, 1, 2, 3, 4),
		"an id that is negative":                      form(2, 255, 1, 1, 1, 1, 1, 1, 1),
		"the text of a snapshot, as cursors once had": base64.RawURLEncoding.EncodeToString([]byte("44:44:")),
	} {
		if p, err := (&Reader{}).readCursor(t.Context(), "test", cursor); queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}

	// The parser accepts the snapshots that PostgreSQL accepts: xmin <= each open one, in order, < xmax.
	for range 100_000 {
		b := make([]byte, 1+rand.IntN(maxFeedBytes-1))
		for i := range b {
			b[i] = byte(rand.IntN(256) >> rand.IntN(8))
		}
		b[0] &= cursorWindow
		p, err := (&Reader{}).readCursor(t.Context(), "test", base64.RawURLEncoding.EncodeToString(b))
		if err != nil {
			continue
		}
		for _, text := range []string{p.seen, p.until} {
			f := strings.Split(text, ":")
			if text == "" {
				continue
			}
			last, xmax := parseTransactionID(f[0]), parseTransactionID(f[1])
			ok := last > 0 && last <= xmax
			for xip := range strings.SplitSeq(f[2], ",") {
				if xip != "" {
					ok = ok && parseTransactionID(xip) >= last && parseTransactionID(xip) < xmax
					last = parseTransactionID(xip)
				}
			}
			if !ok {
				t.Fatalf("the bytes %v are read as the snapshot %s", b, text)
			}
		}
	}
}
