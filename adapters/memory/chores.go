package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// stepSize bounds one step of a chore.
const stepSize = 1_000

// Maintain does one step of chore. Counts are exact at once, so a fold only writes the history.
func (s *Store) Maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return queue.Maintained{}, err
	}

	defer s.mu.Unlock()

	st := &step{now: now}
	switch chore {
	case queue.ChorePromote:
		s.forEachDue(st, &s.delayed, func(r *record) time.Time { return r.task.DelayedAt }, func(r *record) {
			// The heap of a task follows from its time, so the task leaves it before the time changes.
			s.unplaceTask(r)
			s.placeTask(r, r.task.DelayedAt) // ready since then
			st.recordWakeUp(r.queue)
		})
		s.wakeGroups(st)
	case queue.ChoreRescue:
		st.done.Moves = map[queue.Status]int{}
		s.expireRequests(st)
		s.forEachDue(st, &s.leased, func(r *record) time.Time { return r.lease.ExpiresAt }, func(r *record) {
			if s.rescueTask(r, now) == queue.EventQuarantined {
				st.done.Quarantined.Add(r.task.Namespace, r.task.Queue, queue.StatusRetained, r.task.Status, 1)
			}
			st.done.Moves[r.task.Status]++
			st.done.Tallies.Add(r.task.Namespace, r.task.Queue, queue.StatusRetained, r.task.Status, 1)
			// A rescued task that waits for its backoff is not ready, so it wakes no caller.
			if r.queue.ready.countItems() > 0 && r.queue.isWithinLimits(now) {
				st.recordWakeUp(r.queue)
			}
		})
	case queue.ChoreExpire:
		s.forEachDue(st, &s.expiring, func(r *record) time.Time { return r.task.DiesAt }, func(r *record) {
			st.done.Tallies.Add(r.task.Namespace, r.task.Queue, r.task.Status, queue.StatusExpired, 1)
			s.expireTask(r, now)
		})
	case queue.ChorePrune:
		s.pruneDeleted(st)
		if _, _, err := s.PruneSessions(ctx); err != nil { // it fails for an ended context alone
			return queue.Maintained{}, err
		}
	case queue.ChoreTick:
		s.fireTickers(st)
	case queue.ChoreFold:
		s.closeMinutes(now)
	default:
		return queue.Maintained{}, queue.Invalid("chore", fmt.Sprintf("must be one of queue.Chores(), got %.64q", chore))
	}

	return st.done, nil
}

// step is one step of a chore while it is made.
type step struct {
	now  time.Time
	done queue.Maintained
}

// forEachDue does what is due in h, earliest first. do must remove the record from h. Tasks of deleted queues are removed.
func (s *Store) forEachDue(st *step, h *heap[*record], due func(*record) time.Time, do func(*record)) {
	for r, ok := h.earliest(); ok; r, ok = h.earliest() {
		if r.queue.gone {
			s.removeTask(r, st.now)
			continue
		}
		at := due(r)
		// The heap is ordered by time, so the first one that is not due ends the step.
		if at.After(st.now) {
			st.done.NextIn = at.Sub(st.now)
			return
		}
		if st.done.Moved == stepSize {
			st.done.More = true
			return
		}
		st.recordLag(at)
		do(r)
		st.done.Moved++
	}
}

func (st *step) recordLag(due time.Time) { st.done.Lag = max(st.done.Lag, st.now.Sub(due)) }

func (st *step) recordWakeUp(qs *queueState) {
	w := queue.Wake{Namespace: qs.settings.Namespace, Queue: qs.settings.Name}
	if slices.Contains(st.done.Woken, w) {
		return
	}
	st.done.Woken = append(st.done.Woken, w)
}

// rescueTask takes a task back from a worker with a lapsed lease. It returns the kind of the event.
func (s *Store) rescueTask(r *record, now time.Time) queue.EventKind {
	failed := queue.AttemptError{Error: queue.ErrorJSON(queue.LeaseExpired)}
	r.task.Result = failed.Error
	s.moveAllowed(r, queue.MoveLeaseLost, queue.Circumstances{Now: now, Jitter: s.jitter()})
	after := r.task.Life()
	// The life of a task has no losses, because callers never see them.
	after.Losses = r.losses
	failed.Kind = r.queue.settings.KindOfLoss(after)
	r.appendAttemptError(failed, now)
	kind := r.queue.settings.EventOfLoss(after)
	s.recordEvent(r, kind, "", now)
	s.writeDeadLetter(r, failed.Kind, now)
	return kind
}

func (s *Store) expireTask(r *record, now time.Time) {
	s.moveAllowed(r, queue.MoveExpire, queue.Circumstances{Now: now})
	s.recordEvent(r, queue.EventExpired, "", now)
}

// moveAllowed moves r; a refused move is a defect, because the lists hold r only while the move is allowed.
func (s *Store) moveAllowed(r *record, m queue.Move, c queue.Circumstances) {
	if err := s.moveTask(r, m, c); err != nil {
		panic("memory: a task is where it does not belong: " + err.Error())
	}
}

// pruneDeleted deletes tasks of deleted queues, then finished tasks past their retention.
func (s *Store) pruneDeleted(st *step) {
	s.replanTickers(st.now)
	for len(s.dropped) > 0 && st.done.Moved < stepSize {
		qs := s.dropped[0]
		for r := range qs.roster.eachNewestFirst() {
			if st.done.Moved == stepSize {
				break
			}
			s.removeTask(r, st.now)
			st.done.Moved++
		}
		// A queue stays in the list until its last task has left, also over several steps.
		if len(qs.roster.rows) == qs.roster.removed {
			s.dropped = s.dropped[1:]
		}
	}

	if st.done.More = len(s.dropped) > 0; st.done.More {
		return
	}

	for _, sp := range s.spaces {
		for _, qs := range sp.queues {
			if s.pruneQueue(qs, st); st.done.More {
				return
			}
		}
	}
}

// pruneQueue deletes tasks of qs that are past their retention.
func (s *Store) pruneQueue(qs *queueState, st *step) {
	for r, ok := qs.done.earliest(); ok; r, ok = qs.done.earliest() {
		leaves := r.task.FinishedAt.Add(qs.settings.FinishedStay())
		// NextIn is the least over all queues, so a queue with a later end does not delay another.
		if in := leaves.Sub(st.now); in > 0 {
			if st.done.NextIn == 0 || in < st.done.NextIn {
				st.done.NextIn = in
			}
			return
		}
		if st.done.Moved >= stepSize {
			st.done.More = true
			return
		}
		st.recordLag(leaves)
		s.removeTask(r, st.now)
		st.done.Moved++
	}
}
