package worker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Handler works tasks. It is called from many goroutines.
type Handler interface {
	// Work does task and returns its result, or an error that says how else the task ends (see the package's doc). The
	// result is any JSON: queue.Marshal says what v stands for.
	Work(ctx context.Context, task *queue.Task) (any, error)
}

// HandlerFunc makes a function a Handler.
type HandlerFunc func(ctx context.Context, task *queue.Task) (any, error)

// Work calls f.
func (f HandlerFunc) Work(ctx context.Context, task *queue.Task) (any, error) { return f(ctx, task) }

// Typed is a Handler that decodes the payload into a P and takes the R as result; an R of struct{} means none. The
// task is at hand by [TaskFrom]. A payload that does not decode fails for good: it never will.
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

// TaskFrom is the task whose handler ctx belongs to; nil when it belongs to none.
func TaskFrom(ctx context.Context) *queue.Task {
	if h := heldTaskFrom(ctx); h != nil {
		return h.task
	}
	return nil
}

// TickHandler receives the ticks of tickers that have no queue. An error gives the tick to the next who listens.
type TickHandler func(ctx context.Context, tick queue.Tick) error
