package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Worker works the tasks of queues, and the ticks of tickers without a queue. Register handlers, then call Run. A
// Worker may run again after Run returned, but not twice at once.
type Worker struct {
	svc queue.Consumer
	cfg config

	mu      sync.Mutex
	queues  map[string]*queueEntry
	tickers map[string]TickHandler
	anyTick TickHandler
	chain   []func(Handler) Handler
	errs    []error
	running *run
}

type queueEntry struct {
	handler Handler
	cfg     queueConfig
}

// New returns a worker over svc: the manager, or a client of a server. Ticker handlers need queue.TickerRuns too, and
// [Cancel] needs queue.Tasks; every queue.Service has both.
func New(svc queue.Consumer, opts ...Option) *Worker {
	return &Worker{
		svc: svc, cfg: newConfig(opts), queues: map[string]*queueEntry{}, tickers: map[string]TickHandler{},
	}
}

// Name returns the name under which the worker holds its tasks.
func (w *Worker) Name() string { return w.cfg.name }

// Handle registers the handler of a queue. Run returns the error of a bad name or a second handler. A registration
// during Run counts from the next Run.
func (w *Worker) Handle(name string, h Handler, opts ...QueueOption) {
	w.mu.Lock()
	defer w.mu.Unlock()

	n, err := queue.QueueName(name)
	e := &queueEntry{handler: h}
	for _, o := range opts {
		o(&e.cfg)
	}
	if err == nil {
		err = queue.CheckInt("concurrency", e.cfg.slots, 0, queue.MaxConcurrency)
	}

	switch {
	case err != nil:
	case h == nil:
		err = queue.Invalid("handler", "must not be nil for queue "+n+"; give a function")
	case w.queues[n] != nil:
		err = queue.Invalid("queue", "must have one handler; register queue "+n+" once")
	default:
		w.queues[n] = e
	}

	if err != nil {
		w.errs = append(w.errs, fmt.Errorf("handle queue %q: %w", name, err))
	}
}

// HandleFunc registers a function as the handler of a queue, as Handle does.
func (w *Worker) HandleFunc(name string, f func(context.Context, *queue.Task) (any, error), opts ...QueueOption) {
	w.Handle(name, HandlerFunc(f), opts...)
}

// HandleTicker registers the handler of a ticker that has no queue. One call at a time runs over all tickers.
func (w *Worker) HandleTicker(name string, h TickHandler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := queue.TickerName(name)
	switch {
	case err != nil:
	case h == nil:
		err = queue.Invalid("handler", "must not be nil for ticker "+n+"; give a function")
	case w.tickers[n] != nil:
		err = queue.Invalid("ticker", "must have one handler; register ticker "+n+" once")
	default:
		w.tickers[n] = h
	}
	if err != nil {
		w.errs = append(w.errs, fmt.Errorf("handle ticker %q: %w", name, err))
	}
}

// HandleTicks registers the handler of every ticker that has neither a queue nor a handler of its own.
func (w *Worker) HandleTicks(h TickHandler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.anyTick = h
}

// Use puts middleware around the handler of every queue; the first one is the outermost.
func (w *Worker) Use(middleware ...func(Handler) Handler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.chain = append(w.chain, middleware...)
}

// Run works until ctx ends. Then it retains nothing new and hands back the tasks that have not started. Running
// handlers get the drain timeout, then their contexts end. Run hands back the tasks of handlers that go on beyond the
// grace. None of this costs an attempt. Until it returns, Run extends the leases and records every outcome. The values
// of ctx reach the handlers, its end does not.
//
// Run also stops by itself with [WithMaxTasks] and [WithUntilEmpty]. Run returns nil after a stop, and [ErrHandlersLeft] when handlers did not end. It returns an error at once for a
// faulty registration. Errors of the service never end it: it logs each change of them and retries.
func (w *Worker) Run(ctx context.Context) error {
	r, err := w.newRun(ctx)
	if err != nil {
		return err
	}
	err = r.runUntilDone(ctx)
	w.mu.Lock()
	w.running = nil
	w.mu.Unlock()
	return err
}

// StopNow cuts the drain timeout of a Run, now or when it stops: a program calls it on a second signal. Handlers keep
// their grace. A retain that waits at a remote service gets DefaultWait.
func (w *Worker) StopNow() {
	w.mu.Lock()
	r := w.running
	w.mu.Unlock()
	if r != nil {
		r.hurry.Do(func() { close(r.hurried) })
	}
}

// newRun builds the state of one Run.
func (w *Worker) newRun(ctx context.Context) (*run, error) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if err := errors.Join(append(slices.Clone(w.errs), w.cfg.checkOptions())...); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if w.running != nil {
		return nil, errors.New("worker: already running")
	}
	if len(w.queues) == 0 && len(w.tickers) == 0 && w.anyTick == nil {
		return nil, errors.New("worker: nothing to do: register a handler first")
	}

	r := newRun(ctx, w.svc, w.cfg)
	for _, name := range slices.Sorted(maps.Keys(w.queues)) {
		e := w.queues[name]
		r.addQueue(name, w.wrapHandler(e.handler), e.cfg)
	}
	if err := r.checkQueueCounts(); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}

	if len(w.tickers) > 0 || w.anyTick != nil {
		svc, ok := w.svc.(tickers)
		if !ok {
			return nil, fmt.Errorf("worker: tickers have handlers, but %T gives no ticks", w.svc)
		}
		r.ticks = &tickLoop{svc: svc, byName: maps.Clone(w.tickers), rest: w.anyTick, run: r}
	}

	w.running = r
	return r, nil
}

// wrapHandler puts the middleware of Use around h.
func (w *Worker) wrapHandler(h Handler) Handler {
	for _, m := range slices.Backward(w.chain) {
		h = m(h)
	}
	return h
}
