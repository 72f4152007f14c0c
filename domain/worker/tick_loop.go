package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// tickers is the part of queue.TickerRuns that the runtime needs for ticks.
type tickers interface {
	RunTickerLoop(ctx context.Context, handle func(context.Context, queue.Tick) error) error
}

// foreignPause delays the return of a tick without a handler here, so that it does not come straight back.
const foreignPause = 200 * time.Millisecond

// tickLoop receives ticks and calls their handlers.
type tickLoop struct {
	svc    tickers
	byName map[string]TickHandler
	rest   TickHandler
	run    *run
	// end ends the context of the running handler; nil when none runs. Guarded by run.mu.
	end context.CancelCauseFunc
}

// receiveTicks receives ticks until ctx ends. It goes on after any failure of the service.
func (t *tickLoop) receiveTicks(ctx context.Context) {
	log := &changeLog{log: t.run.cfg.log, what: "receive ticks"}
	backoff := newCallBackoff()
	for ctx.Err() == nil {
		start := time.Now()
		err := t.svc.RunTickerLoop(ctx, t.handleTick)
		if ctx.Err() != nil {
			return
		}

		// A loop that lasted a minute shows that the service works again.
		if time.Since(start) > time.Minute {
			backoff.Reset()
		}
		log.recordError(err)
		retry.Sleep(ctx, backoff.Next())
	}
}

// handleTick calls the handler of a tick, in a context that ends with the drain.
func (t *tickLoop) handleTick(ctx context.Context, tick queue.Tick) (err error) {
	h := t.byName[tick.Ticker]
	if h == nil {
		h = t.rest
	}
	if h == nil {
		retry.Sleep(ctx, retry.Jitter(foreignPause))
		return &queue.Error{Kind: queue.KindNotFound, Subject: "ticker " + tick.Ticker, Msg: "has no handler here; register one with HandleTicker"}
	}

	// The stop ends ctx at once; the handler has the time of the drain.
	hctx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(errEnded)
	if d, ok := ctx.Deadline(); ok { // after it another receiver may get the tick
		var stop context.CancelFunc
		hctx, stop = context.WithDeadlineCause(hctx, d, ErrLeaseLost)
		defer stop()
	}

	if !t.startHandler(end) {
		return ErrDraining
	}
	defer t.finishHandler()

	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
		if err != nil {
			t.run.cfg.log.ErrorContext(ctx, "a tick was not handled; it goes to the next listener",
				"ticker", tick.Ticker, "at", tick.At, "err", fmt.Sprint(err))
		}
	}()
	return h(hctx, tick)
}

// startHandler counts a handler as running. It returns false when the worker stops.
func (t *tickLoop) startHandler(end context.CancelCauseFunc) bool {
	t.run.mu.Lock()
	defer t.run.mu.Unlock()
	if t.run.stopping {
		return false
	}
	t.run.running++
	t.end = end
	return true
}

// finishHandler ends the count that startHandler began.
func (t *tickLoop) finishHandler() {
	r := t.run
	r.mu.Lock()
	defer r.mu.Unlock()
	t.end = nil
	r.running--
	if r.stopping && r.running == 0 {
		r.markQuiet()
	}
}

// interruptHandler ends the context of a running handler.
func (t *tickLoop) interruptHandler() {
	t.run.mu.Lock()
	end := t.end
	t.run.mu.Unlock()
	if end != nil {
		end(ErrDraining)
	}
}
