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

// ending is an error that says how a task ends.
type ending struct {
	outcome queue.Outcome
	// unstarted: the handler could not begin.
	unstarted bool
	delay     time.Duration
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

// Permanent fails the task for good, whatever retries are left.
func Permanent(err error) error { return &ending{outcome: queue.OutcomePermanent, err: err} }

// RetryIn fails the attempt; the next is in d instead of the queue's backoff. It costs a retry.
func RetryIn(err error, d time.Duration) error {
	return &ending{outcome: queue.OutcomeFailure, delay: boundDelay(d), err: err}
}

// Snooze puts the task off by d at no cost of an attempt or a retry.
func Snooze(d time.Duration) error {
	return &ending{outcome: queue.OutcomeSnooze, delay: boundDelay(d)}
}

// Cancel ends the task cancelled. It needs a service that can cancel (queue.Tasks), as every queue.Service is; else, or
// when the cancel does not get through, the task fails for good.
func Cancel(err error) error {
	return &ending{outcome: queue.OutcomePermanent, cancel: true, err: err}
}

// NotStarted says that the handler could not begin, by trouble of the worker's own, as no memory or a missing program.
// The task goes back at no cost of an attempt, and the worker rests from its queue for a second, twice as long after each
// further time, up to a minute; then it takes one task to see whether the trouble is over.
func NotStarted(err error) error {
	return &ending{outcome: queue.OutcomeHandBack, unstarted: true, err: err}
}

// Systemic says of a failure that the queue's other tasks would fail alike, as when what they call is not there. The
// task ends as err says. After StrikesToRest of them in a row the worker rests from the queue, as after NotStarted.
func Systemic(err error) error { return &systemic{err} }

type systemic struct{ err error }

func (s *systemic) Error() string { return s.err.Error() }
func (s *systemic) Unwrap() error { return s.err }

// trouble is what a handler's error says of the tasks beside its own.
type trouble int

const (
	troubleNone trouble = iota
	// troubleSystemic: others would fail alike.
	troubleSystemic
	// troubleOwn: the worker cannot begin.
	troubleOwn
)

// troubleOf is what err says; cause is why the handler's context ended, when it had: then err tells of that.
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

// boundDelay keeps d between the shortest delay that the database tells from none and the longest allowed.
func boundDelay(d time.Duration) time.Duration {
	return min(max(d, time.Microsecond), queue.MaxDuration)
}

// Bounds of what is kept of a panic.
const (
	maxPanicBytes = 2 << 10
	maxStackBytes = 6 << 10
)

// PanicError is the error of a handler that panicked. As a result it reads {"error": "panic: …", "stack": "…"}.
type PanicError struct {
	Value any
	// Stack of the goroutine, cut.
	Stack []byte
}

// newPanicError describes a recovered value; called in the deferred function that recovered it.
func newPanicError(v any) *PanicError {
	stack := debug.Stack()
	return &PanicError{Value: v, Stack: stack[:min(len(stack), maxStackBytes)]}
}

func (p *PanicError) Error() string {
	s := fmt.Sprintf("panic: %v", p.Value)
	return s[:min(len(s), maxPanicBytes)]
}

// Unwrap gives the value when it was an error.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// MarshalJSON makes the stack part of the task's error.
func (p *PanicError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"error": p.Error(), "stack": string(p.Stack)})
}

// OutcomeOf is the outcome that a handler's return of err asks for; nil means success. It is for middleware.
func OutcomeOf(err error) queue.Outcome {
	if err == nil {
		return queue.OutcomeSuccess
	}
	if e, ok := errors.AsType[*ending](err); ok {
		return e.outcome
	}
	return queue.OutcomeFailure
}

// releaseFor turns what a handler returned into the release of its hold, and says whether the task is to be cancelled
// before it. cause is why the handler's context ended, nil when it had not.
func releaseFor(v any, err, cause error, maxResult int) (rel queue.Release, cancel bool) {
	if err == nil {
		return queue.Release{Outcome: queue.OutcomeSuccess, Result: resultJSON(v, maxResult)}, false
	}
	if e, ok := errors.AsType[*ending](err); ok {
		rel.Outcome, rel.Delay = e.outcome, e.delay
		if e.outcome != queue.OutcomeSnooze && !e.unstarted {
			rel.Result = errorJSON(err, maxResult)
		}
		return rel, e.cancel
	}
	if errors.Is(cause, ErrDraining) {
		return queue.Release{Outcome: queue.OutcomeHandBack}, false
	}
	return queue.Release{Outcome: queue.OutcomeFailure, Result: errorJSON(err, maxResult)}, false
}

// resultJSON is v as JSON that can be stored, whatever v is.
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

// errorJSON is err as JSON: as it marshals itself, else {"error": text}.
func errorJSON(err error, maxBytes int) json.RawMessage {
	if m, ok := errors.AsType[jsonError](err); ok {
		if b, merr := m.MarshalJSON(); merr == nil {
			return queue.CleanJSON(bytes.Clone(b), maxBytes)
		}
	}
	return queue.CleanJSON(queue.ErrorJSON(err.Error()), maxBytes)
}

// copyJSON is v as JSON in bytes of our own: they are sent after the handler has returned, and it may use its own again.
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
