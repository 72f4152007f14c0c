package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/feed"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// beatRow is a lease beat: the new end of a lease, written beside its locked lease row.
type beatRow struct {
	token     int64
	expiresAt time.Time
	granted   int64 // length of the lease in ns
}

var (
	beatColumns      = table.Of[beatRow]()
	endedBeatColumns = beatColumns.Only("token", "expires_at")
)

// The statements of heartbeats.
var (
	readLeaseBeats   = statement("lease.beats")
	writeLeaseBeats  = statement("lease.beat")
	deleteLeaseBeats = statement("lease.unbeat")
	writeProgress    = statement("lease.progress")
	setLockTimeout   = statement("tx.hurry")
)

// HeartbeatTasks implements queue.Store. One call may extend all leases of a process. It splits a lease row when it
// extends only some tasks of the row, or gives them different ends.
func (s *Store) HeartbeatTasks(ctx context.Context, namespace string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	if len(beats) == 0 {
		return nil, nil
	}

	out := make([]queue.Beat, len(beats))
	locked, err := s.heartbeatUnlocked(ctx, namespace, beats, out, nil)
	if err != nil {
		return nil, err
	}

	if len(locked) > 0 && queue.Waits(ctx) {
		try := func(ctx context.Context, indexes []int) ([]int, error) {
			return s.heartbeatUnlocked(ctx, namespace, beats, out, indexes)
		}
		s.repeatUntilUnlocked(ctx, unlockWait{locked, try, func(index int, err error) { out[index] = queue.Beat{Err: err} }})
	}
	return out, nil
}

// heartbeatUnlocked extends the leases that need no wait for another transaction. A second transaction writes lease
// beats beside lease rows that another transaction has locked. The result lists the heartbeats that cannot do that
// either.
func (s *Store) heartbeatUnlocked(ctx context.Context, namespace string, beats []queue.Heartbeat, out []queue.Beat, indexes []int) ([]int, error) {
	errOf := func(b queue.Beat) error { return b.Err }

	answers := out
	if indexes != nil {
		answers = make([]queue.Beat, len(indexes))
	}

	if err := s.heartbeatIn(ctx, namespace, selectAt(beats, indexes), answers, rowsOnly); err != nil {
		return nil, err
	}

	// A report of progress may be locked too: then the second try extends the leases alone.
	locked := collectAnswers(out, answers, indexes, errOf)
	for _, how := range []heartbeatMode{besideRows, leasesOnly} {
		if len(locked) == 0 {
			break
		}
		answers = make([]queue.Beat, len(locked))
		if err := s.heartbeatIn(ctx, namespace, selectAt(beats, locked), answers, how); err == nil {
			return collectAnswers(out, answers, locked, errOf), nil
		}
	}
	return locked, nil
}

// heartbeatMode says how a heartbeat deals with a task in a lease row that another transaction has locked.
type heartbeatMode uint8

const (
	rowsOnly   heartbeatMode = iota // leaves the lease as it is
	besideRows                      // writes the new end and the progress beside the row
	leasesOnly                      // writes only the new end; a report of progress stays locked
)

// besideSlack is the least remaining time of a lease that a heartbeat extends beside its row. A rescuer that has
// locked the row found the lease lapsed, and does not see a lease beat that is written after its read.
const besideSlack = time.Second

// besidePatience is the longest wait for a lock of a statement of such a heartbeat.
const besidePatience = "20ms"

func (s *Store) heartbeatIn(ctx context.Context, namespace string, beats []queue.Heartbeat, out []queue.Beat, how heartbeatMode) error {
	ids := make([]int64, len(beats))
	tokens := make([]int64, len(beats))
	for i, b := range beats {
		ids[i] = b.ID
		tokens[i] = b.Token
	}

	return s.db.Run(ctx, "heartbeat tasks", func(ctx context.Context, t *txn.Tx) error {
		clear(out) // the transaction may run again after a passing fault
		h := lockedLeases{known: &s.known, skipsLocked: true}
		h.queueLeaseLock(t, namespace, tokens)
		if err := h.flushAndReadQueues(ctx, t); err != nil {
			return err
		}
		// A heartbeat may have moved a task to another row since, and then this look finds it.
		if err := h.retryMissingLeases(ctx, t, namespace, ids, tokens); err != nil {
			return err
		}

		// Only a process that wrote lease beats lately reads them: see rememberLeaseBeats.
		if s.asideUntil.Load() > time.Now().UnixNano() {
			if err := h.readLeaseBeats(ctx, t); err != nil {
				return err
			}
		}

		taken := applyHeartbeats(&h, beats, out, how)
		taken.writeLeaseRows(t, &h)
		s.rememberLeaseBeats(taken)
		if taken.lost {
			return s.explainLostLeases(ctx, t, namespace, beats, out)
		}
		return nil
	})
}

// readLeaseBeats reads the lease beats beside the locked rows.
func (h *lockedLeases) readLeaseBeats(ctx context.Context, t *txn.Tx) error {
	if len(h.all) == 0 {
		return nil
	}
	h.beats = map[int64]leaseEnd{}
	return t.Query(ctx, readLeaseBeats, h.scanLeaseBeat, arg("tokens", h.listRowTokens()))
}

// listRowTokens returns the tokens of the locked rows, each once.
func (h *lockedLeases) listRowTokens() []int64 {
	tokens := make([]int64, len(h.all))
	for i, l := range h.all {
		tokens[i] = l.token
	}
	slices.Sort(tokens)
	return slices.Compact(tokens)
}

func (h *lockedLeases) scanLeaseBeat(rows pgx.Rows) error {
	var token, granted int64
	var at time.Time
	err := rows.Scan(&token, &at, &granted)
	h.beats[token] = leaseEnd{at.UTC(), time.Duration(granted)}
	return err
}

// queueBeatDeletion queues the deletion of lease beats after their end went into the row. A later end stays: another
// heartbeat found the row locked and wrote it since the read.
func (h *lockedLeases) queueBeatDeletion(t *txn.Tx, tokens []int64) {
	rows := make([]beatRow, len(tokens))
	for i, token := range tokens {
		rows[i] = beatRow{token: token, expiresAt: h.beats[token].at}
	}
	queueRows(t, deleteLeaseBeats, endedBeatColumns, rows)
}

// rememberLeaseBeats makes the next heartbeats of this process read lease beats, as long as there may be some.
// Otherwise a heartbeat that shortens a lease would leave the later end of an earlier one in force. Another process
// does not know of the lease beats and does not read them. A lease that it shortens may then last as long as the
// earlier heartbeat said. No task is lost by that.
func (s *Store) rememberLeaseBeats(taken *appliedHeartbeats) {
	for _, end := range taken.beats {
		// A lease beat lapses after about one length; the second one is a reserve.
		until := time.Now().Add(2 * end.length).UnixNano()
		for {
			known := s.asideUntil.Load()
			if known >= until || s.asideUntil.CompareAndSwap(known, until) {
				break
			}
		}
	}
}

// leaseEnd is the end of a lease and its length. A later heartbeat without a length of its own gets the same length.
type leaseEnd struct {
	at     time.Time
	length time.Duration
}

// newEnds holds the new ends that the heartbeats of a call give to the tasks of one lease row.
type newEnds struct {
	ends  []leaseEnd
	only  [1]leaseEnd // the first memory of ends
	group []int16     // by place in the row: 1 + index in ends; 0 = no heartbeat. nil = no heartbeat at all
}

// setNewEnd gives the task at a place its new end. Tasks with equal ends share a group.
func (b *newEnds) setNewEnd(place int, end leaseEnd) {
	for i, e := range b.ends {
		if e == end {
			b.group[place] = int16(i + 1)
			return
		}
	}

	if b.ends == nil {
		b.ends = b.only[:0] // mostly there is one
	}
	b.ends = append(b.ends, end)
	b.group[place] = int16(len(b.ends))
}

// appliedHeartbeats collects the changes of the heartbeats of one call.
type appliedHeartbeats struct {
	rows     []*storedLease // with new ends, in the order in which the call named them
	progress progressRows
	events   events
	lost     bool               // some heartbeats found no lease
	beats    map[int64]leaseEnd // by token: new ends of leases in locked rows
	merged   []int64            // tokens of lease beats that go into their row
}

// applyHeartbeats applies beats one after the other. Of two heartbeats of one task the last wins, for its lease and
// its progress. Each answer shows the state after its own heartbeat.
func applyHeartbeats(h *lockedLeases, beats []queue.Heartbeat, out []queue.Beat, how heartbeatMode) *appliedHeartbeats {
	taken := &appliedHeartbeats{}
	for i, b := range beats {
		p, ok := h.findHeldTask(b.ID, b.Token)
		if !ok {
			// The lease may be in a row that another transaction has locked.
			if p, ok := h.findLockedByOthers(b.ID, b.Token); ok {
				out[i] = taken.extendBesideRow(h, p, b, how)
				continue
			}

			taken.lost = true
			out[i].Err = queue.ErrLeaseLost
			continue
		}

		row := taken.newEndsOfLease(p.storedLease)
		end := leaseEnd{p.expiresAt, p.grantedLength()}
		// The lease beat goes into the row now, if it ends later than the row.
		if aside, ok := h.beats[p.tokenOfTask()]; ok {
			if aside.at.After(end.at) {
				end = aside
			}
			taken.merged = append(taken.merged, p.tokenOfTask())
		}

		// An earlier heartbeat of this call may have extended the task already.
		if g := row.group[p.index]; g > 0 {
			end = row.ends[g-1]
		}

		end = computeNextEnd(end, h.now, b.Lease)
		row.setNewEnd(p.index, end)
		out[i] = queue.Beat{
			Lease:           queue.Lease{Token: p.tokenOfTask(), ExpiresAt: end.at, Duration: end.length},
			CancelRequested: p.isCancelRequested(),
		}

		taken.reportProgress(p, b.Progress)
	}
	return taken
}

// newEndsOfLease returns the new ends of the tasks of l, and starts them at the first call.
func (taken *appliedHeartbeats) newEndsOfLease(l *storedLease) *newEnds {
	if l.newEnds.group == nil {
		l.newEnds.group = make([]int16, len(l.ids))
		taken.rows = append(taken.rows, l)
	}
	return &l.newEnds
}

// keepNewEnd gives a task the end of its lease beat.
func (taken *appliedHeartbeats) keepNewEnd(p heldTask, end leaseEnd) {
	taken.newEndsOfLease(p.storedLease).setNewEnd(p.index, end)
}

// extendBesideRow applies a heartbeat of a task in a locked lease row, and returns its answer.
func (taken *appliedHeartbeats) extendBesideRow(h *lockedLeases, p heldTask, b queue.Heartbeat, how heartbeatMode) queue.Beat {
	end, ok := taken.beats[p.tokenOfTask()]
	if !ok {
		end = leaseEnd{p.expiresAt, p.grantedLength()}
	}

	// A rescuer may be about to take back a lease that ends soon.
	if how == rowsOnly || !end.at.After(h.now.Add(besideSlack)) {
		return queue.Beat{Err: queue.Locked(b.ID)}
	}

	// The end in the row would still count, so a heartbeat that shortens the lease waits for the row.
	next := computeNextEnd(end, h.now, b.Lease)
	if next.at.Before(end.at) {
		return queue.Beat{Err: queue.Locked(b.ID)}
	}

	end = next
	if taken.beats == nil {
		taken.beats = map[int64]leaseEnd{}
	}

	taken.beats[p.tokenOfTask()] = end
	if how == leasesOnly && len(b.Progress) > 0 {
		return queue.Beat{Err: queue.Locked(b.ID)}
	}

	taken.reportProgress(p, b.Progress)
	return queue.Beat{Lease: queue.Lease{Token: p.tokenOfTask(), ExpiresAt: end.at, Duration: end.length}, CancelRequested: p.isCancelRequested()}
}

// reportProgress records the progress of a held task. Empty progress changes nothing.
func (taken *appliedHeartbeats) reportProgress(p heldTask, progress []byte) {
	if len(progress) == 0 {
		return
	}
	taken.progress.addProgress(p, progress)

	if taken.events == nil {
		taken.events = events{}
	}
	taken.events.appendIDs(eventChange{queue: p.q.id, keep: p.q.Events, kind: feed.CodeOf(queue.EventProgress), worker: p.worker}, p.id)
}

// computeNextEnd returns the end of a lease after a heartbeat at now. A heartbeat with a length of its own ends the
// lease that long after now, which may shorten it. A heartbeat without one extends the lease to at least the granted
// length from now, and never shortens it.
func computeNextEnd(present leaseEnd, now time.Time, asked time.Duration) leaseEnd {
	if asked > 0 {
		return leaseEnd{truncateToMicros(now.Add(asked)), asked}
	}

	if end := truncateToMicros(now.Add(present.length)); end.After(present.at) {
		return leaseEnd{end, present.length}
	}
	return present
}

// writeLeaseRows queues all rows that the heartbeats change.
func (taken *appliedHeartbeats) writeLeaseRows(t *txn.Tx, h *lockedLeases) {
	var kept, split leaseWrites
	for _, l := range taken.rows {
		b := &l.newEnds

		for _, row := range splitLeaseRow(l, b) {
			rows := &kept
			if row.fresh {
				rows = &split
			}

			// Tasks without a heartbeat (group 0) keep the end of the row.
			var end *leaseEnd
			if row.group > 0 {
				end = &b.ends[row.group-1]
			}
			rows.addLeaseRow(l, row.part, func(i int) bool { return b.group[i] == row.group }, end)
		}
	}

	kept.queueUpdate(t)
	split.queueInsert(t)

	h.queueBeatDeletion(t, taken.merged)
	if len(taken.beats) > 0 {
		taken.writeLeaseBeats(t)
	}

	queueRows(t, writeProgress, progressColumns, taken.progress.rows)
	taken.events.insertEventRows(t, h.now)
}

// writeLeaseBeats queues the lease beats for locked lease rows. The state row with the progress may be locked too, so
// the transaction limits its wait for locks.
func (taken *appliedHeartbeats) writeLeaseBeats(t *txn.Tx) {
	rows := make([]beatRow, 0, len(taken.beats))
	for _, token := range slices.Sorted(maps.Keys(taken.beats)) {
		end := taken.beats[token]
		rows = append(rows, beatRow{token: token, expiresAt: end.at, granted: int64(end.length)})
	}

	t.Queue(setLockTimeout, arg("patience", besidePatience))
	t.Queue(writeLeaseBeats, beatColumns.Arrays(nil, rows)...)
}

// leaseSplit is one row for the tasks of one group, after heartbeats have split a lease row.
type leaseSplit struct {
	part  int16
	fresh bool  // a new row
	group int16 // as in newEnds
}

// splitLeaseRow returns the rows to which the held tasks of l go, each task to exactly one. The tasks of a group stay
// together. One group stays in the row, and every other group gets a row of its own.
//
// The part of a split row is the place, from 1, of one of its tasks. The row keeps this task until the lease of the task
// ends. The part of a new row is the place of its first task. So two rows of a token never get the same part,
// although a call sees only the rows that it has locked.
func splitLeaseRow(l *storedLease, b *newEnds) []leaseSplit {
	first := make([]int, len(b.ends)+1) // place, from 1, of the first task of each group; 0 = none

	for i, id := range l.ids {
		if g := b.group[i]; id != 0 && first[g] == 0 {
			first[g] = i + 1
		}
	}

	// The group with the task that names the part keeps the row. Without that task the first group keeps it.
	stays := int16(-1)
	if l.part > 0 && l.ids[l.part-1] != 0 {
		stays = b.group[l.part-1]
	}

	var rows []leaseSplit
	for g, place := range first {
		if place == 0 {
			continue
		}
		if stays < 0 {
			stays = int16(g)
		}

		row := leaseSplit{part: int16(place), fresh: true, group: int16(g)}
		if row.group == stays {
			row.part, row.fresh = l.part, false
		}
		rows = append(rows, row)
	}
	return rows
}

// explainLostLeases replaces the errors of lost leases: a task that does not exist gets another error than a task
// that another worker holds.
func (s *Store) explainLostLeases(ctx context.Context, t *txn.Tx, namespace string, beats []queue.Heartbeat, out []queue.Beat) error {
	var ids []int64
	for i, b := range beats {
		if out[i].Err != nil && !queue.IsLocked(out[i].Err) {
			ids = append(ids, b.ID)
		}
	}

	there := map[int64]bool{}
	err := t.Query(ctx, findTasks, scanEach(func(id int64) { there[id] = true }), arg("namespace", namespace), arg("ids", ids))

	for i, b := range beats {
		switch {
		case out[i].Err == nil, queue.IsLocked(out[i].Err):
		case there[b.ID]:
			out[i].Err = makeLeaseLostError(b.ID)
		default:
			out[i].Err = queue.NotFoundTask(b.ID)
		}
	}
	return err
}

// progressRows holds the progress reports of a call, the last one of each task.
type progressRows struct {
	rows  []progressRow
	place map[int64]int // index in rows, by task
}

type progressRow struct {
	queueID  int32
	id       int64
	attempt  int16
	progress []byte
}

var progressColumns = table.Of[progressRow]()

func (r *progressRows) addProgress(p heldTask, progress []byte) {
	if at, ok := r.place[p.id]; ok {
		r.rows[at].progress = progress
		return
	}

	if r.place == nil {
		r.place = map[int64]int{}
	}

	r.place[p.id] = len(r.rows)
	r.rows = append(r.rows, progressRow{queueID: p.q.id, id: p.id, attempt: int16(p.attemptOfTask()), progress: progress})
}
