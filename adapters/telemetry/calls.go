package telemetry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// callMeters time the calls of one layer and count their errors by kind.
type callMeters struct {
	seconds *prometheus.HistogramVec
	errors  *prometheus.CounterVec
	// observers has the histogram of each operation, by queue.Op, from its first call on.
	observers []atomic.Pointer[prometheus.Observer]
}

func newCallMeters(mk *metricMaker, layer, calls string) *callMeters {
	return &callMeters{
		seconds: mk.newHistograms("pgqueue_"+layer+"_call_seconds",
			"Duration of "+calls+" by operation, waiting included.", callBuckets, "op"),
		errors: mk.newCounters("pgqueue_"+layer+"_errors_total",
			"Errors of "+calls+" by operation and kind.", "op", "kind"),
		observers: make([]atomic.Pointer[prometheus.Observer], len(queue.Ops())+1),
	}
}

// recordCall records a call of op that took took and ended with err.
func (c *callMeters) recordCall(op queue.Op, took time.Duration, err error) {
	c.recordCallIn(op, took, err, trace.SpanContext{})
}

// recordCallIn records a call like recordCall. A sampled span gives its duration an exemplar.
func (c *callMeters) recordCallIn(op queue.Op, took time.Duration, err error, in trace.SpanContext) {
	seconds := c.observers[op].Load()
	if seconds == nil {
		observer := c.seconds.WithLabelValues(op.Label())
		seconds = &observer
		// Two calls at once may store here; both store the same histogram.
		c.observers[op].Store(seconds)
	}

	observeIn(*seconds, took.Seconds(), in)
	c.countError(op, err)
}

// countError counts err under its kind. A cancellation by the caller is not an error.
func (c *callMeters) countError(op queue.Op, err error) {
	if err == nil {
		return
	}
	if kind := queue.KindOf(err); kind != queue.KindCanceled {
		c.errors.WithLabelValues(op.Label(), string(kind)).Inc()
	}
}

// countStreamError counts the end of a stream by an error of the service. Streams end by their callers: neither a context
// that ended nor an error of the caller's handler counts.
func (c *callMeters) countStreamError(op queue.Op, err error) {
	e, ok := errors.AsType[*queue.Error](err)
	if !ok || e.Kind == queue.KindCanceled || e.Kind == queue.KindDeadline {
		return
	}
	c.errors.WithLabelValues(op.Label(), string(e.Kind)).Inc()
}

// openCalls are the operations that stay open for long, with their label in pgqueue_streams.
var openCalls = map[queue.Op]string{
	queue.OpSubscribeEvents: "events",
	queue.OpRunTickerLoop:   "ticks",
	queue.OpAwaitTask:       "await",
	queue.OpRetainTasks:     "retain",
}

// callObserver measures the calls of one layer: the duration and the errors of each, the open streams, and a span inside a
// trace that is being recorded.
type callObserver struct {
	t     *Telemetry
	layer string      // "service" or "store"
	calls *callMeters // nil when metrics are off
}

// callState is the state of one observed call.
type callState struct {
	span  trace.Span // nil = no span
	start time.Duration
	open  prometheus.Gauge // nil unless the call counts as open
}

var _ queue.Observer[callState] = (*callObserver)(nil)

// Start begins the span of a call. A stream has no span, because the span would end with the process.
func (o *callObserver) Start(ctx context.Context, call queue.Call) (context.Context, callState, error) {
	state := callState{open: o.countOpenCall(call)}

	if call.Op.Operation().Cost != queue.CostStream {
		ctx, state.span = o.startSpan(ctx, call, nil)
	}

	state.start = readStopwatch()
	return ctx, state, nil
}

// End records the duration of a call and ends its span. Streams last as long as their callers want, so only their errors
// count.
func (o *callObserver) End(_ context.Context, call queue.Call, state callState, err error) error {
	took := readStopwatch() - state.start

	if state.open != nil {
		state.open.Dec()
	}
	endSpan(state.span, err)

	switch {
	case o.calls == nil:
	case call.Op.Operation().Cost == queue.CostStream:
		o.calls.countStreamError(call.Op, err)
	default:
		o.calls.recordCallIn(call.Op, took, err, spanContextOf(state.span))
	}
	return nil
}

// countOpenCall counts a stream or a waiting call as open and returns its gauge; nil for any other call.
func (o *callObserver) countOpenCall(call queue.Call) prometheus.Gauge {
	if o.calls == nil || call.Wait <= 0 && call.Op.Operation().Cost != queue.CostStream {
		return nil
	}
	// Waiting operations without a label count nowhere.
	gauge := o.t.m.openCalls[call.Op]
	if gauge != nil {
		gauge.Inc()
	}
	return gauge
}

// startSpan begins a span inside a trace that is being recorded, or one with links. Otherwise it returns nil.
func (o *callObserver) startSpan(
	ctx context.Context, call queue.Call, links []trace.Link,
) (context.Context, trace.Span) {
	if o.t.tracer == nil || len(links) == 0 && !isRecorded(ctx) {
		return ctx, nil
	}

	ctx, span := o.t.tracer.Start(ctx, o.layer+" "+call.Op.Label(), trace.WithLinks(links...))
	if span.IsRecording() {
		span.SetAttributes(keyOperation.String(call.Op.Label()))
		if call.Namespace != "" {
			span.SetAttributes(keyNamespace.String(call.Namespace))
		}
	}
	return ctx, span
}

// endSpan ends a span that may be nil.
func endSpan(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		markFailed(span, err)
	}
	span.End()
}

// markFailed marks a span with the kind of err. The text of err may hold data that must not be recorded.
func markFailed(span trace.Span, err error) {
	kind := string(queue.KindOf(err))
	span.SetStatus(codes.Error, kind)
	span.SetAttributes(attrError(kind))
}

// isRecorded reports whether ctx belongs to a trace that is being recorded.
func isRecorded(ctx context.Context) bool { return trace.SpanContextFromContext(ctx).IsSampled() }

var epoch = time.Now()

// readStopwatch reads the monotonic clock alone. That costs half of time.Now, and the hot path reads it many times.
func readStopwatch() time.Duration { return time.Since(epoch) }
