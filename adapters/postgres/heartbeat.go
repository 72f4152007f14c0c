package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// HeartbeatTasks implements queue.Store. One call extends whatever a process holds; where it names some of the tasks of a
// lease row only, or gives them different ends, the row is split.
func (s *Store) HeartbeatTasks(ctx context.Context, namespace string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	if len(beats) == 0 {
		return nil, nil
	}
	out := make([]queue.Beat, len(beats))
	var ids, tokens []int64
	for _, b := range beats {
		ids, tokens = append(ids, b.ID), append(tokens, b.Token)
	}

	err := s.inTx(ctx, "heartbeat tasks", func(ctx context.Context, t *tx) error {
		clear(out)
		var h holds
		h.queueLock(t, namespace, tokens)
		if err := t.flush(ctx); err != nil {
			return err
		}
		if err := h.lockMoved(ctx, t, namespace, ids, tokens); err != nil {
			return err
		}

		taken := takeBeats(&h, beats, out)
		taken.write(t, &h)
		if taken.lost {
			return s.explainLost(ctx, t, namespace, beats, out)
		}
		return nil
	})
	return out, err
}

// leaseEnd is when a lease runs out, and how long it is: the length that a later heartbeat without one gets.
type leaseEnd struct {
	at     time.Time
	length time.Duration
}

// beaten is what the heartbeats of a call make of one lease row.
type beaten struct {
	ends  []leaseEnd
	group []int16 // by place in the row: 1 + the index of the task's new end in ends; 0 = no heartbeat
}

// set gives the task at a place its new end.
func (b *beaten) set(place int, end leaseEnd) {
	for i, e := range b.ends {
		if e == end {
			b.group[place] = int16(i + 1)
			return
		}
	}
	b.ends = append(b.ends, end)
	b.group[place] = int16(len(b.ends))
}

// takenBeats gathers what a call's heartbeats change.
type takenBeats struct {
	rows     map[*hold]*beaten
	order    []*hold // of rows, as they were named first
	progress progressRows
	events   events
	lost     bool // some found no hold
}

// takeBeats applies beats one after the other: of two that name one task the last wins, for its lease and for its
// progress, and each is answered with what was true behind it.
func takeBeats(h *holds, beats []queue.Heartbeat, out []queue.Beat) *takenBeats {
	taken := &takenBeats{rows: map[*hold]*beaten{}, events: events{}}
	for i, b := range beats {
		p, ok := h.find(b.ID, b.Token)
		if !ok {
			taken.lost = true
			out[i].Err = queue.ErrLeaseLost
			continue
		}

		row := taken.rows[p.hold]
		if row == nil {
			row = &beaten{group: make([]int16, len(p.ids))}
			taken.rows[p.hold] = row
			taken.order = append(taken.order, p.hold)
		}
		end := leaseEnd{p.expiresAt, p.length()}
		if g := row.group[p.i]; g > 0 {
			end = row.ends[g-1]
		}
		end = nextEnd(end, h.now, b.Lease)
		row.set(p.i, end)
		out[i] = queue.Beat{
			Lease:           queue.Lease{Token: p.taskToken(), ExpiresAt: end.at, Duration: end.length},
			CancelRequested: p.cancelled(),
		}

		if len(b.Progress) > 0 {
			taken.progress.add(p, b.Progress)
			taken.events.add(change{queue: p.q.id, keep: p.q.Events, kind: eventCodes[queue.EventProgress], worker: p.worker}, b.ID)
		}
	}
	return taken
}

// nextEnd is the end of a lease behind a heartbeat at now: with a lease of its own that long from now on, which may shorten it;
// without one at least the length granted from now on, and never before the present end.
func nextEnd(present leaseEnd, now time.Time, asked time.Duration) leaseEnd {
	if asked > 0 {
		return leaseEnd{micros(now.Add(asked)), asked}
	}
	if end := micros(now.Add(present.length)); end.After(present.at) {
		return leaseEnd{end, present.length}
	}
	return present
}

// write queues the rows.
func (taken *takenBeats) write(t *tx, h *holds) {
	var kept, split holdRows
	for _, l := range taken.order {
		b := taken.rows[l]
		for _, row := range splitLeaseRow(l, b) {
			rows := &kept
			if row.fresh {
				rows = &split
			}
			at, granted := l.expiresAt, l.granted
			if row.group > 0 {
				end := b.ends[row.group-1]
				at, granted = end.at, new(int64(end.length))
			}
			rows.add(l, row.part, func(i int) bool { return b.group[i] == row.group }, at, granted)
		}
	}
	kept.update(t)
	split.insert(t)
	taken.progress.insert(t)
	taken.events.insert(t, h.now)
}

// leaseRow is a row that holds the tasks of one group of a lease row that heartbeats split.
type leaseRow struct {
	part  int16
	fresh bool  // it is to be inserted
	group int16 // as in beaten
}

// splitLeaseRow says which rows the held tasks of l go to, each task to exactly one: the tasks of a group go together, one
// group stays, the others get rows of their own.
//
// A row keeps the task that its part is named after (its place, counted from 1) until that task's hold ends, and the new part
// of the others is named after the first of them. So no two rows of a token ever get the same part, though a call sees only
// the rows that it has locked.
func splitLeaseRow(l *hold, b *beaten) []leaseRow {
	first := make([]int, len(b.ends)+1) // place from 1 of the first task of each group; 0 = none
	for i, id := range l.ids {
		if g := b.group[i]; id != 0 && first[g] == 0 {
			first[g] = i + 1
		}
	}

	stays := int16(-1)
	if l.part > 0 && l.ids[l.part-1] != 0 {
		stays = b.group[l.part-1]
	}
	var rows []leaseRow
	for g, place := range first {
		if place == 0 {
			continue
		}
		if stays < 0 {
			stays = int16(g)
		}
		row := leaseRow{part: int16(place), fresh: true, group: int16(g)}
		if row.group == stays {
			row.part, row.fresh = l.part, false
		}
		rows = append(rows, row)
	}
	return rows
}

// explainLost tells tasks that are not there from those that another holds.
func (s *Store) explainLost(ctx context.Context, t *tx, namespace string, beats []queue.Heartbeat, out []queue.Beat) error {
	var ids []int64
	for i, b := range beats {
		if out[i].Err != nil {
			ids = append(ids, b.ID)
		}
	}
	there := map[int64]bool{}
	err := t.read(ctx, "task.there", func(rows pgx.Rows) error {
		var id int64
		err := rows.Scan(&id)
		there[id] = true
		return err
	}, namespace, ids)
	for i, b := range beats {
		switch {
		case out[i].Err == nil:
		case there[b.ID]:
			out[i].Err = leaseLost(b.ID)
		default:
			out[i].Err = noTask(b.ID)
		}
	}
	return err
}

// progressRows are the progress documents of a call, the last of each task.
type progressRows struct {
	queues   []int32
	ids      []int64
	attempts []int16
	progress [][]byte
	place    map[int64]int
}

func (r *progressRows) add(p spot, progress []byte) {
	if at, ok := r.place[p.id]; ok {
		r.progress[at] = progress
		return
	}
	if r.place == nil {
		r.place = map[int64]int{}
	}
	r.place[p.id] = len(r.ids)
	r.queues, r.ids = append(r.queues, p.q.id), append(r.ids, p.id)
	r.attempts, r.progress = append(r.attempts, int16(p.attempt())), append(r.progress, progress)
}

func (r *progressRows) insert(t *tx) {
	if len(r.ids) > 0 {
		t.queue("hold.progress", r.queues, r.ids, r.attempts, r.progress)
	}
}
