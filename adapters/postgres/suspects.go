package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// A suspect is a task that has lost its lease and that no worker has released since. A bit of the attempt in its narrow rows
// marks it. In a queue with max_lease_losses a worker holds at most one: a pick takes the first that it meets, if a worker of
// its requests holds none, and leaves the others. Only a pick that meets one looks at the leases of its workers.

// suspectBit marks a suspect in the attempt of ready, delayed, group_waiting and lease rows.
const suspectBit = queue.MaxAttempt + 1

// healthy is the suffix of picks that pass over suspects.
const healthy = ".healthy"

// suspectPause is the delay before the next look at a group that waits for the end of another suspect.
const suspectPause = time.Second

// attemptOfRow decodes the attempt of a narrow row.
func attemptOfRow(attempt int16) int { return int(attempt &^ suspectBit) }

// leaseAttempt returns the attempt of a lease row for a task that a narrow row had with failed attempts and the mark.
func leaseAttempt(failed int16) int16 {
	return int16(min(attemptOfRow(failed)+1, queue.MaxAttempt)) | failed&suspectBit //nolint:gosec // at most MaxAttempt
}

// isSuspect reports whether a row with this attempt stands for a suspect of a queue that cares.
func (q *storedQueue) isSuspect(attempt int16) bool {
	return attempt&suspectBit != 0 && q.MaxLeaseLosses > 0
}

// isSuspect reports whether the held task has lost a lease before.
func (p heldTask) isSuspect() bool {
	return len(p.attempts) > 0 && p.attempts[p.index]&suspectBit != 0
}

// wakeForSuspects wakes callers that wait for the queue of p: the worker may hold another suspect now.
func (m *moves) wakeForSuspects(p heldTask) {
	if p.isSuspect() {
		m.woken = append(m.woken, queue.Wake{Namespace: p.q.Namespace, Queue: p.q.Name})
	}
}

// pickedSuspect is the suspect of a pick.
type pickedSuspect struct {
	met    bool
	id     int64 // 0 after the pick has left it
	place  pgtype.TID
	looked bool
	busy   map[string]bool // workers that hold a suspect, or that another retain serves
	free   int             // requests of other workers
}

// isAllowed reports whether a worker may get the suspect.
func (s *pickedSuspect) isAllowed() bool { return s.free > 0 }

// takeSuspect makes the task the suspect of this pick; false if the pick has another.
func (p *claim) takeSuspect(id int64, place pgtype.TID) bool {
	if p.suspect.met {
		return false
	}
	p.suspect.met, p.suspect.id, p.suspect.place = true, id, place
	return true
}

// choosePick returns the statement of the next search: after the first suspect it passes over all of them.
func (p *claim) choosePick(all, healthy sqltext.Statement) sqltext.Statement {
	if p.suspect.met {
		return healthy
	}
	return all
}

// The statements about suspects.
var (
	lockSuspectWorkers = statement("retain.suspect.lock")
	findSuspectWorkers = statement("retain.suspect.workers")
)

// lockFreeWorkers locks the workers of the requests that hold no suspect, and counts them. The locks keep other retains of these workers
// from choosing them at the same time.
func (p *claim) lockFreeWorkers(ctx context.Context) error {
	if p.suspect.looked {
		return nil
	}
	p.suspect.looked = true

	var workers []string
	for _, r := range p.requests {
		if !slices.Contains(workers, r.Worker) {
			workers = append(workers, r.Worker)
		}
	}
	p.suspect.busy = make(map[string]bool, len(workers))
	for _, w := range workers {
		p.suspect.busy[w] = true
	}

	p.tx.QueueQuery(lockSuspectWorkers, scanEach(func(w string) { delete(p.suspect.busy, w) }), arg("namespace", p.namespace), arg("workers", workers))
	err := p.tx.Query(ctx, findSuspectWorkers, scanEach(func(w string) { p.suspect.busy[w] = true }), arg("namespace", p.namespace), arg("workers", workers))
	for _, r := range p.requests {
		if !p.suspect.busy[r.Worker] {
			p.suspect.free++
		}
	}
	return err
}

// leaveSuspect leaves the suspect in its row, which the pick has locked.
func (p *claim) leaveSuspect() {
	i := slices.IndexFunc(p.out, func(k pickedTask) bool { return k.task.ID == p.suspect.id })
	if p.suspect.id == 0 || i < 0 {
		return
	}
	k := p.out[i]
	p.out = slices.Delete(p.out, i, i+1)
	p.whole = slices.DeleteFunc(p.whole, func(at pgtype.TID) bool { return at == p.suspect.place })
	p.took[k.q.id]--
	p.rests = append(p.rests, remainder{lanes: p.store.lanes.lanesOfQueue(k.q.id), lane: k.lane, turn: k.turn})
	p.suspect.id = 0
}

// keepSuspects makes the next pick begin at the suspects that a pick without tasks has left.
func (p *claim) keepSuspects() {
	if p.suspect.met {
		for _, r := range p.rests {
			r.lanes.recordRemainder(r.lane, r.turn)
		}
	}
}

// giveSuspect gives the suspect among the first fit tasks to a worker that holds none, in exchange for another task.
func (p *claim) giveSuspect(requests []queue.RetainShare, fit int) {
	i := slices.IndexFunc(p.out[:fit], func(k pickedTask) bool { return k.task.ID == p.suspect.id })
	if p.suspect.id == 0 || i < 0 || p.out[i].share == groupElsewhere || !p.suspect.busy[requests[p.out[i].share].Worker] {
		return
	}

	tasks := make([]int, len(requests))
	for at := range p.out[:fit] {
		k := &p.out[at]
		if k.share == groupElsewhere {
			continue
		}
		tasks[k.share]++
		if !p.suspect.busy[requests[k.share].Worker] && !k.isOfBatch() && !p.out[i].isOfBatch() {
			k.share, p.out[i].share = p.out[i].share, k.share
			return
		}
	}
	for share, r := range requests {
		if !p.suspect.busy[r.Worker] && tasks[share] < r.Limit {
			p.out[i].share = int16(share) //nolint:gosec // at most queue.MaxBatch
			return
		}
	}
}

// findSuspects looks for workers without a suspect if this round has met one.
func (g *groupPick) findSuspects(ctx context.Context) error {
	met := slices.ContainsFunc(g.met, func(m metRun) bool { return g.q.isSuspect(m.attempt) })
	for _, group := range g.groups {
		met = met || slices.ContainsFunc(group.waiting, func(id int64) bool { return g.q.isSuspect(g.place[id].attempt) })
	}
	if !met {
		return nil
	}
	return g.lockFreeWorkers(ctx)
}

// admitsSuspect reports whether a task may start as far as suspects are concerned.
func (g *groupPick) admitsSuspect(c candidate) bool {
	if !g.q.isSuspect(c.attempt) {
		return true
	}
	g.takeSuspect(c.id, pgtype.TID{})
	return g.suspect.id == c.id && g.suspect.isAllowed()
}

// putOffSuspects takes the suspects out of the waiting tasks of a group that may not start now. A later look finds them.
func (g *groupPick) putOffSuspects(group *pickedGroup, byID map[int64]candidate) {
	before := len(group.waiting)
	group.waiting = slices.DeleteFunc(group.waiting, func(id int64) bool { return !g.admitsSuspect(byID[id]) })
	if len(group.waiting) < before {
		g.wakes = append(g.wakes, wakeRow{dueAt: truncateToMicros(g.now.Add(suspectPause)), queueID: g.q.id, grp: group.grp})
	}
}

// cutSuspects returns the tasks of a FIFO group up to the first that may not start now: those behind it wait too.
func (g *groupPick) cutSuspects(ids []int64, byID map[int64]candidate) []int64 {
	for i, id := range ids {
		if !g.admitsSuspect(byID[id]) {
			return ids[:i]
		}
	}
	return ids
}
