//go:build linux

package run

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// spanCollector receives spans by OTLP.
type spanCollector struct {
	mu    sync.Mutex
	spans []*spanpb.Span
}

func (c *spanCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	var m tracepb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(text, &m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range m.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
}

// takeHandlerSpan returns the span of the only handler, and forgets all spans.
func (c *spanCollector) takeHandlerSpan(t *testing.T) (found *spanpb.Span) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, span := range c.spans {
		if span.GetName() == "process mail" {
			found = span
		}
	}
	c.spans = nil
	if found == nil {
		t.Fatal("no handler has a span")
	}
	return found
}

// TestTraceParent: the creator of a task is a link of its handler's span, and with --trace-parent the parent.
func TestTraceParent(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	spans := &spanCollector{}
	receiver := httptest.NewServer(spans)
	defer receiver.Close()
	m, url := server(t)
	makeQueue(t, m, queue.QueueMeta{Name: "mail"})
	env := []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + receiver.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_METRICS_EXPORTER=none",
		"OTEL_TRACES_EXPORTER=otlp", "OTEL_SDK_DISABLED=false",
	}
	work := func(env []string, args ...string) *spanpb.Span {
		t.Helper()
		headers := map[string]string{"traceparent": "00-" + trace + "-" + span + "-01"}
		if _, err := m.CreateTask(t.Context(), "mail", queue.TaskMeta{Headers: headers}); err != nil {
			t.Fatal(err)
		}
		p := startUnder(t, nil, env, append([]string{"--url", url + "/api", "-q", "mail", "--exec", "true", "--until-empty"}, args...)...)
		if code := p.end(); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		return spans.takeHandlerSpan(t)
	}

	linked := work(env)
	if hex.EncodeToString(linked.GetTraceId()) == trace || len(linked.GetLinks()) != 1 || hex.EncodeToString(linked.GetLinks()[0].GetTraceId()) != trace {
		t.Errorf("without the flag the span has the trace %x and the links %v", linked.GetTraceId(), linked.GetLinks())
	}
	for name, child := range map[string]*spanpb.Span{
		"the flag": work(env, "--trace-parent"), "the variable": work(append(env, "PGQUEUE_WORKER_TRACE_PARENT=true")),
	} {
		if hex.EncodeToString(child.GetTraceId()) != trace || hex.EncodeToString(child.GetParentSpanId()) != span || len(child.GetLinks()) != 0 {
			t.Errorf("with %s the span has the trace %x, the parent %x and the links %v", name, child.GetTraceId(), child.GetParentSpanId(), child.GetLinks())
		}
	}
}
