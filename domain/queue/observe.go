package queue

import (
	"context"
	"time"
)

//go:generate go run ../internal/observegen

// Call describes one call of an operation to an [Observer].
type Call struct {
	Op        Op
	Namespace string // "" where the call is of no namespace
	// Name is the queue, the ticker or the background work that the call names; "" where it names none.
	Name string
	// Count is the number of tasks, ids or ticks in the call.
	Count int
	// Wait is the time that the call may wait for tasks.
	Wait time.Duration
}

// Observer stands between the callers of a [Service] or a [Store] and its operations. Telemetry, access control, audit and
// fault injection are observers. The state S goes from the start of a call to its end without an allocation. Both methods
// run in the caller's goroutine and must be safe for concurrent use.
type Observer[S any] interface {
	// Start runs before each call. The call gets the context that Start returns. An error answers the call instead of the
	// operation, and End does not run.
	Start(ctx context.Context, call Call) (context.Context, S, error)
	// End runs after the call, with its error. An error that End returns replaces the whole answer.
	End(ctx context.Context, call Call, state S, err error) error
}

// ObserveService returns next with each operation between o.Start and o.End. It has no Unwrap: a decorator that embeds it
// decides whether callers may look behind it.
func ObserveService[S any](next Service, o Observer[S]) Service {
	return &observedService[S]{next: next, observer: o, namespace: next.Namespace()}
}

// ObserveStore returns next with each operation between o.Start and o.End. Like ObserveService it has no Unwrap.
func ObserveStore[S any](next Store, o Observer[S]) Store {
	return &observedStore[S]{next: next, observer: o}
}

// observedService forwards the operations of a Service; observed.go has its methods.
type observedService[S any] struct {
	next      Service
	observer  Observer[S]
	namespace string
}

// observedStore forwards the operations of a Store; observed.go has its methods.
type observedStore[S any] struct {
	next     Store
	observer Observer[S]
}

func (o *observedService[S]) Namespace() string { return o.namespace }

func (o *observedService[S]) In(namespace string) (Service, error) {
	next, err := o.next.In(namespace)
	if err != nil {
		return nil, err
	}
	return ObserveService(next, o.observer), nil
}
