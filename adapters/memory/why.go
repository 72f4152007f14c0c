package memory

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ReadFacts returns what decides why a queue, or a task of it, does not proceed.
func (s *Store) ReadFacts(ctx context.Context, namespace, name string, t *queue.Task) (queue.StoreFacts, error) {
	qs, now, err := s.lockQueue(ctx, namespace, name)
	if err != nil {
		return queue.StoreFacts{}, err
	}
	defer s.mu.Unlock()

	f := queue.StoreFacts{Now: now}
	var id int64
	if t != nil {
		id = t.ID
	}
	s.readHolds(&f, qs, id)
	s.readDelays(&f, qs, id)
	f.NextStart = qs.nextStart(now)
	if t != nil {
		if g := qs.groups[t.Group]; g != nil {
			f.Group = g.describe(now)
		}
	}
	return f, nil
}

// readHolds fills in the holds of a queue, and that of the task id; 0 = none.
func (s *Store) readHolds(f *queue.StoreFacts, qs *queueState, id int64) {
	for _, r := range s.leased.order.items {
		if r.queue != qs {
			continue
		}

		h := &queue.Hold{Task: r.task.ID, Worker: r.task.Worker, Since: r.task.StartedAt, ExpiresAt: r.lease.ExpiresAt}
		if h.Task == id {
			f.Present = h
		}
		// The id decides between equal times, so that two calls name the same task.
		if f.Oldest == nil || h.Since.Before(f.Oldest.Since) || h.Since.Equal(f.Oldest.Since) && h.Task < f.Oldest.Task {
			f.Oldest = h
		}
		// A lease past its end says that the rescuer is late. The earliest one shows by how much.
		if !f.Now.Before(h.ExpiresAt) && (f.ExpiredAt.IsZero() || h.ExpiresAt.Before(f.ExpiredAt)) {
			f.ExpiredAt = h.ExpiresAt
		}
	}
}

// readDelays fills in the first time of the delayed tasks of a queue, and whether the task id is due; 0 = none.
func (s *Store) readDelays(f *queue.StoreFacts, qs *queueState, id int64) {
	for _, r := range s.delayed.order.items {
		if r.queue != qs {
			continue
		}

		due := r.task.DelayedAt
		if f.DueAt.IsZero() || due.Before(f.DueAt) {
			f.DueAt = due
		}
		if r.task.ID == id && !f.Now.Before(due) {
			f.Unpromoted = true
		}
	}
}
