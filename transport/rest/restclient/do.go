package restclient

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/pace"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// request is one call of the interface.
type request struct {
	route   restapi.Route
	args    []string // values of the path
	query   url.Values
	body    any // nil = no body
	version int64
	// wait is the time that the server may wait before it answers.
	wait time.Duration
	// safe marks a change that may be repeated after an unknown result. Calls that only read are repeated anyway.
	safe bool
	// fault is an invalid part of the request: then nothing is sent.
	fault error
}

// queueRequest returns a request with the name of a queue in its path.
func queueRequest(route restapi.Route, name string) request {
	name, err := queue.QueueName(name)
	return request{route: route, args: []string{name}, fault: err}
}

// tickerRequest returns a request with the name of a ticker in its path.
func tickerRequest(route restapi.Route, name string) request {
	name, err := queue.TickerName(name)
	return request{route: route, args: []string{name}, fault: err}
}

// groupRequest returns a request with the names of a queue and of a group in its path.
func groupRequest(route restapi.Route, name, group string) request {
	r := queueRequest(route, name)
	group, err := queue.GroupName(group)
	r.args = append(r.args, group)
	r.fault = cmp.Or(r.fault, err)
	return r
}

// opName is the name of the operation in errors.
func (q request) opName() string { return q.route.Op.String() }

// fetch sends q and returns its answer, the Wire, as a value of the domain.
func fetch[Wire interface{ Domain() Out }, Out any](ctx context.Context, c *Client, q request) (out Out, err error) {
	var answer Wire
	if err := c.sendRequest(ctx, q, &answer); err != nil {
		return out, err
	}
	return answer.Domain(), nil
}

// fetchList sends q and returns the list that answers it: its items as values of the domain, and the list itself.
func fetchList[Wire interface{ Domain() Out }, Out any](ctx context.Context, c *Client, q request) ([]Out, restapi.List[Wire], error) {
	var list restapi.List[Wire]
	if err := c.sendRequest(ctx, q, &list); err != nil {
		return nil, restapi.List[Wire]{}, err
	}
	return mapSlice(list.Body, Wire.Domain), list, nil
}

// sendRequest sends q, repeats it where a repeat is safe, and decodes the answer into out. A nil out means no body.
func (c *Client) sendRequest(ctx context.Context, q request, out any) error {
	if q.fault != nil {
		return queue.WithOp(q.opName(), q.fault)
	}

	var body []byte
	if q.body != nil {
		var err error
		if body, err = restapi.Append(nil, q.body); err != nil {
			return &queue.Error{Op: q.opName(), Kind: queue.KindInvalid, Field: "body", Msg: fmt.Sprintf("must be a value that JSON can hold, got %T; change its type", q.body), Err: err}
		}
	}

	for attempt := 1; ; attempt++ {
		after, err := c.attemptRequest(ctx, q, body, out)
		if err == nil {
			return nil
		}

		// A call with an unknown result is repeated only if a second run does no harm.
		again := err.Kind == queue.KindUnavailable || err.Kind == queue.KindIndeterminate && (q.safe || q.route.Op.Reads())
		if !again || attempt >= c.attempts {
			return err
		}

		// Without time for the pause the present error says more than the end of the deadline.
		pause := max(after, backoffDelay(attempt))
		deadline, bounded := ctx.Deadline()
		if bounded && time.Until(deadline) <= pause || !queue.WaitToRepeat(ctx, pause) {
			return err
		}
	}
}

// attemptRequest makes one attempt. after is the delay before the next attempt that the server asks for.
func (c *Client) attemptRequest(ctx context.Context, q request, body []byte, out any) (after time.Duration, failed *queue.Error) {
	if ctx.Err() != nil {
		return 0, contextError(ctx, q.opName())
	}

	// The pace ends the call when bytes stop moving, not after a fixed time.
	call, stop := pace.Start(ctx, q.wait, c.timeout)
	defer stop()
	req, err := c.buildRequest(call, q, body)
	if err != nil {
		return 0, &queue.Error{Op: q.opName(), Kind: queue.KindInvalid, Msg: "the request must be one that HTTP can carry, got another; check the URL and the headers", Err: err}
	}

	resp, err := pace.Do(c.http, req)
	if err != nil {
		return 0, connectionError(ctx, q.opName(), causeOfEnd(call, err))
	}
	defer resp.Body.Close()

	answer, err := readAnswer(resp, c.maxAnswer)
	if err != nil {
		return 0, connectionError(ctx, q.opName(), causeOfEnd(call, err))
	}

	// Redirects are errors too: they mean a wrong URL.
	if resp.StatusCode >= 300 {
		return retryAfter(resp.Header), problemError(q.route.Op, resp, answer)
	}

	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			return 0, &queue.Error{Op: q.opName(), Kind: queue.KindInternal, Msg: "the server's answer is not understood; is this the URL of pgqueue's API?", Err: err}
		}
	}

	return 0, nil
}

// causeOfEnd returns the cause of the end of call, or err if call still runs.
func causeOfEnd(call context.Context, err error) error {
	if cause := context.Cause(call); cause != nil {
		return cause
	}
	return err
}

// trustedBytes is the announced length up to which the client allocates an answer at once. More memory follows only
// the bytes that arrive.
const trustedBytes = 1 << 20

// readAnswer reads an answer of at most most bytes, counted after decompression.
func readAnswer(resp *http.Response, most int) ([]byte, error) {
	if n := resp.ContentLength; n >= 0 && n <= trustedBytes {
		b := make([]byte, n)
		_, err := io.ReadFull(resp.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(most)+1))
	if err == nil && len(b) > most {
		err = &queue.Error{Kind: queue.KindTooLarge, Msg: fmt.Sprintf(
			"the answer must have at most %d bytes, got more; ask for less at once, or raise WithMaxAnswerBytes", most)}
	}
	return b, err
}

func (c *Client) buildRequest(ctx context.Context, q request, body []byte) (*http.Request, error) {
	target := c.base + q.route.URL(q.args...)
	if len(q.query) > 0 {
		target += "?" + q.query.Encode()
	}

	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}

	req, err := http.NewRequestWithContext(ctx, q.route.Method, target, content)
	if err != nil {
		return nil, err
	}

	maps.Copy(req.Header, c.header)
	if c.token != nil {
		req.Header["Authorization"] = []string{"Bearer " + c.token()}
	}
	req.Header["Accept"] = acceptJSON
	if body != nil {
		req.Header["Content-Type"] = contentJSON
	}

	if c.namespace != "" {
		req.Header[restapi.HeaderNamespace] = []string{c.namespace}
	}

	if q.version != 0 {
		req.Header.Set("If-Match", `"`+strconv.FormatInt(q.version, 10)+`"`)
	}

	return req, nil
}

var (
	acceptJSON  = []string{restapi.MediaJSON + ", " + restapi.MediaProblem}
	contentJSON = []string{restapi.MediaExactJSON}
)

// connectionError returns the error of a call without an answer: KindUnavailable if the dial failed and KindDenied for a
// certificate, because then nothing happened. Every other failure is KindIndeterminate.
func connectionError(ctx context.Context, op string, err error) *queue.Error {
	if ctx.Err() != nil {
		return contextError(ctx, op)
	}

	if unwrapped, ok := errors.AsType[*url.Error](err); ok {
		// The text of a url.Error repeats the method and the URL.
		err = unwrapped.Err
	}

	if large, ok := errors.AsType[*queue.Error](err); ok {
		// The answer arrived, and a repeat would be as large.
		large.Op = op
		return large
	}

	k, msg := queue.KindIndeterminate, "the connection broke before the answer came; check the state before a repeat"
	var dial *net.OpError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		k, msg = queue.KindUnavailable, "the server cannot be reached"
	case isErrorOf[*tls.CertificateVerificationError](err):
		k, msg = queue.KindDenied, "the server's certificate is not accepted; check the URL and the authorities"
	case errors.As(err, &dial) && dial.Op == "remote error":
		k, msg = queue.KindDenied, "the server refuses the TLS connection; check the client certificate"
	case errors.Is(err, context.DeadlineExceeded):
		msg = "the server did not answer in time; check the state before a repeat"
	}

	return &queue.Error{Op: op, Kind: k, Msg: msg, Err: err}
}

func isErrorOf[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

// problemError returns the error of an answer to op.
func problemError(op queue.Op, resp *http.Response, answer []byte) *queue.Error {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p restapi.Problem
	if media == restapi.MediaProblem && json.Unmarshal(answer, &p) == nil && p.IsOurs() {
		p.Status = resp.StatusCode
		return p.Err(op.String())
	}

	kind, advice := restapi.KindOfForeign(resp.StatusCode), "is this the URL of its API?"
	if kind == queue.KindIndeterminate {
		kind = op.Unanswered() // a read has changed nothing, and a lost lease ends by itself
	}
	if kind == queue.KindIndeterminate {
		advice = "its proxy lost it, perhaps after the change; check the state before a repeat"
	}
	// The beginning of a text helps to recognize the program that answered.
	text := ""
	if media != "text/html" {
		// An HTML page does not help in a message.
		text = " " + strings.ToValidUTF8(strings.TrimSpace(string(answer[:min(len(answer), 200)])), "")
	}

	return &queue.Error{
		Op: op.String(), Kind: kind,
		Msg: strings.TrimSpace(fmt.Sprintf("the server answered %s without a problem of pgqueue; %s%s", resp.Status, advice, text)),
	}
}

func retryAfter(h http.Header) time.Duration {
	// A server of pgqueue sends seconds. The caller waits meanwhile, so a longer delay is cut to 5 s.
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return min(time.Duration(s)*time.Second, 5*time.Second)
}

// backoffDelay returns a jittered delay that grows from about 50 ms to about 2 s.
func backoffDelay(attempt int) time.Duration {
	// The jitter, half to one and a half of d, keeps clients from coming back together.
	d := 50 * time.Millisecond << min(attempt-1, 5)
	return d/2 + rand.N(d)
}

func pageQuery(p queue.Page) url.Values {
	v := url.Values{}
	if p.Offset != 0 {
		v.Set("offset", strconv.Itoa(p.Offset))
	}
	if p.Limit != 0 {
		v.Set("limit", strconv.Itoa(p.Limit))
	}
	setTextValue(v, "cursor", p.Cursor)
	return v
}

func setTextValue(v url.Values, name, s string) {
	if s != "" {
		v.Set(name, s)
	}
}

func setTimeValue(v url.Values, name string, t time.Time) {
	if !t.IsZero() {
		v.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

func setDuration(v url.Values, name string, d time.Duration) {
	if d != 0 {
		v.Set(name, strconv.FormatInt(int64(d), 10))
	}
}

// mapSlice converts a list. An empty list becomes nil, as in process.
func mapSlice[In, Out any](in []In, f func(In) Out) []Out {
	if len(in) == 0 {
		return nil
	}
	out := make([]Out, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}
