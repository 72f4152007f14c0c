// Package pace ends an HTTP call that makes no progress.
//
// A limit on a whole call cuts a large answer on a slow line. A pace limits the time in which nothing moves instead: each
// [Bytes] of the request body and of the answer must move within the timeout. A call that moves faster is never cut, however
// long it takes.
package pace

import (
	"context"
	"io"
	"net/http"
	"time"
)

// Bytes is how much of a body or an answer must move within the timeout of a call.
const Bytes = 64 << 10

// call is the pace of one call. Its methods run in the order of the call: body, header, answer.
type call struct {
	timeout time.Duration // until the next Bytes have moved
	after   time.Duration // timeout from the header of the answer on
	timer   *time.Timer
	moved   int // bytes since the timer was set
}

type contextKey struct{}

// Start bounds ctx for one call by [Do]: the answer must begin within wait and timeout, and then move. When it does not, ctx
// ends with the cause [context.DeadlineExceeded]. The caller must call stop when it has read the answer.
func Start(ctx context.Context, wait, timeout time.Duration) (paced context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &call{timeout: max(wait, 0) + timeout, after: timeout}
	c.timer = time.AfterFunc(c.timeout, func() { cancel(context.DeadlineExceeded) })

	stop = func() {
		c.timer.Stop()
		cancel(nil)
	}
	return context.WithValue(ctx, contextKey{}, c), stop
}

// Do sends req by client. Where [Start] made the context of req, the bytes of the body and of the answer count as progress.
func Do(client interface {
	Do(req *http.Request) (*http.Response, error)
}, req *http.Request,
) (*http.Response, error) {
	c, paced := req.Context().Value(contextKey{}).(*call)
	if !paced {
		return client.Do(req)
	}

	c.countRequest(req)
	resp, err := client.Do(req)
	if err == nil {
		c.limitAnswer(resp)
	}
	return resp, err
}

// countRequest counts the body of req, unless it is small. The bytes that were read of it are sent, or wait in a buffer of
// the system.
func (c *call) countRequest(req *http.Request) {
	if req.Body == nil || req.Body == http.NoBody || req.ContentLength >= 0 && req.ContentLength < Bytes {
		return
	}

	req.Body = countedBody{req.Body, c}
	if fresh := req.GetBody; fresh != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			body, err := fresh()
			return countedBody{body, c}, err
		}
	}
}

// limitAnswer counts the body of the answer. From the header on, the call has its timeout alone.
func (c *call) limitAnswer(resp *http.Response) {
	// A short answer without a wait keeps its timer, which saves a reset in the most frequent calls.
	if c.timeout != c.after || resp.ContentLength < 0 || resp.ContentLength >= Bytes {
		c.timeout = c.after
		c.timer.Reset(c.timeout)
	}
	resp.Body = countedBody{resp.Body, c}
}

// progress counts n bytes that have moved.
func (c *call) progress(n int) {
	if c.moved += n; c.moved >= Bytes {
		c.moved = 0
		c.timer.Reset(c.timeout)
	}
}

// countedBody counts the bytes of a body as progress.
type countedBody struct {
	io.ReadCloser
	call *call
}

func (b countedBody) Read(to []byte) (int, error) {
	n, err := b.ReadCloser.Read(to)
	b.call.progress(n)
	return n, err
}
