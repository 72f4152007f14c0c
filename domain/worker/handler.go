package worker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Handler works tasks. The worker calls it from many goroutines at once.
type Handler interface {
	// Work does task and returns its result, or an error that sets another outcome (see the package's doc). The result
	// is any JSON; queue.Marshal describes the accepted Go values.
	Work(ctx context.Context, task *queue.Task) (any, error)
}

// HandlerFunc makes a function a Handler.
type HandlerFunc func(ctx context.Context, task *queue.Task) (any, error)

// Work calls f.
func (f HandlerFunc) Work(ctx context.Context, task *queue.Task) (any, error) { return f(ctx, task) }

// Typed is a Handler that decodes the payload into a P and takes the R as result. An R of struct{} means no result.
// [TaskFrom] returns the task. A payload that does not decode fails for good, as a retry would fail the same way.
func Typed[P, R any](f func(ctx context.Context, payload P) (R, error)) Handler {
	return HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
		var p P
		if err := json.Unmarshal(task.Payload, &p); err != nil {
			return nil, Permanent(fmt.Errorf("decode the payload: %w", err))
		}
		r, err := f(ctx, p)
		if _, none := any(r).(struct{}); none || err != nil {
			return nil, err
		}
		return r, nil
	})
}

// TaskFrom returns the task of the handler that ctx belongs to, or nil for any other context.
func TaskFrom(ctx context.Context) *queue.Task {
	if h := heldTaskFrom(ctx); h != nil {
		return h.task
	}
	return nil
}

// TickHandler receives the ticks of tickers that have no queue. After an error another receiver gets the tick.
type TickHandler func(ctx context.Context, tick queue.Tick) error
