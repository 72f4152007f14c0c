package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ending is an error that sets the outcome of a task.
type ending struct {
	outcome queue.Outcome
	// unstarted: the handler could not begin.
	unstarted bool
	delay     time.Duration
	scope     queue.Scope
	cancel    bool
	err       error
}

func (e *ending) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	switch {
	case e.cancel:
		return "cancelled by its handler"
	case e.outcome == queue.OutcomeSnooze:
		return fmt.Sprintf("snoozed for %v", e.delay)
	case e.outcome == queue.OutcomePermanent:
		return "failed for good"
	case e.unstarted:
		return "not started"
	}
	return "failed"
}

func (e *ending) Unwrap() error { return e.err }

// Permanent fails the task for good, even with retries left.
func Permanent(err error) error { return &ending{outcome: queue.OutcomePermanent, err: err} }

// RetryIn fails the attempt. The next attempt comes after d instead of the queue's backoff, and costs a retry.
func RetryIn(err error, d time.Duration) error {
	return &ending{outcome: queue.OutcomeFailure, delay: boundDelay(d), err: err}
}

// Snooze delays the task by d, at no cost of an attempt or a retry.
func Snooze(d time.Duration) error {
	return &ending{outcome: queue.OutcomeSnooze, delay: boundDelay(d)}
}

// HoldUp extends the delay of err, which RetryIn or Snooze gave it, to the group or the queue of the task: the other side asked
// not to be called before. No worker starts another of these tasks until then. A task without a group waits alone. An err
// without a delay stays as it is.
func HoldUp(scope queue.Scope, err error) error {
	e, ok := errors.AsType[*ending](err)
	if !ok || e.delay == 0 {
		return err
	}
	held := *e
	held.scope, held.err = scope, err
	if e.outcome == queue.OutcomeSnooze {
		held.err = e.err
	}
	return &held
}

// Cancel ends the task cancelled. It needs a service that can cancel (queue.Tasks), as every queue.Service is. Without
// one, or when the cancel fails, the task fails for good.
func Cancel(err error) error {
	return &ending{outcome: queue.OutcomePermanent, cancel: true, err: err}
}

// NotStarted reports that the handler could not begin by a fault of the worker, such as a lack of memory or a missing
// program. The task goes back at no cost of an attempt. The worker pauses the queue for a second, and twice as long
// after each further fault, up to a minute. Then it retains one task to see whether the fault is over.
func NotStarted(err error) error {
	return &ending{outcome: queue.OutcomeHandBack, unstarted: true, err: err}
}

// Systemic marks a failure that other tasks of the queue would share, as when a service that they call is down. The
// task ends as err says. After FailuresToPause of them in a row the worker pauses the queue, as after NotStarted.
func Systemic(err error) error { return &systemic{err} }

type systemic struct{ err error }

func (s *systemic) Error() string { return s.err.Error() }
func (s *systemic) Unwrap() error { return s.err }

// isEnding reports whether err sets the outcome of its task.
func isEnding(err error) bool {
	_, ok := errors.AsType[*ending](err)
	return ok
}

// trouble classifies an error of a handler by its meaning for other tasks.
type trouble int

const (
	troubleNone trouble = iota
	// troubleSystemic: other tasks of the queue would fail too.
	troubleSystemic
	// troubleOwn: the worker cannot start handlers.
	troubleOwn
)

// troubleOf classifies err. cause is the reason that ended the handler's context; then err follows from that reason.
func troubleOf(err, cause error) trouble {
	if err == nil || cause != nil {
		return troubleNone
	}
	if e, ok := errors.AsType[*ending](err); ok && e.unstarted {
		return troubleOwn
	}
	if _, ok := errors.AsType[*systemic](err); ok {
		return troubleSystemic
	}
	return troubleNone
}

// boundDelay keeps d between the shortest delay that the database stores as more than zero and the longest allowed.
func boundDelay(d time.Duration) time.Duration {
	return min(max(d, time.Microsecond), queue.MaxDuration)
}

// Bounds of the recorded text of a panic.
const (
	maxPanicBytes = 2 << 10
	maxStackBytes = 6 << 10
)

// PanicError is the error of a handler that panicked. As a result it reads {"error": "panic: …", "stack": "…"}.
type PanicError struct {
	Value any
	// Stack is the stack of the goroutine, cut to 6 KiB.
	Stack []byte
}

// newPanicError describes a recovered value. The deferred function that recovered the value calls it.
func newPanicError(v any) *PanicError {
	stack := debug.Stack()
	return &PanicError{Value: v, Stack: stack[:min(len(stack), maxStackBytes)]}
}

func (p *PanicError) Error() string {
	s := fmt.Sprintf("panic: %v", p.Value)
	return s[:min(len(s), maxPanicBytes)]
}

// Unwrap returns the value of the panic when it was an error.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// MarshalJSON adds the stack to the error of the task.
func (p *PanicError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"error": p.Error(), "stack": string(p.Stack)})
}

// OutcomeOf returns the outcome of a task with a handler that returned err; nil means success. It serves middleware.
func OutcomeOf(err error) queue.Outcome {
	if err == nil {
		return queue.OutcomeSuccess
	}
	if e, ok := errors.AsType[*ending](err); ok {
		return e.outcome
	}
	return queue.OutcomeFailure
}

// releaseFor builds the release of a task from the values that its handler returned. It reports whether to cancel the
// task first. cause is the reason that ended the handler's context, or nil.
func releaseFor(v any, err, cause error, maxResult int) (rel queue.Release, cancel bool) {
	if err == nil {
		return queue.Release{Outcome: queue.OutcomeSuccess, Result: resultJSON(v, maxResult)}, false
	}
	if e, ok := errors.AsType[*ending](err); ok {
		rel.Outcome, rel.Delay, rel.Scope = e.outcome, e.delay, e.scope
		// A snooze and a hand-back have not failed, so they store no error.
		if e.outcome != queue.OutcomeSnooze && !e.unstarted {
			rel.Result = errorJSON(err, maxResult)
			rel.ErrorKind = queue.ErrorKindOf(err)
		}
		return rel, e.cancel
	}
	// The worker ended the handler, so the attempt must not count against the task.
	if errors.Is(cause, ErrDraining) {
		return queue.Release{Outcome: queue.OutcomeHandBack}, false
	}
	return queue.Release{Outcome: queue.OutcomeFailure, Result: errorJSON(err, maxResult), ErrorKind: queue.ErrorKindOf(err)}, false
}

// resultJSON encodes v as JSON that can be stored, of at most maxBytes. It replaces a v that does not encode by an
// error.
func resultJSON(v any, maxBytes int) json.RawMessage {
	if v == nil {
		return nil
	}
	b, err := copyJSON(v)
	if err != nil {
		b = queue.ErrorJSON("the result " + err.Error())
	}
	return queue.CleanJSON(b, maxBytes)
}

// errorJSON encodes err as its own JSON form, or else as {"error": text}.
func errorJSON(err error, maxBytes int) json.RawMessage {
	if m, ok := errors.AsType[jsonError](err); ok {
		// A method of the caller may return its buffer, so the bytes are cloned.
		if b, merr := m.MarshalJSON(); merr == nil {
			return queue.CleanJSON(bytes.Clone(b), maxBytes)
		}
	}
	return queue.CleanJSON(queue.ErrorJSON(err.Error()), maxBytes)
}

// copyJSON encodes v in bytes of its own: the worker sends them after the handler, which may reuse its buffer,
// returned.
func copyJSON(v any) (json.RawMessage, error) {
	b, err := queue.Marshal(v)
	switch v.(type) {
	case json.RawMessage, []byte:
		b = bytes.Clone(b)
	}
	return b, err
}

// jsonError is an error with a JSON form of its own.
type jsonError interface {
	error
	json.Marshaler
}
