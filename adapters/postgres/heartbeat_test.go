package postgres

import (
	"reflect"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestSplitLeaseRow holds the rows that heartbeats make of one to: each held task in exactly one row, one row stays, no part
// twice.
func TestSplitLeaseRow(t *testing.T) {
	for _, c := range []struct {
		sentence string
		part     int16
		ids      []int64 // 0: the hold has ended
		group    []int16 // of each place; 0 = no heartbeat
		want     []leaseSplit
	}{
		{"all get one end: the row stays", 0, []int64{1, 2, 3}, []int16{1, 1, 1}, []leaseSplit{{0, false, 1}}},
		{"one of three: the others stay, it goes", 0, []int64{1, 2, 3}, []int16{0, 1, 0}, []leaseSplit{{0, false, 0}, {2, true, 1}}},
		{"two ends for all: the first stays", 0, []int64{1, 2, 3}, []int16{1, 2, 1}, []leaseSplit{{0, false, 1}, {2, true, 2}}},
		{"three groups", 0, []int64{1, 2, 3, 4}, []int16{2, 0, 1, 1}, []leaseSplit{{0, false, 0}, {3, true, 1}, {1, true, 2}}},
		{"an end that a later heartbeat replaced has no row", 0, []int64{1}, []int16{2}, []leaseSplit{{0, false, 2}}},
		{"ended tasks are in no group", 0, []int64{0, 2, 0}, []int16{0, 1, 0}, []leaseSplit{{0, false, 1}}},
		{"a part stays with the task that it is named after", 2, []int64{0, 2, 3}, []int16{0, 1, 0}, []leaseSplit{{3, true, 0}, {2, false, 1}}},
		{"and goes to the first when that has ended", 2, []int64{0, 0, 3, 4}, []int16{0, 0, 0, 1}, []leaseSplit{{2, false, 0}, {4, true, 1}}},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			l, b := &storedLease{q: &storedQueue{}, part: c.part, ids: c.ids}, &newEnds{ends: make([]leaseEnd, 2), group: c.group}
			got := splitLeaseRow(l, b)
			if !reflect.DeepEqual(got, c.want) {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
			in, stay := map[int64]int{}, 0
			for _, r := range got {
				if !r.fresh {
					stay++
				}
				for i, id := range c.ids {
					if id != 0 && c.group[i] == r.group {
						in[id]++
					}
				}
			}
			for _, id := range c.ids {
				if id != 0 && in[id] != 1 {
					t.Errorf("task %d is in %d rows", id, in[id])
				}
			}
			if stay != 1 {
				t.Errorf("%d rows stay", stay)
			}
		})
	}
}

// TestTakeBeats holds heartbeats that name a task twice to the order in which they are given.
func TestTakeBeats(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := &lockedLeases{now: now, byTask: map[int64]heldTask{}}
	l := &storedLease{q: &storedQueue{}, token: 256, granted: new(int64(61 * time.Minute)), retainedAt: now.Add(-time.Minute), expiresAt: now.Add(time.Hour), ids: []int64{7}, heldAtLock: 1, heldNow: 1}
	h.all, h.byTask[7] = []*storedLease{l}, heldTask{l, 0, 7}
	for _, c := range []struct {
		sentence string
		leases   []time.Duration
		want     leaseEnd
	}{
		{"the last lease wins, also when it is shorter", []time.Duration{2 * time.Hour, time.Second}, leaseEnd{now.Add(time.Second), time.Second}},
		{"the last lease wins, also when it is longer", []time.Duration{time.Second, 2 * time.Hour}, leaseEnd{now.Add(2 * time.Hour), 2 * time.Hour}},
		{"without a lease it keeps what was granted", []time.Duration{0}, leaseEnd{now.Add(61 * time.Minute), 61 * time.Minute}},
		{"without a lease behind one with", []time.Duration{3 * time.Hour, 0}, leaseEnd{now.Add(3 * time.Hour), 3 * time.Hour}},
		{"a granted length behind a short one is the short one", []time.Duration{time.Second, 0}, leaseEnd{now.Add(time.Second), time.Second}},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			l.newEnds = newEnds{}
			beats := make([]queue.Heartbeat, len(c.leases))
			for i, d := range c.leases {
				beats[i] = queue.Heartbeat{ID: 7, Token: 256, Lease: d, Progress: []byte{byte('1' + i)}}
			}
			out := make([]queue.Beat, len(beats))
			taken := applyHeartbeats(h, beats, out, rowsOnly)
			b := &l.newEnds
			if got := b.ends[b.group[0]-1]; got != c.want {
				t.Errorf("end %+v, want %+v", got, c.want)
			}
			if n := len(taken.progress.rows); n != 1 || taken.progress.rows[0].progress[0] != byte('0'+len(beats)) {
				t.Errorf("%d progress rows: %s", n, taken.progress.rows[0].progress)
			}
			if rows := splitLeaseRow(l, b); len(rows) != 1 {
				t.Errorf("one task is in %d rows", len(rows))
			}
		})
	}
}
