package run

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// TestLogTellsOfAnswersThatDidNotArrive has a client that leaves before its answer, over each transport.
func TestLogTellsOfAnswersThatDidNotArrive(t *testing.T) {
	for name, x := range map[string]struct{ path, body, line string }{
		"REST":    {"/api/task", `{"queue":"mail"}`, "request"},
		"Connect": {"/pgqueue.v1.TaskService/CreateTask", `{"task":{"queue":"mail"}}`, "call"},
	} {
		t.Run(name, func(t *testing.T) {
			store, log := newSlow(), &lines{}
			s := start(t, store.config(log))
			if code, body := do(t, "POST", s.URL()+"/api/queue", `{"queue":"mail"}`); code != http.StatusCreated {
				t.Fatal(code, body)
			}
			c, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "POST "+x.path+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "+
				itoa(len(x.body))+"\r\n\r\n"+x.body); err != nil {
				t.Fatal(err)
			}
			<-store.entered
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			for {
				for _, r := range log.all(t, x.line) {
					if r["path"] != x.path {
						continue
					}
					if r["status"] != 499.0 {
						t.Fatalf("%v", r)
					}
					if _, metrics := do(t, "GET", s.URL()+"/api/metrics", ""); !strings.Contains(metrics, `pgqueue_http_requests_total{code="499",method="POST"`) {
						continue // they are counted behind the log
					}
					close(store.leave)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

func itoa(n int) string { return string([]byte{byte('0' + n/10), byte('0' + n%10)}) }

// TestFlushErrorsReachWhoDelivers goes through all that is around a handler in this program: one layer that keeps the
// error for itself would have tasks of an answer that was cut count as delivered.
func TestFlushErrorsReachWhoDelivers(t *testing.T) {
	var seen error
	inner := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		seen = http.NewResponseController(w).Flush()
	})
	tel, err := telemetry.New()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, func() Config { st := newSlow(); close(st.leave); return st.config(io.Discard) }())
	for name, h := range map[string]http.Handler{"telemetry": tel.HTTP(inner), "log": s.logRequests(inner)} {
		seen = nil
		r, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
		h.ServeHTTP(brokenWriter{}, r)
		if seen == nil {
			t.Errorf("%s keeps the error of a flush for itself", name)
		}
	}
	if restserver.DefaultIdle <= 600*time.Second || s.http.IdleTimeout != restserver.DefaultIdle {
		t.Error("unused connections stay", s.http.IdleTimeout, "- balancers keep theirs for up to 600s")
	}
}

// brokenWriter is a connection that was cut.
type brokenWriter struct{}

func (brokenWriter) Header() http.Header       { return http.Header{} }
func (brokenWriter) Write([]byte) (int, error) { return 0, net.ErrClosed }
func (brokenWriter) WriteHeader(int)           {}
func (brokenWriter) FlushError() error         { return net.ErrClosed }
