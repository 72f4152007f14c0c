package httprun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"code.dny.dev/ssrf"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// Defaults of a Config.
const (
	DefaultTimeout     = 30 * time.Second
	DefaultMaxResponse = 256 << 10
	DefaultConnections = 100
	// maxDrain is how much of a longer answer is read and dropped, so that its connection can be used again.
	maxDrain = 256 << 10
	// maxFailureBody is how much of the answer is kept with a failure.
	maxFailureBody = 4 << 10
)

// Config is what a Push is made of.
type Config struct {
	// URL to post to: http or https.
	URL string
	// Secrets sign each request, in the form of Standard Webhooks ("whsec_…"); the first is the present one, others are
	// on their way out or in.
	Secrets []string
	// Header is added to each request, as Authorization.
	Header http.Header
	// Timeout of one request; 0 = DefaultTimeout.
	Timeout time.Duration
	// MaxResponse is how much of an answer is kept; 0 = DefaultMaxResponse.
	MaxResponse int
	// Connections kept open for use again; 0 = DefaultConnections. Best is the worker's concurrency.
	Connections int
	// AllowPrivate allows addresses that are not public.
	AllowPrivate bool
	// UserAgent of the requests; "" = "pgqueue-worker".
	UserAgent string
}

// Push is a handler that posts tasks to an URL. It is safe for concurrent use.
type Push struct {
	cfg    Config
	keys   [][]byte
	client *http.Client
}

var _ worker.Handler = (*Push)(nil)

// ErrPrivate is the error of an URL whose address is not public, and not allowed.
var ErrPrivate = errors.New("the URL leads to an address that is not public")

// New checks cfg and makes a Push. ErrPrivate when the URL itself says so; where its name leads is looked at when it is
// called.
func New(cfg Config) (*Push, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no http or https URL", cfg.URL)
	}
	p := &Push{cfg: cfg}
	for _, s := range cfg.Secrets {
		key, err := parseSecret(s)
		if err != nil {
			return nil, err
		}
		p.keys = append(p.keys, key)
	}
	fill(&p.cfg.Timeout, DefaultTimeout)
	fill(&p.cfg.MaxResponse, DefaultMaxResponse)
	fill(&p.cfg.Connections, DefaultConnections)
	fill(&p.cfg.UserAgent, "pgqueue-worker")
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if !cfg.AllowPrivate {
		guard := ssrf.New(ssrf.WithAnyPort())
		if refused(guard, u.Hostname()) {
			return nil, fmt.Errorf("%w: %s", ErrPrivate, u.Hostname())
		}
		dialer.Control = guard.Safe
	}
	p.client = &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConns: p.cfg.Connections, MaxIdleConnsPerHost: p.cfg.Connections, IdleConnTimeout: 90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return p, nil
}

// refused says that host is an address, or a name of this machine, that the guard keeps from being called.
func refused(guard *ssrf.Guardian, host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	network := "tcp6"
	if ip.Is4() {
		network = "tcp4"
	}
	return guard.Safe(network, net.JoinHostPort(host, "80"), nil) != nil
}

func fill[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// Close closes the connections that are not in use.
func (p *Push) Close() { p.client.CloseIdleConnections() }

// Failure is the error of a task that was not accepted.
type Failure struct {
	Text string
	// Status of the answer; 0 when there was none.
	Status int
	Body   string
}

func (f *Failure) Error() string { return f.Text }

// MarshalJSON is the failure as it is kept with the task.
func (f *Failure) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Error  string `json:"error"`
		Status int    `json:"status,omitempty"`
		Body   string `json:"body,omitempty"`
	}{f.Text, f.Status, f.Body})
}

// Work posts task.
func (p *Push) Work(ctx context.Context, task *queue.Task) (any, error) {
	rctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	req, err := p.request(rctx, task, time.Now())
	if err != nil {
		return nil, worker.Permanent(err)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, p.failed(ctx, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, int64(p.cfg.MaxResponse)+1))
	if err != nil {
		return nil, p.failed(ctx, err)
	}
	cut := len(body) > p.cfg.MaxResponse
	if cut {
		body = body[:p.cfg.MaxResponse]
		_, _ = io.CopyN(io.Discard, res.Body, maxDrain)
	}
	if res.StatusCode/100 == 2 {
		return result(body, cut), nil
	}
	return nil, rejected(res, body)
}

// request is the POST of task at the time now.
func (p *Push) request(ctx context.Context, task *queue.Task, now time.Time) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.URL, bytes.NewReader(task.Payload))
	if err != nil {
		return nil, err
	}
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", p.cfg.UserAgent)
	for name, values := range p.cfg.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	id := strconv.FormatInt(task.ID, 10)
	h.Set("Pgqueue-Task-Id", id)
	h.Set("Pgqueue-Namespace", task.Namespace)
	h.Set("Pgqueue-Queue", task.Queue)
	h.Set("Pgqueue-Attempt", strconv.Itoa(task.Attempt))
	h.Set("Pgqueue-Retries", strconv.Itoa(task.Retries))
	pass(h, "Pgqueue-Key", task.Key)
	for _, name := range []string{"traceparent", "tracestate", "baggage"} {
		pass(h, name, task.Headers[name])
	}
	message := "task_" + task.Namespace + "_" + id
	h.Set("Webhook-Id", message)
	h.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	if len(p.keys) > 0 {
		h.Set("Webhook-Signature", sign(p.keys, message, now, task.Payload))
	}
	return req, nil
}

// pass sets a header to a value of the task's, unless it is none that HTTP can carry.
func pass(h http.Header, name, value string) {
	bad := func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }
	if value != "" && !strings.ContainsFunc(value, bad) {
		h.Set(name, value)
	}
}

// failed is the error of a request without an answer. The URL, which may hold secrets, is left out.
func (p *Push) failed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return &Failure{Text: fmt.Sprintf("stopped: %v", context.Cause(ctx))}
	case errors.Is(err, context.DeadlineExceeded):
		return &Failure{Text: fmt.Sprintf("no answer within %v", p.cfg.Timeout)}
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork):
		return &Failure{Text: ErrPrivate.Error() + "; such addresses are refused unless allowed"}
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return &Failure{Text: err.Error()}
}

// result is the body of an accepted task.
func result(body []byte, cut bool) json.RawMessage {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return nil
	case !cut && queue.CheckJSON("body", body, len(body)) == nil:
		return body
	}
	doc := struct {
		Text      string `json:"text"`
		Truncated bool   `json:"truncated,omitempty"`
	}{strings.ToValidUTF8(string(body), "\uFFFD"), cut}
	b, err := json.Marshal(doc)
	if err != nil { // a valid string always marshals
		return nil
	}
	return b
}

// rejected is the error of an answer that is no 2xx.
func rejected(res *http.Response, body []byte) error {
	text := strings.ToValidUTF8(string(body[:min(len(body), maxFailureBody)]), "\uFFFD")
	f := &Failure{Text: "answered " + strconv.Itoa(res.StatusCode), Status: res.StatusCode, Body: text}
	switch c := res.StatusCode; {
	case c == http.StatusTooManyRequests || c == http.StatusServiceUnavailable:
		if d, ok := retryAfter(res.Header.Get("Retry-After"), time.Now()); ok {
			return worker.RetryIn(f, d)
		}
		return f
	case c/100 == 4:
		return worker.Permanent(f)
	case c/100 == 3:
		f.Text += ": redirects are not followed"
	}
	return f
}

// retryAfter reads a Retry-After: seconds, or a date.
func retryAfter(s string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil && n >= 0 {
		return time.Duration(min(n, int64(queue.MaxDuration/time.Second))) * time.Second, true
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(t.Sub(now), 0), true
	}
	return 0, false
}
