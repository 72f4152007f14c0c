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

// Worker works the tasks of queues, and the ticks of tickers without one. Register handlers, then Run. A Worker may be
// run again after Run returned, not twice at once.
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

// New makes a worker over svc: the manager, or a client of a server. Ticker handlers need more of it than
// queue.Consumer (queue.TickerRuns), and so does [Cancel] (queue.Tasks); every queue.Service has both.
func New(svc queue.Consumer, opts ...Option) *Worker {
	return &Worker{
		svc: svc, cfg: newConfig(opts), queues: map[string]*queueEntry{}, tickers: map[string]TickHandler{},
	}
}

// Name is what the worker holds its tasks as.
func (w *Worker) Name() string { return w.cfg.name }

// Handle registers the handler of a queue. A bad name, or a second handler, is an error of Run. What is registered
// while Run is going on counts from the next Run.
func (w *Worker) Handle(name string, h Handler, opts ...QueueOption) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := queue.QueueName(name)
	e := &queueEntry{handler: h}
	for _, o := range opts {
		o.applyQueue(&e.cfg)
	}
	if err == nil {
		err = queue.CheckInt("concurrency", e.cfg.slots, 0, queue.MaxConcurrency)
	}
	switch {
	case err != nil:
	case h == nil:
		err = queue.Invalid("handler", "queue "+n+" has a nil handler")
	case w.queues[n] != nil:
		err = queue.Invalid("queue", "queue "+n+" has a handler already")
	default:
		w.queues[n] = e
	}
	if err != nil {
		w.errs = append(w.errs, fmt.Errorf("handle queue %q: %w", name, err))
	}
}

// HandleFunc is Handle for a function.
func (w *Worker) HandleFunc(name string, f func(context.Context, *queue.Task) (any, error), opts ...QueueOption) {
	w.Handle(name, HandlerFunc(f), opts...)
}

// HandleTicker registers the handler of a ticker that has no queue. One call runs at a time over all tickers.
func (w *Worker) HandleTicker(name string, h TickHandler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := queue.TickerName(name)
	switch {
	case err != nil:
	case h == nil:
		err = queue.Invalid("handler", "ticker "+n+" has a nil handler")
	case w.tickers[n] != nil:
		err = queue.Invalid("ticker", "ticker "+n+" has a handler already")
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

// Use puts middleware around every queue's handler; the first one used is the outermost.
func (w *Worker) Use(middleware ...func(Handler) Handler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.chain = append(w.chain, middleware...)
}

// Run works until ctx ends. Then it takes nothing new and hands back what has not started; running handlers get the
// time to drain, after it their contexts end, and after a grace what has still not ended is handed back. No attempt is
// spent by any of it. Leases are kept up meanwhile, and every outcome is recorded before Run returns. The values of
// ctx reach the handlers, its end does not.
//
// It returns nil after such a stop, [ErrHandlersLeft] when handlers would not end, and an error at once when what was
// registered is at fault. Errors of the service never end it: they are logged when they change, and tried again.
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

// StopNow cuts the time to drain of a Run that is stopping, or will be: the answer to a second signal. Handlers keep
// their grace; a retain that waits at a remote service gets DefaultWait.
func (w *Worker) StopNow() {
	w.mu.Lock()
	r := w.running
	w.mu.Unlock()
	if r != nil {
		r.hurry.Do(func() { close(r.hurried) })
	}
}

// newRun makes the state of one Run.
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

func (w *Worker) wrapHandler(h Handler) Handler {
	for _, m := range slices.Backward(w.chain) {
		h = m(h)
	}
	return h
}
