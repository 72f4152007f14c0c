// Package owner has what all parts of a manager share: the owner of their goroutines and Store calls, and their timers.
package owner

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// MinPoll is the least pause between two searches of a waiting caller.
const MinPoll = 20 * time.Millisecond

// Config has the settings that all parts of a manager share.
type Config struct {
	Log *slog.Logger
	// PollInterval bounds the sleep of a waiting caller, CallTimeout one Store call.
	PollInterval, CallTimeout time.Duration
	// MaxWaiting bounds the waiting callers.
	MaxWaiting int
}

// Owner owns the goroutines of a manager. Each was started by Go, ends by itself when it has no work, and ends at the
// latest with Close. It is safe for concurrent use.
type Owner struct {
	Config

	calls    context.Context //nolint:containedctx // bounds the Store calls of the manager's own goroutines
	endCalls context.CancelFunc
	closing  chan struct{}
	waiting  atomic.Int64

	mu         sync.Mutex
	closed     bool
	goroutines sync.WaitGroup
}

// New returns an Owner without goroutines.
func New(config Config) *Owner {
	o := &Owner{Config: config, closing: make(chan struct{})}
	o.calls, o.endCalls = context.WithCancel(queue.WithoutWait(context.Background()))

	return o
}

// ClosedError is the error of calls after Close.
func ClosedError() *queue.Error { return batch.Closed("manager") }

// Context bounds the Store calls of the manager's own goroutines.
func (o *Owner) Context() context.Context { return o.calls }

// Closing is closed when Close begins.
func (o *Owner) Closing() <-chan struct{} { return o.closing }

// Closed reports whether Close has begun.
func (o *Owner) Closed() bool {
	select {
	case <-o.closing:
		return true
	default:
		return false
	}
}

// Go runs f in a goroutine that Close waits for; false after Close.
func (o *Owner) Go(f func()) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	// Under mu, so that each goroutine is counted before Close starts to wait for the count.
	o.goroutines.Go(f)

	return true
}

// GoOn is Go for a goroutine of the Owner that starts another one, which also runs after Close.
func (o *Owner) GoOn(f func()) { o.goroutines.Go(f) }

// EnterCall lets a caller's goroutine call the Store. The context ends after CallTimeout, and when Close gives up waiting.
func (o *Owner) EnterCall(ctx context.Context) (context.Context, func(), error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, nil, ClosedError()
	}
	// The call counts as a goroutine: Close waits for the Store calls of its callers, too.
	o.goroutines.Add(1)
	ctx, cancel := context.WithTimeout(ctx, o.CallTimeout)
	// ctx is that of the caller, so the end of o.calls has to be passed on by hand.
	unhook := context.AfterFunc(o.calls, cancel)

	return ctx, func() { unhook(); cancel(); o.goroutines.Done() }, nil
}

// NewCall returns the context for a Store call of a goroutine of the manager's own.
func (o *Owner) NewCall() (context.Context, context.CancelFunc) {
	return context.WithTimeout(o.calls, o.CallTimeout)
}

// Wait counts a waiting caller until it calls the function that Wait returns.
func (o *Owner) Wait() (end func(), err error) {
	end = func() { o.waiting.Add(-1) }
	// Count first and compare afterwards: two callers at the bound cannot both pass.
	if o.waiting.Add(1) > int64(o.MaxWaiting) {
		end()
		return nil, batch.TooManyWaiting(o.MaxWaiting)
	}

	return end, nil
}

// Sleep waits for d or until Close.
func (o *Owner) Sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-o.closing:
	case <-timer.C:
	}
}

// PollBackoff is the pause of a waiting caller that finds nothing: it grows up to the poll interval.
func (o *Owner) PollBackoff() retry.Backoff {
	return retry.Backoff{Min: min(MinPoll, o.PollInterval), Max: o.PollInterval}
}

// Close refuses new calls, calls refuse for the parts that must do so too, and waits for the goroutines. When ctx ends
// first it cancels their Store calls and returns the error of ctx.
func (o *Owner) Close(ctx context.Context, refuse func()) error {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.closing)
	}
	o.mu.Unlock()
	refuse()

	// Also after an orderly end: it frees what the context holds.
	defer o.endCalls()
	unhook := context.AfterFunc(ctx, o.endCalls)
	o.goroutines.Wait()
	// unhook is false when ctx ended in the meantime, so Store calls may have been cut off.
	if !unhook() && o.calls.Err() != nil {
		return queue.ContextError(ctx.Err())
	}

	return nil
}

// passingKinds are the kinds of errors that may pass by waiting.
var passingKinds = []queue.Kind{
	queue.KindUnavailable, queue.KindIndeterminate, queue.KindDeadline, queue.KindCanceled,
}

// MayPass reports whether waiting may help against err.
func MayPass(err error) bool { return slices.Contains(passingKinds, queue.KindOf(err)) }
