package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// exemplarTrace is the label of an exemplar that names its trace: the name that Grafana's data source looks for.
const exemplarTrace = "trace_id"

// observeIn records a value. In a sampled span the value carries its trace as an exemplar, which a dashboard shows as a link.
func observeIn(histogram prometheus.Observer, value float64, in trace.SpanContext) {
	if exemplars, ok := histogram.(prometheus.ExemplarObserver); ok && in.IsSampled() {
		exemplars.ObserveWithExemplar(value, prometheus.Labels{exemplarTrace: in.TraceID().String()})
		return
	}
	histogram.Observe(value)
}

// spanContextOf returns the context of a span that may be nil.
func spanContextOf(span trace.Span) trace.SpanContext {
	if span == nil {
		return trace.SpanContext{}
	}
	return span.SpanContext()
}

// maxHandlerTraces bounds the spans that wait for the end of their handlers. A worker without our observer never asks for them.
const maxHandlerTraces = 10_000

// handlerTraces are the sampled spans of running handlers: the middleware begins a span, and the observer measures the handler.
type handlerTraces struct {
	mu sync.Mutex
	of map[handlerKey]trace.SpanContext
}

// handlerKey is one attempt of one task.
type handlerKey struct {
	id      int64
	attempt int
}

// keep remembers a span until take.
func (h *handlerTraces) keep(key handlerKey, span trace.SpanContext) {
	if !span.IsSampled() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[handlerKey]trace.SpanContext{}
	}
	// Beyond the bound only the link from a metric to its trace is lost.
	if len(h.of) < maxHandlerTraces {
		h.of[key] = span
	}
}

// take returns the span of key, and forgets it. Without one it returns the empty context.
func (h *handlerTraces) take(key handlerKey) trace.SpanContext {
	h.mu.Lock()
	defer h.mu.Unlock()
	span := h.of[key]
	delete(h.of, key)
	return span
}
