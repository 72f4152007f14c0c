package manager

import (
	"context"
	"errors"

	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// runOperation runs one operation. It is the one place where operations are observed and errors get their operation.
func runOperation[T any](ctx context.Context, m *Manager, op queue.Op, f func(context.Context) (T, error)) (T, error) {
	if m.cfg.tracer == nil {
		return runUnobserved(ctx, m, op, f)
	}

	var none T
	call := queue.Call{Op: op, Namespace: m.namespace}
	ctx, state, err := m.cfg.tracer.Start(ctx, call)
	if err != nil {
		return none, err
	}
	out, err := runUnobserved(ctx, m, op, f)
	// An observer may inject a fault after the call, as the loss of an answer.
	if fault := m.cfg.tracer.End(ctx, call, state, err); fault != nil {
		return none, fault
	}

	return out, err
}

func runUnobserved[T any](ctx context.Context, m *Manager, op queue.Op, f func(context.Context) (T, error)) (out T, err error) {
	switch {
	case ctx.Err() != nil:
		err = queue.ContextError(ctx.Err())
	case m.owner.Closed():
		err = owner.ClosedError()
	default:
		out, err = f(ctx)
	}
	if err != nil {
		var none T
		return none, queue.WithOp(op.String(), domainError(ctx, op.Unanswered(), err))
	}

	return out, nil
}

// callStoreDirectly is runOperation for a Store call by the caller's goroutine, which ends when the manager is closed.
func callStoreDirectly[T any](ctx context.Context, m *Manager, op queue.Op, f func(context.Context) (T, error)) (T, error) {
	return runOperation(ctx, m, op, func(ctx context.Context) (T, error) {
		ctx, leave, err := m.owner.EnterCall(ctx)
		if err != nil {
			var none T
			return none, err
		}
		defer leave()

		return f(ctx)
	})
}

// domainError makes err an error of the domain: for the end of the caller's ctx, of a Store call's own, or a foreign error.
func domainError(ctx context.Context, unanswered queue.Kind, err error) error {
	e, isDomain := errors.AsType[*queue.Error](err)
	hasEnded := isDomain && (e.Kind == queue.KindDeadline || e.Kind == queue.KindCanceled) ||
		!isDomain && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled))
	switch {
	// The caller still waits, so it was the deadline of the Store call itself.
	case hasEnded && ctx.Err() == nil:
		return &queue.Error{Kind: unanswered, Msg: "the store did not answer in time; check its state before a repeat", Err: err}
	case isDomain:
		return err
	case hasEnded:
		return queue.ContextError(ctx.Err())
	}

	return &queue.Error{Kind: queue.KindOf(err), Err: err}
}
