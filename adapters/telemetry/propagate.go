package telemetry

import (
	"context"
	"maps"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// headerTraceparent says that a task has a creation context.
const headerTraceparent = "traceparent"

// propagator puts W3C trace context and baggage into a task's headers, and reads them.
var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// injectContext returns headers with the context of ctx, copied when changed: the caller's map stays as it is. A context
// without a recorded trace adds nothing, and neither does one that exceeds the limits of headers.
func injectContext(ctx context.Context, headers map[string]string) map[string]string {
	if !trace.SpanContextFromContext(ctx).IsSampled() && baggage.FromContext(ctx).Len() == 0 {
		return headers
	}

	if headers[headerTraceparent] != "" {
		return headers // the caller's own producer span is the creation
	}

	// 3: traceparent, tracestate and baggage.
	with := make(propagation.MapCarrier, len(headers)+3)
	maps.Copy(with, headers)
	propagator.Inject(ctx, with)
	// A task at the limit of its headers is created without a trace rather than refused.
	if queue.CheckHeaders(with) != nil {
		return headers
	}

	return with
}

// extractContext is ctx with the creation context and the baggage of a task.
func extractContext(ctx context.Context, headers map[string]string) context.Context {
	if len(headers) == 0 {
		return ctx
	}
	return propagator.Extract(ctx, propagation.MapCarrier(headers))
}

// maxLinks bounds the links of one span; more would be dropped by the SDK anyway.
const maxLinks = 128

// creations gathers links to the contexts in which tasks were created, each once.
type creations struct {
	links []trace.Link
	seen  map[string]struct{} // by traceparent; nil while there is but one
	last  string
}

func (c *creations) addHeaders(headers map[string]string) {
	parent := headers[headerTraceparent]
	// Neighbours in a batch often share their trace, so the comparison with the last one comes first.
	if parent == "" || parent == c.last || len(c.links) == maxLinks {
		return
	}

	if c.last != "" && c.seen == nil {
		// A batch of one producer has one trace, so most calls need no map.
		c.seen = map[string]struct{}{c.last: {}}
	}

	if _, ok := c.seen[parent]; ok {
		return
	}

	if c.seen != nil {
		c.seen[parent] = struct{}{}
	}

	c.last = parent
	if sc := trace.SpanContextFromContext(extractContext(context.Background(), headers)); sc.IsValid() {
		c.links = append(c.links, trace.Link{SpanContext: sc})
	}
}
