package export_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/adapters/telemetry/export"
)

func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSampler(export.Sampler(10))).Tracer("t")
		recorded := func(ctx context.Context, n int, opts ...trace.SpanStartOption) (sum int) {
			for range n {
				_, span := tracer.Start(ctx, "s", opts...)
				if span.SpanContext().IsSampled() {
					sum++
				}
				span.End()
			}
			return sum
		}
		parent := func(flags trace.TraceFlags) context.Context {
			return trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags,
			}))
		}
		link := func(flags trace.TraceFlags) trace.SpanStartOption {
			return trace.WithLinks(trace.LinkFromContext(parent(flags)))
		}
		for name, c := range map[string]struct{ got, want int }{
			"new traces":                       {recorded(t.Context(), 100), 10},
			"and no more in the same second":   {recorded(t.Context(), 100, link(0)), 0},
			"handlers of recorded creations":   {recorded(t.Context(), 100, link(trace.FlagsSampled)), 10},
			"what belongs to a recorded trace": {recorded(parent(trace.FlagsSampled), 100), 100},
			"what belongs to another":          {recorded(parent(0), 100), 0},
		} {
			if c.got != c.want {
				t.Errorf("%s: %d are recorded, want %d", name, c.got, c.want)
			}
		}
		time.Sleep(500 * time.Millisecond)
		if got := recorded(t.Context(), 100); got != 5 {
			t.Errorf("%d are recorded half a second later, want 5", got)
		}
	})
}
