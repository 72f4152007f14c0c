package postgres

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	rescueStep = 50 // lease rows of one step
	// rescuePutOff is the delay before the next try of a lease row that failed.
	rescuePutOff = 10 * time.Minute
)

// rescue takes back the tasks of lapsed leases. When a row makes a step fail, rescue handles each row by itself; the
// faulty row is reported and postponed, so it delays no other.
func (s *Store) rescue(ctx context.Context) (queue.Maintained, error) {
	const name = "rescue"
	began, from := time.Now(), s.watermarks.get(name)
	r, err := s.rescueRows(ctx, func(t *tx, each func(pgx.Rows) error, out *queue.Maintained) {
		t.queueQuery(lockLapsedLeases, each, arg("watermark", floorParam(from)), arg("limit", rescueStep))
		t.queueQuery(findNextLapse, nextIn(out), arg("watermark", floorParam(from)))
	})
	if err != nil {
		if !isFaultOfRows(ctx, err) {
			return r.out, err
		}
		return s.rescueEach(ctx)
	}

	s.watermarks.set(name, from, later(from, r.top), began)
	r.out.More = r.rows == rescueStep
	return r.out, s.endRequests(ctx, &r.out)
}

// The statements of rescues.
var (
	lockLapsedLeases = statement("hold.expired")
	lockLapsedLease  = statement("hold.expired.one")
	findLapsedLeases = statement("hold.expired.keys")
	findNextLapse    = statement("hold.next")
	postponeLease    = statement("hold.putoff")
)

const opRescue = "rescue tasks"

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// rescueEach rescues the rows of a step one by one and postpones those that fail.
func (s *Store) rescueEach(ctx context.Context) (queue.Maintained, error) {
	type key struct {
		token int64
		part  int16
	}
	total := queue.Maintained{Moves: map[queue.Status]int{}}
	var keys []key
	err := s.queryRows(ctx, opRescue, findLapsedLeases, func(rows pgx.Rows) error {
		var k key
		err := rows.Scan(&k.token, &k.part)
		keys = append(keys, k)
		return err
	}, arg("limit", rescueStep))
	if err != nil {
		return total, err
	}

	for _, k := range keys {
		r, err := s.rescueRows(ctx, func(t *tx, each func(pgx.Rows) error, _ *queue.Maintained) {
			t.queueQuery(lockLapsedLease, each, arg("token", k.token), arg("part", k.part))
		})
		if err != nil {
			if !isFaultOfRows(ctx, err) {
				return total, err
			}
			fault, err := s.putOff(ctx, k.token, k.part, err)
			if err != nil {
				return total, err
			}
			total.Faults = append(total.Faults, fault)
			continue
		}

		total.Moved += r.out.Moved
		total.Lag = max(total.Lag, r.out.Lag)
		total.Woken = append(total.Woken, r.out.Woken...)
		total.Tallies.Merge(r.out.Tallies)
		for status, n := range r.out.Moves {
			total.Moves[status] += n
		}
	}

	total.More = len(keys) == rescueStep
	return total, s.endRequests(ctx, &total)
}

// putOff postpones the rescue of one lease row by rescuePutOff and returns its fault.
func (s *Store) putOff(ctx context.Context, token int64, part int16, cause error) (queue.Fault, error) {
	// Known keeps the caller from logging the fault again; the log here has more details.
	fault := queue.Fault{Subject: "lease " + strconv.FormatInt(token, 10), Err: cause, Known: true}
	err := s.runInTx(ctx, opRescue, func(ctx context.Context, t *tx) error {
		return t.queryRows(ctx, postponeLease, func(rows pgx.Rows) error {
			var namespace, name string
			var ids []int64
			err := rows.Scan(&namespace, &name, &ids)
			fault.Namespace, fault.Subject = namespace, fault.Subject+" of queue "+name
			s.opt.logger.ErrorContext(ctx, "a lease cannot be rescued and is tried again later; run: pgqueue doctor",
				"namespace", namespace, "queue", name, "token", token, "part", part,
				"tasks", slices.DeleteFunc(ids, func(id int64) bool { return id == 0 }), "again_in", rescuePutOff, "error", cause)
			return err
		}, arg("delay", int64(rescuePutOff)), arg("token", token), arg("part", part))
	})
	return fault, err
}

// rescued is the result of one transaction of a rescue.
type rescued struct {
	out  queue.Maintained
	rows int
	top  time.Time // latest end among the rows
}

// rescueRows rescues the lapsed lease rows that lock selects. Tasks with a later lease beat beside their row stay under
// their lease.
func (s *Store) rescueRows(ctx context.Context, lock func(t *tx, each func(pgx.Rows) error, out *queue.Maintained)) (rescued, error) {
	var r rescued
	var m *moves
	err := s.runInTx(ctx, opRescue, func(ctx context.Context, t *tx) error {
		r = rescued{out: queue.Maintained{Moves: map[queue.Status]int{}}}
		var h lockedLeases
		lock(t, h.scanLease, &r.out)
		if err := t.flushBatch(ctx); err != nil {
			return err
		}
		m = makeMoves(h.now)
		if r.rows = len(h.all); r.rows == 0 {
			return errNothing
		}

		// The records of all tasks are read in one round trip.
		about := taskRecords{}
		var queues []int32
		var ids []int64
		for _, l := range h.all {
			for _, id := range l.ids {
				if id != 0 {
					queues, ids = append(queues, l.q.id), append(ids, id)
				}
			}
			r.top = later(r.top, l.expiresAt)
			r.out.Lag = max(r.out.Lag, h.now.Sub(l.expiresAt))
		}

		h.beats = map[int64]leaseEnd{}
		t.queueQuery(readLeaseBeats, h.scanLeaseBeat, arg("tokens", h.listRowTokens()))
		if err := t.queryRows(ctx, readLives, about.makeScanner(taskLifeColumns), arg("queue_id", queues), arg("id", ids)); err != nil {
			return err
		}

		taken := &appliedHeartbeats{}
		var merged []int64
		for _, l := range h.all {
			for i, id := range l.ids {
				if id == 0 {
					continue
				}
				p := heldTask{l, i, id}
				if end, ok := h.beats[p.tokenOfTask()]; ok {
					merged = append(merged, p.tokenOfTask())
					if end.at.After(h.now) {
						taken.keepNewEnd(p, end)
						continue
					}
				}

				p.endLease()
				f, ok := about[id]
				if !ok {
					continue // deleted by hand; only the lease ends
				}
				next, err := m.rescueTask(p, f)
				if err != nil {
					return err
				}
				r.out.Moved++
				r.out.Moves[next.Status]++
			}
			if l.newEnds != nil {
				l.held = l.left // written with its new ends, not by shrinkLeases
			}
		}

		h.shrinkLeases(t)
		taken.writeLeaseRows(t, &h)
		h.queueBeatDeletion(t, merged)
		m.writeAllRows(t)
		return nil
	})
	if ignoreNothingToDo(err) != nil {
		return r, err
	}
	r.out.Woken, r.out.Tallies = m.woken, m.tallies
	s.notify.notifyReady(m.woken)
	return r, nil
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
	result := queue.ErrorJSON(queue.LeaseExpired)
	m.addLeaseEnd(p, f, next, queue.MoveLeaseLost, 0, result)
	m.addFailure(p.q.id, f.task.ID, life.Attempt, p.worker, result)
	return next, nil
}
