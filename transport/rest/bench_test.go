package rest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// instant answers the hot path without any work, so that what is measured is the interface.
type instant struct {
	queue.Service
	task queue.Task
}

func (s *instant) Namespace() string { return "default" }

func (s *instant) CreateTask(context.Context, string, queue.TaskMeta) (*queue.Task, error) {
	return &s.task, nil
}

func (s *instant) RetainTasks(context.Context, queue.RetainRequest) ([]*queue.Task, error) {
	return []*queue.Task{&s.task}, nil
}

func (s *instant) ReleaseTasks(context.Context, []queue.Release) ([]queue.Released, error) {
	return []queue.Released{{Task: &s.task}}, nil
}

func newInstant(b *testing.B) *restserver.Server {
	b.Helper()
	svc := &instant{task: queue.Task{ID: 1, Namespace: "default", Queue: "mail", Payload: []byte(`{"to":"a@b.c"}`), Status: queue.StatusNew, Retries: 3, Lease: &queue.Lease{Token: 1}}}
	s, err := restserver.New(restserver.Config{Service: svc})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	return s
}

// BenchmarkHotPath is one request of each kind through the whole handler, without sockets.
func BenchmarkHotPath(b *testing.B) {
	s := newInstant(b)
	for _, x := range []struct{ name, method, path, body string }{
		{"create", "POST", "/api/task", `{"queue":"mail","payload":{"to":"a@b.c"}}`},
		{"retain", "PUT", "/api/task/mail?worker=w1", ``},
		{"release", "PATCH", "/api/task/1", `{"fail":false,"token":1}`},
		{"404", "GET", "/nothing", ``},
	} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			req := httptest.NewRequest(x.method, x.path, nil)
			req.Header.Set("Content-Type", "application/json")
			w := &discard{header: http.Header{}}
			for b.Loop() {
				r := *req // the mux writes into the request
				if x.body != "" {
					r.Body, r.ContentLength = body{strings.NewReader(x.body)}, int64(len(x.body))
				}
				clear(w.header)
				s.ServeHTTP(w, &r)
			}
			if w.status >= 400 && x.name != "404" {
				b.Fatal("status ", w.status)
			}
		})
	}
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

type discard struct {
	header http.Header
	status int
}

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) WriteHeader(status int)      { w.status = status }
func (w *discard) Write(b []byte) (int, error) { return len(b), nil }
