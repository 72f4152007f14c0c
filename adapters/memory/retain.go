package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// RetainTasks serves the requests in order. Of several queues the one that was served the longest ago comes first, and
// each gives one task a round.
func (s *Store) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.retainBatch(r, now)
}

// retainBatch is RetainTasks under the mutex.
func (s *Store) retainBatch(r queue.Retain, now time.Time) ([][]*queue.Task, error) {
	queues, err := s.findNamespace(r.Namespace).chooseQueues(r.Queues)
	if err != nil {
		return nil, err
	}

	out := make([][]*queue.Task, len(r.Requests))
	bytes := 0
	for i, share := range r.Requests {
		if r.EndsBefore(i, bytes) {
			return out[:i], nil
		}

		// Before each request, because a request changes which queue was served last.
		slices.SortFunc(queues, func(a, b *queueState) int {
			return cmp.Or(cmp.Compare(a.lastServedTurn, b.lastServedTurn), cmp.Compare(a.settings.Name, b.settings.Name))
		})
		if out[i], err = s.retainRepeatable(r.Namespace, queues, share, now); err != nil {
			return nil, err
		}
		bytes += queue.TaskBytes(out[i])
	}

	for _, qs := range queues {
		// No event wakes a caller at the end of a limit of time, so the caller sets a timer.
		if next := qs.nextStart(now); !next.IsZero() && qs.ready.countItems() > 0 {
			r.ReportLater(qs.settings.Name, next.Sub(now))
		}
	}
	return out, nil
}

// chooseQueues returns the queues with these names that have tasks ready; without names, all that have.
func (sp *namespaceState) chooseQueues(names []string) ([]*queueState, error) {
	var queues []*queueState
	if len(names) == 0 {
		for qs := range sp.busy {
			queues = append(queues, qs)
		}
		return queues, nil
	}

	for _, n := range names {
		qs, err := sp.findQueue(n)
		if err != nil {
			return nil, err
		}
		if qs.ready.countItems() > 0 {
			queues = append(queues, qs)
		}
	}

	return queues, nil
}

func (s *Store) retainShare(queues []*queueState, share queue.RetainShare, now time.Time) []*queue.Task {
	tasks := []*queue.Task{}
	bytes := 0
	// Tasks that one search sets aside belong to the next one again.
	defer func() {
		for _, qs := range queues {
			qs.returnAside()
		}
	}()
	for taken := true; taken; {
		taken = false
		for _, qs := range queues {
			left := max(share.Limit, 1) - len(tasks)
			if left <= 0 {
				return tasks
			}
			for _, r := range s.nextReadyTasks(qs, share.Worker, now, left) {
				size := r.task.Bytes()
				// The task was not leased yet, so it stays ready for the next request.
				if !share.TakesBytes(len(tasks), bytes, size) {
					return tasks
				}
				bytes += size
				tasks = append(tasks, s.leaseTask(r, share, now))
				taken = true
			}
		}
	}

	return tasks
}

// nextReadyTasks returns the first task of qs that may be retained now, or in a FIFO queue the first ones of its group, at most
// most. Tasks past their ttl are skipped; ChoreExpire ends them.
func (s *Store) nextReadyTasks(qs *queueState, worker string, now time.Time, most int) []*record {
	for qs.isWithinLimits(now) {
		r := qs.firstReadyTask()
		if r == nil {
			return nil
		}
		if !queue.Expired(r.task.Life(), now) {
			if !s.takesSuspect(r, worker) {
				s.setAside(qs, r, now)
				continue
			}
			if starts := s.chooseStarts(r, now, min(most, qs.countFreeStarts(now, most))); len(starts) > 0 {
				return s.cutSuspects(starts, worker)
			}
			continue
		}
		// The task leaves the ready tasks, or each search would meet it until the expirer runs.
		qs.leaveFairShare(r)
		qs.ready.removeItem(r)
		qs.oldest.removeItem(r)
		if g := qs.groups[r.task.Group]; g != nil {
			g.offered--
			s.offerNext(g, now)
		}
		r.heap = &qs.overdue
		qs.overdue.pushItem(r)
	}
	return nil
}

// countFreeStarts is how many of n tasks the limits of the queue let start now.
func (qs *queueState) countFreeStarts(now time.Time, n int) int {
	if qs.settings.Concurrency > 0 {
		n = min(n, qs.settings.Concurrency-int(qs.countRetained()))
	}
	n, _, _ = qs.settings.Rate().Admit(qs.rateState, now, n)
	return n
}

func (s *Store) leaseTask(r *record, share queue.RetainShare, now time.Time) *queue.Task {
	// Tokens of all tasks come from one counter, so that a later retain of any task has a larger one.
	lease := cmp.Or(share.Lease, r.queue.settings.Lease)
	s.startTask(r, now)
	s.lastToken++
	r.lease = queue.Lease{Token: s.lastToken, ExpiresAt: now.Add(lease), Duration: lease}
	if err := s.moveTask(r, queue.MoveRetain, queue.Circumstances{Now: now}); err != nil {
		panic("memory: a ready task that cannot be retained: " + err.Error())
	}

	// A repeat of the release of an earlier lease must fail from now on.
	r.releasedToken = 0
	r.task.Worker, r.task.StartedAt = share.Worker, now
	if r.losses > 0 {
		s.suspects[workerKey{r.queue.namespace.name, share.Worker}] = r
	}
	s.turns++
	r.queue.lastServedTurn = s.turns
	s.recordEvent(r, queue.EventRetained, share.Worker, now)
	// The state of the group has changed with the start, so another task of it may be the next.
	if g := r.queue.groups[r.task.Group]; g != nil {
		s.offerNext(g, now)
	}
	return r.copyHeldTask()
}

// copyHeldTask copies a retained task with its lease, for the answer of a retain.
func (r *record) copyHeldTask() *queue.Task {
	t := r.copyTask()
	held := r.lease
	held.InOrder = r.queue.settings.RunsBatches()
	t.Lease = &held
	return t
}
