package telemetry

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// stored is one call of the store that is timed and nothing else.
func stored[T any](ctx context.Context, s *store, o op, namespace string, call func(context.Context) (T, error)) (T, error) {
	ctx, span := s.t.within(ctx, "store", o, namespace, nil)
	start := stopwatch()
	out, err := call(ctx)
	took := stopwatch() - start
	end(span, err)
	if s.t.m != nil {
		s.t.m.store.done(o, took, err)
	}
	return out, err
}

func (s *store) GetTasks(ctx context.Context, namespace string, ids []int64, withErrors bool) ([]*queue.Task, error) {
	return stored(ctx, s, opGetTasks, namespace, func(ctx context.Context) ([]*queue.Task, error) {
		return s.next.GetTasks(ctx, namespace, ids, withErrors)
	})
}

func (s *store) EndedTasks(ctx context.Context, namespace string, ids []int64) ([]int64, error) {
	return stored(ctx, s, opGetTasks, namespace, func(ctx context.Context) ([]int64, error) {
		return s.next.EndedTasks(ctx, namespace, ids)
	})
}

func (s *store) ListTasks(ctx context.Context, namespace string, q queue.TaskQuery) (queue.TaskPage, error) {
	return stored(ctx, s, opListTasks, namespace, func(ctx context.Context) (queue.TaskPage, error) {
		return s.next.ListTasks(ctx, namespace, q)
	})
}

func (s *store) CancelTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	out, err := stored(ctx, s, opCancelTasks, namespace, func(ctx context.Context) (queue.Bulk, error) {
		return s.next.CancelTasks(ctx, namespace, sel)
	})
	s.bulk(out) // also after an error: steps before it were done
	return out, err
}

func (s *store) RetryTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	out, err := stored(ctx, s, opRetryTasks, namespace, func(ctx context.Context) (queue.Bulk, error) {
		return s.next.RetryTasks(ctx, namespace, sel)
	})
	s.bulk(out) // also after an error: steps before it were done
	return out, err
}

func (s *store) DeleteTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	out, err := stored(ctx, s, opDeleteTasks, namespace, func(ctx context.Context) (queue.Bulk, error) {
		return s.next.DeleteTasks(ctx, namespace, sel)
	})
	s.bulk(out) // also after an error: steps before it were done
	return out, err
}

func (s *store) ListWorkers(ctx context.Context, namespace string) ([]queue.Worker, error) {
	return stored(ctx, s, opListWorkers, namespace, func(ctx context.Context) ([]queue.Worker, error) {
		return s.next.ListWorkers(ctx, namespace)
	})
}

func (s *store) CreateQueue(ctx context.Context, q queue.Queue) (*queue.Queue, error) {
	return stored(ctx, s, opCreateQueue, q.Namespace, func(ctx context.Context) (*queue.Queue, error) {
		return s.next.CreateQueue(ctx, q)
	})
}

func (s *store) GetQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	return stored(ctx, s, opGetQueue, namespace, func(ctx context.Context) (*queue.Queue, error) {
		return s.next.GetQueue(ctx, namespace, name)
	})
}

func (s *store) ListQueues(ctx context.Context, namespace string, p queue.Page) (queue.QueuePage, error) {
	return stored(ctx, s, opListQueues, namespace, func(ctx context.Context) (queue.QueuePage, error) {
		return s.next.ListQueues(ctx, namespace, p)
	})
}

func (s *store) UpdateQueue(ctx context.Context, namespace, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	return stored(ctx, s, opUpdateQueue, namespace, func(ctx context.Context) (*queue.Queue, error) {
		return s.next.UpdateQueue(ctx, namespace, name, meta)
	})
}

func (s *store) DeleteQueue(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Queue, error) {
	return stored(ctx, s, opDeleteQueue, namespace, func(ctx context.Context) (*queue.Queue, error) {
		return s.next.DeleteQueue(ctx, namespace, name, only...)
	})
}

func (s *store) CleanQueue(ctx context.Context, namespace, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	return stored(ctx, s, opCleanQueue, namespace, func(ctx context.Context) (queue.Cleaned, error) {
		return s.next.CleanQueue(ctx, namespace, name, within, only...)
	})
}

func (s *store) QueueStats(ctx context.Context, namespace, name string) ([]*queue.QueueStats, error) {
	return stored(ctx, s, opQueueStats, namespace, func(ctx context.Context) ([]*queue.QueueStats, error) {
		return s.next.QueueStats(ctx, namespace, name)
	})
}

func (s *store) ListNamespaces(ctx context.Context) ([]string, error) {
	return stored(ctx, s, opListNamespaces, "", func(ctx context.Context) ([]string, error) {
		return s.next.ListNamespaces(ctx)
	})
}

func (s *store) CreateTicker(ctx context.Context, t queue.Ticker) (*queue.Ticker, error) {
	return stored(ctx, s, opCreateTicker, t.Namespace, func(ctx context.Context) (*queue.Ticker, error) {
		return s.next.CreateTicker(ctx, t)
	})
}

func (s *store) GetTicker(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
	return stored(ctx, s, opGetTicker, namespace, func(ctx context.Context) (*queue.Ticker, error) {
		return s.next.GetTicker(ctx, namespace, name)
	})
}

func (s *store) ListTickers(ctx context.Context, namespace string, p queue.Page) (queue.TickerPage, error) {
	return stored(ctx, s, opListTickers, namespace, func(ctx context.Context) (queue.TickerPage, error) {
		return s.next.ListTickers(ctx, namespace, p)
	})
}

func (s *store) UpdateTicker(ctx context.Context, namespace, name string, meta queue.TickerMeta, maxPayloadBytes int) (*queue.Ticker, error) {
	return stored(ctx, s, opUpdateTicker, namespace, func(ctx context.Context) (*queue.Ticker, error) {
		return s.next.UpdateTicker(ctx, namespace, name, meta, maxPayloadBytes)
	})
}

func (s *store) DeleteTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	return stored(ctx, s, opDeleteTicker, namespace, func(ctx context.Context) (*queue.Ticker, error) {
		return s.next.DeleteTicker(ctx, namespace, name, only...)
	})
}

func (s *store) ListTicks(ctx context.Context, namespace, name string, limit int) ([]queue.Tick, error) {
	return stored(ctx, s, opListTicks, namespace, func(ctx context.Context) ([]queue.Tick, error) {
		return s.next.ListTicks(ctx, namespace, name, limit)
	})
}

func (s *store) ListEvents(ctx context.Context, namespace string, f queue.EventFilter, limit int) (queue.EventPage, error) {
	return stored(ctx, s, opListEvents, namespace, func(ctx context.Context) (queue.EventPage, error) {
		return s.next.ListEvents(ctx, namespace, f, limit)
	})
}

func (s *store) LastEvent(ctx context.Context) (string, error) {
	return stored(ctx, s, opLastEvent, "", func(ctx context.Context) (string, error) {
		return s.next.LastEvent(ctx)
	})
}

func (s *store) Ping(ctx context.Context) error {
	_, err := stored(ctx, s, opPing, "", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.next.Ping(ctx)
	})
	return err
}
