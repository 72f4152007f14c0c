package connectserver

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// lifeline reaches through to the connection of a stream: what a handler waits for, a Receive or a Send, can be cut
// short by nothing else. Its methods are safe for concurrent use, and for nil; when the handler has returned they do
// nothing, for then the connection is net/http's again, and a late call would crash the process.
type lifeline struct {
	mu sync.Mutex
	rc *http.ResponseController // nil when the handler has returned
}

type lifelineKey struct{}

// withWire gives every handler the lifeline of its connection.
func withWire(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := &lifeline{rc: http.NewResponseController(w)}
		defer line.cut()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), lifelineKey{}, line)))
	})
}

// lifelineOf is the lifeline of the handler's connection; nil where there is no connection.
func lifelineOf(ctx context.Context) *lifeline {
	line, _ := ctx.Value(lifelineKey{}).(*lifeline)
	return line
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
