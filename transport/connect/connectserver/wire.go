package connectserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// lifeline reaches through to the connection of a stream: a Receive or a Send that a handler waits for can be cut
// short by nothing else. Its methods are safe for concurrent use, and for nil; when the handler has returned they do
// nothing, for then the connection is net/http's again, and a late call would crash the process.
type lifeline struct {
	mu      sync.Mutex
	rc      *http.ResponseController // nil when the handler has returned
	stopped bool                     // no write deadline comes after the one that is past
}

type lifelineKey struct{}

// wrapWire gives every handler the lifeline of its connection, and gives back the tasks of a unary call when its
// answer has not left.
func (s *Server) wrapWire(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := &delivery{
			ResponseWriter: w, body: r.Body, timeout: s.sendTimeout, http1: r.ProtoMajor == 1,
			lifeline: lifeline{rc: http.NewResponseController(w)}, json: strings.HasSuffix(r.Header.Get("Content-Type"), "json"),
		}
		defer d.lifeline.closeLifeline()
		defer func() {
			if d.give != nil {
				d.give()
			}
		}()
		left := false
		defer func() {
			if len(d.tasks) > 0 && !left { // after a panic too
				s.giveBackTasks(r.Context(), d.svc, d.asked, d.tasks)
			}
		}()

		r = r.WithContext(context.WithValue(r.Context(), lifelineKey{}, d))
		r.Body = d
		next.ServeHTTP(d, r)
		left = len(d.tasks) == 0 || d.flushAnswer(r.Context())
	})
}

// delivery is the connection of one call: it holds the retained tasks of the call, and whether writing its answer failed.
type delivery struct {
	http.ResponseWriter
	lifeline

	svc    queue.Service
	asked  queue.RetainRequest
	tasks  []*queue.Task // retained by a unary call
	failed error         // why the answer has not left
	give   func()        // the bytes of a large answer, when it has left
	json   bool          // the answer is JSON: payloads are in base64

	body     io.ReadCloser
	timeout  time.Duration // of each paceBytes of a unary call
	unary    bool
	http1    bool
	received int // bytes since the deadlines moved
	paced    int // bytes since the write deadline moved
}

// paceBytes is how much of a message must move within a timeout. A message that moves so fast is never cut, however long
// the whole takes; one that stands still, or drips, is.
const paceBytes = 64 << 10

// Read is for the framework, which reads the body of the request. That of a unary call must move.
func (d *delivery) Read(b []byte) (int, error) {
	n, err := d.body.Read(b)
	if !d.unary {
		return n, err
	}
	if d.received += n; d.received >= paceBytes {
		d.received = 0
		d.lifeline.moveDeadline((*http.ResponseController).SetReadDeadline, d.timeout)
		d.lifeline.moveDeadline((*http.ResponseController).SetWriteDeadline, 2*d.timeout)
	}
	if errors.Is(err, io.EOF) { // a deadline left behind would look like a client that went away
		d.unary = false
		d.lifeline.moveDeadline((*http.ResponseController).SetReadDeadline, 0)
	}
	return n, err
}

// Close closes the body of the request.
func (d *delivery) Close() error { return d.body.Close() }

// boundArrival bounds how long the message of a unary call may take to arrive. Over HTTP/2 the server's own limit of a stream
// bounds the first of it.
func (d *delivery) boundArrival() {
	if d == nil {
		return
	}
	d.unary = true
	if d.http1 {
		d.lifeline.moveDeadline((*http.ResponseController).SetReadDeadline, d.timeout)
	}
}

// encodable is how many bytes of tasks become at most n in the answer.
func (d *delivery) encodable(n int) int {
	if d != nil && d.json {
		return max(n/4*3, 1)
	}
	return n
}

// recordTasks notes that tasks leave with the answer of the call; nil where there is no connection.
func (d *delivery) recordTasks(svc queue.Service, asked queue.RetainRequest, tasks []*queue.Task) {
	if d != nil {
		d.svc, d.asked, d.tasks = svc, asked, tasks
	}
}

// runAtEnd has give called when the answer has left; at once where there is no connection.
func (d *delivery) runAtEnd(give func()) {
	if d == nil {
		give()
		return
	}
	d.give = give
}

// recordFailure notes why the answer has not left. The first reason counts.
func (d *delivery) recordFailure(err error) {
	if d != nil && d.failed == nil {
		d.failed = err
	}
}

// flushAnswer sends the buffered rest of the answer, and reports whether all of it has left to a caller that is there. The end
// of the answer has not left yet, so a caller that leaves before has not got it.
func (d *delivery) flushAnswer(ctx context.Context) bool {
	if d.failed == nil {
		if err := http.NewResponseController(d.ResponseWriter).Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			d.recordFailure(err)
		}
	}
	return d.failed == nil && ctx.Err() == nil
}

func (d *delivery) Write(b []byte) (int, error) {
	written := 0
	for {
		piece := b[written:min(len(b), written+paceBytes)]
		if d.paced += len(piece); d.paced >= paceBytes { // earlier pieces have left, or wait in a buffer of the system
			d.paced = 0
			d.lifeline.moveDeadline((*http.ResponseController).SetWriteDeadline, d.timeout)
		}
		n, err := d.ResponseWriter.Write(piece)
		written += n
		if err != nil || written == len(b) {
			d.recordFailure(err)
			return written, err
		}
	}
}

// Flush is for the framework, which asks for an http.Flusher and sees no error.
func (d *delivery) Flush() {
	if err := http.NewResponseController(d.ResponseWriter).Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		d.recordFailure(err)
	}
}

// Unwrap is for http.ResponseController.
func (d *delivery) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// deliveryOf is the connection of the handler's call; nil where there is none.
func deliveryOf(ctx context.Context) *delivery {
	d, _ := ctx.Value(lifelineKey{}).(*delivery)
	return d
}

// lifelineOf is the lifeline of the handler's connection; nil where there is no connection.
func lifelineOf(ctx context.Context) *lifeline {
	if d := deliveryOf(ctx); d != nil {
		return &d.lifeline
	}
	return nil
}

// closeLifeline makes l do nothing from here on.
func (l *lifeline) closeLifeline() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rc = nil
}

// stopDirection calls set with the time past, and reports whether that could be done here.
func (l *lifeline) stopDirection(set func(*http.ResponseController, time.Time) error) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	return l.rc != nil && set(l.rc, past) == nil
}

// moveDeadline calls set with the time in d; 0 = with none.
func (l *lifeline) moveDeadline(set func(*http.ResponseController, time.Time) error, d time.Duration) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rc == nil || l.stopped {
		return
	}
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = set(l.rc, at) // a connection that cannot move its deadlines has none, or keeps them
}

// extendDeadline lets a call wait as long as it asked to: the server's own limit would cut it. 0 = a stream, whose messages have
// a limit each.
func (l *lifeline) extendDeadline(wait time.Duration) {
	l.moveDeadline((*http.ResponseController).SetWriteDeadline, wait)
}

var past = time.Unix(1, 0)

// stopReading makes a Receive that waits, and all to come, fail. It reports whether that can be done here.
func (l *lifeline) stopReading() bool {
	return l.stopDirection((*http.ResponseController).SetReadDeadline)
}

// stopWriting makes a Send that waits, and all to come, fail, and resets the stream for the peer.
func (l *lifeline) stopWriting() bool {
	return l.stopDirection((*http.ResponseController).SetWriteDeadline)
}

// outlet sends the messages of one stream, one at a time, each within a time, and signs of life between them.
type outlet[M any] struct {
	send    func(M) error
	timeout time.Duration
	line    *lifeline

	mu   sync.Mutex
	last time.Time
}

// Send sends m. It fails when the peer has not made room for m within the time.
func (o *outlet[M]) Send(m M) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	watch := time.AfterFunc(o.timeout, func() { o.line.stopWriting() })
	defer watch.Stop()
	err := o.send(m)
	o.last = time.Now()
	return err
}

// sendAliveSigns sends alive whenever nothing was sent for every, until ctx ends or a send fails, which calls failed.
func (o *outlet[M]) sendAliveSigns(ctx context.Context, every time.Duration, alive M, failed func(error)) {
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		o.mu.Lock()
		quiet := time.Since(o.last)
		o.mu.Unlock()
		if quiet < every/2 {
			continue
		}
		if err := o.Send(alive); err != nil {
			failed(err)
			return
		}
	}
}
