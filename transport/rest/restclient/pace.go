package restclient

import (
	"context"
	"io"
	"net/http"
	"time"
)

// paceBytes is how much of a body or an answer must move within the timeout of a call. What moves so fast is never cut,
// however long the whole takes; what stands still, or drips, is.
const paceBytes = 64 << 10

// pace ends a call that makes no progress: its context ends when nothing has moved for the timeout.
type pace struct {
	timeout time.Duration
	timer   *time.Timer
	moved   int // bytes since the timer was set
}

// watchProgress bounds ctx: the answer must begin within wait and timeout. The caller must call stop.
func watchProgress(ctx context.Context, wait, timeout time.Duration) (_ context.Context, p *pace, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	p = &pace{timeout: wait + timeout}
	p.timer = time.AfterFunc(p.timeout, func() { cancel(context.DeadlineExceeded) })
	return ctx, p, func() { p.timer.Stop(); cancel(nil) }
}

// countBytes counts n bytes that have moved.
func (p *pace) countBytes(n int) {
	if p.moved += n; p.moved >= paceBytes {
		p.moved = 0
		p.timer.Reset(p.timeout)
	}
}

// paced is a body whose bytes count as progress.
type paced struct {
	io.ReadCloser
	p *pace
}

func (b paced) Read(to []byte) (int, error) {
	n, err := b.ReadCloser.Read(to)
	b.p.countBytes(n)
	return n, err
}

// watchRequest has the body of req count, when it is large. What was read of it has left, or waits in a buffer of the system.
func (p *pace) watchRequest(req *http.Request) {
	if req.ContentLength < paceBytes {
		return
	}
	fresh := req.GetBody
	req.Body = paced{req.Body, p}
	req.GetBody = func() (io.ReadCloser, error) {
		body, err := fresh()
		return paced{body, p}, err
	}
}

// watchAnswer has the body of the answer count; from its header on it has the timeout alone.
func (p *pace) watchAnswer(resp *http.Response, timeout time.Duration) {
	if p.timeout != timeout || resp.ContentLength < 0 || resp.ContentLength >= paceBytes {
		p.timeout = timeout
		p.timer.Reset(timeout)
	}
	resp.Body = paced{resp.Body, p}
}
