package httprun

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
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
	// maxDrain is the part of a longer answer that is read and dropped, so that its connection can be used again.
	maxDrain = 256 << 10
	// maxFailureBody is the part of the answer that a failure keeps.
	maxFailureBody = 4 << 10
)

// Config configures a Push.
type Config struct {
	// URL to post to: http or https.
	URL string
	// Secrets sign each request in the form of Standard Webhooks ("whsec_…"). The first one is the present secret;
	// the others are old or new ones during a rotation.
	Secrets []string
	// Header is added to each request, for example Authorization. Host sets the Host of the request.
	Header http.Header
	// Permanent are the statuses that fail a task permanently: numbers, classes such as 4xx, or none; nil =
	// DefaultPermanent.
	Permanent []string
	// HoldUp is the part of the queue that waits after an answer 429 or 503 with Retry-After; "" = ScopeAuto.
	HoldUp string
	// Timeout of one request; 0 = DefaultTimeout.
	Timeout time.Duration
	// MaxResponse is the part of an answer in bytes that is kept; 0 = DefaultMaxResponse.
	MaxResponse int
	// Connections is the number of idle connections; 0 = DefaultConnections. The best value is the concurrency of the
	// worker.
	Connections int
	// AllowPrivate allows addresses that are not public.
	AllowPrivate bool
	// UserAgent of the requests; "" = "pgqueue-worker".
	UserAgent string
}

// Push is a handler that posts tasks to a URL. It is safe for concurrent use.
type Push struct {
	cfg       Config
	keys      [][]byte
	permanent map[int]bool
	client    *http.Client
}

var _ worker.Handler = (*Push)(nil)

// ErrPrivate is the error of a URL with an address that is neither public nor allowed.
var ErrPrivate = errors.New("the URL must lead to a public address, got one that is not public; allow it by --allow-private")

// New checks cfg and returns a Push. It returns ErrPrivate if the URL itself has a private address. The address of a
// name is checked at each connect. Errors of cfg appear here and not at the cost of a task.
func New(cfg Config) (*Push, error) {
	u, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}

	if err := checkHeader(cfg.Header); err != nil {
		return nil, err
	}

	if cfg.Timeout < 0 {
		return nil, queue.Invalid("request-timeout", fmt.Sprintf("must be a duration above 0, got %v", cfg.Timeout))
	}

	if cfg.MaxResponse < 0 {
		return nil, queue.Invalid("max-output", fmt.Sprintf("must be a number of bytes above 0, got %d", cfg.MaxResponse))
	}

	p := &Push{cfg: cfg}
	if p.permanent, err = parsePermanent(cfg.Permanent); err != nil {
		return nil, err
	}

	if p.cfg.HoldUp = cmp.Or(p.cfg.HoldUp, ScopeAuto); !slices.Contains(Scopes, p.cfg.HoldUp) {
		return nil, queue.Invalid("hold-up", fmt.Sprintf("must be auto, task, group or queue, got %.64q", cfg.HoldUp))
	}

	for _, s := range cfg.Secrets {
		key, err := parseSecret(s)
		if err != nil {
			return nil, err
		}
		p.keys = append(p.keys, key)
	}

	p.cfg.Timeout = cmp.Or(p.cfg.Timeout, DefaultTimeout)
	p.cfg.MaxResponse = cmp.Or(p.cfg.MaxResponse, DefaultMaxResponse)
	p.cfg.Connections = cmp.Or(p.cfg.Connections, DefaultConnections)
	p.cfg.UserAgent = cmp.Or(p.cfg.UserAgent, "pgqueue-worker")
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if !cfg.AllowPrivate {
		guard := ssrf.New(ssrf.WithAnyPort())
		if refused(guard, u.Hostname()) {
			return nil, fmt.Errorf("%w: %s", ErrPrivate, u.Hostname())
		}
		// Control sees the resolved address of each connect, so that a name cannot change its address after the
		// check.
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

	if err := p.tryRequest(); err != nil {
		return nil, err
	}

	return p, nil
}

// refused reports whether the guard refuses host, an address or a name of this machine.
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

// Close closes the idle connections.
func (p *Push) Close() { p.client.CloseIdleConnections() }

// Failure is the error of a task that the target did not accept.
type Failure struct {
	Text string
	// Status of the answer; 0 without an answer.
	Status int
	Body   string
	// Kind is the type of the problem in the answer (RFC 9457); "" = none.
	Kind string
}

// ErrorKind returns the kind of the failure.
func (f *Failure) ErrorKind() string { return f.Kind }

func (f *Failure) Error() string { return f.Text }

// MarshalJSON returns the failure in the form that the task keeps.
func (f *Failure) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Error  string `json:"error"`
		Status int    `json:"status,omitempty"`
		Body   string `json:"body,omitempty"`
	}{f.Text, f.Status, f.Body})
}

// Work posts task and returns the result or the failure.
func (p *Push) Work(ctx context.Context, task *queue.Task) (any, error) {
	rctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	req, err := p.request(rctx, task, time.Now())
	if err != nil {
		// New has made the same request before.
		return nil, worker.NotStarted(err)
	}

	res, err := p.client.Do(req)
	if err != nil {
		return nil, p.explainFailure(ctx, err)
	}
	defer res.Body.Close()

	body, err := io.ReadAll(io.LimitReader(res.Body, int64(p.cfg.MaxResponse)+1))
	if err != nil {
		return nil, p.explainFailure(ctx, err)
	}

	// One byte more was read than is kept, to detect a longer answer.
	cut := len(body) > p.cfg.MaxResponse
	if cut {
		body = body[:p.cfg.MaxResponse]
		_, _ = io.CopyN(io.Discard, res.Body, maxDrain)
	}

	m := meaningOf(res.StatusCode, p.permanent)
	if m == meansDone {
		return encodeResult(body, cut), nil
	}

	return nil, p.rejected(task, res, body, m)
}

// request returns the POST of task at the time now.
func (p *Push) request(ctx context.Context, task *queue.Task, now time.Time) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.URL, bytes.NewReader(task.Payload))
	if err != nil {
		return nil, err
	}

	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", p.cfg.UserAgent)
	for name, values := range p.cfg.Header {
		if name = http.CanonicalHeaderKey(name); name == "Host" {
			// net/http sends this field, not the header.
			req.Host = values[0]
			continue
		}
		h[name] = slices.Clone(values)
	}

	// The facts of the task come after the configured headers, which must not replace them.
	id := strconv.FormatInt(task.ID, 10)
	h.Set("Pgqueue-Task-Id", id)
	h.Set("Pgqueue-Namespace", task.Namespace)
	h.Set("Pgqueue-Queue", task.Queue)
	h.Set("Pgqueue-Attempt", strconv.Itoa(task.Attempt))
	h.Set("Pgqueue-Retries", strconv.Itoa(task.Retries))
	passHeader(h, "Pgqueue-Key", task.Key)
	passHeader(h, "Pgqueue-Group", task.Group)
	for _, name := range []string{"traceparent", "tracestate", "baggage"} {
		passHeader(h, name, task.Headers[name])
	}

	// The id is the same in every attempt, so that a target can detect repeats.
	message := "task_" + task.Namespace + "_" + id
	h.Set("Webhook-Id", message)
	h.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	if len(p.keys) > 0 {
		h.Set("Webhook-Signature", signMessage(p.keys, message, now, task.Payload))
	}

	return req, nil
}

// passHeader sets a header to a value of the task, unless HTTP cannot carry the value.
func passHeader(h http.Header, name, value string) {
	bad := func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }
	if value != "" && !strings.ContainsFunc(value, bad) {
		h.Set(name, value)
	}
}

// explainFailure returns the error of a request without an answer. It omits the URL, which may contain secrets.
func (p *Push) explainFailure(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	f := &Failure{Text: err.Error()}
	switch {
	case ctx.Err() != nil:
		f.Text = fmt.Sprintf("stopped: %v", context.Cause(ctx))
		return f
	case errors.Is(err, context.DeadlineExceeded):
		f.Text = fmt.Sprintf("no answer within %v", p.cfg.Timeout)
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork):
		f.Text = ErrPrivate.Error() + "; --allow-private allows it"
	}
	return chargeFault(f, err)
}

// encodeResult returns the body of an accepted task as JSON.
func encodeResult(body []byte, cut bool) json.RawMessage {
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
	if err != nil {
		// A valid string always marshals.
		return nil
	}

	return b
}

// maxRetryAfter bounds the delay that a target may request: a date in ten years would lose the task.
const maxRetryAfter = queue.DefaultRetryMaxDelay

// rejected returns the error of an answer without success.
func (p *Push) rejected(task *queue.Task, res *http.Response, body []byte, m meaning) error {
	text := strings.ToValidUTF8(string(body[:min(len(body), maxFailureBody)]), "\uFFFD")
	f := &Failure{Text: "answered " + strconv.Itoa(res.StatusCode), Status: res.StatusCode, Body: text, Kind: problemType(res.Header, body)}
	if res.StatusCode/100 == 3 {
		f.Text += ": redirects are not followed"
	}

	if m == meansPermanent {
		return worker.Permanent(f)
	}

	var err error = f
	if d, ok := retryAfter(res.Header.Get("Retry-After"), time.Now()); ok {
		err = worker.RetryIn(f, d)
		if res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable {
			err = worker.HoldUp(p.scopeOf(task), err)
		}
	}

	if m == meansSystemic {
		err = worker.Systemic(err)
	}

	return err
}

// ScopeAuto holds up the group of a task that has one, else its queue.
const ScopeAuto = "auto"

// Scopes lists the values of Config.HoldUp.
var Scopes = []string{ScopeAuto, string(queue.ScopeTask), string(queue.ScopeGroup), string(queue.ScopeQueue)}

// scopeOf returns the scope of the delay that the target asked for.
func (p *Push) scopeOf(task *queue.Task) queue.Scope {
	switch {
	case p.cfg.HoldUp != ScopeAuto:
		return queue.Scope(p.cfg.HoldUp)
	case task.Group != "":
		return queue.ScopeGroup
	}
	return queue.ScopeQueue
}

// retryAfter reads a Retry-After: seconds or a date. A time in the past sets no delay: the backoff of the queue
// applies, because attempts without a delay would use up all retries at once.
func retryAfter(s string, now time.Time) (time.Duration, bool) {
	d := time.Duration(0)
	if n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil {
		d = time.Duration(min(n, int64(maxRetryAfter/time.Second))) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		d = min(t.Sub(now), maxRetryAfter)
	}
	return d, d > 0
}
