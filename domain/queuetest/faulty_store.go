package queuetest

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The methods of the Store, each through call.

// CreateTasks of the store, unless a fault hits it.
func (s *Faulty) CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error) {
	return call(ctx, s, func() ([]queue.Created, error) { return s.store.CreateTasks(ctx, c) }, "CreateTasks")
}

// RetainTasks of the store, unless a fault hits it.
func (s *Faulty) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	return call(ctx, s, func() ([][]*queue.Task, error) { return s.store.RetainTasks(ctx, r) }, "RetainTasks")
}

// CreateAndRetain of the store, unless a fault hits it.
func (s *Faulty) CreateAndRetain(ctx context.Context, c queue.Create, r queue.Retain) ([]queue.Created, [][]*queue.Task, error) {
	type answer struct {
		made []queue.Created
		outs [][]*queue.Task
	}
	a, err := call(ctx, s, func() (answer, error) {
		made, outs, err := s.store.CreateAndRetain(ctx, c, r)
		return answer{made, outs}, err
	}, "CreateAndRetain")
	return a.made, a.outs, err
}

// HeartbeatTasks of the store, unless a fault hits it.
func (s *Faulty) HeartbeatTasks(ctx context.Context, namespace string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	return call(ctx, s, func() ([]queue.Beat, error) { return s.store.HeartbeatTasks(ctx, namespace, beats) }, "HeartbeatTasks")
}

// ReleaseTasks of the store, unless a fault hits it.
func (s *Faulty) ReleaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	return call(ctx, s, func() ([]queue.Released, error) { return s.store.ReleaseTasks(ctx, namespace, releases) }, "ReleaseTasks")
}

// GetTasks of the store, unless a fault hits it.
func (s *Faulty) GetTasks(ctx context.Context, namespace string, ids []int64, withErrors bool) ([]*queue.Task, error) {
	return call(ctx, s, func() ([]*queue.Task, error) { return s.store.GetTasks(ctx, namespace, ids, withErrors) }, "GetTasks")
}

// EndedTasks of the store, unless a fault hits it.
func (s *Faulty) EndedTasks(ctx context.Context, namespace string, ids []int64) ([]int64, error) {
	return call(ctx, s, func() ([]int64, error) { return s.store.EndedTasks(ctx, namespace, ids) }, "EndedTasks")
}

// ListTasks of the store, unless a fault hits it.
func (s *Faulty) ListTasks(ctx context.Context, namespace string, q queue.TaskQuery) (queue.TaskPage, error) {
	return call(ctx, s, func() (queue.TaskPage, error) { return s.store.ListTasks(ctx, namespace, q) }, "ListTasks")
}

// CancelTasks of the store, unless a fault hits it.
func (s *Faulty) CancelTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return call(ctx, s, func() (queue.Bulk, error) { return s.store.CancelTasks(ctx, namespace, sel) }, "CancelTasks")
}

// RetryTasks of the store, unless a fault hits it.
func (s *Faulty) RetryTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return call(ctx, s, func() (queue.Bulk, error) { return s.store.RetryTasks(ctx, namespace, sel) }, "RetryTasks")
}

// DeleteTasks of the store, unless a fault hits it.
func (s *Faulty) DeleteTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return call(ctx, s, func() (queue.Bulk, error) { return s.store.DeleteTasks(ctx, namespace, sel) }, "DeleteTasks")
}

// ListWorkers of the store, unless a fault hits it.
func (s *Faulty) ListWorkers(ctx context.Context, namespace string) ([]queue.Worker, error) {
	return call(ctx, s, func() ([]queue.Worker, error) { return s.store.ListWorkers(ctx, namespace) }, "ListWorkers")
}

// CreateQueue of the store, unless a fault hits it.
func (s *Faulty) CreateQueue(ctx context.Context, q queue.Queue) (*queue.Queue, error) {
	return call(ctx, s, func() (*queue.Queue, error) { return s.store.CreateQueue(ctx, q) }, "CreateQueue")
}

// GetQueue of the store, unless a fault hits it.
func (s *Faulty) GetQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	return call(ctx, s, func() (*queue.Queue, error) { return s.store.GetQueue(ctx, namespace, name) }, "GetQueue")
}

// ListQueues of the store, unless a fault hits it.
func (s *Faulty) ListQueues(ctx context.Context, namespace string, p queue.Page) (queue.QueuePage, error) {
	return call(ctx, s, func() (queue.QueuePage, error) { return s.store.ListQueues(ctx, namespace, p) }, "ListQueues")
}

// UpdateQueue of the store, unless a fault hits it.
func (s *Faulty) UpdateQueue(ctx context.Context, namespace, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	return call(ctx, s, func() (*queue.Queue, error) { return s.store.UpdateQueue(ctx, namespace, name, meta) }, "UpdateQueue")
}

// DeleteQueue of the store, unless a fault hits it.
func (s *Faulty) DeleteQueue(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Queue, error) {
	return call(ctx, s, func() (*queue.Queue, error) { return s.store.DeleteQueue(ctx, namespace, name, only...) }, "DeleteQueue")
}

// CleanQueue of the store, unless a fault hits it.
func (s *Faulty) CleanQueue(ctx context.Context, namespace, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	return call(ctx, s, func() (queue.Cleaned, error) { return s.store.CleanQueue(ctx, namespace, name, within, only...) }, "CleanQueue")
}

// QueueStats of the store, unless a fault hits it.
func (s *Faulty) QueueStats(ctx context.Context, namespace, name string) ([]*queue.QueueStats, error) {
	return call(ctx, s, func() ([]*queue.QueueStats, error) { return s.store.QueueStats(ctx, namespace, name) }, "QueueStats")
}

// ListNamespaces of the store, unless a fault hits it.
func (s *Faulty) ListNamespaces(ctx context.Context) ([]string, error) {
	return call(ctx, s, func() ([]string, error) { return s.store.ListNamespaces(ctx) }, "ListNamespaces")
}

// CreateTicker of the store, unless a fault hits it.
func (s *Faulty) CreateTicker(ctx context.Context, t queue.Ticker) (*queue.Ticker, error) {
	return call(ctx, s, func() (*queue.Ticker, error) { return s.store.CreateTicker(ctx, t) }, "CreateTicker")
}

// GetTicker of the store, unless a fault hits it.
func (s *Faulty) GetTicker(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
	return call(ctx, s, func() (*queue.Ticker, error) { return s.store.GetTicker(ctx, namespace, name) }, "GetTicker")
}

// ListTickers of the store, unless a fault hits it.
func (s *Faulty) ListTickers(ctx context.Context, namespace string, p queue.Page) (queue.TickerPage, error) {
	return call(ctx, s, func() (queue.TickerPage, error) { return s.store.ListTickers(ctx, namespace, p) }, "ListTickers")
}

// UpdateTicker of the store, unless a fault hits it.
func (s *Faulty) UpdateTicker(ctx context.Context, namespace, name string, meta queue.TickerMeta, maxPayloadBytes int) (*queue.Ticker, error) {
	return call(ctx, s, func() (*queue.Ticker, error) {
		return s.store.UpdateTicker(ctx, namespace, name, meta, maxPayloadBytes)
	}, "UpdateTicker")
}

// DeleteTicker of the store, unless a fault hits it.
func (s *Faulty) DeleteTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	return call(ctx, s, func() (*queue.Ticker, error) { return s.store.DeleteTicker(ctx, namespace, name, only...) }, "DeleteTicker")
}

// RunTicker of the store, unless a fault hits it.
func (s *Faulty) RunTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	return call(ctx, s, func() (*queue.Tick, error) { return s.store.RunTicker(ctx, namespace, name, only...) }, "RunTicker")
}

// ListTicks of the store, unless a fault hits it.
func (s *Faulty) ListTicks(ctx context.Context, namespace, name string, limit int) ([]queue.Tick, error) {
	return call(ctx, s, func() ([]queue.Tick, error) { return s.store.ListTicks(ctx, namespace, name, limit) }, "ListTicks")
}

// TakeTicks of the store, unless a fault hits it.
func (s *Faulty) TakeTicks(ctx context.Context, namespace string, limit int, hold time.Duration) ([]queue.Tick, time.Duration, error) {
	type answer struct {
		ticks []queue.Tick
		next  time.Duration
	}
	a, err := call(ctx, s, func() (answer, error) {
		ticks, next, err := s.store.TakeTicks(ctx, namespace, limit, hold)
		return answer{ticks, next}, err
	}, "TakeTicks")
	return a.ticks, a.next, err
}

// SettleTicks of the store, unless a fault hits it.
func (s *Faulty) SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error {
	_, err := call(ctx, s, func() (struct{}, error) { return struct{}{}, s.store.SettleTicks(ctx, namespace, ids, delivered) }, "SettleTicks")
	return err
}

// ListEvents of the store, unless a fault hits it.
func (s *Faulty) ListEvents(ctx context.Context, namespace string, filter queue.EventFilter, limit int) (queue.EventPage, error) {
	return call(ctx, s, func() (queue.EventPage, error) { return s.store.ListEvents(ctx, namespace, filter, limit) }, "ListEvents")
}

// LastEvent of the store, unless a fault hits it.
func (s *Faulty) LastEvent(ctx context.Context) (string, error) {
	return call(ctx, s, func() (string, error) { return s.store.LastEvent(ctx) }, "LastEvent")
}

// Maintain of the store, unless a fault hits it.
func (s *Faulty) Maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	return call(ctx, s, func() (queue.Maintained, error) { return s.store.Maintain(ctx, chore) }, "Maintain:"+string(chore), "Maintain")
}

// Ping of the store, unless a fault hits it.
func (s *Faulty) Ping(ctx context.Context) error {
	_, err := call(ctx, s, func() (struct{}, error) { return struct{}{}, s.store.Ping(ctx) }, "Ping")
	return err
}
