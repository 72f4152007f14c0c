package worker

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// RetryPolicy decides about the retry of a failed attempt by its error and its number, from 1. The delay replaces the backoff
// of the queue; 0 keeps it. With permanent the task fails for good. A worker calls it from many goroutines at once.
type RetryPolicy func(err error, attempt int) (delay time.Duration, permanent bool)

// Middleware applies p to the handlers behind it: [Worker.Use] takes it. An error that already sets an outcome, as [Permanent],
// [RetryIn] and [Snooze] do, stays as it is, and so does one of a handler with an ended context.
func (p RetryPolicy) Middleware(next Handler) Handler {
	return HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
		attempt := task.Attempt // the handler may change the task
		v, err := next.Work(ctx, task)
		// An ended context explains the error: the worker stops, or the lease is gone.
		if err == nil || ctx.Err() != nil || isEnding(err) {
			return v, err
		}

		switch delay, permanent := p(err, attempt); {
		case permanent:
			return v, Permanent(err)
		case delay > 0:
			return v, RetryIn(err, delay)
		}
		return v, err
	})
}
