package restserver

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Events that come in a burst leave together: the first at once, what follows within a moment, or when there is much.
// A write for each would cost a burst to many streams more than the events themselves.
const (
	burst     = 5 * time.Millisecond
	burstSize = 32 << 10
)

// stream is an answer of server-sent events. It has no goroutine of its own: timers write the heartbeats and the end of
// a burst. Each write has a deadline; the first that fails ends ctx.
type stream struct {
	ctx     context.Context
	done    func()
	cancel  context.CancelCauseFunc
	gone    context.Context // the client's
	w       http.ResponseWriter
	ctl     *http.ResponseController
	timeout time.Duration
	beat    time.Duration

	mu      sync.Mutex
	silence *time.Timer // until the next heartbeat
	later   *time.Timer // until buf leaves, when waiting
	waiting bool
	flushed time.Time // when something left last
	buf     *[]byte   // of the pool; nil while nothing waits, so that idle streams hold none
	err     error
	over    bool
}

// stream begins the answer. The caller must close it.
func (c *call) stream() (*stream, error) {
	if c.r.Method == http.MethodHead {
		return nil, refusal{queue.Invalid("method", "a stream has no HEAD"), http.StatusMethodNotAllowed}
	}
	ctx, done := c.linger(0)
	ctx, cancel := context.WithCancelCause(ctx)
	st := &stream{
		ctx: ctx, done: done, cancel: cancel, gone: c.ctx(), w: c.w, ctl: http.NewResponseController(c.w),
		timeout: c.cfg.Timeouts.Write, beat: c.cfg.Timeouts.Heartbeat,
	}
	h := c.w.Header()
	h.Set("Content-Type", restapi.MediaEventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	if c.r.ProtoMajor == 1 {
		h.Set("Connection", "close") // a stream's deadlines must not reach another request
	}
	c.w.WriteHeader(http.StatusOK)
	st.mu.Lock()
	st.silence = time.AfterFunc(st.beat, func() { st.comment("") })
	st.later = time.AfterFunc(time.Hour, st.flushLater)
	st.mu.Unlock()
	st.comment("pgqueue") // opens the stream at the client
	return st, nil
}

// close ends the stream; after it nothing writes any more.
func (st *stream) close() {
	st.mu.Lock()
	st.over = true
	st.silence.Stop()
	st.later.Stop()
	st.mu.Unlock()
	st.cancel(nil)
	st.done()
}

// end tells the client why the stream ends, in a last event, when there is anybody to tell.
func (st *stream) end(err error) {
	if st.gone.Err() != nil {
		return
	}
	if err = ended(st.ctx, err); err == nil || st.failed() != nil {
		return
	}
	_ = st.send(restapi.EventError, "", restapi.ProblemOf(err), true)
}

func (st *stream) failed() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.err
}

// send writes one event; with now it has left when send returns, else a burst may keep it for a moment.
func (st *stream) send(event, id string, data restapi.Appender, now bool) error {
	return st.write(now, func(b []byte) []byte {
		b = append(b, "event: "...)
		b = append(b, event...)
		if id != "" {
			b = append(b, "\nid: "...)
			b = append(b, id...)
		}
		b = append(b, "\ndata: "...)
		from := len(b)
		b = data.AppendJSON(b)
		if bytes.IndexByte(b[from:], '\n') >= 0 || bytes.IndexByte(b[from:], '\r') >= 0 { // white space of a payload: a line each
			lines := bytes.ReplaceAll(bytes.ReplaceAll(b[from:], []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
			b = append(b[:from], bytes.ReplaceAll(lines, []byte("\n"), []byte("\ndata: "))...)
		}
		return append(b, "\n\n"...)
	})
}

// mark gives the client an id to resume from without an event.
func (st *stream) mark(id string) error {
	return st.write(true, func(b []byte) []byte {
		b = append(b, "id: "...)
		b = append(b, id...)
		return append(b, "\n\n"...)
	})
}

func (st *stream) comment(text string) {
	_ = st.write(true, func(b []byte) []byte {
		b = append(b, ": "...)
		b = append(b, text...)
		return append(b, "\n\n"...)
	})
}

func (st *stream) write(now bool, frame func([]byte) []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err != nil {
		return st.err
	}
	if st.over {
		return context.Canceled
	}
	if st.buf == nil {
		st.buf, _ = answers.Get().(*[]byte)
		*st.buf = (*st.buf)[:0]
	}
	*st.buf = frame(*st.buf)
	if rest := burst - time.Since(st.flushed); !now && rest > 0 && len(*st.buf) < burstSize {
		if !st.waiting {
			st.waiting = true
			st.later.Reset(rest)
		}
		return nil
	}
	return st.flush()
}

func (st *stream) flushLater() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.waiting && st.err == nil && !st.over {
		_ = st.flush() // the next write tells
	}
}

// flush lets buf leave. The lock is held.
func (st *stream) flush() error {
	_ = st.ctl.SetWriteDeadline(time.Now().Add(st.timeout))
	_, err := st.w.Write(*st.buf)
	if err == nil {
		err = st.ctl.Flush()
	}
	if cap(*st.buf) <= keepBody {
		answers.Put(st.buf)
	}
	st.buf = nil
	st.waiting, st.flushed = false, time.Now()
	if err != nil {
		st.err = &queue.Error{Kind: queue.KindCanceled, Msg: "the reader is gone", Err: err}
		st.cancel(st.err)
		return st.err
	}
	st.silence.Reset(st.beat)
	return nil
}
