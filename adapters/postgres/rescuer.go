package postgres

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	rescueStep = 50 // lease rows of one step
	// rescuePause is the delay before the next try of a lease row that failed.
	rescuePause = 10 * time.Minute
)

// rescue takes back the tasks of lapsed leases. When a row makes a step fail, rescue handles each row by itself; the
// faulty row is reported and postponed, so it delays no other.
func (s *Store) rescue(ctx context.Context) (queue.Maintained, error) {
	began, from := time.Now(), s.watermarks.get(markRescue)
	r, err := s.rescueRows(ctx, func(t *txn.Tx, each func(pgx.Rows) error, out *queue.Maintained) {
		t.QueueQuery(lockLapsedLeases, each, arg("watermark", floorParam(from)), arg("limit", rescueStep))
		t.QueueQuery(findNextLapse, nextIn(out), arg("watermark", floorParam(from)))
	})
	if err != nil {
		if !isFaultOfRows(ctx, err) {
			return r.out, err
		}
		return s.rescueEach(ctx)
	}

	// Rows below it were rescued or extended, so the next step does not read their dead index entries. Rows with tasks that this
	// step has left come again.
	if !r.left {
		s.watermarks.set(markRescue, from, later(from, r.top), began)
	}
	r.out.More = r.left || r.rows == rescueStep
	return r.out, s.endRequests(ctx, &r.out)
}

// The statements of rescues.
var (
	lockLapsedLeases = statement("rescue.lock")
	lockLapsedLease  = statement("rescue.lock.one")
	findLapsedLeases = statement("rescue.keys")
	findNextLapse    = statement("rescue.next")
	postponeLease    = statement("rescue.postpone")
)

const opRescue = "rescue tasks"

// leaseKey identifies a lease row.
type leaseKey struct {
	token int64
	part  int16
}

var leaseKeyColumns = table.Of[leaseKey]()

// rescueEach rescues the rows of a step one by one and postpones those that fail.
func (s *Store) rescueEach(ctx context.Context) (queue.Maintained, error) {
	total := queue.Maintained{Moves: map[queue.Status]int{}}
	var keys []leaseKey
	err := s.db.Query(ctx, opRescue, findLapsedLeases, scanRows(leaseKeyColumns, func(k leaseKey) { keys = append(keys, k) }),
		arg("limit", rescueStep))
	if err != nil {
		return total, err
	}

	// Each row has a transaction of its own, so a faulty one takes back no other.
	for _, k := range keys {
		r, err := s.rescueRows(ctx, func(t *txn.Tx, each func(pgx.Rows) error, _ *queue.Maintained) {
			t.QueueQuery(lockLapsedLease, each, arg("token", k.token), arg("part", k.part))
		})
		if err == nil {
			r.out.More = r.left
			addStep(&total, r.out)
			continue
		}
		if !isFaultOfRows(ctx, err) {
			return total, err
		}

		fault, err := s.postponeRescue(ctx, k, err)
		if err != nil {
			return total, err
		}
		total.Faults = append(total.Faults, fault)
	}

	total.More = total.More || len(keys) == rescueStep
	return total, s.endRequests(ctx, &total)
}

// postponeRescue postpones the rescue of one lease row by rescuePause and returns its fault.
func (s *Store) postponeRescue(ctx context.Context, k leaseKey, cause error) (queue.Fault, error) {
	// Known keeps the caller from logging the fault again; the log here has more details.
	fault := queue.Fault{Subject: "lease " + strconv.FormatInt(k.token, 10), Err: cause, Known: true}
	err := s.db.Run(ctx, opRescue, func(ctx context.Context, t *txn.Tx) error {
		return t.Query(ctx, postponeLease, func(rows pgx.Rows) error {
			var namespace, name string
			var ids []int64
			err := rows.Scan(&namespace, &name, &ids)
			fault.Namespace, fault.Subject = namespace, fault.Subject+" of queue "+name
			s.opt.logger.ErrorContext(ctx, "a lease cannot be rescued and is tried again later; run: pgqueue doctor",
				"namespace", namespace, "queue", name, "token", k.token, "part", k.part,
				"tasks", slices.DeleteFunc(ids, func(id int64) bool { return id == 0 }), "again_in", rescuePause, "error", cause)
			return err
		}, arg("delay", int64(rescuePause)), arg("token", k.token), arg("part", k.part))
	})
	return fault, err
}

// rescued is the result of one transaction of a rescue.
type rescued struct {
	out   queue.Maintained
	rows  int
	left  bool      // some tasks stay for the next step: their dead letters have too many bytes
	top   time.Time // latest end among the rows
	moves *moves
}

// rescueRows rescues the lapsed lease rows that lock selects. Tasks with a later lease beat beside their row stay under
// their lease.
func (s *Store) rescueRows(ctx context.Context, lock func(t *txn.Tx, each func(pgx.Rows) error, out *queue.Maintained)) (rescued, error) {
	var r rescued
	rescue := func(ctx context.Context, t *txn.Tx) error {
		r = rescued{out: queue.Maintained{Moves: map[queue.Status]int{}}}
		h := lockedLeases{known: &s.known}
		lock(t, h.scanLease, &r.out)
		if err := h.flushAndReadQueues(ctx, t); err != nil {
			return err
		}

		// An empty step rolls back and writes nothing.
		r.moves = makeMoves(h.now)
		if r.rows = len(h.all); r.rows == 0 {
			return txn.ErrNothing
		}

		records, err := r.readRecords(ctx, t, &h)
		if err != nil {
			return err
		}

		// A lease beat beside a row may have extended one of its leases: that task stays, and the row takes the new end.
		taken := &appliedHeartbeats{}
		merged, err := r.endLeases(&h, taken, records)
		if err != nil {
			return err
		}

		if err := s.writeDeadLetters(ctx, t, r.moves); err != nil {
			return err
		}
		h.shrinkLeases(t)
		taken.writeLeaseRows(t, &h)
		h.queueBeatDeletion(t, merged)
		r.moves.writeAllRows(t)
		return nil
	}
	err := s.db.Run(ctx, opRescue, rescue)
	for r.moves != nil && r.moves.needsPartition(err) {
		if err = s.extendTo(ctx, r.moves.maxLetter); err == nil {
			err = s.db.Run(ctx, opRescue, rescue)
		}
	}
	if txn.IgnoreNothing(err) != nil {
		return r, err
	}

	s.settleDeadLetters(r.moves)
	r.out.Woken, r.out.Tallies = r.moves.woken, r.moves.tallies
	s.notify.NotifyReady(r.moves.woken)
	return r, nil
}

// readRecords reads the records of all tasks and the lease beats of all rows, in one round trip.
func (r *rescued) readRecords(ctx context.Context, t *txn.Tx, h *lockedLeases) (taskRecords, error) {
	records := taskRecords{}
	var queues []int32
	var ids []int64
	var letters []taskPlace // tasks that may leave dead letters
	for _, l := range h.all {
		r.top = later(r.top, l.expiresAt)
		r.out.Lag = max(r.out.Lag, h.now.Sub(l.expiresAt))

		for _, id := range l.ids {
			if id != 0 {
				queues = append(queues, l.q.id)
				ids = append(ids, id)
				if l.q.DeadLetter != "" {
					letters = append(letters, taskPlace{l.q.id, id})
				}
			}
		}
	}

	// A heartbeat that found the row locked has extended it by a lease beat.
	h.beats = map[int64]leaseEnd{}
	t.QueueQuery(readLeaseBeats, h.scanLeaseBeat, arg("tokens", h.listRowTokens()))
	t.QueueQuery(readLives, records.makeScanner(taskLifeColumns, nil), arg("queue_id", queues), arg("id", ids))
	r.moves.queueLetterSizes(t, letters)
	return records, t.Flush(ctx)
}

// endLeases ends the lapsed leases and moves their tasks. taken gets the ends of the leases that a lease beat extended.
// It returns the tokens of all lease beats, which the rows contain now.
func (r *rescued) endLeases(h *lockedLeases, taken *appliedHeartbeats, records taskRecords) (merged []int64, err error) {
	for _, l := range h.all {
		for i, id := range l.ids {
			if id == 0 {
				continue
			}

			// The row replaces its lease beats, also the lapsed ones.
			p := heldTask{l, i, id}
			end, extended := h.beats[p.tokenOfTask()]
			if extended {
				merged = append(merged, p.tokenOfTask())
			}
			if extended && end.at.After(h.now) {
				taken.keepNewEnd(p, end)
				continue
			}

			if r.moves.exceedsLetters(id) {
				r.left = true
				continue
			}

			p.endLease()
			record, ok := records[id]
			if !ok {
				continue // deleted by hand; only the lease ends
			}
			next, err := r.moves.rescueTask(p, record)
			if err != nil {
				return nil, err
			}
			r.out.Moved++
			r.out.Moves[next.Status]++
			if l.q.EventOfLoss(next) == queue.EventQuarantined {
				r.out.Quarantined.Add(l.q.Namespace, l.q.Name, queue.StatusRetained, next.Status, 1)
			}
		}

		if l.newEnds.group != nil {
			l.heldAtLock = l.heldNow // written with its new ends, not by shrinkLeases
		}
	}
	return merged, nil
}

// rescueTask ends a lapsed lease and adds the new state of its task.
func (m *moves) rescueTask(p heldTask, f taskRecord) (queue.Life, error) {
	// Status, attempt and cancel request of a held task are those of its lease row.
	life, held := f.life, p.lifeOfTask()
	life.Status, life.Attempt, life.CancelRequested = held.Status, held.Attempt, held.CancelRequested
	next, err := p.q.Moved(life, queue.MoveLeaseLost, queue.Circumstances{Now: m.now, Jitter: rand.Float64()})
	if err != nil {
		return life, err
	}
	m.wakeForSuspects(p)
	failed := queue.AttemptError{Attempt: life.Attempt, Worker: p.worker, Error: queue.ErrorJSON(queue.LeaseExpired), Kind: p.q.KindOfLoss(next)}
	m.addLeaseEnd(p, f, next, queue.MoveLeaseLost, 0, failed)
	m.addFailure(p.q.id, f.task.ID, failed)
	return next, nil
}
