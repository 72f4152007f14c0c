package cells

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Each method of this file goes to the cell of its namespace.

// CreateTasks implements queue.Store.
func (s *Store) CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error) {
	return call(ctx, s, c.Namespace, func(in queue.Store) ([]queue.Created, error) { return in.CreateTasks(ctx, c) })
}

// RetainTasks implements queue.Store.
func (s *Store) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	return call(ctx, s, r.Namespace, func(in queue.Store) ([][]*queue.Task, error) { return in.RetainTasks(ctx, r) })
}

// HeartbeatTasks implements queue.Store.
func (s *Store) HeartbeatTasks(ctx context.Context, namespace string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	return call(ctx, s, namespace, func(in queue.Store) ([]queue.Beat, error) { return in.HeartbeatTasks(ctx, namespace, beats) })
}

// ReleaseTasks implements queue.Store.
func (s *Store) ReleaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	return call(ctx, s, namespace, func(in queue.Store) ([]queue.Released, error) { return in.ReleaseTasks(ctx, namespace, releases) })
}

// GetTasks implements queue.Store.
func (s *Store) GetTasks(ctx context.Context, namespace string, ids []int64, withErrors bool) ([]*queue.Task, error) {
	return call(ctx, s, namespace, func(in queue.Store) ([]*queue.Task, error) { return in.GetTasks(ctx, namespace, ids, withErrors) })
}

// EndedTasks implements queue.Store.
func (s *Store) EndedTasks(ctx context.Context, namespace string, ids []int64) ([]int64, error) {
	return call(ctx, s, namespace, func(in queue.Store) ([]int64, error) { return in.EndedTasks(ctx, namespace, ids) })
}

// ReadFacts implements queue.Store.
func (s *Store) ReadFacts(ctx context.Context, namespace, name string, t *queue.Task) (queue.StoreFacts, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.StoreFacts, error) { return in.ReadFacts(ctx, namespace, name, t) })
}

// ListFailures implements queue.Store.
func (s *Store) ListFailures(ctx context.Context, namespace, name string) (*queue.Failures, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Failures, error) { return in.ListFailures(ctx, namespace, name) })
}

// ListTasks implements queue.Store.
func (s *Store) ListTasks(ctx context.Context, namespace string, q queue.TaskQuery) (queue.TaskPage, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.TaskPage, error) { return in.ListTasks(ctx, namespace, q) })
}

// CancelTasks implements queue.Store.
func (s *Store) CancelTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.Bulk, error) { return in.CancelTasks(ctx, namespace, sel) })
}

// RetryTasks implements queue.Store.
func (s *Store) RetryTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.Bulk, error) { return in.RetryTasks(ctx, namespace, sel) })
}

// DeleteTasks implements queue.Store.
func (s *Store) DeleteTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.Bulk, error) { return in.DeleteTasks(ctx, namespace, sel) })
}

// ListWorkers implements queue.Store.
func (s *Store) ListWorkers(ctx context.Context, namespace string) ([]queue.Worker, error) {
	return call(ctx, s, namespace, func(in queue.Store) ([]queue.Worker, error) { return in.ListWorkers(ctx, namespace) })
}

// GetQueue implements queue.Store.
func (s *Store) GetQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Queue, error) { return in.GetQueue(ctx, namespace, name) })
}

// ListQueues implements queue.Store.
func (s *Store) ListQueues(ctx context.Context, namespace string, p queue.Page) (queue.QueuePage, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.QueuePage, error) { return in.ListQueues(ctx, namespace, p) })
}

// UpdateQueue implements queue.Store.
func (s *Store) UpdateQueue(ctx context.Context, namespace, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Queue, error) { return in.UpdateQueue(ctx, namespace, name, meta) })
}

// DeleteQueue implements queue.Store.
func (s *Store) DeleteQueue(ctx context.Context, namespace, name string, only ...queue.DeleteCondition) (*queue.Queue, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Queue, error) { return in.DeleteQueue(ctx, namespace, name, only...) })
}

// CleanQueue implements queue.Store.
func (s *Store) CleanQueue(ctx context.Context, namespace, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.Cleaned, error) {
		return in.CleanQueue(ctx, namespace, name, within, only...)
	})
}

// QueueStats implements queue.Store.
func (s *Store) QueueStats(ctx context.Context, namespace, name string) ([]*queue.QueueStats, error) {
	return call(ctx, s, namespace, func(in queue.Store) ([]*queue.QueueStats, error) { return in.QueueStats(ctx, namespace, name) })
}

// ListGroups implements queue.Store.
func (s *Store) ListGroups(ctx context.Context, namespace, name string, q queue.GroupQuery) (queue.GroupPage, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.GroupPage, error) { return in.ListGroups(ctx, namespace, name, q) })
}

// UpdateGroup implements queue.Store.
func (s *Store) UpdateGroup(ctx context.Context, namespace, name, group string, meta queue.GroupMeta) (*queue.Group, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Group, error) { return in.UpdateGroup(ctx, namespace, name, group, meta) })
}

// UnblockGroup implements queue.Store.
func (s *Store) UnblockGroup(ctx context.Context, namespace, name, group string) (*queue.Group, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Group, error) { return in.UnblockGroup(ctx, namespace, name, group) })
}

// QueueHistory implements queue.Store.
func (s *Store) QueueHistory(ctx context.Context, namespace, name string, q queue.HistoryQuery) (*queue.QueueHistory, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.QueueHistory, error) { return in.QueueHistory(ctx, namespace, name, q) })
}

// GetTicker implements queue.Store.
func (s *Store) GetTicker(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Ticker, error) { return in.GetTicker(ctx, namespace, name) })
}

// ListTickers implements queue.Store.
func (s *Store) ListTickers(ctx context.Context, namespace string, p queue.Page) (queue.TickerPage, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.TickerPage, error) { return in.ListTickers(ctx, namespace, p) })
}

// UpdateTicker implements queue.Store.
func (s *Store) UpdateTicker(ctx context.Context, namespace, name string, meta queue.TickerMeta, maxPayloadBytes int) (*queue.Ticker, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Ticker, error) {
		return in.UpdateTicker(ctx, namespace, name, meta, maxPayloadBytes)
	})
}

// DeleteTicker implements queue.Store.
func (s *Store) DeleteTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Ticker, error) { return in.DeleteTicker(ctx, namespace, name, only...) })
}

// RunTicker implements queue.Store.
func (s *Store) RunTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	return call(ctx, s, namespace, func(in queue.Store) (*queue.Tick, error) { return in.RunTicker(ctx, namespace, name, only...) })
}

// ListTicks implements queue.Store.
func (s *Store) ListTicks(ctx context.Context, namespace, name string, limit int) ([]queue.Tick, error) {
	return call(ctx, s, namespace, func(in queue.Store) ([]queue.Tick, error) { return in.ListTicks(ctx, namespace, name, limit) })
}

// ListEvents implements queue.Store.
func (s *Store) ListEvents(ctx context.Context, namespace string, f queue.EventFilter, limit int) (queue.EventPage, error) {
	return call(ctx, s, namespace, func(in queue.Store) (queue.EventPage, error) { return in.ListEvents(ctx, namespace, f, limit) })
}

// LastEvent implements queue.Store.
func (s *Store) LastEvent(ctx context.Context, namespace string) (string, error) {
	return call(ctx, s, namespace, func(in queue.Store) (string, error) { return in.LastEvent(ctx, namespace) })
}

// CreateAndRetain implements queue.Store.
func (s *Store) CreateAndRetain(ctx context.Context, c queue.Create, r queue.Retain) ([]queue.Created, [][]*queue.Task, error) {
	var tasks [][]*queue.Task
	created, err := call(ctx, s, c.Namespace, func(in queue.Store) (created []queue.Created, err error) {
		created, tasks, err = in.CreateAndRetain(ctx, c, r)
		return created, err
	})
	return created, tasks, err
}

// CreateQueue implements queue.Store. The first queue of a namespace gives it a place.
func (s *Store) CreateQueue(ctx context.Context, q queue.Queue) (*queue.Queue, error) {
	if err := s.settle(ctx, q.Namespace); err != nil {
		return nil, err
	}
	return call(ctx, s, q.Namespace, func(in queue.Store) (*queue.Queue, error) { return in.CreateQueue(ctx, q) })
}

// CreateTicker implements queue.Store. The first ticker of a namespace gives it a place.
func (s *Store) CreateTicker(ctx context.Context, t queue.Ticker) (*queue.Ticker, error) {
	if err := s.settle(ctx, t.Namespace); err != nil {
		return nil, err
	}
	return call(ctx, s, t.Namespace, func(in queue.Store) (*queue.Ticker, error) { return in.CreateTicker(ctx, t) })
}

// TakeTicks implements queue.Store.
func (s *Store) TakeTicks(ctx context.Context, namespace string, limit int, hold time.Duration) ([]queue.Tick, time.Duration, error) {
	var next time.Duration
	ticks, err := call(ctx, s, namespace, func(in queue.Store) (ticks []queue.Tick, err error) {
		ticks, next, err = in.TakeTicks(ctx, namespace, limit, hold)
		return ticks, err
	})
	return ticks, next, err
}

// SettleTicks implements queue.Store.
func (s *Store) SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error {
	_, err := call(ctx, s, namespace, func(in queue.Store) (struct{}, error) {
		return struct{}{}, in.SettleTicks(ctx, namespace, ids, delivered)
	})
	return err
}

// UndeliveredRequest implements queue.UndeliveredRequests. A cell without this power keeps no requests.
func (s *Store) UndeliveredRequest(ctx context.Context, namespace, worker, requestID string) error {
	_, err := call(ctx, s, namespace, func(in queue.Store) (struct{}, error) {
		u, ok := queue.StoreAs[queue.UndeliveredRequests](in)
		if !ok {
			return struct{}{}, nil
		}
		return struct{}{}, u.UndeliveredRequest(ctx, namespace, worker, requestID)
	})
	return err
}

// QueuesOfTasks implements access.TaskQueues.
func (s *Store) QueuesOfTasks(ctx context.Context, namespace string, ids []int64) (map[int64]string, error) {
	return call(ctx, s, namespace, func(in queue.Store) (map[int64]string, error) {
		power, ok := queue.StoreAs[access.TaskQueues](in)
		if !ok {
			return nil, &queue.Error{Kind: queue.KindUnavailable, Msg: "the cell cannot read the queues of tasks; use a store that can"}
		}
		return power.QueuesOfTasks(ctx, namespace, ids)
	})
}
