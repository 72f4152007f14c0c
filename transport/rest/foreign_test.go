package rest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// releaseRefuser is a proxy that answers the first releases itself.
type releaseRefuser struct {
	http.RoundTripper
	status int
	left   atomic.Int32
}

func (p *releaseRefuser) RoundTrip(r *http.Request) (*http.Response, error) {
	isRelease := r.Method == restapi.ReleaseTasks.Method && strings.HasSuffix(r.URL.Path, restapi.ReleaseTasks.Path)
	if !isRelease || p.left.Add(-1) < 0 {
		return p.RoundTripper.RoundTrip(r)
	}
	if r.Body != nil {
		r.Body.Close()
	}
	return &http.Response{
		Status: fmt.Sprint(p.status), StatusCode: p.status, Request: r,
		Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader("try later")),
	}, nil
}

// TestReleaseRefusedByAProxyKeepsItsResult: a passing answer of a proxy costs a repeat and never the result.
func TestReleaseRefusedByAProxyKeepsItsResult(t *testing.T) {
	for _, status := range []int{400, 404, 405, 408, 409, 421, 422, 423, 425, 429, 502, 503, 504} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			s := newStack(t)
			proxy := &releaseRefuser{RoundTripper: s.http.Transport, status: status}
			proxy.left.Store(3)
			c, err := restclient.New(s.url+"/api", restclient.WithHTTPClient(&http.Client{Transport: proxy}), restclient.WithAttempts(1))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
				t.Fatal(err)
			}
			task, err := c.CreateTask(t.Context(), "mail", queue.TaskMeta{})
			if err != nil {
				t.Fatal(err)
			}

			w := worker.New(c, worker.WithLogger(slog.New(slog.DiscardHandler)))
			w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) { return "precious", nil })
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()

			await, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done, err := c.AwaitTask(await, task.ID, time.Minute)
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if err != nil || done.Status != queue.StatusReleased || string(done.Result) != `"precious"` {
				t.Errorf("task %+v, error %v", done, err)
			}
			if left := proxy.left.Load(); left > 0 {
				t.Errorf("%d refusals are left", left)
			}
		})
	}
}
