package cells

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Each method of this file, and of the embedded RoutedStore, goes to the cell of its namespace.

// CreateQueue implements queue.Store. The first queue of a namespace gives it a place.
func (s *Store) CreateQueue(ctx context.Context, q queue.Queue) (*queue.Queue, error) {
	if err := s.settle(ctx, q.Namespace); err != nil {
		return nil, err
	}
	return s.RoutedStore.CreateQueue(ctx, q)
}

// CreateTicker implements queue.Store. The first ticker of a namespace gives it a place.
func (s *Store) CreateTicker(ctx context.Context, t queue.Ticker) (*queue.Ticker, error) {
	if err := s.settle(ctx, t.Namespace); err != nil {
		return nil, err
	}
	return s.RoutedStore.CreateTicker(ctx, t)
}

// UndeliveredRequest implements queue.UndeliveredRequests. A cell without this power keeps no requests.
func (s *Store) UndeliveredRequest(ctx context.Context, namespace, worker, requestID string) error {
	return s.call(ctx, namespace, func(in queue.Store) error {
		u, ok := queue.StoreAs[queue.UndeliveredRequests](in)
		if !ok {
			return nil
		}
		return u.UndeliveredRequest(ctx, namespace, worker, requestID)
	})
}

// QueuesOfTasks implements access.TaskQueues.
func (s *Store) QueuesOfTasks(ctx context.Context, namespace string, ids []int64) (queues map[int64]string, err error) {
	err = s.call(ctx, namespace, func(in queue.Store) (err error) {
		power, ok := queue.StoreAs[access.TaskQueues](in)
		if !ok {
			return &queue.Error{Kind: queue.KindUnavailable, Msg: "the cell cannot read the queues of tasks; use a store that can"}
		}
		queues, err = power.QueuesOfTasks(ctx, namespace, ids)
		return err
	})
	return queues, err
}
