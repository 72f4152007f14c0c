package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Service records what callers of next do: a span where they create, retain or release tasks, spans of the other
// operations inside a trace that is being recorded, and the time of each. The context of the span that creates a task
// goes with the task, for the worker to link to. It gives next itself when all is off.
//
// It goes around a manager, or around a client in the process of a producer or a worker; both at once complement each
// other, and the first creation counts.
func (t *Telemetry) Service(next queue.Service) queue.Service {
	if t.off() {
		return next
	}
	return &service{next: next, t: t, namespace: next.Namespace()}
}

// service is the decorated Service. Producing and consuming are in service_tasks.go, what is here is plain.
type service struct {
	next      queue.Service
	t         *Telemetry
	namespace string
}

var _ queue.Service = (*service)(nil)

// Unwrap gives the service without telemetry.
func (s *service) Unwrap() queue.Service { return s.next }

func (s *service) Namespace() string { return s.namespace }

func (s *service) In(namespace string) (queue.Service, error) {
	next, err := s.next.In(namespace)
	if err != nil {
		return nil, err
	}
	return &service{next: next, t: s.t, namespace: next.Namespace()}, nil
}

// served is one operation of the service that is timed and nothing else.
func served[T any](ctx context.Context, s *service, o op, call func(context.Context) (T, error)) (T, error) {
	ctx, span := s.t.within(ctx, "service", o, s.namespace, nil)
	start := stopwatch()
	out, err := call(ctx)
	took := stopwatch() - start
	end(span, err)
	s.done(o, took, err)
	return out, err
}

func (s *service) done(o op, took time.Duration, err error) {
	if s.t.m != nil {
		s.t.m.service.done(o, took, err)
	}
}

// open counts a stream or parked call until the function is called.
func (s *service) open(k stream) func() {
	if s.t.m == nil {
		return func() {}
	}
	g := s.t.m.streams[k]
	g.Inc()
	return g.Dec
}

func (s *service) AwaitTask(ctx context.Context, id int64, wait time.Duration) (*queue.Task, error) {
	if wait > 0 {
		leave := s.open(streamAwait)
		defer leave()
	}
	return served(ctx, s, opAwaitTask, func(ctx context.Context) (*queue.Task, error) {
		return s.next.AwaitTask(ctx, id, wait)
	})
}

// RunTickerLoop and SubscribeEvents last as long as their callers want: they are counted, not timed, and a span would
// only end with the process.
func (s *service) RunTickerLoop(ctx context.Context, handle func(context.Context, queue.Tick) error) error {
	leave := s.open(streamTicks)
	defer leave()
	return s.streamed(opTickerLoop, s.next.RunTickerLoop(ctx, handle))
}

func (s *service) SubscribeEvents(ctx context.Context, f queue.EventFilter, handle func(queue.Event) error) error {
	leave := s.open(streamEvents)
	defer leave()
	return s.streamed(opSubscribeEvents, s.next.SubscribeEvents(ctx, f, handle))
}

// streamed counts why a stream ended, when that was not its caller's will.
func (s *service) streamed(o op, err error) error {
	if s.t.m == nil || err == nil {
		return err
	}
	if e, ours := errors.AsType[*queue.Error](err); ours && e.Kind != queue.KindCanceled && e.Kind != queue.KindDeadline {
		s.t.m.service.errors.WithLabelValues(o.String(), string(e.Kind)).Inc()
	}
	return err
}

func (s *service) ListNamespaces(ctx context.Context) ([]string, error) {
	return served(ctx, s, opListNamespaces, func(ctx context.Context) ([]string, error) {
		return s.next.ListNamespaces(ctx)
	})
}

func (s *service) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	return served(ctx, s, opHeartbeatTasks, func(ctx context.Context) ([]queue.Beat, error) {
		return s.next.HeartbeatTasks(ctx, beats)
	})
}

func (s *service) GetTask(ctx context.Context, id int64) (*queue.Task, error) {
	return served(ctx, s, opGetTasks, func(ctx context.Context) (*queue.Task, error) {
		return s.next.GetTask(ctx, id)
	})
}

func (s *service) ListTasks(ctx context.Context, q queue.TaskQuery) (queue.TaskPage, error) {
	return served(ctx, s, opListTasks, func(ctx context.Context) (queue.TaskPage, error) {
		return s.next.ListTasks(ctx, q)
	})
}

func (s *service) CancelTasks(ctx context.Context, sel queue.Selection) (queue.Bulk, error) {
	return served(ctx, s, opCancelTasks, func(ctx context.Context) (queue.Bulk, error) {
		return s.next.CancelTasks(ctx, sel)
	})
}

func (s *service) RetryTasks(ctx context.Context, sel queue.Selection) (queue.Bulk, error) {
	return served(ctx, s, opRetryTasks, func(ctx context.Context) (queue.Bulk, error) {
		return s.next.RetryTasks(ctx, sel)
	})
}

func (s *service) DeleteTasks(ctx context.Context, sel queue.Selection) (queue.Bulk, error) {
	return served(ctx, s, opDeleteTasks, func(ctx context.Context) (queue.Bulk, error) {
		return s.next.DeleteTasks(ctx, sel)
	})
}

func (s *service) CreateQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	return served(ctx, s, opCreateQueue, func(ctx context.Context) (*queue.Queue, error) {
		return s.next.CreateQueue(ctx, meta)
	})
}

func (s *service) RegisterQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	return served(ctx, s, opRegisterQueue, func(ctx context.Context) (*queue.Queue, error) {
		return s.next.RegisterQueue(ctx, meta)
	})
}

func (s *service) GetQueue(ctx context.Context, name string) (*queue.Queue, error) {
	return served(ctx, s, opGetQueue, func(ctx context.Context) (*queue.Queue, error) {
		return s.next.GetQueue(ctx, name)
	})
}

func (s *service) ListQueues(ctx context.Context, p queue.Page) (queue.QueuePage, error) {
	return served(ctx, s, opListQueues, func(ctx context.Context) (queue.QueuePage, error) {
		return s.next.ListQueues(ctx, p)
	})
}

func (s *service) UpdateQueue(ctx context.Context, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	return served(ctx, s, opUpdateQueue, func(ctx context.Context) (*queue.Queue, error) {
		return s.next.UpdateQueue(ctx, name, meta)
	})
}

func (s *service) DeleteQueue(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Queue, error) {
	return served(ctx, s, opDeleteQueue, func(ctx context.Context) (*queue.Queue, error) {
		return s.next.DeleteQueue(ctx, name, only...)
	})
}

func (s *service) CleanQueue(ctx context.Context, name string, only ...queue.IfVersion) (int64, error) {
	return served(ctx, s, opCleanQueue, func(ctx context.Context) (int64, error) {
		return s.next.CleanQueue(ctx, name, only...)
	})
}

func (s *service) CleanQueueWithin(ctx context.Context, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	return served(ctx, s, opCleanQueue, func(ctx context.Context) (queue.Cleaned, error) {
		return s.next.CleanQueueWithin(ctx, name, within, only...)
	})
}

func (s *service) QueueStats(ctx context.Context, name string) (*queue.QueueStats, error) {
	return served(ctx, s, opQueueStats, func(ctx context.Context) (*queue.QueueStats, error) {
		return s.next.QueueStats(ctx, name)
	})
}

func (s *service) ListQueueStatuses(ctx context.Context) ([]*queue.QueueStats, error) {
	return served(ctx, s, opQueueStats, func(ctx context.Context) ([]*queue.QueueStats, error) {
		return s.next.ListQueueStatuses(ctx)
	})
}

func (s *service) CreateTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return served(ctx, s, opCreateTicker, func(ctx context.Context) (*queue.Ticker, error) {
		return s.next.CreateTicker(ctx, meta)
	})
}

func (s *service) RegisterTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return served(ctx, s, opRegisterTicker, func(ctx context.Context) (*queue.Ticker, error) {
		return s.next.RegisterTicker(ctx, meta)
	})
}

func (s *service) GetTicker(ctx context.Context, name string) (*queue.Ticker, error) {
	return served(ctx, s, opGetTicker, func(ctx context.Context) (*queue.Ticker, error) {
		return s.next.GetTicker(ctx, name)
	})
}

func (s *service) ListTickers(ctx context.Context, p queue.Page) (queue.TickerPage, error) {
	return served(ctx, s, opListTickers, func(ctx context.Context) (queue.TickerPage, error) {
		return s.next.ListTickers(ctx, p)
	})
}

func (s *service) UpdateTicker(ctx context.Context, name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	return served(ctx, s, opUpdateTicker, func(ctx context.Context) (*queue.Ticker, error) {
		return s.next.UpdateTicker(ctx, name, meta)
	})
}

func (s *service) DeleteTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	return served(ctx, s, opDeleteTicker, func(ctx context.Context) (*queue.Ticker, error) {
		return s.next.DeleteTicker(ctx, name, only...)
	})
}

func (s *service) PreviewTicker(ctx context.Context, name string, n int) ([]time.Time, error) {
	return served(ctx, s, opPreviewTicker, func(ctx context.Context) ([]time.Time, error) {
		return s.next.PreviewTicker(ctx, name, n)
	})
}

func (s *service) RunTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	return served(ctx, s, opRunTicker, func(ctx context.Context) (*queue.Tick, error) {
		return s.next.RunTicker(ctx, name, only...)
	})
}

func (s *service) ListTicks(ctx context.Context, name string, limit int) ([]queue.Tick, error) {
	return served(ctx, s, opListTicks, func(ctx context.Context) ([]queue.Tick, error) {
		return s.next.ListTicks(ctx, name, limit)
	})
}

func (s *service) ListEvents(ctx context.Context, f queue.EventFilter, limit int) (queue.EventPage, error) {
	return served(ctx, s, opListEvents, func(ctx context.Context) (queue.EventPage, error) {
		return s.next.ListEvents(ctx, f, limit)
	})
}

func (s *service) ListWorkers(ctx context.Context) ([]queue.Worker, error) {
	return served(ctx, s, opListWorkers, func(ctx context.Context) ([]queue.Worker, error) {
		return s.next.ListWorkers(ctx)
	})
}
