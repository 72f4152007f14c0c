package queuetest

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The methods of the Store, each through call.

// CreateTasks of the store, unless a fault hits it.
func (f *Faulty) CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error) {
	return call(ctx, f, func() ([]queue.Created, error) { return f.store.CreateTasks(ctx, c) }, "CreateTasks")
}

// RetainTasks of the store, unless a fault hits it.
func (f *Faulty) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	return call(ctx, f, func() ([][]*queue.Task, error) { return f.store.RetainTasks(ctx, r) }, "RetainTasks")
}

// HeartbeatTasks of the store, unless a fault hits it.
func (f *Faulty) HeartbeatTasks(ctx context.Context, namespace string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	return call(ctx, f, func() ([]queue.Beat, error) { return f.store.HeartbeatTasks(ctx, namespace, beats) }, "HeartbeatTasks")
}

// ReleaseTasks of the store, unless a fault hits it.
func (f *Faulty) ReleaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	return call(ctx, f, func() ([]queue.Released, error) { return f.store.ReleaseTasks(ctx, namespace, releases) }, "ReleaseTasks")
}

// GetTasks of the store, unless a fault hits it.
func (f *Faulty) GetTasks(ctx context.Context, namespace string, ids []int64, withErrors bool) ([]*queue.Task, error) {
	return call(ctx, f, func() ([]*queue.Task, error) { return f.store.GetTasks(ctx, namespace, ids, withErrors) }, "GetTasks")
}

// ListTasks of the store, unless a fault hits it.
func (f *Faulty) ListTasks(ctx context.Context, namespace string, q queue.TaskQuery) (queue.TaskPage, error) {
	return call(ctx, f, func() (queue.TaskPage, error) { return f.store.ListTasks(ctx, namespace, q) }, "ListTasks")
}

// CancelTasks of the store, unless a fault hits it.
func (f *Faulty) CancelTasks(ctx context.Context, namespace string, s queue.Selection) (queue.Bulk, error) {
	return call(ctx, f, func() (queue.Bulk, error) { return f.store.CancelTasks(ctx, namespace, s) }, "CancelTasks")
}

// RetryTasks of the store, unless a fault hits it.
func (f *Faulty) RetryTasks(ctx context.Context, namespace string, s queue.Selection) (queue.Bulk, error) {
	return call(ctx, f, func() (queue.Bulk, error) { return f.store.RetryTasks(ctx, namespace, s) }, "RetryTasks")
}

// DeleteTasks of the store, unless a fault hits it.
func (f *Faulty) DeleteTasks(ctx context.Context, namespace string, s queue.Selection) (queue.Bulk, error) {
	return call(ctx, f, func() (queue.Bulk, error) { return f.store.DeleteTasks(ctx, namespace, s) }, "DeleteTasks")
}

// ListWorkers of the store, unless a fault hits it.
func (f *Faulty) ListWorkers(ctx context.Context, namespace string) ([]queue.Worker, error) {
	return call(ctx, f, func() ([]queue.Worker, error) { return f.store.ListWorkers(ctx, namespace) }, "ListWorkers")
}

// CreateQueue of the store, unless a fault hits it.
func (f *Faulty) CreateQueue(ctx context.Context, q queue.Queue) (*queue.Queue, error) {
	return call(ctx, f, func() (*queue.Queue, error) { return f.store.CreateQueue(ctx, q) }, "CreateQueue")
}

// GetQueue of the store, unless a fault hits it.
func (f *Faulty) GetQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	return call(ctx, f, func() (*queue.Queue, error) { return f.store.GetQueue(ctx, namespace, name) }, "GetQueue")
}

// ListQueues of the store, unless a fault hits it.
func (f *Faulty) ListQueues(ctx context.Context, namespace string, p queue.Page) (queue.QueuePage, error) {
	return call(ctx, f, func() (queue.QueuePage, error) { return f.store.ListQueues(ctx, namespace, p) }, "ListQueues")
}

// UpdateQueue of the store, unless a fault hits it.
func (f *Faulty) UpdateQueue(ctx context.Context, namespace, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	return call(ctx, f, func() (*queue.Queue, error) { return f.store.UpdateQueue(ctx, namespace, name, meta) }, "UpdateQueue")
}

// DeleteQueue of the store, unless a fault hits it.
func (f *Faulty) DeleteQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	return call(ctx, f, func() (*queue.Queue, error) { return f.store.DeleteQueue(ctx, namespace, name) }, "DeleteQueue")
}

// CleanQueue of the store, unless a fault hits it.
func (f *Faulty) CleanQueue(ctx context.Context, namespace, name string) (int64, error) {
	return call(ctx, f, func() (int64, error) { return f.store.CleanQueue(ctx, namespace, name) }, "CleanQueue")
}

// QueueStats of the store, unless a fault hits it.
func (f *Faulty) QueueStats(ctx context.Context, namespace, name string) ([]*queue.QueueStats, error) {
	return call(ctx, f, func() ([]*queue.QueueStats, error) { return f.store.QueueStats(ctx, namespace, name) }, "QueueStats")
}

// ListNamespaces of the store, unless a fault hits it.
func (f *Faulty) ListNamespaces(ctx context.Context) ([]string, error) {
	return call(ctx, f, func() ([]string, error) { return f.store.ListNamespaces(ctx) }, "ListNamespaces")
}

// CreateTicker of the store, unless a fault hits it.
func (f *Faulty) CreateTicker(ctx context.Context, t queue.Ticker) (*queue.Ticker, error) {
	return call(ctx, f, func() (*queue.Ticker, error) { return f.store.CreateTicker(ctx, t) }, "CreateTicker")
}

// GetTicker of the store, unless a fault hits it.
func (f *Faulty) GetTicker(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
	return call(ctx, f, func() (*queue.Ticker, error) { return f.store.GetTicker(ctx, namespace, name) }, "GetTicker")
}

// ListTickers of the store, unless a fault hits it.
func (f *Faulty) ListTickers(ctx context.Context, namespace string, p queue.Page) (queue.TickerPage, error) {
	return call(ctx, f, func() (queue.TickerPage, error) { return f.store.ListTickers(ctx, namespace, p) }, "ListTickers")
}

// UpdateTicker of the store, unless a fault hits it.
func (f *Faulty) UpdateTicker(ctx context.Context, namespace, name string, meta queue.TickerMeta, maxPayloadBytes int) (*queue.Ticker, error) {
	return call(ctx, f, func() (*queue.Ticker, error) {
		return f.store.UpdateTicker(ctx, namespace, name, meta, maxPayloadBytes)
	}, "UpdateTicker")
}

// DeleteTicker of the store, unless a fault hits it.
func (f *Faulty) DeleteTicker(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
	return call(ctx, f, func() (*queue.Ticker, error) { return f.store.DeleteTicker(ctx, namespace, name) }, "DeleteTicker")
}

// RunTicker of the store, unless a fault hits it.
func (f *Faulty) RunTicker(ctx context.Context, namespace, name string) (*queue.Tick, error) {
	return call(ctx, f, func() (*queue.Tick, error) { return f.store.RunTicker(ctx, namespace, name) }, "RunTicker")
}

// ListTicks of the store, unless a fault hits it.
func (f *Faulty) ListTicks(ctx context.Context, namespace, name string, limit int) ([]queue.Tick, error) {
	return call(ctx, f, func() ([]queue.Tick, error) { return f.store.ListTicks(ctx, namespace, name, limit) }, "ListTicks")
}

// TakeTicks of the store, unless a fault hits it.
func (f *Faulty) TakeTicks(ctx context.Context, namespace string, limit int, hold time.Duration) ([]queue.Tick, time.Duration, error) {
	type answer struct {
		ticks []queue.Tick
		next  time.Duration
	}
	a, err := call(ctx, f, func() (answer, error) {
		ticks, next, err := f.store.TakeTicks(ctx, namespace, limit, hold)
		return answer{ticks, next}, err
	}, "TakeTicks")
	return a.ticks, a.next, err
}

// SettleTicks of the store, unless a fault hits it.
func (f *Faulty) SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error {
	_, err := call(ctx, f, func() (struct{}, error) { return struct{}{}, f.store.SettleTicks(ctx, namespace, ids, delivered) }, "SettleTicks")
	return err
}

// ListEvents of the store, unless a fault hits it.
func (f *Faulty) ListEvents(ctx context.Context, namespace string, filter queue.EventFilter, limit int) (queue.EventPage, error) {
	return call(ctx, f, func() (queue.EventPage, error) { return f.store.ListEvents(ctx, namespace, filter, limit) }, "ListEvents")
}

// LastEvent of the store, unless a fault hits it.
func (f *Faulty) LastEvent(ctx context.Context) (string, error) {
	return call(ctx, f, func() (string, error) { return f.store.LastEvent(ctx) }, "LastEvent")
}

// Maintain of the store, unless a fault hits it.
func (f *Faulty) Maintain(ctx context.Context, chore queue.Chore) (queue.Maintained, error) {
	return call(ctx, f, func() (queue.Maintained, error) { return f.store.Maintain(ctx, chore) }, "Maintain:"+string(chore), "Maintain")
}

// Ping of the store, unless a fault hits it.
func (f *Faulty) Ping(ctx context.Context) error {
	_, err := call(ctx, f, func() (struct{}, error) { return struct{}{}, f.store.Ping(ctx) }, "Ping")
	return err
}
