package manager

import (
	"context"
	"errors"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// op is an operation of the Service: its name in errors and traces, and what it means when the Store does not answer.
type op struct {
	name   string
	unsure queue.Kind
}

const (
	reads  = queue.KindUnavailable   // nothing changed: repeat it
	writes = queue.KindIndeterminate // it may have happened
)

var (
	opListNamespaces  = op{"list namespaces", reads}
	opPing            = op{"ping", reads}
	opDiagnose        = op{"diagnose", reads}
	opRun             = op{"run", reads}
	opCreateTask      = op{"create task", writes}
	opCreateTasks     = op{"create tasks", writes}
	opRetainTasks     = op{"retain tasks", reads}
	opHeartbeatTasks  = op{"heartbeat tasks", reads}
	opReleaseTasks    = op{"release tasks", writes}
	opNextTask        = op{"next task", reads}
	opReleaseTask     = op{"release task", writes}
	opGetTask         = op{"get task", reads}
	opListTasks       = op{"list tasks", reads}
	opCancelTasks     = op{"cancel tasks", writes}
	opRetryTasks      = op{"retry tasks", writes}
	opDeleteTasks     = op{"delete tasks", writes}
	opAwaitTask       = op{"await task", reads}
	opListWorkers     = op{"list workers", reads}
	opCreateQueue     = op{"create queue", writes}
	opRegisterQueue   = op{"register queue", writes}
	opGetQueue        = op{"get queue", reads}
	opListQueues      = op{"list queues", reads}
	opUpdateQueue     = op{"update queue", writes}
	opDeleteQueue     = op{"delete queue", writes}
	opCleanQueue      = op{"clean queue", writes}
	opQueueStats      = op{"queue stats", reads}
	opQueueStatuses   = op{"list queue statuses", reads}
	opCreateTicker    = op{"create ticker", writes}
	opRegisterTicker  = op{"register ticker", writes}
	opGetTicker       = op{"get ticker", reads}
	opListTickers     = op{"list tickers", reads}
	opUpdateTicker    = op{"update ticker", writes}
	opDeleteTicker    = op{"delete ticker", writes}
	opPreviewTicker   = op{"preview ticker", reads}
	opRunTicker       = op{"run ticker", writes}
	opListTicks       = op{"list ticks", reads}
	opTickerLoop      = op{"run ticker loop", reads}
	opNextTicker      = op{"next ticker", reads}
	opLastEvent       = op{"last event", reads}
	opListEvents      = op{"list events", reads}
	opSubscribeEvents = op{"subscribe events", reads}
)

// runOperation runs one operation: it is the one place where operations are traced and errors get their Op.
func runOperation[T any](ctx context.Context, m *Manager, o op, f func(context.Context) (T, error)) (T, error) {
	var out T
	var err error
	end := func(error) {}
	if m.cfg.tracer != nil {
		ctx, end = m.cfg.tracer.Start(ctx, o.name, m.namespace)
	}
	switch {
	case ctx.Err() != nil:
		err = queue.ContextError(ctx.Err())
	case m.isClosed():
		err = batch.Closed("manager")
	default:
		out, err = f(ctx)
	}
	if err != nil {
		var none T
		out, err = none, queue.WithOp(o.name, domainError(ctx, o.unsure, err))
	}
	end(err)
	return out, err
}

// callStore is runOperation with the Store called under a deadline, and ended when the manager is closed.
func callStore[T any](ctx context.Context, m *Manager, o op, f func(context.Context) (T, error)) (T, error) {
	return runOperation(ctx, m, o, func(ctx context.Context) (T, error) {
		ctx, leave, err := m.enter(ctx, m.cfg.callTimeout)
		if err != nil {
			var none T
			return none, err
		}
		defer leave()
		return f(ctx)
	})
}

// domainError makes err one of the domain's: the end of the caller's own context, of ours, or a foreign error.
func domainError(ctx context.Context, unsure queue.Kind, err error) error {
	e, ours := errors.AsType[*queue.Error](err)
	over := ours && (e.Kind == queue.KindDeadline || e.Kind == queue.KindCanceled) ||
		!ours && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled))
	switch {
	case over && ctx.Err() == nil:
		return &queue.Error{Kind: unsure, Msg: "the store did not answer in time", Err: err}
	case ours:
		return err
	case over:
		return queue.ContextError(ctx.Err())
	}
	return &queue.Error{Kind: queue.KindOf(err), Err: err}
}
