package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Why a handler's context ended, as [context.Cause] tells it.
var (
	// ErrCancelRequested: somebody cancelled the task. It ends cancelled, whatever the handler returns.
	ErrCancelRequested = errors.New("worker: a cancel of the task was requested")
	// ErrDeadline: the task's ttl is over (Task.DiesAt).
	ErrDeadline = fmt.Errorf("worker: the task's time to live is over: %w", context.DeadlineExceeded)
	// ErrLeaseLost: another worker may hold the task by now; what the handler returns is refused or not even sent.
	ErrLeaseLost = fmt.Errorf("worker: the task is no longer held: %w", queue.ErrLeaseLost)
	// ErrDraining: the worker stops and the time to drain is over.
	ErrDraining = errors.New("worker: stopping, the time to drain is over")
)

// ErrNoTask: the context is not a handler's.
var ErrNoTask = errors.New("worker: the context belongs to no task")

// ErrHandlersLeft: Run returned while handlers that ignore their context were still running. Their tasks were handed
// back.
var ErrHandlersLeft = errors.New("worker: handlers did not end within the grace")

// errEnded is the cause after the handler returned.
var errEnded = context.Canceled
