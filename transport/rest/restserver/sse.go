package restserver

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// Events of a burst leave together: the first one at once, the others after 5 ms or when they fill 32 KiB. With many
// streams, one write per event would cost more than the events themselves.
const (
	burst     = 5 * time.Millisecond
	burstSize = 32 << 10
)

// stream is an answer of server-sent events. It has no goroutine: timers write the heartbeats and the end of a burst.
// Each write has a deadline, and the first failed one ends ctx.
type stream struct {
	ctx     context.Context
	done    func()
	cancel  context.CancelCauseFunc
	client  context.Context // ends when the client disconnects
	w       http.ResponseWriter
	ctl     *http.ResponseController
	timeout time.Duration
	beat    time.Duration

	mu      sync.Mutex
	silence *time.Timer // until the next heartbeat
	later   *time.Timer // until buf leaves, while waiting is set
	waiting bool
	flushed time.Time // time of the last write
	buf     *[]byte   // from the pool; nil while empty, so that idle streams keep none
	err     error
	over    bool
}

// openStream begins the answer. The caller must close the stream.
func (c *call) openStream() (*stream, error) {
	if c.r.Method == http.MethodHead {
		return nil, input.Refusal{
			Cause:  queue.Invalid("method", "must be GET for a stream, got HEAD; send GET"),
			Status: http.StatusMethodNotAllowed,
		}
	}

	ctx, done := c.extendDeadlines(0)
	ctx, cancel := context.WithCancelCause(ctx)
	st := &stream{
		ctx: ctx, done: done, cancel: cancel, client: c.requestContext(), w: c.w, ctl: http.NewResponseController(c.w),
		timeout: c.cfg.Timeouts.Write, beat: c.cfg.Timeouts.Heartbeat,
	}
	h := c.w.Header()
	h.Set("Content-Type", restapi.MediaEventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	if c.r.ProtoMajor == 1 {
		// Deadlines of a stream must not reach another request.
		h.Set("Connection", "close")
	}

	c.w.WriteHeader(http.StatusOK)
	st.mu.Lock()
	st.silence = time.AfterFunc(st.beat, func() { st.sendComment("") })
	st.later = time.AfterFunc(time.Hour, st.flushLater)
	st.mu.Unlock()
	// The first bytes open the stream at the client.
	st.sendComment("pgqueue")
	return st, nil
}

// closeStream ends the stream. Later writes do nothing.
func (st *stream) closeStream() {
	st.mu.Lock()
	st.over = true
	st.silence.Stop()
	st.later.Stop()
	st.mu.Unlock()
	st.cancel(nil)
	st.done()
}

// sendEnd sends the reason of the end as the last event, unless the client has disconnected.
func (st *stream) sendEnd(err error) {
	if st.client.Err() != nil {
		return
	}
	if err = contextCause(st.ctx, err); err == nil || st.writeError() != nil {
		return
	}
	_ = st.sendEvent(restapi.EventError, "", restapi.ProblemOf(err), true)
}

func (st *stream) writeError() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.err
}

// sendEvent writes one event. With now it leaves before the return; otherwise a burst may delay it.
func (st *stream) sendEvent(event, id string, data any, now bool) error {
	return st.writeFrame(now, func(b []byte) (_ []byte, err error) {
		b = append(append(b, "event: "...), event...)
		if id != "" {
			b = append(append(b, "\nid: "...), id...)
		}
		b = append(b, "\ndata: "...)
		from := len(b)
		if b, err = restapi.Append(b, data); err != nil {
			return b, err
		}

		// A payload may contain line breaks as white space, so each line becomes a data line of its own.
		if bytes.ContainsAny(b[from:], "\r\n") {
			lines := bytes.ReplaceAll(bytes.ReplaceAll(b[from:], []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
			b = append(b[:from], bytes.ReplaceAll(lines, []byte("\n"), []byte("\ndata: "))...)
		}
		return append(b, "\n\n"...), nil
	})
}

// sendID sends an id without an event, from which the client can resume.
func (st *stream) sendID(id string) error { return st.sendLine("id: " + id) }

// sendComment sends a sign of life.
func (st *stream) sendComment(text string) { _ = st.sendLine(": " + text) } // the next write reports the error

func (st *stream) sendLine(line string) error {
	return st.writeFrame(true, func(b []byte) ([]byte, error) { return append(append(b, line...), "\n\n"...), nil })
}

// writeFrame appends a frame to the buffer, which leaves at once or at the end of a burst.
func (st *stream) writeFrame(now bool, frame func([]byte) ([]byte, error)) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err != nil {
		return st.err
	}
	if st.over {
		return context.Canceled
	}

	if st.buf == nil {
		st.buf, _ = buffers.Get().(*[]byte)
		*st.buf = (*st.buf)[:0]
	}
	framed, err := frame(*st.buf)
	if err != nil {
		return err
	}
	*st.buf = framed

	if rest := burst - time.Since(st.flushed); !now && rest > 0 && len(*st.buf) < burstSize {
		if !st.waiting {
			st.waiting = true
			st.later.Reset(rest)
		}
		return nil
	}
	return st.flushBuffer()
}

func (st *stream) flushLater() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.waiting && st.err == nil && !st.over {
		// The next write returns the error.
		_ = st.flushBuffer()
	}
}

// flushBuffer writes buf. The caller holds mu.
func (st *stream) flushBuffer() error {
	_ = st.ctl.SetWriteDeadline(time.Now().Add(st.timeout))
	_, err := st.w.Write(*st.buf)
	if err == nil {
		err = st.ctl.Flush()
	}

	if cap(*st.buf) <= maxPooledBytes {
		buffers.Put(st.buf)
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
