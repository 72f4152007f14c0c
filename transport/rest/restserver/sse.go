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

// stream is an answer of server-sent events. It has no goroutine of its own: a timer writes the heartbeats. Each write
// has a deadline; the first that fails ends ctx.
type stream struct {
	ctx     context.Context
	done    func()
	cancel  context.CancelCauseFunc
	gone    context.Context // the client's
	w       http.ResponseWriter
	ctl     *http.ResponseController
	timeout time.Duration
	beat    time.Duration

	mu    sync.Mutex
	timer *time.Timer
	buf   []byte
	err   error
	over  bool
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
	st.timer = time.AfterFunc(st.beat, st.heartbeat)
	st.mu.Unlock()
	st.comment("pgqueue") // opens the stream at the client
	return st, nil
}

// close ends the stream; after it nothing writes any more.
func (st *stream) close() {
	st.mu.Lock()
	st.over = true
	st.timer.Stop()
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
	_ = st.send(restapi.EventError, "", restapi.ProblemOf(err))
}

func (st *stream) failed() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.err
}

// send writes one event.
func (st *stream) send(event, id string, data restapi.Appender) error {
	return st.write(func(b []byte) []byte {
		b = append(b, "event: "...)
		b = append(b, event...)
		if id != "" {
			b = append(b, "\nid: "...)
			b = append(b, id...)
		}
		b = append(b, "\ndata: "...)
		from := len(b)
		b = data.AppendJSON(b)
		if bytes.ContainsAny(b[from:], "\r\n") { // white space of a payload: a line each
			lines := bytes.ReplaceAll(bytes.ReplaceAll(b[from:], []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
			b = append(b[:from], bytes.ReplaceAll(lines, []byte("\n"), []byte("\ndata: "))...)
		}
		return append(b, "\n\n"...)
	})
}

// mark gives the client an id to resume from without an event.
func (st *stream) mark(id string) error {
	return st.write(func(b []byte) []byte {
		b = append(b, "id: "...)
		b = append(b, id...)
		return append(b, "\n\n"...)
	})
}

func (st *stream) comment(text string) {
	_ = st.write(func(b []byte) []byte {
		b = append(b, ": "...)
		b = append(b, text...)
		return append(b, "\n\n"...)
	})
}

func (st *stream) heartbeat() { st.comment("") }

func (st *stream) write(frame func([]byte) []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err != nil {
		return st.err
	}
	if st.over {
		return context.Canceled
	}
	st.buf = frame(st.buf[:0])
	_ = st.ctl.SetWriteDeadline(time.Now().Add(st.timeout))
	_, err := st.w.Write(st.buf)
	if err == nil {
		err = st.ctl.Flush()
	}
	if cap(st.buf) > keepBody {
		st.buf = nil
	}
	if err != nil {
		st.err = &queue.Error{Kind: queue.KindCanceled, Msg: "the reader is gone", Err: err}
		st.cancel(st.err)
		return st.err
	}
	st.timer.Reset(st.beat)
	return nil
}
