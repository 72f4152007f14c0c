package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// RegisterQueueWorker makes a queue, or updates the one that exists, and has Run work its tasks with handler; see package
// worker. At most WithWorkers tasks of a namespace run at once, or as many as worker.Concurrency gives the queue for
// itself. KindConflict while Run runs.
func (m *Manager) RegisterQueueWorker(ctx context.Context, meta queue.QueueMeta, handler worker.Handler, opts ...worker.QueueOption) (*queue.Queue, error) {
	const op = "register queue worker"
	if handler == nil {
		return nil, queue.WithOp(op, queue.Invalid("handler", "must be a handler, got nil"))
	}
	q, err := m.RegisterQueue(ctx, meta)
	if err != nil {
		return nil, err
	}

	err = m.registerHandler("queue "+q.Name, func(w *worker.Worker) { w.Handle(q.Name, handler, opts...) })

	return q, queue.WithOp(op, err)
}

// RegisterTickerWorker makes a ticker without a queue, or updates the one that exists, and has Run call handler with its
// ticks, each of which goes to one process. KindInvalid for a ticker that has a queue, because its ticks are tasks of that
// queue. KindConflict while Run runs.
func (m *Manager) RegisterTickerWorker(ctx context.Context, meta queue.TickerMeta, handler worker.TickHandler) (*queue.Ticker, error) {
	const op = "register ticker worker"
	if handler == nil {
		return nil, queue.WithOp(op, queue.Invalid("handler", "must be a handler, got nil"))
	}
	if meta.Queue != nil && *meta.Queue != "" {
		return nil, queue.WithOp(op, hasQueueError(*meta.Queue))
	}
	t, err := m.RegisterTicker(ctx, meta)
	if err != nil {
		return nil, err
	}
	if t.Queue != "" {
		return t, queue.WithOp(op, hasQueueError(t.Queue))
	}

	err = m.registerHandler("ticker "+t.Name, func(w *worker.Worker) { w.HandleTicker(t.Name, handler) })

	return t, queue.WithOp(op, err)
}

func hasQueueError(name string) error {
	return queue.Invalid("queue", fmt.Sprintf("must be empty for a ticker worker, got %.64q; register a queue worker for its tasks", name))
}

// workers have the registered handlers, with a worker for each namespace that has any.
type workers struct {
	cfg config

	mu          sync.Mutex
	byNamespace map[string]*worker.Worker
	// registered has the subjects with a handler, as "default/queue mail".
	registered map[string]bool
	// stop ends the workers that run, and done is closed after their end; both are nil while none run.
	stop context.CancelFunc
	done chan struct{}
}

func newWorkerSet(cfg config) *workers {
	return &workers{cfg: cfg, byNamespace: map[string]*worker.Worker{}, registered: map[string]bool{}}
}

// registerHandler adds a handler to the worker of m's namespace.
func (m *Manager) registerHandler(subject string, add func(*worker.Worker)) error {
	ws := m.workers
	ws.mu.Lock()
	defer ws.mu.Unlock()
	key := m.namespace + "/" + subject
	if m.agents.Running() {
		return &queue.Error{Kind: queue.KindConflict, Subject: subject, Msg: "workers must be registered before Run; stop it first"}
	}
	if ws.registered[key] {
		return &queue.Error{Kind: queue.KindConflict, Subject: subject, Msg: "must have one handler, got a second; register it once"}
	}

	ws.registered[key] = true
	w := ws.byNamespace[m.namespace]
	if w == nil {
		w = worker.New(m,
			worker.WithName(ws.cfg.workerName), worker.WithConcurrency(ws.cfg.workers), worker.WithLogger(ws.cfg.log),
			worker.WithMaxResultBytes(max(ws.cfg.maxPayload, 1<<10)), worker.WithInProcess())
		ws.byNamespace[m.namespace] = w
	}
	add(w)

	return nil
}

// startWorkers runs the workers until ctx ends; a worker that cannot run calls giveUp. The function that it returns waits for
// their end and returns their errors.
func (ws *workers) startWorkers(ctx context.Context, giveUp func()) (wait func() error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	ws.stop, ws.done = stop, done

	var running sync.WaitGroup
	errs := make([]error, len(ws.byNamespace))
	for i, namespace := range slices.Sorted(maps.Keys(ws.byNamespace)) {
		w := ws.byNamespace[namespace]
		running.Go(func() {
			errs[i] = w.Run(ctx)
			if errs[i] != nil {
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

// drainWorkers ends the workers that run, after their handlers; when ctx ends first it interrupts these.
func (ws *workers) drainWorkers(ctx context.Context) {
	ws.mu.Lock()
	stop, done := ws.stop, ws.done
	all := slices.Collect(maps.Values(ws.byNamespace))
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
