package export_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/telemetry/export"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// variables that a test of the outside may have set.
func clean(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
		"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_PROTOCOL",
	} {
		t.Setenv(name, "")
	}
}

func TestSetup(t *testing.T) {
	t.Run("nothing is sent unless a variable says so", func(t *testing.T) {
		clean(t)
		tel, shutdown, err := export.Setup(t.Context(), export.Config{Service: "s", Version: "v"})
		if err != nil {
			t.Fatal(err)
		}
		if tel.Tracing() {
			t.Error("traces are recorded")
		}
		w := httptest.NewRecorder()
		tel.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		for _, want := range []string{`version="v"`, "go_goroutines", "process_"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("no %s in the metrics", want)
			}
		}
		if err := shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("an endpoint takes traces and the very metrics that are scraped", func(t *testing.T) {
		clean(t)
		var mu sync.Mutex
		got := map[string]string{}
		collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			got[r.URL.Path] += string(b)
		}))
		defer collector.Close()
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
		tel, shutdown, err := export.Setup(t.Context(), export.Config{Service: "my-service", Version: "v"})
		if err != nil {
			t.Fatal(err)
		}
		store := tel.Store(memory.New())
		ctx, span := tel.TracerProvider().Tracer("t").Start(t.Context(), "my-span")
		if _, err := store.CreateQueue(ctx, queue.Queue{Namespace: "n", Name: "q", Version: 1}); err != nil {
			t.Fatal(err)
		}
		span.End()
		for range 2 { // it may be called again
			if err := shutdown(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for path, wants := range map[string][]string{
			"/v1/traces":  {"my-service", "my-span", "store create_queue"},
			"/v1/metrics": {"my-service", "pgqueue_build_info", "pgqueue_store_call_seconds"},
		} {
			for _, want := range wants {
				if !strings.Contains(got[path], want) {
					t.Errorf("%s did not get %s", path, want)
				}
			}
		}
	})
	t.Run("a signal can stay at home", func(t *testing.T) {
		clean(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
		t.Setenv("OTEL_TRACES_EXPORTER", "none")
		t.Setenv("OTEL_METRICS_EXPORTER", "none")
		tel, shutdown, err := export.Setup(t.Context(), export.Config{Service: "s"})
		if err != nil || tel.Tracing() {
			t.Errorf("tracing, %v", err)
		}
		if err := shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("nonsense is an error that names its variable", func(t *testing.T) {
		clean(t)
		t.Setenv("OTEL_TRACES_EXPORTER", "pigeon")
		if _, _, err := export.Setup(t.Context(), export.Config{Service: "s"}); err == nil || !strings.Contains(err.Error(), "OTEL_TRACES_EXPORTER") {
			t.Error(err)
		}
	})
}
