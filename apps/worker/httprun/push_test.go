package httprun

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// post works a task against h and returns how it ended.
func post(t *testing.T, h http.HandlerFunc, cfg Config, task *queue.Task) queue.Release {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	cfg.URL, cfg.AllowPrivate = s.URL, true
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	return worker.Work(t.Context(), p, task)
}

func task(payload string) *queue.Task {
	return &queue.Task{
		ID: 42, Namespace: "demo", Queue: "mail", Payload: []byte(payload), Attempt: 2, Retries: 1, Key: "k1",
		Headers: map[string]string{"traceparent": "00-aa-bb-01", "baggage": "bad\nvalue", "other": "x"},
	}
}

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  int
		header  string // Retry-After
		body    string
		outcome queue.Outcome
		result  string
		delay   time.Duration
	}{
		{"2xx is done and a JSON body the result", 201, "", ` {"n":1.50} `, queue.OutcomeSuccess, `{"n":1.50}`, 0},
		{"another body is a text", 200, "", "fine", queue.OutcomeSuccess, `{"text":"fine"}`, 0},
		{"no body makes no result", 204, "", "", queue.OutcomeSuccess, "", 0},
		{"a body over the limit is cut", 200, "", strings.Repeat("x", 1001), queue.OutcomeSuccess, `{"text":"` + strings.Repeat("x", 1000) + `","truncated":true}`, 0},
		{"429 with seconds is tried again then", 429, "120", "", queue.OutcomeFailure, `{"error":"answered 429","status":429}`, 2 * time.Minute},
		{"503 with seconds is tried again then", 503, "7", "down", queue.OutcomeFailure, `{"error":"answered 503","status":503,"body":"down"}`, 7 * time.Second},
		{"503 without is tried again by the backoff", 503, "", "", queue.OutcomeFailure, `{"error":"answered 503","status":503}`, 0},
		{"an odd Retry-After counts as none", 429, "soon", "", queue.OutcomeFailure, `{"error":"answered 429","status":429}`, 0},
		{"422 is a failure for good", 422, "9", "no", queue.OutcomePermanent, `{"error":"answered 422","status":422,"body":"no"}`, 0},
		{"5xx is tried again", 500, "", "", queue.OutcomeFailure, `{"error":"answered 500","status":500}`, 0},
		{"a redirect is not followed", 302, "", "", queue.OutcomeFailure, `{"error":"answered 302: redirects are not followed","status":302}`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			rel := post(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				if c.status == 302 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}, Config{MaxResponse: 1000}, task("{}"))
			if rel.Outcome != c.outcome || string(rel.Result) != c.result || rel.Delay != c.delay {
				t.Errorf("got %s %.200s %v", rel.Outcome, rel.Result, rel.Delay)
			}
		})
	}

	t.Run("Retry-After may be a date", func(t *testing.T) {
		now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
		for s, want := range map[string]time.Duration{
			"Wed, 06 May 2026 07:10:09 GMT": 2 * time.Minute, "999999999999999": maxRetryAfter,
		} {
			if d, ok := retryAfter(s, now); !ok || d != want {
				t.Errorf("%s: %v %v", s, d, ok)
			}
		}
		for _, s := range []string{"-3", "0", "Wed, 06 May 2020 07:10:09 GMT"} {
			if _, ok := retryAfter(s, now); ok {
				t.Errorf("%s was taken", s)
			}
		}
	})

	t.Run("a server that is not there is tried again, and the error hides the URL", func(t *testing.T) {
		p, err := New(Config{URL: "http://127.0.0.1:1/?token=secret", AllowPrivate: true})
		if err != nil {
			t.Fatal(err)
		}
		rel := worker.Work(t.Context(), p, task("{}"))
		if rel.Outcome != queue.OutcomeFailure || strings.Contains(string(rel.Result), "secret") {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	})

	t.Run("no answer in time is tried again", func(t *testing.T) {
		rel := post(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, Config{Timeout: 20 * time.Millisecond}, task("{}"))
		if rel.Outcome != queue.OutcomeFailure || string(rel.Result) != `{"error":"no answer within 20ms"}` {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	})

	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"an answer that stops in its middle": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a byte now and then": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Millisecond)
			}
		},
	} {
		t.Run(name+" is tried again when the time is over", func(t *testing.T) {
			rel := post(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(w, `{"n":`)
				_ = http.NewResponseController(w).Flush()
				answer(w, r)
			}, Config{Timeout: 50 * time.Millisecond}, task("{}"))
			if rel.Outcome != queue.OutcomeFailure || string(rel.Result) != `{"error":"no answer within 50ms"}` {
				t.Errorf("got %s %s", rel.Outcome, rel.Result)
			}
		})
	}

	t.Run("of an answer without end the beginning is kept", func(t *testing.T) {
		rel := post(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
			}
		}, Config{MaxResponse: 1000}, task("{}"))
		if rel.Outcome != queue.OutcomeSuccess || string(rel.Result) != `{"text":"`+strings.Repeat("x", 1000)+`","truncated":true}` {
			t.Errorf("got %s %.100s", rel.Outcome, rel.Result)
		}
	})

	t.Run("an answer that breaks off is tried again", func(t *testing.T) {
		rel := post(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"n":`)
		}, Config{}, task("{}"))
		if rel.Outcome != queue.OutcomeFailure || !strings.Contains(string(rel.Result), "unexpected EOF") {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	})

	t.Run("a cancel ends the request", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			cancel(worker.ErrCancelRequested)
			<-r.Context().Done()
		}))
		defer s.Close()
		p, err := New(Config{URL: s.URL, AllowPrivate: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		rel := worker.Work(ctx, p, task("{}"))
		if rel.Outcome != queue.OutcomeFailure || !strings.Contains(string(rel.Result), "a cancel of the task was requested") {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	})
}

func TestRequest(t *testing.T) {
	old := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("o", 24)))
	now := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("n", 64)))
	const payload = `{"to":"ä","n":1.50}`

	t.Run("has the payload, the metadata and a signature that the scheme's own library accepts under each secret", func(t *testing.T) {
		rel := post(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if string(body) != payload || r.Method != http.MethodPost {
				t.Errorf("%s %s", r.Method, body)
			}
			for name, want := range map[string]string{
				"Content-Type": "application/json", "Pgqueue-Task-Id": "42", "Pgqueue-Namespace": "demo", "Pgqueue-Queue": "mail",
				"Pgqueue-Attempt": "2", "Pgqueue-Retries": "1", "Pgqueue-Key": "k1", "Traceparent": "00-aa-bb-01",
				"Baggage": "", "Other": "", "Authorization": "Bearer x", "User-Agent": "ua", "Webhook-Id": "task_demo_42",
			} {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s: %q, not %q", name, got, want)
				}
			}
			for _, secret := range []string{old, now} {
				wh, err := standardwebhooks.NewWebhook(secret)
				if err != nil {
					t.Fatal(err)
				}
				if err := wh.Verify(body, r.Header); err != nil {
					t.Error(err)
				}
				if wh.Verify(append(body, ' '), r.Header) == nil {
					t.Error("another body was accepted")
				}
			}
			w.WriteHeader(http.StatusNoContent)
		}, Config{Secrets: []string{now, old}, Header: http.Header{"authorization": {"Bearer x"}}, UserAgent: "ua"}, task(payload))
		if rel.Outcome != queue.OutcomeSuccess {
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	})

	t.Run("is not signed without a secret", func(t *testing.T) {
		post(t, func(_ http.ResponseWriter, r *http.Request) {
			if s := r.Header.Get("Webhook-Signature"); s != "" {
				t.Error(s)
			}
		}, Config{}, task("{}"))
	})

	t.Run("a bad secret or URL is refused at once", func(t *testing.T) {
		for _, c := range []Config{
			{URL: "http://x", Secrets: []string{"whsec_short"}},
			{URL: "http://x", Secrets: []string{"whsec_c2hvcnQ="}},
			{URL: "ftp://x"},
			{URL: "/path"},
			{URL: ""},
		} {
			if _, err := New(c); err == nil {
				t.Errorf("%+v was taken", c)
			}
		}
	})

	t.Run("as many connections are kept as tasks are worked at once", func(t *testing.T) {
		const n = 8
		var conns, inside atomic.Int64
		all := make(chan struct{})
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if inside.Add(1) == n {
				close(all)
			}
			<-all
		}))
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		}
		s.Start()
		defer s.Close()
		p, err := New(Config{URL: s.URL, AllowPrivate: true, Connections: n})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range 5 {
			inside.Store(0)
			all = make(chan struct{})
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					if rel := worker.Work(t.Context(), p, task("{}")); rel.Outcome != queue.OutcomeSuccess {
						t.Errorf("got %s %s", rel.Outcome, rel.Result)
					}
				})
			}
			wg.Wait()
		}
		if got := conns.Load(); got != n {
			t.Errorf("%d connections for 5 rounds of %d requests at once", got, n)
		}
	})

	t.Run("connections are used again", func(t *testing.T) {
		var conns atomic.Int64
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", 5000)) // more than is kept
		}))
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		}
		s.Start()
		defer s.Close()
		p, err := New(Config{URL: s.URL, AllowPrivate: true, MaxResponse: 100})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range 5 {
			if rel := worker.Work(t.Context(), p, task("{}")); rel.Outcome != queue.OutcomeSuccess {
				t.Errorf("got %s %s", rel.Outcome, rel.Result)
			}
		}
		if n := conns.Load(); n != 1 {
			t.Errorf("%d connections for 5 requests", n)
		}
	})
}

func TestPrivateAddresses(t *testing.T) {
	reached := atomic.Bool{}
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer s.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	for _, url := range []string{
		s.URL, "http://localhost:" + port, "http://a.localhost:" + port, "http://[::1]:" + port, "http://[::ffff:127.0.0.1]:" + port,
		"http://10.1.2.3", "http://192.168.1.1", "http://172.16.0.1", "http://169.254.169.254/latest/meta-data", "http://0.0.0.0:" + port,
		"http://[fd00::1]", "http://[fe80::1]", "http://[64:ff9b::7f00:1]",
	} {
		t.Run("refused at once: "+url, func(t *testing.T) {
			if _, err := New(Config{URL: url}); !errors.Is(err, ErrPrivate) {
				t.Errorf("got %v", err)
			}
			if _, err := New(Config{URL: url, AllowPrivate: true}); err != nil {
				t.Errorf("allowed, and yet: %v", err)
			}
		})
	}
	work := func(t *testing.T, p *Push) {
		t.Helper()
		defer p.Close()
		rel := worker.Work(t.Context(), p, task("{}"))
		if rel.Outcome != queue.OutcomeHandBack { // the worker's own setting
			t.Errorf("got %s %s", rel.Outcome, rel.Result)
		}
	}
	t.Run("a name that leads to a private address is refused when it is called", func(t *testing.T) {
		p, err := New(Config{URL: "http://hooks.example.com:" + port})
		if err != nil {
			t.Fatal(err)
		}
		// The name is a public one until it is looked up, as after its owner changed its address.
		p.cfg.URL = s.URL
		work(t, p)
		if _, err := p.Work(t.Context(), task("{}")); err == nil || !strings.Contains(err.Error(), "not public") {
			t.Errorf("refused for another reason: %v", err)
		}
	})
	t.Run("an address in a form of its own leads nowhere", func(t *testing.T) {
		p, err := New(Config{URL: "http://2130706433:" + port, Timeout: 2 * time.Second}) // 127.0.0.1
		if err != nil {
			t.Fatal(err)
		}
		work(t, p)
	})
	if reached.Load() {
		t.Error("a private address was reached")
	}
}
