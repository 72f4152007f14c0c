package worker

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Observer is told what the runtime does, for telemetry. Its methods are called from many goroutines, on the hot path:
// they must be quick and must not change what they are given. Embed [NoObserver] to take only some, and to stay
// compatible when methods are added.
type Observer interface {
	// TaskStarted: a handler is about to be called, waited after its task was retained.
	TaskStarted(task Held, waited time.Duration)
	// TaskFinished: it returned.
	TaskFinished(task Held, f Finished)
	// Retained: a retain of asked tasks answered with got, or failed.
	Retained(asked, got int, took time.Duration, err error)
	// Released: a batch of n releases was answered, or failed as a whole and will be repeated.
	Released(n int, took time.Duration, err error)
	// Heartbeat: n leases were extended, lag after the first was due, or the call failed.
	Heartbeat(n int, lag time.Duration, err error)
	// LeaseLost: a task was lost while held.
	LeaseLost(task Held)
}

// Held names a task that the worker holds, as it was when it was retained: the handler may change its own.
type Held struct {
	ID               int64
	Namespace, Queue string
	Attempt          int
	// Queued is how long the task was there before its retain, by the database's clock: at least a nanosecond, 0 when it
	// is not known.
	Queued time.Duration
}

// describeTask is what the runtime keeps of task.
func describeTask(task *queue.Task) Held {
	h := Held{ID: task.ID, Namespace: task.Namespace, Queue: task.Queue, Attempt: task.Attempt}
	if !task.StartedAt.IsZero() && !task.CreatedAt.IsZero() {
		h.Queued = max(task.StartedAt.Sub(task.CreatedAt), 1)
	}
	return h
}

// Finished is how a handler ended.
type Finished struct {
	Outcome queue.Outcome
	// Waited is how long the task had been held before the handler was called, Took how long the handler ran.
	Waited, Took time.Duration
	// Err is what it returned; a *PanicError when it panicked.
	Err error
	// Cause is why its context had ended; nil when it had not.
	Cause error
}

// NoObserver does nothing.
type NoObserver struct{}

var _ Observer = NoObserver{}

// TaskStarted does nothing.
func (NoObserver) TaskStarted(Held, time.Duration) {}

// TaskFinished does nothing.
func (NoObserver) TaskFinished(Held, Finished) {}

// Retained does nothing.
func (NoObserver) Retained(int, int, time.Duration, error) {}

// Released does nothing.
func (NoObserver) Released(int, time.Duration, error) {}

// Heartbeat does nothing.
func (NoObserver) Heartbeat(int, time.Duration, error) {}

// LeaseLost does nothing.
func (NoObserver) LeaseLost(Held) {}
