package worker

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Observer receives the events of the runtime, for telemetry. Many goroutines call its methods, on the hot path: a
// method must be quick and must not change its arguments. Embed [NoObserver] to implement only some methods, and to
// stay compatible when methods are added.
type Observer interface {
	// TaskStarted: the worker is about to call a handler, waited after it retained the task.
	TaskStarted(task Held, waited time.Duration)
	// TaskFinished: the handler returned.
	TaskFinished(task Held, f Finished)
	// Retained: a retain of up to asked tasks returned got tasks, or failed.
	Retained(asked, got int, took time.Duration, err error)
	// Released: the service answered a batch of n releases, or the batch failed as a whole and will be sent again.
	Released(n int, took time.Duration, err error)
	// Heartbeat: n leases were extended, lag after the earliest was due, or the call failed.
	Heartbeat(n int, lag time.Duration, err error)
	// LeaseLost: the worker lost the lease of a task that it held.
	LeaseLost(task Held)
}

// Held describes a task that the worker holds, as it was at its retain: the handler may change its own copy.
type Held struct {
	ID               int64
	Namespace, Queue string
	Attempt          int
	// Queued is the time from the task's creation to its retain, by the database's clock: at least a nanosecond, 0 when
	// unknown.
	Queued time.Duration
}

// describeTask copies the fields of task that the runtime keeps.
func describeTask(task *queue.Task) Held {
	h := Held{ID: task.ID, Namespace: task.Namespace, Queue: task.Queue, Attempt: task.Attempt}
	if !task.StartedAt.IsZero() && !task.CreatedAt.IsZero() {
		h.Queued = max(task.StartedAt.Sub(task.CreatedAt), 1)
	}
	return h
}

// Finished describes the end of a handler.
type Finished struct {
	Outcome queue.Outcome
	// Waited is the time from the retain to the call of the handler, Took the time that the handler ran.
	Waited, Took time.Duration
	// Err is the error that the handler returned; a *PanicError when it panicked.
	Err error
	// Cause is the reason that ended the handler's context; nil when the context had not ended.
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
