package memory

import (
	"context"
	"maps"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// requestKey names a retain with a request id.
type requestKey struct{ namespace, worker, id string }

// request is the answer of such a retain, for its repeats.
type request struct {
	arguments string
	expiresAt time.Time
	ids       []int64
	tokens    []int64
	// given counts its answers, lost those that were not delivered.
	given, lost int
}

// retainRepeatable serves one share. The repeat of a request gets the tasks of its first answer, as far as it still has them.
func (s *Store) retainRepeatable(namespace string, queues []*queueState, share queue.RetainShare, now time.Time) ([]*queue.Task, error) {
	if share.RequestID == "" {
		return s.retainShare(queues, share, now), nil
	}

	key := requestKey{namespace, share.Worker, share.RequestID}
	if known := s.requests[key]; known != nil && now.Before(known.expiresAt) {
		// An id that comes back with other arguments is a mistake of the caller, and an old answer would hide it.
		if known.arguments != share.Arguments {
			return nil, queue.RequestReused()
		}
		known.given++
		tasks := []*queue.Task{}
		for i, id := range known.ids {
			// Tasks that were released or rescued meanwhile are left out: their tokens are void.
			if r := s.tasks[id]; r != nil && r.task.Status == queue.StatusRetained && r.lease.Token == known.tokens[i] {
				tasks = append(tasks, r.copyHeldTask())
			}
		}
		return tasks, nil
	}

	s.expireRequest(key, now)
	tasks := s.retainShare(queues, share, now)
	// An empty answer is not kept, so that a repeat finds tasks that came meanwhile.
	if len(tasks) == 0 {
		return tasks, nil
	}

	made := &request{arguments: share.Arguments, expiresAt: now.Add(queue.RequestTime), given: 1}
	for _, t := range tasks {
		made.ids = append(made.ids, t.ID)
		made.tokens = append(made.tokens, t.Lease.Token)
		// Behind the first end of a lease, a repeat could no longer give what the first answer gave.
		if t.Lease.ExpiresAt.Before(made.expiresAt) {
			made.expiresAt = t.Lease.ExpiresAt
		}
	}

	s.requests[key] = made
	return tasks, nil
}

// UndeliveredRequest notes that an answer of a request was not delivered.
func (s *Store) UndeliveredRequest(ctx context.Context, namespace, worker, requestID string) error {
	if _, err := s.lockStore(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if r := s.requests[requestKey{namespace, worker, requestID}]; r != nil {
		r.lost++
	}
	return nil
}

// expireRequests removes requests past their time, and hands back the tasks of undelivered ones.
func (s *Store) expireRequests(st *step) {
	for key, r := range maps.Clone(s.requests) {
		if st.now.Before(r.expiresAt) {
			continue
		}
		for _, back := range s.expireRequest(key, st.now) {
			st.done.Moved++
			st.recordWakeUp(back.queue)
		}
	}
}

// expireRequest forgets one request and returns the tasks that it handed back.
func (s *Store) expireRequest(key requestKey, now time.Time) []*record {
	r := s.requests[key]
	delete(s.requests, key)
	// One answer that arrived is enough: then a worker has the tasks.
	if r == nil || r.lost < r.given {
		return nil
	}

	var all []*record
	for i, id := range r.ids {
		held := s.tasks[id]
		if held == nil || held.queue.gone {
			continue
		}
		// The attempt is not spent: no handler has seen the task.
		rel := queue.Release{ID: id, Token: r.tokens[i], Outcome: queue.OutcomeHandBack}
		if back, replayed, err := s.releaseTask(key.namespace, rel, now); err == nil && !replayed {
			all = append(all, back)
		}
	}
	return all
}
