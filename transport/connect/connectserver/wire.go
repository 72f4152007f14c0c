package connectserver

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// lifeline reaches through to the connection of a stream: what a handler waits for, a Receive or a Send, can be cut
// short by nothing else. Its methods are safe for concurrent use, and for nil; when the handler has returned they do
// nothing, for then the connection is net/http's again, and a late call would crash the process.
type lifeline struct {
	mu sync.Mutex
	rc *http.ResponseController // nil when the handler has returned
}

type lifelineKey struct{}

// withWire gives every handler the lifeline of its connection, and gives back what a unary call has retained when its
// answer has not left.
func (s *Server) withWire(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := &delivery{ResponseWriter: w, lifeline: lifeline{rc: http.NewResponseController(w)}}
		defer d.lifeline.cut()
		left := false
		defer func() {
			if len(d.tasks) > 0 && !left { // after a panic too
				s.handBack(r.Context(), d.svc, d.tasks)
			}
		}()

		next.ServeHTTP(d, r.WithContext(context.WithValue(r.Context(), lifelineKey{}, d)))
		left = len(d.tasks) == 0 || d.leave(r.Context())
	})
}

// delivery is the connection of one call: it knows what the call has retained, and whether writing its answer failed.
type delivery struct {
	http.ResponseWriter
	lifeline

	svc    queue.Consumer
	tasks  []*queue.Task // retained by a unary call
	failed error         // why the answer has not left
}

// deliver notes that tasks leave with the answer of the call; nil where there is no connection.
func (d *delivery) deliver(svc queue.Consumer, tasks []*queue.Task) {
	if d != nil {
		d.svc, d.tasks = svc, tasks
	}
}

// fail notes why the answer has not left. The first reason counts.
func (d *delivery) fail(err error) {
	if d != nil && d.failed == nil {
		d.failed = err
	}
}

// leave sends what is buffered of the answer, and reports whether all of it has left to a caller that is there. The end
// of the answer has not left yet, so who goes before has not got it.
func (d *delivery) leave(ctx context.Context) bool {
	if d.failed == nil {
		if err := http.NewResponseController(d.ResponseWriter).Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			d.fail(err)
		}
	}
	return d.failed == nil && ctx.Err() == nil
}

func (d *delivery) Write(b []byte) (int, error) {
	n, err := d.ResponseWriter.Write(b)
	d.fail(err)
	return n, err
}

// Flush is for the framework, which asks for an http.Flusher and sees no error.
func (d *delivery) Flush() {
	if err := http.NewResponseController(d.ResponseWriter).Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		d.fail(err)
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

// cut makes l do nothing from here on.
func (l *lifeline) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rc = nil
}

// do calls set with the time past, and reports whether that could be done here.
func (l *lifeline) do(set func(*http.ResponseController, time.Time) error) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rc != nil && set(l.rc, past) == nil
}

var past = time.Unix(1, 0)

// stopReading makes a Receive that waits, and all to come, fail. It reports whether that can be done here.
func (l *lifeline) stopReading() bool { return l.do((*http.ResponseController).SetReadDeadline) }

// stopWriting makes a Send that waits, and all to come, fail, and tells the peer by resetting the stream.
func (l *lifeline) stopWriting() bool { return l.do((*http.ResponseController).SetWriteDeadline) }

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

// live sends alive whenever nothing was sent for every, until ctx ends or a send fails, which calls failed.
func (o *outlet[M]) live(ctx context.Context, every time.Duration, alive M, failed func(error)) {
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
