package restclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

const (
	// silence is the time after which a silent stream counts as dead. The server sends a line at least every 15 s.
	silence = 45 * time.Second
	// maxFrame bounds the bytes of one event.
	maxFrame = 16 << 20
)

// frame is one server-sent event. An event without a name carries only an id.
type frame struct {
	event string
	id    string
	data  []byte
}

// readFrames reads server-sent events from r until it ends, and calls handle with each. It calls alive for every
// line.
func readFrames(r io.Reader, alive func(), handle func(frame) error) error {
	in := bufio.NewReaderSize(r, 4096)
	var f frame
	var seen bool
	for {
		line, err := readLine(in)
		if err != nil {
			return err
		}

		alive()
		if len(line) == 0 {
			if seen {
				if err := handle(f); err != nil {
					return err
				}
			}

			f, seen = frame{}, false
			continue
		}

		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			f.event, seen = string(value), true
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				f.id, seen = string(value), true
			}
		case "data":
			if seen && f.data != nil {
				f.data = append(f.data, '\n')
			}
			if f.data, seen = append(f.data, value...), true; len(f.data) > maxFrame {
				return errors.New("the server sent an event that is too large")
			}
		}
	}
}

// readLine reads a line of up to maxFrame bytes. The line is valid until the next call.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) && len(long) <= maxFrame {
			line, err = in.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	if err != nil {
		// A partial line does not count.
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// openStream opens one stream and calls handle with its events until it ends. The end is always an error: from
// handle, from ctx, from the server, or of the connection. It calls opened when the server accepts the stream.
func (c *Client) openStream(ctx context.Context, q request, opened func(), handle func(frame) error) error {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	// watch limits the time until the answer begins.
	watch := time.AfterFunc(c.timeout, cancel)
	defer watch.Stop()
	req, err := c.buildRequest(call, q, nil)
	if err != nil {
		return &queue.Error{Op: q.opName(), Kind: queue.KindInvalid, Msg: "the request must be one that HTTP can carry, got another; check the URL and the headers", Err: err}
	}

	req.Header["Accept"] = []string{restapi.MediaEventStream}
	resp, err := c.http.Do(req)
	if err != nil {
		return isDisconnected(ctx, q.opName(), err)
	}
	defer resp.Body.Close()

	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || media != restapi.MediaEventStream {
		// The part of the answer that arrives is enough for the error.
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		failed := problemError(q.route.Op, resp, answer)
		if failed.Kind == queue.KindIndeterminate {
			failed.Kind = queue.KindUnavailable // a stream that did not open has delivered nothing
		}
		return failed
	}

	watch.Reset(silence)
	opened()
	var own error
	err = readFrames(resp.Body, func() { watch.Reset(silence) }, func(f frame) error {
		// The time of handle does not count as silence.
		watch.Stop()
		defer watch.Reset(silence)
		if f.event == restapi.EventError {
			var p restapi.Problem
			if json.Unmarshal(f.data, &p) != nil {
				p = restapi.Problem{Status: http.StatusServiceUnavailable, Detail: strings.ToValidUTF8(string(f.data), "")}
			}
			own = p.Err(q.opName())
			return own
		}

		own = handle(f)
		return own
	})

	// Without an error of the caller or the server the connection broke.
	switch {
	case own == nil:
		return isDisconnected(ctx, q.opName(), err)
	case ctx.Err() != nil && errors.Is(own, ctx.Err()):
		return contextError(ctx, q.opName())
	}

	return own
}

// isDisconnected returns the error of a stream that cannot be opened or that broke: KindUnavailable, so that it is
// opened again.
func isDisconnected(ctx context.Context, op string, err error) error {
	e := connectionError(ctx, op, err)
	if e.Kind == queue.KindIndeterminate {
		e.Kind, e.Msg = queue.KindUnavailable, "the stream broke"
	}
	return e
}

// handlerError wraps an error of the caller's own function.
type handlerError struct{ error }

// keepStreaming keeps a stream open. attempt opens it once and calls opened when the server accepts it. An
// unavailable server is tried again: before the first acceptance as often as any call, later during the patience.
func (c *Client) keepStreaming(ctx context.Context, attempt func(opened func()) error) error {
	healthy, begun := time.Now(), false
	for tries := 1; ; tries++ {
		err := attempt(func() { begun, tries = true, 0 })
		if own, ok := errors.AsType[handlerError](err); ok {
			return own.error
		}

		if tries == 0 {
			healthy = time.Now()
		}

		over := tries >= c.attempts
		if begun {
			over = time.Since(healthy) > c.patience
		}

		if over || !errors.Is(err, queue.ErrUnavailable) {
			return err
		}

		queue.WaitToRepeat(ctx, backoffDelay(tries+1))
		if ctx.Err() != nil {
			return contextError(ctx, operationOf(err))
		}
	}
}

func operationOf(err error) string {
	if e, ok := errors.AsType[*queue.Error](err); ok {
		return e.Op
	}
	return ""
}
