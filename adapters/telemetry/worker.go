package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// Observer measures a worker: worker.WithObserver takes it. Several workers may share it.
func (t *Telemetry) Observer() worker.Observer {
	if t.m == nil {
		return worker.NoObserver{}
	}
	return &observer{m: t.m, handlers: &t.handlers}
}

type observer struct {
	worker.NoObserver // for methods that come later
	m                 *meters
	handlers          *handlerTraces
}

func (o *observer) TaskStarted(task worker.Held, waited time.Duration) {
	w := o.m.worker.metersOf(task.Namespace, task.Queue)
	w.running.Inc()
	w.wait.Observe(waited.Seconds())
}

func (o *observer) TaskFinished(task worker.Held, f worker.Finished) {
	w := o.m.worker.metersOf(task.Namespace, task.Queue)
	w.running.Dec()
	span := o.handlers.take(handlerKey{task.ID, task.Attempt})
	if run := w.run[f.Outcome]; run != nil {
		observeIn(run, f.Took.Seconds(), span)
	}
	w.holding.Observe((f.Waited + f.Took).Seconds())
	if f.Outcome == queue.OutcomeSuccess && task.Queued > 0 {
		// Until the retain by the database's clock, from then on by our own stopwatch: no two clocks are compared.
		observeIn(w.endToEnd, (task.Queued + f.Waited + f.Took).Seconds(), span)
	}
}

func (o *observer) Retained(_, got int, took time.Duration, err error) {
	o.m.runtime.recordCall(queue.OpRetainTasks, took, err)
	if got > 0 {
		o.m.workerBatch[queue.OpRetainTasks].Observe(float64(got))
	}
}

func (o *observer) Released(n int, took time.Duration, err error) {
	o.m.runtime.recordCall(queue.OpReleaseTasks, took, err)
	o.m.workerBatch[queue.OpReleaseTasks].Observe(float64(n))
}

func (o *observer) Heartbeat(n int, lag time.Duration, err error) {
	o.m.heartbeatLag.Observe(lag.Seconds())
	o.m.runtime.countError(queue.OpHeartbeatTasks, err)
	o.m.workerBatch[queue.OpHeartbeatTasks].Observe(float64(n))
}

func (o *observer) LeaseLost(task worker.Held) {
	o.m.worker.metersOf(task.Namespace, task.Queue).leaseLost.Inc()
}

// Middleware records a span around each handler, with the task's baggage in its context: worker.Worker.Use takes it.
func (t *Telemetry) Middleware() func(worker.Handler) worker.Handler {
	if t.tracer == nil {
		return func(next worker.Handler) worker.Handler { return next }
	}

	return func(next worker.Handler) worker.Handler {
		return worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (out any, err error) {
			ctx, span := t.startHandlerSpan(ctx, task)
			returned := false
			defer func() {
				if !returned { // the panic goes on: the runtime makes a failure of it
					endPanickedSpan(span)
				}
			}()
			out, err = next.Work(ctx, task)
			returned = true
			endHandlerSpan(ctx, span, err)
			return out, err
		})
	}
}

// startHandlerSpan begins the span of a handler.
func (t *Telemetry) startHandlerSpan(ctx context.Context, task *queue.Task) (context.Context, trace.Span) {
	created := extractContext(ctx, task.Headers)
	opts := []trace.SpanStartOption{trace.WithSpanKind(opProcess.kind)}
	switch from := trace.SpanContextFromContext(created); {
	case !from.IsRemote(): // there is no creation context
	case t.cfg.parentCreation:
	default:
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: from}))
		created = trace.ContextWithSpanContext(created, trace.SpanContextFromContext(ctx))
	}

	ctx, span := t.tracer.Start(created, opProcess.spanName(task.Queue), opts...)
	if span.IsRecording() {
		attrs := append(opProcess.describe(task.Namespace, task.Queue), attrTask(task.ID), keyAttempt.Int(task.Attempt),
			attrWorker(task.Worker), attrSize(len(task.Payload)))
		if task.Lease != nil {
			attrs = append(attrs, keyToken.Int64(task.Lease.Token))
		}
		span.SetAttributes(attrs...)
	}
	if t.m != nil {
		t.handlers.keep(handlerKey{task.ID, task.Attempt}, span.SpanContext())
	}

	return ctx, span
}

// endHandlerSpan ends the span of a handler that returned err. Only what its error is goes with it, not what it says.
func endHandlerSpan(ctx context.Context, span trace.Span, err error) {
	if span.IsRecording() {
		outcome := worker.OutcomeOf(err)
		span.SetAttributes(keyOutcome.String(string(outcome)))
		if cause := context.Cause(ctx); cause != nil {
			span.SetAttributes(keyCause.String(cause.Error())) // of the runtime: why the context ended
		}
		if outcome == queue.OutcomeFailure || outcome == queue.OutcomePermanent {
			span.SetStatus(codes.Error, string(outcome))
			span.SetAttributes(attrError(errorTypeOf(err)))
		}
	}
	span.End()
}

// endPanickedSpan ends the span of a handler that panicked, or called runtime.Goexit.
func endPanickedSpan(span trace.Span) {
	span.SetStatus(codes.Error, "panic")
	span.SetAttributes(attrError("panic"), keyOutcome.String(string(queue.OutcomeFailure)))
	span.End()
}

// errorTypeOf is the kind of an error of ours, else the Go type at the end of the chain.
func errorTypeOf(err error) string {
	if e, ok := errors.AsType[*queue.Error](err); ok {
		return string(e.Kind)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return fmt.Sprintf("%T", err)
}
