package export

import (
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

// DefaultTraces is how many new traces a second a process records unless OTEL_TRACES_SAMPLER says otherwise.
const DefaultTraces = 10

// Sampler records up to n new traces a second, and all spans of a recorded trace. So a quiet process is seen whole, and a
// busy one does not spend its time on spans. The handlers of tasks with a recorded creation have a limit of their own, n
// again, so that recorded traces have both ends.
func Sampler(n int) sdktrace.Sampler {
	room := func() *rate.Limiter { return rate.NewLimiter(rate.Limit(n), n) }
	return sdktrace.ParentBased(&sampler{fresh: room(), linked: room()})
}

type sampler struct{ fresh, linked *rate.Limiter }

// ShouldSample decides about a span that has no parent.
func (s *sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	room := s.fresh
	// The handler of a task links to the span of its create.
	for _, l := range p.Links {
		if l.SpanContext.IsSampled() {
			room = s.linked
			break
		}
	}
	r := sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
	if room.Allow() {
		r.Decision = sdktrace.RecordAndSample
	}
	return r
}

// Description is for people.
func (s *sampler) Description() string { return "RateLimited" }
