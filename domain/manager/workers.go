package manager

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// RegisterQueueWorker makes a queue, or updates the one that is there, and has Run work its tasks with handler, as
// package worker tells: at most WithWorkers of a namespace at once, or as many as worker.Concurrency gives the queue for
// itself. KindConflict when the manager runs already.
func (m *Manager) RegisterQueueWorker(ctx context.Context, meta queue.QueueMeta, handler worker.Handler, opts ...worker.QueueOption) (*queue.Queue, error) {
	if handler == nil {
		return nil, queue.WithOp("register queue worker", queue.Invalid("handler", "a handler is required"))
	}
	q, err := m.RegisterQueue(ctx, meta)
	if err != nil {
		return nil, err
	}
	err = m.workers.register(m, "queue "+q.Name, func(w *worker.Worker) { w.Handle(q.Name, handler, opts...) })
	return q, queue.WithOp("register queue worker", err)
}

// RegisterTickerWorker makes a ticker without a queue, or updates the one that is there, and has Run call handler with
// its ticks, each of which goes to one process. KindInvalid for a ticker that has a queue: its ticks are tasks of that;
// KindConflict when the manager runs already.
func (m *Manager) RegisterTickerWorker(ctx context.Context, meta queue.TickerMeta, handler worker.TickHandler) (*queue.Ticker, error) {
	const name = "register ticker worker"
	if handler == nil {
		return nil, queue.WithOp(name, queue.Invalid("handler", "a handler is required"))
	}
	if meta.Queue != nil && *meta.Queue != "" {
		return nil, queue.WithOp(name, queue.Invalid("queue", "the ticks of a ticker with a queue are tasks; register a queue worker"))
	}
	t, err := m.RegisterTicker(ctx, meta)
	if err != nil {
		return nil, err
	}
	if t.Queue != "" {
		return t, queue.WithOp(name, queue.Invalid("queue", "the ticker has queue "+t.Queue+"; its ticks are tasks"))
	}
	err = m.workers.register(m, "ticker "+t.Name, func(w *worker.Worker) { w.HandleTicker(t.Name, handler) })
	return t, queue.WithOp(name, err)
}

// workers are the registered handlers, a worker for each namespace that has any.
type workers struct {
	c  *core
	mu sync.Mutex
	of map[string]*worker.Worker
	// has names what has a handler, as "default/queue mail".
	has map[string]bool
	// stop ends those that run, done is closed when they have ended; nil while none run.
	stop context.CancelFunc
	done chan struct{}
}

func newWorkers(c *core) *workers {
	return &workers{c: c, of: map[string]*worker.Worker{}, has: map[string]bool{}}
}

// register adds a handler to the worker of m's namespace.
func (ws *workers) register(m *Manager, what string, add func(*worker.Worker)) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	switch key := m.namespace + "/" + what; {
	case ws.c.chores.running.Load():
		return &queue.Error{Kind: queue.KindConflict, Subject: what, Msg: "the manager runs already; register workers before Run"}
	case ws.has[key]:
		return &queue.Error{Kind: queue.KindConflict, Subject: what, Msg: "has a handler already"}
	default:
		ws.has[key] = true
	}
	w := ws.of[m.namespace]
	if w == nil {
		cfg := ws.c.cfg
		w = worker.New(m, worker.WithName(cfg.workerName), worker.WithConcurrency(cfg.workers), worker.WithLogger(cfg.log),
			worker.WithMaxResultBytes(max(cfg.maxPayload, 1<<10)), worker.WithInProcess())
		ws.of[m.namespace] = w
	}
	add(w)
	return nil
}

// start runs the workers until ctx ends; one that cannot run calls giveUp. The function that it returns waits for their
// end and returns their errors.
func (ws *workers) start(ctx context.Context, giveUp func()) func() error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ctx, ws.stop = context.WithCancel(ctx)
	ws.done = make(chan struct{})
	stop, done := ws.stop, ws.done
	var running sync.WaitGroup
	errs := make([]error, len(ws.of))
	for i, namespace := range slices.Sorted(maps.Keys(ws.of)) {
		w := ws.of[namespace]
		running.Go(func() {
			if errs[i] = w.Run(ctx); errs[i] != nil {
				giveUp()
			}
		})
	}
	go func() {
		running.Wait()
		close(done)
	}()
	return func() error {
		defer stop()
		<-done
		ws.mu.Lock()
		defer ws.mu.Unlock()
		ws.stop, ws.done = nil, nil
		return errors.Join(errs...)
	}
}

// end drains the workers that run; when ctx ends first it cuts that short.
func (ws *workers) end(ctx context.Context) {
	ws.mu.Lock()
	stop, done := ws.stop, ws.done
	all := slices.Collect(maps.Values(ws.of))
	ws.mu.Unlock()
	if done == nil || len(all) == 0 {
		return
	}
	stop()
	select {
	case <-done:
	case <-ctx.Done():
		for _, w := range all {
			w.StopNow()
		}
	}
}
