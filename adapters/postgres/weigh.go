package postgres

import (
	"context"
	"slices"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// A retain is bounded in bytes as well as in tasks. Runs of ready tasks do not tell how large their tasks are, so a process
// remembers what those of each queue weighed. A retain that stays below its bound by that reads its tasks together with the
// writing of the leases, as one without a bound does. Any other reads them first, piece by piece, until the bound is reached,
// and makes the others ready again in the same transaction. A process that was wrong keeps a bounded part of what it reads,
// and hands back the rest.

const (
	// unknownBytes is what a task may weigh whose queue was not retained from: the largest payload by default.
	unknownBytes = queue.DefaultMaxPayloadBytes
	// firstPiece is how many tasks of such queues are read at once.
	firstPiece = 4
	// weightDecay: the largest size of late shrinks by this part with each retain that sees smaller ones.
	weightDecay = 8
	// wrongBy is how many times the bound a process keeps of what it reads when it was wrong.
	wrongBy = 2
	// maxKeep bounds that over all requests of a call.
	maxKeep = 64 << 20
)

// weight is what the tasks of a queue weighed of late, in bytes; 0 = not known.
type weight struct{ average, largest int }

// recordSizes notes what retained tasks weighed.
func (q *queueLanes) recordSizes(tasks, bytes, largest int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	average := bytes / tasks
	if old := q.weighed.average; old != 0 {
		average = old + (average-old)/4
	}
	q.weighed = weight{average: max(average, 1), largest: max(largest, q.weighed.largest-q.weighed.largest/weightDecay)}
}

// estimateSize is what tasks of the queue weighed of late.
func (q *queueLanes) estimateSize() weight {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.weighed
}

// weighPicked notes what picked tasks weighed, each run of one queue.
func (s *Store) weighPicked(picked []pickedTask) {
	for len(picked) > 0 {
		id, n, bytes, largest := picked[0].q.id, 0, 0, 0
		for n < len(picked) && picked[n].q.id == id {
			size := picked[n].task.Bytes()
			bytes, largest = bytes+size, max(largest, size)
			n++
		}
		s.lanes.lanesOfQueue(id).recordSizes(n, bytes, largest)
		picked = picked[n:]
	}
}

// limitTasks is how many tasks to pick for requests: no more than some twice of what fits by what the queues' tasks weigh.
func (s *Store) limitTasks(requests []queue.RetainShare, queues []*storedQueue) (total int) {
	average := -1
	for _, r := range requests {
		limit := r.Limit
		if r.MaxBytes > 0 && limit > 1 {
			if average < 0 {
				average = s.leastAverage(queues)
			}
			if average > 0 {
				limit = min(limit, 2*r.MaxBytes/average+1)
			}
		}
		total += limit
	}
	return total
}

// leastAverage is the least average weight of queues; 0 when that of one is not known.
func (s *Store) leastAverage(queues []*storedQueue) int {
	least := 0
	for i, q := range queues {
		average := s.lanes.lanesOfQueue(q.id).estimateSize().average
		if least = min(least, average); i == 0 {
			least = average
		}
	}
	return least
}

// fitsForSure says that picked tasks stay below the bounds of requests, by what tasks of their queues weighed.
func (s *Store) fitsForSure(requests []queue.RetainShare, picked []pickedTask) bool {
	largest := 0
	for i, k := range picked {
		if i > 0 && k.q == picked[i-1].q {
			continue
		}
		w := s.lanes.lanesOfQueue(k.q.id).estimateSize().largest
		if w == 0 {
			w = unknownBytes
		}
		largest = max(largest, w)
	}

	for _, r := range requests {
		if n := min(r.Limit, len(picked)); r.MaxBytes > 0 && n > 1 && n*largest > r.MaxBytes {
			return false
		}
	}

	return true
}

// sumKeptBytes is how much of the payloads of requests a process keeps that was wrong about their size; 0 = all.
func sumKeptBytes(requests []queue.RetainShare) (most int) {
	for _, r := range requests {
		if r.MaxBytes == 0 {
			return 0
		}
		most += wrongBy*r.MaxBytes + unknownBytes
	}
	return min(most, maxKeep)
}

// sharing gives tasks to requests, one request after the other.
type sharing struct {
	requests     []queue.RetainShare
	at           int // the request that is served
	tasks, bytes int // what it has
}

// takeShare finds the request that gets a task of size bytes; false when none has room.
func (s *sharing) takeShare(size int) (share int, ok bool) {
	for ; s.at < len(s.requests); s.at++ {
		if r := s.requests[s.at]; s.tasks < r.Limit && r.TakesBytes(s.tasks, s.bytes, size) {
			s.tasks, s.bytes = s.tasks+1, s.bytes+size
			return s.at, true
		}
		s.tasks, s.bytes = 0, 0
	}
	return 0, false
}

// shareOutTasks gives picked tasks to requests by number alone.
func shareOutTasks(requests []queue.RetainShare, picked []pickedTask) {
	s := sharing{requests: requests}
	for i := range picked {
		share, _ := s.takeShare(0)     // never more are picked than requests ask for
		picked[i].share = int16(share) //nolint:gosec // at most queue.MaxBatch
	}
}

// measurePicked reads picked tasks until the requests are full, gives those to them, and makes the others ready again. Tasks that
// have their payload are not read.
func (s *Store) measurePicked(ctx context.Context, t *tx, requests []queue.RetainShare, p *claim) error {
	share := sharing{requests: requests}
	fit, largest, left := 0, 0, 0
	for _, r := range requests {
		left += r.MaxBytes
	}

	for piece, full := firstPiece, false; fit < len(p.out) && !full; {
		part := p.out[fit:min(fit+piece, len(p.out))]
		unread := slices.DeleteFunc(slices.Clone(part), func(k pickedTask) bool { return k.task.Payload != nil })
		if len(unread) > 0 {
			keep := 0 // of one task all
			if piece > 1 {
				keep = left + unknownBytes
			}
			queueTaskReading(t, unread, keep)
			if err := t.flushBatch(ctx); err != nil {
				return err
			}
		}

		next := 4 * piece
		for i := range part {
			if part[i].task.Payload == nil { // the piece was larger than it seemed: the next begins here
				next = 1
				break
			}
			size := part[i].task.Bytes()
			to, ok := share.takeShare(size)
			if full = !ok; full {
				break
			}
			part[i].share = int16(to) //nolint:gosec // at most queue.MaxBatch
			largest, left = max(largest, size), max(left-size, 0)
			fit++
		}

		piece = max(min(next, left/max(largest, 1)), 1)
	}

	rest := p.out[fit:]
	p.out = p.out[:fit]
	p.restorePicked(rest)
	return nil
}

// restoredRun is a run of picked tasks that become ready again.
type restoredRun struct {
	turn     int64
	id       int64
	queueID  int32
	priority int16
	attempt  int16
	n        int16
}

var restoredRunColumns = table.New(
	table.Col("turn", func(r *restoredRun) *int64 { return &r.turn }),
	table.Col("id", func(r *restoredRun) *int64 { return &r.id }),
	table.Col("queue_id", func(r *restoredRun) *int32 { return &r.queueID }),
	table.Col("priority", func(r *restoredRun) *int16 { return &r.priority }),
	table.Col("attempt", func(r *restoredRun) *int16 { return &r.attempt }),
	table.Col("n", func(r *restoredRun) *int16 { return &r.n }),
)

// restorePicked makes picked tasks ready again, as they were.
func (p *claim) restorePicked(picked []pickedTask) {
	var runs []restoredRun
	for i := range picked {
		k := &picked[i]
		if i > 0 && k.run == picked[i-1].run && k.turn == picked[i-1].turn+1 {
			runs[len(runs)-1].n++
			continue
		}
		runs = append(runs, restoredRun{turn: k.turn, id: k.task.ID, queueID: k.q.id, priority: k.priority, attempt: k.attempt, n: 1})
		p.rests = append(p.rests, remainder{lanes: p.store.lanes.lanesOfQueue(k.q.id), priority: k.priority, turn: k.turn})
	}
	if len(runs) == 0 {
		return
	}

	p.restored = picked
	p.tx.queueStatement(restoreRuns, restoredRunColumns.Arrays(nil, runs)...)
}

// returnSurplus hands back, after the commit, what is beyond the bounds because this process was wrong about its size.
func (s *Store) returnSurplus(ctx context.Context, r queue.Retain, out [][]*queue.Task) {
	var back []queue.Release
	for i, tasks := range out {
		bytes := 0
		for n, t := range tasks {
			size := t.Bytes()
			if t.Payload != nil && r.Requests[i].TakesBytes(n, bytes, size) {
				bytes += size
				continue
			}

			for _, t := range tasks[n:] {
				back = append(back, queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeHandBack, Quiet: true})
			}

			out[i] = tasks[:n:n]
			break
		}
	}

	if len(back) == 0 {
		return
	}
	// What cannot be handed back comes back when its lease runs out.
	_, _ = s.ReleaseTasks(context.WithoutCancel(ctx), r.Namespace, back)
}
