package restserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// humaContext is huma.Context under a name that does not hide the method Context of a call.
type humaContext = huma.Context

// call is one request during its operation. It is also the huma.Context of the request, and overrides how the query
// is read, how the body arrives and how the answer leaves.
type call struct {
	humaContext

	*Server

	w     http.ResponseWriter
	r     *http.Request
	svc   queue.Service // bound to the namespace of the request
	query url.Values

	media     string // media type of the body
	bodyLimit int64  // in bytes
	bodyFault error  // the reason why the body did not arrive
	claim     queue.BodyClaim

	status  int  // of the answer, as huma sets it
	written bool // the header of the answer has left
	// lost is the first error of writing the answer.
	lost error
	// flushed is set when the operation flushes the answer before it returns.
	flushed bool
	// cleanups run after the answer is written.
	cleanups []func()
}

type callKey struct{}

// Context returns the request's context, which carries the call to the operation.
func (c *call) Context() context.Context { return context.WithValue(c.r.Context(), callKey{}, c) }

func callFromContext(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// requestContext is the request's context.
func (c *call) requestContext() context.Context { return c.r.Context() }

// afterAnswer runs f after the answer is written or has failed.
func (c *call) afterAnswer(f func()) { c.cleanups = append(c.cleanups, f) }

// boundRead waits until the budget for large answers has size bytes for the answer of a read.
func (c *call) boundRead(size int) error {
	give, err := c.cfg.Large.TakeRead(c.requestContext(), size)
	if err == nil {
		c.afterAnswer(give)
	}
	return err
}

// boundRows waits like boundRead for the answer of a list, unless err has ended it already.
func boundRows[T interface{ Bytes() int }](c *call, rows []T, err error) error {
	if err != nil {
		return err
	}
	return c.boundRead(queue.BytesOf(rows))
}

// Query returns the first value of a query parameter.
func (c *call) Query(name string) string { return c.query.Get(name) }

// Header returns a header of the request. The content type is one of the formats of huma, and the answer is JSON
// independent of Accept.
func (c *call) Header(name string) string {
	switch name {
	case "Content-Type":
		if c.media == restapi.MediaExactJSON {
			// huma ignores the parameters of a media type.
			return formatExactJSON
		}
		return c.media
	case "Accept":
		return restapi.MediaJSON
	}
	return c.r.Header.Get(name)
}

// acceptsMedia reports whether the client names media in its Accept header.
func (c *call) acceptsMedia(media string) bool { return acceptsMedia(c.r, media) }

func acceptsMedia(r *http.Request, media string) bool {
	return slices.ContainsFunc(r.Header.Values("Accept"), func(h string) bool {
		return strings.Contains(strings.ToLower(h), media)
	})
}

// bindNamespace sets the service of the namespace of the request.
func (c *call) bindNamespace() error {
	c.svc = c.cfg.Service
	name := c.query.Get("namespace")
	if h := c.r.Header[restapi.HeaderNamespace]; len(h) > 0 {
		switch {
		case len(h) > 1 || name != "" && name != h[0]:
			return queue.Invalid("namespace", "must be given once, by the header "+restapi.HeaderNamespace+" or by ?namespace=; leave one out")
		case strings.TrimSpace(h[0]) == "":
			return queue.Invalid("namespace", "must not be empty; leave the header out for the server's default")
		}
		name = h[0]
	}
	if name == "" || name == c.svc.Namespace() {
		return nil
	}

	svc, err := c.svc.In(name)
	if err == nil {
		c.svc = svc
	}
	return err
}

// namespaceOf returns the namespace that the request names, or "".
func namespaceOf(r *http.Request) string {
	if h := r.Header[restapi.HeaderNamespace]; len(h) > 0 {
		return h[0]
	}
	if strings.Contains(r.URL.RawQuery, "namespace=") {
		return r.URL.Query().Get("namespace")
	}
	return ""
}

// maxDiscard is the part of a too large body that the server still reads, so that a client that still sends gets the
// answer.
const maxDiscard = 8 << 20

// BodyReader returns the body of the request for huma, within its limit and timeouts.
func (c *call) BodyReader() io.Reader { return pacedBody{c} }

// SetReadDeadline does nothing, because the body moves its own deadlines.
func (c *call) SetReadDeadline(time.Time) error { return nil }

// pacedBody copies the body of a call to huma. It keeps an error in call.bodyFault and gives huma an empty body,
// because huma would answer with an error of its own.
type pacedBody struct{ *call }

// Read implements io.Reader, which huma requires. io.Copy prefers WriteTo.
func (b pacedBody) Read(to []byte) (int, error) { return b.r.Body.Read(to) }

// WriteTo copies the body to a bytes.Buffer.
func (b pacedBody) WriteTo(w io.Writer) (int64, error) {
	buf, ok := w.(*bytes.Buffer)
	if !ok {
		return 0, fmt.Errorf("restserver: the body goes to a bytes.Buffer, not to a %T", w)
	}
	if b.bodyFault = b.receiveBody(buf); b.bodyFault != nil {
		buf.Reset()
	}
	if buf.Len() == 0 && b.bodyFault == nil && b.media == restapi.MediaNDJSON {
		// The line end stands for an empty list: huma would not decode an empty body.
		buf.WriteByte('\n')
	}
	return int64(buf.Len()), nil
}

// receiveBody reads the body within its limit.
func (c *call) receiveBody(buf *bytes.Buffer) (err error) {
	if c.media, err = c.mediaType(); err != nil || c.r.ContentLength == 0 {
		return err
	}
	return c.readBody(buf)
}

// readBody is receiveBody for a body of any type.
func (c *call) readBody(buf *bytes.Buffer) error {
	if n := c.r.ContentLength; n > 0 {
		// A larger body gets memory only as it arrives.
		buf.Grow(int(min(n+bytes.MinRead, maxPooledBytes)))
	}

	// A large body waits for its part of the budget before it arrives.
	ctl := http.NewResponseController(c.w)
	err := c.claim.Cover(c.requestContext(), c.cfg.Bodies, int(min(c.r.ContentLength, c.bodyLimit)))
	if err == nil {
		// One byte above the limit shows a body that is too large.
		err = c.copyBody(ctl, buf, c.bodyLimit+1)
	}
	// The rest is read and dropped, so that a client that still sends gets the answer and may repeat.
	if queue.KindOf(err) == queue.KindUnavailable {
		*buf = bytes.Buffer{}
		c.claim.Return()
		_ = c.copyBody(ctl, io.Discard, maxDiscard)
		return err
	}
	if err != nil {
		return bodyFault(err)
	}
	if int64(buf.Len()) > c.bodyLimit {
		_ = c.copyBody(ctl, io.Discard, maxDiscard)
		return &queue.Error{
			Kind: queue.KindTooLarge, Field: "body",
			Msg: fmt.Sprintf("must have at most %d bytes, got more; send less, or in several requests", c.bodyLimit),
		}
	}

	// An expired deadline would look like a client that has disconnected.
	_ = ctl.SetReadDeadline(time.Time{})
	return nil
}

// refuseBody reads the body of a route that takes none. It accepts an empty one, null and {}, which clients send; any
// other has fields without an effect, such as a dry run or a filter.
func (c *call) refuseBody() error {
	if c.r.ContentLength == 0 {
		return nil
	}
	var buf bytes.Buffer
	if err := c.readBody(&buf); err != nil { // of any type: the predecessor's clients name none
		return err
	}

	var fields map[string]any
	if body := bytes.TrimSpace(buf.Bytes()); len(body) > 0 && (json.Unmarshal(body, &fields) != nil || len(fields) > 0) {
		return queue.Invalid("body", "must be empty for this route; nothing was changed; send parameters in the query")
	}
	return nil
}

// copyBody copies at most n bytes of the body. Each paceBytes and the rest must arrive within the timeout of bodies.
// The time for the answer begins after that.
func (c *call) copyBody(ctl *http.ResponseController, to io.Writer, n int64) error {
	for rest := n; rest > 0; {
		_ = ctl.SetReadDeadline(time.Now().Add(c.cfg.Timeouts.Body))
		if rest < n {
			_ = ctl.SetWriteDeadline(time.Now().Add(c.cfg.Timeouts.Body + c.cfg.Timeouts.Write))
		}

		some, err := io.CopyN(to, c.r.Body, min(rest, paceBytes))
		if rest -= some; errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}

		// A body of unknown length takes its bytes as it arrives.
		if to == io.Discard || c.r.ContentLength >= 0 {
			continue
		}
		if err := c.claim.Cover(c.requestContext(), c.cfg.Bodies, int(n-rest+paceBytes)); err != nil {
			return err
		}
	}
	return nil
}

func bodyFault(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return input.Refusal{
			Cause:  cutBody("must arrive in time, took too long; send it again"),
			Status: http.StatusRequestTimeout,
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return input.Refusal{Cause: cutBody("must be complete, ended too early; send it again"), Status: http.StatusBadRequest}
	}
	return input.Refusal{Cause: cutBody("must be readable; send it again"), Status: http.StatusBadRequest}
}

// cutBody is the cause of a body that did not arrive whole. Its kind asks for a repeat: nothing happened, and the input may
// be right.
func cutBody(msg string) *queue.Error {
	return &queue.Error{Kind: queue.KindUnavailable, Field: "body", Msg: msg}
}

// mediaType returns the media type of the body. It is required, because a form of any web page can send a body
// without one.
func (c *call) mediaType() (string, error) {
	if e := c.r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		c.w.Header().Set("Accept-Encoding", "identity")
		return "", input.Refusal{
			Cause:  queue.Invalid("Content-Encoding", fmt.Sprintf("must be identity, got %.64q; send the body without compression", e)),
			Status: http.StatusUnsupportedMediaType,
		}
	}

	header := c.r.Header.Get("Content-Type")
	// The two usual forms need no parser on the hot path.
	if header == restapi.MediaJSON || header == restapi.MediaExactJSON {
		return header, nil
	}

	// Only UTF-8 passes, because payloads are kept byte by byte.
	media, params, err := mime.ParseMediaType(header)
	charset := strings.ToLower(params["charset"])
	switch {
	case err != nil:
	case charset != "" && charset != "utf-8" && charset != "us-ascii":
	case media == restapi.MediaJSON && params["null"] == "exact":
		return restapi.MediaExactJSON, nil
	case media == restapi.MediaJSON:
		return restapi.MediaJSON, nil
	case media == restapi.MediaNDJSON, media == "application/jsonl":
		return restapi.MediaNDJSON, nil
	}

	if c.r.ContentLength == 0 {
		return restapi.MediaJSON, nil
	}

	return "", input.Refusal{
		Cause:  queue.Invalid("Content-Type", "must be "+restapi.MediaJSON+" in UTF-8, got "+restapi.Quote(header)),
		Status: http.StatusUnsupportedMediaType,
	}
}

// extendDeadlines prepares a request that may wait: no deadline cuts it, and its context ends when the server shuts
// down. The caller must call done.
func (c *call) extendDeadlines(wait time.Duration) (ctx context.Context, done func()) {
	ctl := http.NewResponseController(c.w)
	_ = ctl.SetReadDeadline(time.Time{})
	_ = ctl.SetWriteDeadline(time.Now().Add(wait + c.cfg.Timeouts.Write))

	ctx, cancel := context.WithCancelCause(c.requestContext())
	// A stop of the server ends waits at once, and the cause says so to the client.
	stop := context.AfterFunc(c.Server.ctx, func() { cancel(context.Cause(c.Server.ctx)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// contextCause replaces an error that only reports the end of ctx by the domain error that ended it.
func contextCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		if e, ok := errors.AsType[*queue.Error](context.Cause(ctx)); ok {
			return e
		}
	}
	return err
}
