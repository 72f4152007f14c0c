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
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// lifeline controls the connection of a stream below the framework, because nothing else can interrupt a blocked
// Receive or Send of a handler. Its methods are safe for concurrent use and on a nil lifeline. After the handler has
// returned they do nothing: then net/http owns the connection again, and a late call would crash the process.
type lifeline struct {
	mu      sync.Mutex
	rc      *http.ResponseController // nil after the handler has returned
	stopped bool                     // true: the past deadline stays, moveDeadline has no effect
}

type lifelineKey struct{}

// serveWithLifeline gives each handler the lifeline of its connection. It hands back the tasks of a unary call when the answer
// was not delivered.
func (s *Server) serveWithLifeline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := &delivery{
			ResponseWriter: w, bodies: s.bodies, arriving: r.Context(), timeout: s.sendTimeout, http1: r.ProtoMajor == 1,
			lifeline: lifeline{rc: http.NewResponseController(w)}, json: strings.HasSuffix(r.Header.Get("Content-Type"), "json"),
		}
		defer d.lifeline.closeLifeline()
		defer d.claim.Return()
		defer func() {
			if d.give != nil {
				d.give()
			}
		}()

		left := false
		defer func() {
			if len(d.tasks) > 0 && !left {
				// This also runs after a panic.
				s.giveBackTasks(r.Context(), d.svc, d.asked, d.tasks)
			}
		}()

		d.body, d.total = r.Body, int(max(r.ContentLength, 0))
		d.compressed = isCompressed(r.Header.Get("Content-Encoding")) || isCompressed(r.Header.Get("Grpc-Encoding"))
		r = r.WithContext(context.WithValue(r.Context(), lifelineKey{}, d))
		r.Body = d
		next.ServeHTTP(d, r)
		left = len(d.tasks) == 0 || d.flushAnswer(r.Context())
	})
}

// isCompressed reports whether a header of an encoding names one.
func isCompressed(encoding string) bool { return encoding != "" && encoding != "identity" }

// delivery is the connection of one call. It records the retained tasks of the call and the failure of its answer.
type delivery struct {
	http.ResponseWriter
	lifeline

	svc    queue.Service
	asked  queue.RetainRequest
	tasks  []*queue.Task // retained by a unary call
	failed error         // the reason why the answer was not delivered
	give   func()        // returns the budget of a large answer after the end of the call
	json   bool          // true: the answer is JSON with payloads in base64
	// compressed: the message has more bytes than its body
	compressed bool

	body     io.ReadCloser
	timeout  time.Duration // of each paceBytes of a unary call
	unary    bool
	http1    bool
	received int // bytes since the deadlines moved
	arrived  int // bytes of the body so far
	total    int // bytes of the body, where its header says so
	arriving context.Context
	bodies   *queue.Budget
	claim    queue.BodyClaim
	paced    int // bytes since the write deadline moved
}

// paceBytes is the part of a message that must move within one timeout. A message at this pace may take any time in
// total; a message below it is cut.
const paceBytes = 64 << 10

// Read passes the body of the request to the framework and moves the deadlines of a unary call with its bytes.
func (d *delivery) Read(b []byte) (int, error) {
	n, err := d.body.Read(b)
	if !d.unary {
		return n, err
	}

	// A large message waits for its part of the budget.
	d.arrived += n
	if full := d.claim.Cover(d.arriving, d.bodies, max(d.arrived, d.total)); full != nil {
		return n, wire.ConnectError(full)
	}

	// From each part on, the next part may take one timeout, and the answer one more.
	if d.received += n; d.received >= paceBytes {
		d.received = 0
		d.lifeline.moveDeadline((*http.ResponseController).SetReadDeadline, d.timeout)
		d.lifeline.moveDeadline((*http.ResponseController).SetWriteDeadline, 2*d.timeout)
	}
	if errors.Is(err, io.EOF) {
		// An expired deadline would look like a client that has disconnected.
		d.unary = false
		d.lifeline.moveDeadline((*http.ResponseController).SetReadDeadline, 0)
	}
	return n, err
}

// Close closes the body of the request.
func (d *delivery) Close() error { return d.body.Close() }

// boundArrival bounds the arrival of the message of a unary call. Over HTTP/2 the stream limit of the http.Server
// bounds the first part of it.
func (d *delivery) boundArrival() {
	if d == nil {
		return
	}
	d.unary = true
	if d.http1 {
		d.lifeline.moveDeadline((*http.ResponseController).SetReadDeadline, d.timeout)
	}
}

// taskBytesWithin returns how many bytes of tasks fit into n bytes of the answer. Base64 in JSON makes 4 bytes of 3.
func (d *delivery) taskBytesWithin(n int) int {
	if d != nil && d.json {
		return max(n/4*3, 1)
	}
	return n
}

// recordTasks records the tasks that leave with the answer of the call. Without a connection it does nothing.
func (d *delivery) recordTasks(svc queue.Service, asked queue.RetainRequest, tasks []*queue.Task) {
	if d != nil {
		d.svc, d.asked, d.tasks = svc, asked, tasks
	}
}

// runAfterAnswer runs give after the end of the call, or at once without a connection.
func (d *delivery) runAfterAnswer(give func()) {
	if d == nil {
		give()
		return
	}
	d.give = give
}

// recordFailure records why the answer was not delivered. Only the first reason is kept.
func (d *delivery) recordFailure(err error) {
	if d != nil && d.failed == nil {
		d.failed = err
	}
}

// flushAnswer sends the buffered rest of the answer and reports whether all of it went to a connected caller. The end
// of the answer leaves later, so a caller that disconnects before this point has not received the answer.
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
		// Small pieces let the deadline follow the pace of the client.
		piece := b[written:min(len(b), written+paceBytes)]
		if d.paced += len(piece); d.paced >= paceBytes {
			// Earlier pieces have left or are in a buffer of the system.
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

// Flush implements http.Flusher for the framework, which gets no error from it.
func (d *delivery) Flush() {
	if err := http.NewResponseController(d.ResponseWriter).Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		d.recordFailure(err)
	}
}

// Unwrap gives http.ResponseController access to the writer below.
func (d *delivery) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// deliveryOf returns the connection of the handler's call, or nil without one.
func deliveryOf(ctx context.Context) *delivery {
	d, _ := ctx.Value(lifelineKey{}).(*delivery)
	return d
}

// lifelineOf returns the lifeline of the handler's connection, or nil without a connection.
func lifelineOf(ctx context.Context) *lifeline {
	if d := deliveryOf(ctx); d != nil {
		return &d.lifeline
	}
	return nil
}

// closeLifeline turns all later calls of l into calls without an effect.
func (l *lifeline) closeLifeline() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rc = nil
}

// stopDirection sets the deadline of one direction into the past and reports whether the connection allows it.
func (l *lifeline) stopDirection(set func(*http.ResponseController, time.Time) error) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	return l.rc != nil && set(l.rc, past) == nil
}

// moveDeadline sets the deadline of one direction to d from now, or to none if d is 0.
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
	// A connection without support keeps its deadlines.
	_ = set(l.rc, at)
}

// extendDeadline moves the write deadline of the server behind the wait of the call, which it would cut otherwise.
// Streams pass 0, because each of their messages has a limit.
func (l *lifeline) extendDeadline(wait time.Duration) {
	l.moveDeadline((*http.ResponseController).SetWriteDeadline, wait)
}

var past = time.Unix(1, 0)

// stopReading makes a blocked Receive and all later ones fail. It reports whether the connection allows that.
func (l *lifeline) stopReading() bool {
	return l.stopDirection((*http.ResponseController).SetReadDeadline)
}

// stopWriting makes a blocked Send and all later ones fail, and resets the stream for the peer. It reports whether
// the connection allows that.
func (l *lifeline) stopWriting() bool {
	return l.stopDirection((*http.ResponseController).SetWriteDeadline)
}

// outlet sends the messages of one stream, one at a time and each within timeout, and signs of life between them.
type outlet[M any] struct {
	send    func(M) error
	timeout time.Duration
	line    *lifeline

	mu   sync.Mutex
	last time.Time
}

// Send sends m. It fails when the peer does not accept m within timeout.
func (o *outlet[M]) Send(m M) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	watch := time.AfterFunc(o.timeout, func() { o.line.stopWriting() })
	defer watch.Stop()
	err := o.send(m)
	o.last = time.Now()
	return err
}

// sendAliveSigns sends alive after each time every without another message, until ctx ends or a send fails. It passes
// the error of a failed send to failed.
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
