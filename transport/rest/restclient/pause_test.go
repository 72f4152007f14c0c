package restclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// answers is a server that gives every request the same answer at once, and keeps when the requests came.
type answers struct {
	status int
	header http.Header
	body   string

	began time.Time
	times []time.Duration
	paths []string
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	a.times = append(a.times, time.Since(a.began))
	a.paths = append(a.paths, r.Method+" "+r.URL.Path)
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Header: a.header, Body: io.NopCloser(strings.NewReader(a.body)),
		ContentLength: int64(len(a.body)), Request: r,
	}, nil
}

func (a *answers) client(t *testing.T) *Client {
	t.Helper()
	a.began = time.Now()
	c, err := New("http://queue.example.com/api", WithHTTPClient(&http.Client{Transport: a, CheckRedirect: noRedirect}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// work runs a worker of one queue on c for d and returns how long its stop takes.
func work(t *testing.T, c *Client, d time.Duration) time.Duration {
	t.Helper()
	w := worker.New(c)
	w.HandleFunc("mail", func(context.Context, *queue.Task) (any, error) { return nil, nil })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	time.Sleep(d)
	stop()
	began := time.Now()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return time.Since(began)
}

func TestWorkersHonourRetryAfter(t *testing.T) {
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		synctest.Test(t, func(t *testing.T) {
			a := &answers{status: status, header: http.Header{"Retry-After": {"5"}}}
			stopped := work(t, a.client(t), 13*time.Second)
			if n := len(a.times); n < 3 || n > 4 {
				t.Errorf("%d: %d requests in 13 s at Retry-After: 5, at %v", status, n, a.times)
			}
			for i := 1; i < len(a.times); i++ {
				if pause := a.times[i] - a.times[i-1]; pause < 5*time.Second && i%3 != 0 { // after 3 attempts the worker's own pause follows
					t.Errorf("%d: a pause of %v, at %v", status, pause, a.times)
				}
			}
			if stopped != 0 {
				t.Errorf("%d: the stop in a pause took %v", status, stopped)
			}
		})
	}
}

func TestWorkersPauseLongerAfterEachProxyError(t *testing.T) {
	for name, a := range map[string]*answers{
		"502":           {status: http.StatusBadGateway, header: http.Header{"Content-Type": {"text/html"}}, body: "<html>bad gateway</html>"},
		"200 with HTML": {status: http.StatusOK, header: http.Header{"Content-Type": {"text/html"}}, body: "<html>welcome</html>"},
	} {
		synctest.Test(t, func(t *testing.T) {
			work(t, a.client(t), time.Minute)
			if n := len(a.times); n < 5 || n > 120 {
				t.Errorf("%s: %d requests in a minute", name, n)
			}
			half := 0
			for _, at := range a.times {
				if at < 10*time.Second {
					half++
				}
			}
			if rest := len(a.times) - half; rest > 3*half { // a sixth of the time had a quarter of the requests at least
				t.Errorf("%s: %d requests in the first 10 s, %d in the next 50 s: the pauses do not grow", name, half, rest)
			}
		})
	}
}

func TestRedirectsAreErrorsOfOneRequest(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		synctest.Test(t, func(t *testing.T) {
			a := &answers{status: status, header: http.Header{"Location": {"http://queue.example.com/other/task"}}}
			_, err := a.client(t).CreateTasks(t.Context(), []queue.NewTask{{Queue: "mail"}})
			if err == nil || errors.Is(err, queue.ErrUnavailable) || errors.Is(err, queue.ErrIndeterminate) {
				t.Errorf("%d: %v", status, err)
			}
			if len(a.paths) != 1 || !slices.Equal(a.paths, []string{"POST /api/task/batch"}) && !slices.Equal(a.paths, []string{"POST /api/task/bulk"}) {
				t.Errorf("%d: requests %v", status, a.paths)
			}
		})
	}
}
