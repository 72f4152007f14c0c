package telemetry_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestExemplars: durations of sampled handlers, requests and calls carry their traces, which OpenMetrics shows.
func TestExemplars(t *testing.T) {
	s := newStack(t, telemetry.WithCreationAsParent())
	s.queue("mail", queue.QueueMeta{})
	handler := s.tel.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := s.svc.CreateTask(r.Context(), "mail", queue.TaskMeta{})
		s.ok(err)
		_, err = s.svc.ListQueues(r.Context(), queue.Page{})
		s.ok(err)
	}))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/order", http.NoBody))
	work(s, 1, func(context.Context, *queue.Task) (any, error) { return nil, nil })
	trace := s.span("process mail").SpanContext.TraceID().String()

	r := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	scraped := httptest.NewRecorder()
	s.tel.Handler().ServeHTTP(scraped, r)
	for _, name := range []string{
		"pgqueue_worker_run_seconds_bucket", "pgqueue_worker_end_to_end_seconds_bucket", "pgqueue_http_request_seconds_bucket",
		"pgqueue_service_call_seconds_bucket", "pgqueue_store_call_seconds_bucket",
	} {
		if !carriesTrace(scraped.Body.String(), name, trace) {
			t.Errorf("no sample of %s carries the trace %s", name, trace)
		}
	}
	if t.Failed() {
		t.Log(scraped.Body.String())
	}
}

// carriesTrace reports whether a sample of a metric has the exemplar of a trace.
func carriesTrace(text, name, trace string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, `# {trace_id="`+trace+`"}`) {
			return true
		}
	}
	return false
}
