package restserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

const (
	// maxPooledBytes is the largest buffer that returns to the pool.
	maxPooledBytes = 64 << 10
	// compressFrom is the size from which compression of an answer pays off.
	compressFrom = 1400
	// chunkFrom is the size from which net/http sends an answer in chunks on its own.
	chunkFrom = 2048
)

// buffers holds the buffers for answers, so that each answer takes one write.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

var (
	mediaJSON    = []string{restapi.MediaJSON}
	mediaProblem = []string{restapi.MediaProblem}
)

// formatExactJSON is the name of the format of restapi.MediaExactJSON.
const formatExactJSON = "application/exact-json"

// bodyFormats are the media types that huma decodes and encodes.
func bodyFormats() map[string]huma.Format {
	return map[string]huma.Format{
		restapi.MediaJSON:    {Marshal: encodeAnswer, Unmarshal: input.Decoder(restapi.MediaJSON)},
		formatExactJSON:      {Unmarshal: input.Decoder(restapi.MediaExactJSON)},
		restapi.MediaNDJSON:  {Unmarshal: input.Decoder(restapi.MediaNDJSON)},
		restapi.MediaProblem: {Marshal: encodeAnswer},
	}
}

// encodeAnswer writes v as the JSON answer of the call behind w.
func encodeAnswer(w io.Writer, v any) error {
	c, ok := w.(*call)
	if !ok {
		return fmt.Errorf("restserver: %T is not a call", w)
	}
	return c.writeJSON(v)
}

// BodyWriter returns the writer that huma passes to encodeAnswer.
func (c *call) BodyWriter() io.Writer { return c }

// SetStatus stores the status of the answer until its header leaves.
func (c *call) SetStatus(status int) { c.status = status }

// Status returns the status of the answer.
func (c *call) Status() int { return c.status }

// Write writes a part of the answer.
func (c *call) Write(b []byte) (int, error) {
	c.writeHeader()
	return c.w.Write(b)
}

// writeHeader sends the header of the answer, once.
func (c *call) writeHeader() {
	if c.written || c.status == 0 {
		return
	}
	c.written = true
	if c.status == http.StatusNotModified || c.status == http.StatusNoContent {
		// huma sets the type before it knows that the body is absent.
		c.w.Header().Del("Content-Type")
	}
	c.w.WriteHeader(c.status)
}

// writeJSON writes v as the whole answer. It fails only if v cannot be encoded; c.lost records a client that has
// disconnected.
func (c *call) writeJSON(v any) error {
	buf, _ := buffers.Get().(*[]byte)
	b, err := restapi.Append((*buf)[:0], v)
	if err != nil {
		return err
	}
	b = append(b, '\n')

	if len(b) >= compressFrom && c.r.Header.Get("Accept-Encoding") != "" {
		c.gzip(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			// The recorder keeps the error.
			_, _ = w.Write(b)
		}))(c.w, c.r)
		c.written = true
	} else {
		if c.flushed && len(b) < chunkFrom {
			// net/http would send it in chunks otherwise.
			c.w.Header()["Content-Length"] = []string{strconv.Itoa(len(b))}
		}
		_, c.lost = c.Write(b)
	}
	if w, ok := c.w.(*recorder); ok && c.lost == nil {
		c.lost = w.err
	}

	// The pool would keep the memory of the largest answers.
	if cap(b) <= maxPooledBytes {
		*buf = b
		buffers.Put(buf)
	}
	return nil
}

// replyJSON writes v with status 200, for an operation that writes its own answer.
func (c *call) replyJSON(v any) {
	c.w.Header()["Content-Type"] = mediaJSON
	c.SetStatus(http.StatusOK)
	if err := c.writeJSON(v); err != nil {
		c.replyFailure(err)
	}
}

// failure is a problem as huma sends it.
type failure restapi.Problem

// Error returns the detail.
func (f *failure) Error() string { return f.Detail }

// GetStatus returns the HTTP status.
func (f *failure) GetStatus() int { return f.Status }

// ContentType returns the media type of problems.
func (*failure) ContentType(string) string { return restapi.MediaProblem }

// failureOf returns err as a problem of this request. It logs defects of the server.
func (c *call) failureOf(err error) *failure {
	if ended := c.requestContext().Err(); ended != nil && errors.Is(err, ended) {
		// Only the log shows it.
		err = &queue.Error{Kind: queue.KindCanceled, Err: err}
	}
	p := restapi.ProblemOf(err)
	p.RequestID = c.w.Header().Get(restapi.HeaderRequestID)
	if refusal, ok := errors.AsType[input.Refusal](err); ok {
		p.Status = refusal.Status
	}

	switch queue.Kind(p.Code) {
	case queue.KindUnavailable, queue.KindExhausted:
		// Clients that know no other delay would repeat at once, and add to the load.
		if c.w.Header().Get("Retry-After") == "" {
			c.w.Header().Set("Retry-After", "1")
		}
	case queue.KindInternal:
		c.cfg.Logger.ErrorContext(c.requestContext(), "request failed",
			"method", c.r.Method, "path", access.HideSecrets(c.r.URL.Path), "request_id", p.RequestID, "error", err)
	}
	return (*failure)(&p)
}

// replyFailure answers with err as a problem.
func (c *call) replyFailure(err error) {
	f := c.failureOf(err)
	c.w.Header()["Content-Type"] = mediaProblem
	c.SetStatus(f.Status)
	// A problem always encodes.
	_ = c.writeJSON(f)
}

// translateErrors is a huma.Transformer that turns huma's own errors, those of parameters, into problems.
func translateErrors(ctx huma.Context, _ string, v any) (any, error) {
	c, isCall := ctx.(*call)
	model, isModel := v.(*huma.ErrorModel)
	if !isCall || !isModel {
		return v, nil
	}
	field, msg := "", model.Detail
	if len(model.Errors) > 0 {
		_, field, _ = strings.Cut(model.Errors[0].Location, ".")
		msg = strings.TrimPrefix(model.Errors[0].Message, "invalid value: ")
	}
	return c.failureOf(queue.Invalid(field, msg)), nil
}

// failOutside answers a request that matches no operation.
func (s *Server) failOutside(w http.ResponseWriter, r *http.Request, err error) {
	(&call{Server: s, w: w, r: r}).replyFailure(err)
}
