package postgres

import (
	"context"
	"slices"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// A retain has a limit in bytes as well as in tasks. Ready rows do not contain the sizes of their tasks, so a process
// records the sizes of each queue's retained tasks. If these predict a retain within its limit, its tasks are read
// together with the writes of the leases, as without a limit. Any other retain first reads its tasks, piece by piece,
// until it reaches the limit. It makes the rest ready again in the same transaction. After a wrong prediction a process
// keeps a bounded part of the read bytes and hands back the rest.

const (
	// unknownBytes is the assumed size of a task of a queue without records: the default limit of a payload.
	unknownBytes = queue.DefaultMaxPayloadBytes
	// firstPiece is the number of tasks that the first read of such a queue takes.
	firstPiece = 4
	// weightDecay is the divisor of the decay: each retain with smaller tasks lowers the recorded largest size by
	// 1/weightDecay.
	weightDecay = 8
	// wrongBy limits the bytes that a process keeps after a wrong prediction, as a multiple of the limit.
	wrongBy = 2
	// maxKeep bounds these bytes over all requests of a call.
	maxKeep = 64 << 20
)

// weight is the recent size of a queue's tasks in bytes; 0 = unknown.
type weight struct{ average, largest int }

// recordSizes records the sizes of retained tasks.
func (q *queueLanes) recordSizes(tasks, bytes, largest int) {
	q.mu.Lock()
	defer q.mu.Unlock()

	// The moving average follows a change of the sizes within a few retains.
	average := bytes / tasks
	if old := q.weighed.average; old != 0 {
		average = old + (average-old)/4
	}
	q.weighed = weight{average: max(average, 1), largest: max(largest, q.weighed.largest-q.weighed.largest/weightDecay)}
}

// estimateSize returns the recent size of the queue's tasks.
func (q *queueLanes) estimateSize() weight {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.weighed
}

// weighPicked records the sizes of picked tasks, once for each run of one queue.
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

// limitTasks returns the number of tasks to pick for requests. It is at most about twice the number that fits by the
// recent sizes.
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

// leastAverage returns the smallest average size of queues; 0 if the size of one is unknown.
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

// fitsForSure reports whether the picked tasks stay below the limits of requests, by the recent sizes of their queues.
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

// sumKeptBytes returns the bytes of payloads that a process keeps for requests after a wrong prediction; 0 = all.
func sumKeptBytes(requests []queue.RetainShare) (most int) {
	for _, r := range requests {
		if r.MaxBytes == 0 {
			return 0
		}
		most += wrongBy*r.MaxBytes + unknownBytes
	}
	return min(most, maxKeep)
}

// sharing assigns tasks to requests, one request after the other.
type sharing struct {
	requests     []queue.RetainShare
	at           int // index of the present request
	tasks, bytes int // sums of the present request
}

// takeShare returns the request that gets a task of size bytes; false if all requests are full.
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

// shareOutTasks assigns the picked tasks to requests by number alone.
func shareOutTasks(requests []queue.RetainShare, picked []pickedTask) {
	s := sharing{requests: requests}
	for i := range picked {
		share, _ := s.takeShare(0)     // requests ask for at least as many tasks as were picked
		picked[i].share = int16(share) //nolint:gosec // at most queue.MaxBatch
	}
}

// measurePicked reads picked tasks until the requests are full. It assigns those tasks and makes the others ready
// again. It does not read tasks with a present payload again.
func (s *Store) measurePicked(ctx context.Context, t *txn.Tx, requests []queue.RetainShare, p *claim) error {
	share := sharing{requests: requests}
	fit, largest, left := 0, 0, 0
	for _, r := range requests {
		left += r.MaxBytes
	}

	// A piece has at most four times the tasks of the last one, and no more than fit by the largest size so far.
	for piece, full := firstPiece, false; fit < len(p.out) && !full; {
		part := p.out[fit:min(fit+piece, len(p.out))]
		unread := slices.DeleteFunc(slices.Clone(part), func(k pickedTask) bool { return k.task.Payload != nil })
		if len(unread) > 0 {
			keep := 0 // all of a single task
			if piece > 1 {
				keep = left + unknownBytes
			}
			queueTaskReading(t, unread, keep)
			if err := t.Flush(ctx); err != nil {
				return err
			}
		}

		next := 4 * piece
		for i := range part {
			if part[i].task.Payload == nil { // the piece exceeded the expected bytes: the next one starts here
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

	// The rest returns to the ready rows in the same transaction.
	rest := p.out[fit:]
	p.out = p.out[:fit]
	p.restorePicked(rest)
	return nil
}

// restorePicked returns picked tasks to the ready rows, with their old turns.
func (p *claim) restorePicked(picked []pickedTask) {
	var runs []readyRow
	for i := range picked {
		k := &picked[i]
		if i > 0 && k.run == picked[i-1].run && k.turn == picked[i-1].turn+1 {
			runs[len(runs)-1].n++
			continue
		}
		runs = append(runs, readyRow{turn: k.turn, taskID: k.task.ID, queueID: k.q.id, priority: k.priority, attempt: k.attempt, n: 1})
		p.rests = append(p.rests, remainder{lanes: p.store.lanes.lanesOfQueue(k.q.id), priority: k.priority, turn: k.turn})
	}
	if len(runs) == 0 {
		return
	}

	p.restored = picked
	p.tx.Queue(restoreRuns, runColumns.Arrays(nil, runs)...)
}

// returnSurplus hands back tasks after the commit that exceed the limits because the prediction was wrong.
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

			// The request gets tasks in order, so all tasks behind the first one too many go back.
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
	// A failed hand-back is harmless: the task comes back when its lease lapses.
	_, _ = s.ReleaseTasks(context.WithoutCancel(ctx), r.Namespace, back)
}
