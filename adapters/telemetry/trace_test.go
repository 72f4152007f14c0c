package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// work runs a worker of queue "mail" until it has ended n tasks.
func work(s *stack, n int, h worker.HandlerFunc) {
	s.Helper()
	done := make(chan struct{}, n)
	w := worker.New(s.svc, worker.WithName("w"), worker.WithWait(10*time.Millisecond), worker.WithObserver(s.tel.Observer()), worker.WithLogger(slog.New(slog.DiscardHandler)))
	w.Use(s.tel.Middleware())
	w.HandleFunc("mail", func(ctx context.Context, task *queue.Task) (any, error) {
		defer func() { done <- struct{}{} }()
		return h(ctx, task)
	})
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for range n {
		<-done
	}
	cancel()
	s.ok(<-ended)
}

// TestTrace follows a task from its creation to the end of its handler.
func TestTrace(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{})
	s.spans.Reset()
	member, err := baggage.NewMember("tenant", "blue")
	s.ok(err)
	bag, err := baggage.New(member)
	s.ok(err)
	headers := map[string]string{"x": "y"}
	task, err := s.svc.CreateTask(baggage.ContextWithBaggage(t.Context(), bag), "mail", queue.TaskMeta{
		Payload: []byte(`{"to":"secret@example.org"}`), Headers: headers,
	})
	s.ok(err)
	var seen, tenant string
	work(s, 1, func(ctx context.Context, _ *queue.Task) (any, error) {
		seen = trace.SpanContextFromContext(ctx).SpanID().String()
		tenant = baggage.FromContext(ctx).Member("tenant").Value()
		return "a result", nil
	})
	send, process, receive := s.span("send mail"), s.span("process mail"), s.span("receive mail")

	all := s.spans.GetSpans()

	// A worker's release is quiet: its answer has no headers, so no span of it is linked. Another caller's has them.
	s.spans.Reset()
	again, err := s.svc.CreateTask(t.Context(), "mail", queue.TaskMeta{})
	s.ok(err)
	creation := s.span("send mail")
	s.release(queue.OutcomeSuccess, s.retain("mail", 1)...)
	ack := s.span("ack mail")

	t.Run("the creation is a producer's span, and its context goes with the task", func(t *testing.T) {
		if send.SpanKind != trace.SpanKindProducer || send.Status.Code == codes.Error {
			t.Errorf("%+v", send)
		}
		want := fmt.Sprintf("00-%s-%s-01", send.SpanContext.TraceID(), send.SpanContext.SpanID())
		if got := task.Headers["traceparent"]; got != want {
			t.Errorf("traceparent is %q, want %q", got, want)
		}
		if task.Headers["x"] != "y" || task.Headers["baggage"] != "tenant=blue" {
			t.Errorf("headers are %v", task.Headers)
		}
		if len(headers) != 1 {
			t.Errorf("the caller's own headers were changed: %v", headers)
		}
	})
	t.Run("the handler's span is a consumer's, linked to the creation", func(t *testing.T) {
		if process.SpanKind != trace.SpanKindConsumer || seen != process.SpanContext.SpanID().String() {
			t.Errorf("%+v", process)
		}
		linked(t, process, send)
		if process.SpanContext.TraceID() == send.SpanContext.TraceID() || process.Parent.IsValid() {
			t.Error("the handler's span is not of a trace of its own")
		}
	})
	t.Run("the handler has the creator's baggage", func(t *testing.T) {
		if tenant != "blue" {
			t.Errorf("tenant is %q", tenant)
		}
	})
	t.Run("receive and settle are linked to the creation", func(t *testing.T) {
		linked(t, receive, send)
		linked(t, ack, creation)
	})
	t.Run("attributes follow the messaging conventions", func(t *testing.T) {
		id := strconv.FormatInt(task.ID, 10)
		for _, c := range []struct {
			span tracetest.SpanStub
			want map[string]string
		}{
			{send, map[string]string{"messaging.operation.name": "send", "messaging.operation.type": "send", "messaging.message.id": id, "messaging.message.body.size": "27"}},
			{receive, map[string]string{"messaging.operation.name": "receive", "messaging.operation.type": "receive", "messaging.batch.message_count": "1", "messaging.client.id": "w"}},
			{process, map[string]string{"messaging.operation.name": "process", "messaging.operation.type": "process", "messaging.message.id": id, "messaging.client.id": "w", "pgqueue.attempt": "1", "pgqueue.outcome": "success"}},
			{ack, map[string]string{"messaging.operation.name": "ack", "messaging.operation.type": "settle", "messaging.message.id": strconv.FormatInt(again.ID, 10), "pgqueue.outcome": "success"}},
		} {
			maps.Copy(c.want, map[string]string{
				"messaging.system": "pgqueue", "messaging.destination.name": "mail", "pgqueue.namespace": "default",
			})
			for key, want := range c.want {
				if got := attr(c.span, key).String(); got != want {
					t.Errorf("%s: %s is %q, want %q", c.span.Name, key, got, want)
				}
			}
		}
	})
	t.Run("neither payload nor result is recorded", func(t *testing.T) {
		for _, sp := range all {
			for _, a := range sp.Attributes {
				if v := a.Value.String(); strings.Contains(v, "secret@") || strings.Contains(v, "a result") {
					t.Errorf("%s: %s is %q", sp.Name, a.Key, v)
				}
			}
		}
	})
}

func linked(t *testing.T, from, to tracetest.SpanStub) {
	t.Helper()
	for _, l := range from.Links {
		if l.SpanContext.TraceID() == to.SpanContext.TraceID() && l.SpanContext.SpanID() == to.SpanContext.SpanID() {
			return
		}
	}
	t.Errorf("%s is not linked to %s: %v", from.Name, to.Name, from.Links)
}

func TestCreationAsParent(t *testing.T) {
	s := newStack(t, telemetry.WithCreationAsParent())
	s.queue("mail", queue.QueueMeta{})
	_, err := s.svc.CreateTask(t.Context(), "mail", queue.TaskMeta{})
	s.ok(err)
	work(s, 1, func(context.Context, *queue.Task) (any, error) { return nil, nil })
	send, process := s.span("send mail"), s.span("process mail")
	if process.Parent.SpanID() != send.SpanContext.SpanID() || process.SpanContext.TraceID() != send.SpanContext.TraceID() {
		t.Errorf("the handler's span is a child of %v", process.Parent)
	}
}

func TestBatches(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{})
	s.queue("sms", queue.QueueMeta{})
	s.spans.Reset()
	for range 3 {
		_, err := s.svc.CreateTask(t.Context(), "mail", queue.TaskMeta{})
		s.ok(err)
	}
	sends := s.spans.GetSpans()
	made, err := s.svc.CreateTasks(t.Context(), []queue.NewTask{{Queue: "mail"}, {Queue: "sms"}, {
		Queue: "sms", TaskMeta: queue.TaskMeta{Headers: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
	}})
	s.ok(err)
	batch := s.span("send")
	t.Run("the tasks of a batch share its span as their creation", func(t *testing.T) {
		for _, task := range made[:2] {
			if !strings.Contains(task.Headers["traceparent"], batch.SpanContext.SpanID().String()) {
				t.Errorf("headers are %v", task.Headers)
			}
		}
		if attr(batch, "messaging.batch.message_count").AsInt64() != 3 || attr(batch, "messaging.destination.name").String() != "" {
			t.Errorf("attributes are %v", batch.Attributes)
		}
	})
	t.Run("a creation context that the caller gave stays", func(t *testing.T) {
		if got := made[2].Headers["traceparent"]; got != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" {
			t.Errorf("traceparent is %q", got)
		}
	})
	t.Run("a retain of several is linked to each creation once", func(t *testing.T) {
		got, err := s.svc.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Limit: 10})
		s.ok(err)
		receive := s.span("receive")
		var creations []tracetest.SpanStub
		for _, sp := range sends {
			if sp.Name == "send mail" {
				creations = append(creations, sp)
			}
		}
		if len(creations) != 3 {
			t.Fatalf("%d creations", len(creations))
		}
		for _, sp := range append(creations, batch) {
			linked(t, receive, sp)
		}
		if len(receive.Links) != 5 || attr(receive, "messaging.batch.message_count").AsInt64() != 6 {
			t.Errorf("links are %v", receive.Links)
		}
		s.release(queue.OutcomeSuccess, got...)
		if n := len(s.span("ack").Links); n != 5 {
			t.Errorf("the release has %d links", n)
		}
	})
	t.Run("the store's call is linked to the creations that it gathered", func(t *testing.T) {
		var links int
		for _, sp := range s.spans.GetSpans() {
			if sp.Name == "store create_tasks" {
				links += len(sp.Links)
			}
		}
		if links != 5 { // three single ones, the batch's and the caller's own
			t.Errorf("%d links, want 5", links)
		}
	})
}

func TestHandlerErrors(t *testing.T) {
	for _, c := range []struct {
		name, outcome, kind string
		err                 error
		panics, well        bool
	}{
		{name: "failure", outcome: "failure", kind: "*errors.errorString", err: errors.New("secret text")},
		{name: "for good", outcome: "permanent", kind: "syscall.Errno", err: worker.Permanent(errPath())},
		{name: "snooze", outcome: "snooze", err: worker.Snooze(time.Hour), well: true},
		{name: "kind", outcome: "failure", kind: "not_found", err: fmt.Errorf("look: %w", &queue.Error{Kind: queue.KindNotFound})},
		{name: "panic", outcome: "failure", kind: "panic", panics: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStack(t)
			s.queue("mail", queue.QueueMeta{})
			s.create("mail", 1)
			work(s, 1, func(context.Context, *queue.Task) (any, error) {
				if c.panics {
					panic("secret text")
				}
				return nil, c.err
			})
			sp := s.span("process mail")
			if got := attr(sp, "pgqueue.outcome").String(); got != c.outcome {
				t.Errorf("outcome is %q, want %q", got, c.outcome)
			}
			if got := attr(sp, "error.type").String(); got != c.kind || (sp.Status.Code == codes.Error) == c.well {
				t.Errorf("error.type is %q, status %v", got, sp.Status)
			}
			if strings.Contains(fmt.Sprintf("%+v", sp), "secret text") {
				t.Errorf("the error's text is recorded: %+v", sp)
			}
			s.want(1, "pgqueue_worker_run_seconds", "queue", "mail", "outcome", c.outcome)
			s.want(0, "pgqueue_worker_running_tasks", "queue", "mail")
			s.want(1, "pgqueue_worker_lease_age_seconds", "queue", "mail")
		})
	}
}

func errPath() error {
	_, err := http.Dir("/nowhere").Open("x")
	return err
}

func TestUnsampled(t *testing.T) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	defer func() { _ = provider.Shutdown(context.Background()) }()
	s := newStack(t, telemetry.WithTracerProvider(provider))
	s.queue("mail", queue.QueueMeta{})
	task, err := s.svc.CreateTask(t.Context(), "mail", queue.TaskMeta{})
	s.ok(err)
	if len(task.Headers) != 0 {
		t.Errorf("a creation without a recorded trace costs the task %v", task.Headers)
	}
	t.Run("a no-op provider is none", func(t *testing.T) {
		tel, err := telemetry.New(telemetry.WithTracerProvider(noop.NewTracerProvider()))
		if err != nil || tel.Tracing() {
			t.Errorf("tracing with a no-op provider, %v", err)
		}
	})
}

func TestNoRoomForContext(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{})
	headers := map[string]string{}
	for i := range queue.MaxHeaders {
		headers[fmt.Sprintf("h%d", i)] = "v"
	}
	task, err := s.svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Headers: headers})
	s.ok(err)
	if !maps.Equal(task.Headers, headers) {
		t.Errorf("headers are %v", task.Headers)
	}
}

func TestIdleWorkersRecordNothing(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{})
	s.spans.Reset()
	got, err := s.svc.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w"})
	s.ok(err)
	s.chores(queue.Chores()...)
	if spans := s.spans.GetSpans(); len(got) != 0 || len(spans) != 0 {
		t.Errorf("recorded %v", spans)
	}
}

func TestHTTP(t *testing.T) {
	s := newStack(t)
	s.queue("mail", queue.QueueMeta{})
	s.spans.Reset()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /task/{queue}", func(w http.ResponseWriter, r *http.Request) {
		task, err := s.svc.CreateTask(r.Context(), r.PathValue("queue"), queue.TaskMeta{})
		if err != nil {
			http.Error(w, "no", http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(task.ID)
		_ = http.NewResponseController(w).Flush()
	})
	mux.HandleFunc("POST /broken", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	srv := httptest.NewUnstartedServer(s.tel.HTTP(mux))
	srv.Start()
	defer srv.Close()
	do := func(method, path string, header ...string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
		s.ok(err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := srv.Client().Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			s.ok(res.Body.Close())
		}
	}
	do(http.MethodPost, "/task/mail", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	do(http.MethodPost, "/task/none")
	do(http.MethodGet, "/anything/a/scanner/tries")
	do("BREW", "/task/mail")
	do(http.MethodPost, "/broken")
	srv.Close() // the last handlers have ended

	t.Run("a request is a server's span of its caller's trace, and what it creates is of it too", func(t *testing.T) {
		var server tracetest.SpanStub
		for _, sp := range s.spans.GetSpans() {
			if sp.Name == "POST /task/{queue}" && sp.Parent.IsRemote() {
				server = sp
			}
		}
		send := s.span("send mail")
		if server.SpanKind != trace.SpanKindServer || server.SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%+v", server)
		}
		if send.Parent.SpanID() != server.SpanContext.SpanID() {
			t.Errorf("the creation's parent is %v", send.Parent)
		}
		if attr(server, "http.response.status_code").AsInt64() != 201 || attr(server, "http.route").String() != "/task/{queue}" {
			t.Errorf("attributes are %v", server.Attributes)
		}
	})
	t.Run("requests are counted by route", func(*testing.T) {
		s.want(1, "pgqueue_http_requests_total", "method", "POST", "route", "/task/{queue}", "code", "201")
		s.want(1, "pgqueue_http_requests_total", "method", "POST", "route", "/task/{queue}", "code", "404")
		s.want(1, "pgqueue_http_requests_total", "method", "GET", "route", "other", "code", "404")
		s.want(1, "pgqueue_http_requests_total", "method", "other", "route", "other", "code", "405")
		s.want(1, "pgqueue_http_requests_total", "method", "POST", "route", "/broken", "code", "500")
		s.want(0, "pgqueue_http_in_flight_requests")
	})
}

func TestDecoratorsCanBeTakenOff(t *testing.T) {
	s := newStack(t)
	u, ok := s.store.(queue.Unwrapper)
	if !ok || u.Unwrap() != queue.Store(s.raw) {
		t.Error("the decorated store does not unwrap")
	}
	if d, ok := queue.StoreAs[queue.Diagnoser](s.store); !ok || d != queue.Diagnoser(s.raw) {
		t.Error("an optional power is not found behind the decorator")
	}
	if _, ok := queue.StoreAs[queue.Listener](s.tel.Store(plain{memory.New()})); ok {
		t.Error("a decorated store listens where the store does not")
	}
	in, err := s.svc.In("elsewhere")
	s.ok(err)
	if in.Namespace() != "elsewhere" {
		t.Errorf("bound to %s", in.Namespace())
	}
	_, err = in.CreateQueue(t.Context(), queue.QueueMeta{Name: "q"})
	s.ok(err)
	_, err = in.CreateTask(t.Context(), "q", queue.TaskMeta{})
	s.ok(err)
	if ns := attr(s.span("send q"), "pgqueue.namespace").String(); ns != "elsewhere" {
		t.Errorf("recorded in %q", ns)
	}
	s.want(1, "pgqueue_tasks_created_total", "namespace", "elsewhere", "queue", "q")
}
