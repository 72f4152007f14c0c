package telemetry

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/queue"
)

type httpMeters struct {
	requests *prometheus.CounterVec   // method, route, code
	seconds  *prometheus.HistogramVec // method, route
	inFlight prometheus.Gauge
	refused  *prometheus.CounterVec // reason
}

func newHTTPMeters(mk *metricMaker) httpMeters {
	return httpMeters{
		requests: mk.newCounters("pgqueue_http_requests_total", "Requests answered, by route and status.", "method", "route", "code"),
		seconds: mk.newHistograms("pgqueue_http_request_seconds", "How long requests took, by route. Long polls and streams last as long as asked for.",
			callBuckets, "method", "route"),
		inFlight: mk.newGauges("pgqueue_http_in_flight_requests", "Requests under way, streams too.").WithLabelValues(),
		refused:  mk.newCounters("pgqueue_http_refused_requests_total", "Requests refused before any route, by the header at fault.", "reason"),
	}
}

// HTTP counts and traces the requests that next answers: a server span each, of the caller's trace where it sends one.
// The route is the pattern of the http.ServeMux that took the request, so its number is bounded; without one it is
// "other". Streams, hijacking and http.ResponseController work through it.
func (t *Telemetry) HTTP(next http.Handler) http.Handler {
	if t.isOff() {
		return next
	}

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &statusRecorder{ResponseWriter: w}
		var span trace.Span
		if t.tracer != nil {
			ctx := propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
			ctx, span = t.tracer.Start(ctx, methodLabel(r), trace.WithSpanKind(trace.SpanKindServer))
			r = r.WithContext(ctx)
		}
		if t.m != nil {
			t.m.http.inFlight.Inc()
			defer t.m.http.inFlight.Dec()
		}
		answered := false
		defer func() {
			if !answered && rec.status == 0 {
				rec.status = http.StatusInternalServerError // a panic, which net/http ends the connection for
			}
			// After the handler, because only the mux knows the route.
			t.recordRequest(r, rec.finalStatus(r), span, time.Since(start))
		}()
		next.ServeHTTP(rec, r)
		answered = true
	})
}

// HTTPRefused counts a request that is refused before any route. The caller bounds the number of reasons.
func (t *Telemetry) HTTPRefused(reason string) {
	if t.m != nil {
		t.m.http.refused.WithLabelValues(reason).Inc()
	}
}

// AuditFailed counts an entry of the audit that the store did not keep.
func (t *Telemetry) AuditFailed(error) {
	if t.m != nil {
		t.m.auditFailures.Inc()
	}
}

// AccessRefused counts a call that access refused. The action is "none" for a request that was refused before any operation.
func (t *Telemetry) AccessRefused(a queue.Action, reason queue.Kind) {
	if t.m == nil {
		return
	}
	if a == "" {
		a = noAction
	}
	t.m.accessRefused.WithLabelValues(string(a), string(reason)).Inc()
}

// noAction is the label of a refusal that concerns no operation.
const noAction = "none"

// recordRequest records a request after the fact, when its route is known.
func (t *Telemetry) recordRequest(r *http.Request, status int, span trace.Span, took time.Duration) {
	m, route := methodLabel(r), routeLabel(r)
	if t.m != nil {
		t.m.http.requests.WithLabelValues(m, route, strconv.Itoa(status)).Inc()
		observeIn(t.m.http.seconds.WithLabelValues(m, route), took.Seconds(), spanContextOf(span))
	}

	if span == nil {
		return
	}

	if span.IsRecording() {
		// The mux has set the pattern by now; at the start of the span the route was not known.
		span.SetName(m + " " + route)
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		span.SetAttributes(attrMethod(m), attrRoute(route), attrStatus(status), attrPath(r.URL.Path), attrScheme(scheme))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
			span.SetAttributes(attrError(strconv.Itoa(status)))
		}
	}

	span.End()
}

var methods = []string{
	http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions,
}

// methodLabel is one of the known ones, or "other": it is a label.
func methodLabel(r *http.Request) string {
	if slices.Contains(methods, r.Method) {
		return r.Method
	}
	return Other
}

// routeLabel is the path of the pattern that took the request.
func routeLabel(r *http.Request) string {
	_, path, found := strings.Cut(r.Pattern, " ")
	if !found {
		path = r.Pattern
	}
	if path == "" || path == "/" {
		return Other // no other pattern took it
	}
	return path
}

// statusClientGone is the recorded status of an answer that did not arrive: nginx's number for it.
const statusClientGone = 499

// statusRecorder sees the status, and whether the answer could be written.
type statusRecorder struct {
	http.ResponseWriter
	status int
	err    error // of the first write that failed
}

// finalStatus is what was answered, 499 when the answer has not arrived: a write failed, or the client left before the end. A
// stream ends by its client leaving, and an answer of a known length may have been read as a whole by then.
func (w *statusRecorder) finalStatus(r *http.Request) int {
	h := w.Header()
	left := r.Context().Err() != nil && h.Get("Content-Length") == "" && h.Get("Content-Type") != "text/event-stream"
	switch {
	case w.err != nil || left:
		return statusClientGone
	case w.status == 0:
		return http.StatusOK
	}
	return w.status
}

func (w *statusRecorder) WriteHeader(status int) {
	// An informational answer (1xx) precedes the real one.
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.keepWriteError(err)
	return n, err
}

// FlushError is for http.ResponseController: the handler must see that a flush failed.
func (w *statusRecorder) FlushError() error {
	err := http.NewResponseController(w.ResponseWriter).Flush()
	// A writer that cannot flush has not lost the answer.
	if !errors.Is(err, errors.ErrUnsupported) {
		w.keepWriteError(err)
	}
	return err
}

// Flush is for handlers without http.ResponseController.
func (w *statusRecorder) Flush() { _ = w.FlushError() }

func (w *statusRecorder) keepWriteError(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Unwrap is for http.ResponseController.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
