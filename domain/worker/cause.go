package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Causes of the end of a handler's context, as [context.Cause] returns them.
var (
	// ErrCancelRequested: a caller cancelled the task. It ends cancelled after any outcome of the handler.
	ErrCancelRequested = errors.New("worker: a cancel of the task was requested")
	// ErrDeadline: the task's ttl is over (Task.DiesAt).
	ErrDeadline = fmt.Errorf("worker: the task's time to live is over: %w", context.DeadlineExceeded)
	// ErrLeaseLost: another worker may hold the task by now. The outcome of the handler is refused, or not sent at all.
	ErrLeaseLost = fmt.Errorf("worker: the task is no longer held: %w", queue.ErrLeaseLost)
	// ErrDraining: the worker stops and its drain timeout is over.
	ErrDraining = errors.New("worker: stopping, the time to drain is over")
)

// ErrNoTask: the context does not belong to the handler of a task.
var ErrNoTask = errors.New("worker: the context belongs to no task")

// ErrHandlersLeft: Run returned while handlers that ignore their context were still running. The worker handed their
// tasks back.
var ErrHandlersLeft = errors.New("worker: handlers did not end within the grace")

// errEnded is the cause of a handler's context after the handler returned.
var errEnded = context.Canceled
