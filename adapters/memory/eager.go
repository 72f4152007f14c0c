package memory

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateAndRetain creates tasks, and serves the requests when any of them is ready.
func (s *Store) CreateAndRetain(ctx context.Context, c queue.Create, r queue.Retain) ([]queue.Created, [][]*queue.Task, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, nil, err
	}

	defer s.mu.Unlock()

	// The counter grows with each task that becomes ready, so an equal one needs no search.
	before := s.ready
	made, err := s.createBatch(c, now)
	if err != nil {
		return nil, nil, err
	}

	none := make([][]*queue.Task, len(r.Requests))
	if s.ready == before {
		return made, none, nil
	}

	outs, err := s.retainBatch(r, now)
	if err != nil {
		return made, none, nil // the creation stands, as its contract says
	}

	return made, outs, nil
}
