package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// beatRow is a lease beat: the end of a lease, written beside its locked row.
type beatRow struct {
	token     int64
	expiresAt time.Time
	granted   int64 // ns
}

var beatColumns = table.New(
	table.Col("token", func(r *beatRow) *int64 { return &r.token }),
	table.Col("expires_at", func(r *beatRow) *time.Time { return &r.expiresAt }),
	table.Col("granted", func(r *beatRow) *int64 { return &r.granted }),
)

// The statements of heartbeats.
var (
	readLeaseBeats   = statement("hold.beats")
	writeLeaseBeats  = statement("hold.beat")
	deleteLeaseBeats = statement("hold.unbeat")
	writeProgress    = statement("hold.progress")
	setLockTimeout   = statement("tx.hurry")
)

// HeartbeatTasks implements queue.Store. One call extends whatever a process holds; where it names some of the tasks of a
// lease row only, or gives them different ends, the row is split.
func (s *Store) HeartbeatTasks(ctx context.Context, namespace string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	if len(beats) == 0 {
		return nil, nil
	}
	out := make([]queue.Beat, len(beats))
	locked, err := s.beatFree(ctx, namespace, beats, out, nil)
	if err != nil {
		return nil, err
	}
	if len(locked) > 0 && queue.Waits(ctx) {
		s.untilFree(ctx, locked, func(ctx context.Context, places []int) ([]int, error) {
			return s.beatFree(ctx, namespace, beats, out, places)
		}, func(place int, err error) { out[place] = queue.Beat{Err: err} })
	}
	return out, nil
}

// beatFree extends what it can without waiting for another transaction. Holds in rows that such a one has locked are
// extended beside their row by a second transaction; it returns those that cannot be either.
func (s *Store) beatFree(ctx context.Context, namespace string, beats []queue.Heartbeat, out []queue.Beat, places []int) ([]int, error) {
	errOf := func(b queue.Beat) error { return b.Err }
	answers := out
	if places != nil {
		answers = make([]queue.Beat, len(places))
	}
	if err := s.beat(ctx, namespace, pick(beats, places), answers, beatRows); err != nil {
		return nil, err
	}
	locked := put(out, answers, places, errOf)
	for _, how := range []beatHow{beatAside, beatLeases} {
		if len(locked) == 0 {
			break
		}
		answers = make([]queue.Beat, len(locked))
		if err := s.beat(ctx, namespace, pick(beats, locked), answers, how); err == nil {
			return put(out, answers, locked, errOf), nil
		}
	}
	return locked, nil
}

// beatHow is what a heartbeat does about holds whose row another transaction has locked.
type beatHow uint8

const (
	beatRows   beatHow = iota // leaves them
	beatAside                 // writes their new end and their progress beside the row
	beatLeases                // writes their new end alone; a report of progress stays locked
)

// asideSlack is how long the present end of a hold must be away still for a heartbeat beside its row: a rescue that has locked
// the row found it over, and does not see what is written behind its look.
const asideSlack = time.Second

// asideHurry is how long a statement of such a heartbeat waits for a lock.
const asideHurry = "20ms"

func (s *Store) beat(ctx context.Context, namespace string, beats []queue.Heartbeat, out []queue.Beat, how beatHow) error {
	var ids, tokens []int64
	for _, b := range beats {
		ids, tokens = append(ids, b.ID), append(tokens, b.Token)
	}
	return s.inTx(ctx, "heartbeat tasks", func(ctx context.Context, t *tx) error {
		clear(out)
		h := holds{free: true}
		h.queueLock(t, namespace, tokens)
		if err := t.flush(ctx); err != nil {
			return err
		}
		if err := h.lockMissing(ctx, t, namespace, ids, tokens); err != nil {
			return err
		}
		if s.asideUntil.Load() > time.Now().UnixNano() {
			if err := h.readAside(ctx, t); err != nil {
				return err
			}
		}

		taken := takeBeats(&h, beats, out, how)
		taken.write(t, &h)
		s.noteAside(taken)
		if taken.lost {
			return s.explainLost(ctx, t, namespace, beats, out)
		}
		return nil
	})
}

// readAside reads what heartbeats have left beside the locked rows.
func (h *holds) readAside(ctx context.Context, t *tx) error {
	if len(h.all) == 0 {
		return nil
	}
	h.aside = map[int64]leaseEnd{}
	return t.askNow(ctx, readLeaseBeats, h.scanAside, arg("tokens", h.rowTokens()))
}

// rowTokens are the tokens of the locked rows, each once.
func (h *holds) rowTokens() []int64 {
	tokens := make([]int64, len(h.all))
	for i, l := range h.all {
		tokens[i] = l.token
	}
	slices.Sort(tokens)
	return slices.Compact(tokens)
}

func (h *holds) scanAside(rows pgx.Rows) error {
	var token, granted int64
	var at time.Time
	err := rows.Scan(&token, &at, &granted)
	h.aside[token] = leaseEnd{at.UTC(), time.Duration(granted)}
	return err
}

// queueUnbeat queues the deletion of ends beside locked rows that went into their rows, as they were read. A heartbeat that
// has found the row locked may have written a later one since: it stays.
func (h *holds) queueUnbeat(t *tx, tokens []int64) {
	if len(tokens) == 0 {
		return
	}

	rows := make([]beatRow, len(tokens))
	for i, token := range tokens {
		rows[i] = beatRow{token: token, expiresAt: h.aside[token].at}
	}
	t.send(deleteLeaseBeats, beatColumns.Only("token", "expires_at").Arrays(nil, rows)...)
}

// noteAside has the next heartbeats of this process look beside their rows, as long as there may be something: one that
// shortens a lease must not be outlived by what an earlier one left there. Another process does not know and does not look: a
// lease that it shortens may then last as long as the earlier one said, and no task is lost by that.
func (s *Store) noteAside(taken *takenBeats) {
	for _, end := range taken.aside {
		until := time.Now().Add(2 * end.length).UnixNano()
		for {
			known := s.asideUntil.Load()
			if known >= until || s.asideUntil.CompareAndSwap(known, until) {
				break
			}
		}
	}
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
	rows     []*hold // with something in beaten, as they were named first
	progress progressRows
	events   events
	lost     bool               // some found no hold
	aside    map[int64]leaseEnd // by token: new ends of holds whose row is locked
	merged   []int64            // tokens whose end beside their row is over: the row knows a later one
}

// takeBeats applies beats one after the other: of two that name one task the last wins, for its lease and for its
// progress, and each is answered with what was true behind it.
func takeBeats(h *holds, beats []queue.Heartbeat, out []queue.Beat, how beatHow) *takenBeats {
	taken := &takenBeats{events: events{}}
	for i, b := range beats {
		p, ok := h.find(b.ID, b.Token)
		if !ok {
			if p, ok := h.isLocked(b.ID, b.Token); ok {
				out[i] = taken.putAside(h, p, b, how)
				continue
			}
			taken.lost = true
			out[i].Err = queue.ErrLeaseLost
			continue
		}

		row := taken.row(p.hold)
		end := leaseEnd{p.expiresAt, p.length()}
		if aside, ok := h.aside[p.taskToken()]; ok { // goes into the row now
			if aside.at.After(end.at) { // granted after the row's own end
				end = aside
			}
			taken.merged = append(taken.merged, p.taskToken())
		}
		if g := row.group[p.i]; g > 0 {
			end = row.ends[g-1]
		}
		end = nextEnd(end, h.now, b.Lease)
		row.set(p.i, end)
		out[i] = queue.Beat{
			Lease:           queue.Lease{Token: p.taskToken(), ExpiresAt: end.at, Duration: end.length},
			CancelRequested: p.cancelled(),
		}

		taken.report(p, b.Progress)
	}
	return taken
}

// row is what was taken of l's tasks.
func (taken *takenBeats) row(l *hold) *beaten {
	if l.beaten == nil {
		l.beaten = &beaten{group: make([]int16, len(l.ids))}
		taken.rows = append(taken.rows, l)
	}
	return l.beaten
}

// keep gives a task the end that a heartbeat left beside its row.
func (taken *takenBeats) keep(p spot, end leaseEnd) { taken.row(p.hold).set(p.i, end) }

// putAside takes a heartbeat of a hold whose row is locked, and answers it.
func (taken *takenBeats) putAside(h *holds, p spot, b queue.Heartbeat, how beatHow) queue.Beat {
	end, ok := taken.aside[p.taskToken()]
	if !ok {
		end = leaseEnd{p.expiresAt, p.length()}
	}
	if how == beatRows || !end.at.After(h.now.Add(asideSlack)) {
		return queue.Beat{Err: queue.Locked(b.ID)}
	}

	next := nextEnd(end, h.now, b.Lease)
	if next.at.Before(end.at) { // the row's own end would still count: a shorter lease waits for the row
		return queue.Beat{Err: queue.Locked(b.ID)}
	}
	end = next
	if taken.aside == nil {
		taken.aside = map[int64]leaseEnd{}
	}
	taken.aside[p.taskToken()] = end
	if how == beatLeases && len(b.Progress) > 0 {
		return queue.Beat{Err: queue.Locked(b.ID)}
	}
	taken.report(p, b.Progress)
	return queue.Beat{Lease: queue.Lease{Token: p.taskToken(), ExpiresAt: end.at, Duration: end.length}, CancelRequested: p.cancelled()}
}

// report takes the progress of a held task, if there is any.
func (taken *takenBeats) report(p spot, progress []byte) {
	if len(progress) == 0 {
		return
	}
	taken.progress.add(p, progress)
	taken.events.add(change{queue: p.q.id, keep: p.q.Events, kind: eventCodes[queue.EventProgress], worker: p.worker}, p.id)
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
	for _, l := range taken.rows {
		b := l.beaten
		for _, row := range splitLeaseRow(l, b) {
			rows := &kept
			if row.fresh {
				rows = &split
			}
			at, granted := l.expiresAt, l.granted
			if row.group > 0 {
				end := b.ends[row.group-1]
				at, granted = end.at, int64(end.length)
			}
			rows.add(l, row.part, func(i int) bool { return b.group[i] == row.group }, at, granted)
		}
	}
	kept.update(t)
	split.insert(t)
	h.queueUnbeat(t, taken.merged)
	if len(taken.aside) > 0 {
		taken.writeAside(t)
	}
	taken.progress.insert(t)
	taken.events.insert(t, h.now)
}

// writeAside queues the ends of holds whose row is locked. Their progress may be locked too: the transaction does not wait.
func (taken *takenBeats) writeAside(t *tx) {
	rows := make([]beatRow, 0, len(taken.aside))
	for _, token := range slices.Sorted(maps.Keys(taken.aside)) {
		end := taken.aside[token]
		rows = append(rows, beatRow{token: token, expiresAt: end.at, granted: int64(end.length)})
	}

	t.send(setLockTimeout, arg("patience", asideHurry))
	t.send(writeLeaseBeats, beatColumns.Arrays(nil, rows)...)
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
		if out[i].Err != nil && !queue.IsLocked(out[i].Err) {
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
		case out[i].Err == nil, queue.IsLocked(out[i].Err):
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
	rows  []progressRow
	place map[int64]int // by task
}

type progressRow struct {
	queueID  int32
	id       int64
	attempt  int16
	progress []byte
}

var progressColumns = table.New(
	table.Col("queue_id", func(r *progressRow) *int32 { return &r.queueID }),
	table.Col("id", func(r *progressRow) *int64 { return &r.id }),
	table.Col("attempt", func(r *progressRow) *int16 { return &r.attempt }),
	table.Col("progress", func(r *progressRow) *[]byte { return &r.progress }),
)

func (r *progressRows) add(p spot, progress []byte) {
	if at, ok := r.place[p.id]; ok {
		r.rows[at].progress = progress
		return
	}
	if r.place == nil {
		r.place = map[int64]int{}
	}
	r.place[p.id] = len(r.rows)
	r.rows = append(r.rows, progressRow{queueID: p.q.id, id: p.id, attempt: int16(p.attempt()), progress: progress})
}

func (r *progressRows) insert(t *tx) {
	if len(r.rows) > 0 {
		t.send(writeProgress, progressColumns.Arrays(nil, r.rows)...)
	}
}
