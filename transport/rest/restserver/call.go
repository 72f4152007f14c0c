package restserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// call is one request on its way through a handler.
type call struct {
	*Server
	w   http.ResponseWriter
	r   *http.Request
	svc queue.Service // bound to the request's namespace
	// values are the query's, which the route takes.
	values map[string][]string
	// lost is why the answer, or a part of it, could not be written.
	lost error
	// flushed: the answer is flushed before its handler returns.
	flushed bool
}

func (c *call) ctx() context.Context { return c.r.Context() }

// bind finds the request's namespace.
func (c *call) bind() error {
	c.svc = c.cfg.Service
	name := ""
	if v := c.values["namespace"]; len(v) > 0 {
		name = v[0]
	}
	if h := c.r.Header[restapi.HeaderNamespace]; len(h) > 0 {
		switch {
		case len(h) > 1 || name != "" && name != h[0]:
			return queue.Invalid("namespace", "give one, by the header "+restapi.HeaderNamespace+" or by ?namespace=")
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

func namespaceOf(r *http.Request) string {
	if h := r.Header[restapi.HeaderNamespace]; len(h) > 0 {
		return h[0]
	}
	if r.URL.RawQuery != "" && strings.Contains(r.URL.RawQuery, "namespace=") {
		return r.URL.Query().Get("namespace")
	}
	return ""
}

// id is the task id of the path.
func (c *call) id() (int64, error) {
	s := c.r.PathValue("id")
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil || id <= 0 {
		return 0, queue.Invalid("id", "a task id above 0 is needed")
	}
	return id, nil
}

// ifMatch is the version of an If-Match header, 0 when there is none.
func (c *call) ifMatch() (int64, error) {
	tag := strings.TrimSpace(c.r.Header.Get("If-Match"))
	if tag == "" || tag == "*" {
		return 0, nil
	}
	v, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
	if err != nil || v <= 0 || len(tag) < 3 || tag[0] != '"' {
		return 0, &queue.Error{Kind: queue.KindPrecondition, Field: "If-Match", Msg: "this is no ETag of ours; get it again"}
	}
	return v, nil
}

// etag announces a version; it answers whether the client has it already.
func (c *call) etag(version int64) bool {
	tag := `"` + strconv.FormatInt(version, 10) + `"`
	c.w.Header().Set("ETag", tag)
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return false
	}
	for have := range strings.SplitSeq(c.r.Header.Get("If-None-Match"), ",") {
		if have = strings.TrimPrefix(strings.TrimSpace(have), "W/"); have == tag || have == "*" {
			c.w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// bodies are reused: whatever outlives the decoding copies.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const (
	keepBody = 64 << 10 // larger buffers are not kept
	drain    = 8 << 20  // what is read of a body beyond its limit
)

// body reads the request's body within the limits and hands it to use; it is gone when use returns. media is its type.
func (c *call) body(limit int64, use func(media string, body []byte) error) error {
	media, err := c.media()
	if err != nil {
		return err
	}
	buf, _ := bodies.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= keepBody {
			buf.Reset()
			bodies.Put(buf)
		}
	}()
	if n := c.r.ContentLength; n > 0 {
		buf.Grow(int(min(n+bytes.MinRead, keepBody))) // what is larger must arrive before it costs memory
	}
	if c.r.ContentLength != 0 {
		ctl := http.NewResponseController(c.w)
		if err := c.receive(ctl, buf, limit+1); err != nil {
			return bodyFault(err)
		}
		if int64(buf.Len()) > limit {
			// Somewhat too much is read to its end: a client that still sends does not see the answer.
			_ = c.receive(ctl, io.Discard, drain)
			return tooLarge(limit)
		}
		// A deadline left behind would look like a client that went away.
		_ = ctl.SetReadDeadline(time.Time{})
	}
	return use(media, bytes.TrimSpace(buf.Bytes()))
}

// receive copies at most n bytes of the request's body. Each paceBytes of it, and the last ones, must arrive within the
// timeout of bodies; the answer has its time from then on.
func (c *call) receive(ctl *http.ResponseController, to io.Writer, n int64) error {
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
	}
	return nil
}

func bodyFault(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refusal{queue.Invalid("body", "it took too long to arrive"), http.StatusRequestTimeout}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return refusal{queue.Invalid("body", "it ended too early"), http.StatusBadRequest}
	}
	return refusal{queue.Invalid("body", "it could not be read"), http.StatusBadRequest}
}

func tooLarge(limit int64) error {
	return &queue.Error{Kind: queue.KindTooLarge, Field: "body", Msg: "at most " + strconv.FormatInt(limit, 10) + " bytes"}
}

// refusal is an error of HTTP alone: it has a status of its own instead of its kind's.
type refusal struct {
	cause  *queue.Error
	status int
}

func (r refusal) Error() string { return r.cause.Error() }

func (r refusal) Unwrap() error { return r.cause }

// media is the request's media type. A body must say its type: one without is what a form of any web page can send.
func (c *call) media() (string, error) {
	if e := c.r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		c.w.Header().Set("Accept-Encoding", "identity")
		return "", refusal{queue.Invalid("Content-Encoding", "must be identity; send the body without compression"), http.StatusUnsupportedMediaType}
	}
	ct := c.r.Header.Get("Content-Type")
	if ct == restapi.MediaJSON || ct == restapi.MediaExactJSON {
		return ct, nil
	}
	media, params, err := mime.ParseMediaType(ct)
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
	return "", refusal{queue.Invalid("Content-Type", "send "+restapi.MediaJSON+" in UTF-8"), http.StatusUnsupportedMediaType}
}

// decode reads a required JSON body.
func decode[T any](c *call) (T, error) { return decodeBody[T](c, true) }

// input reads a JSON body as what it is in the domain.
func input[In interface{ Domain() (Out, error) }, Out any](c *call) (out Out, err error) {
	in, err := decode[In](c)
	if err != nil {
		return out, err
	}
	return in.Domain()
}

// decodeOptional reads a JSON body that may be missing.
func decodeOptional[T any](c *call) (T, error) { return decodeBody[T](c, false) }

func decodeBody[T any](c *call, required bool) (v T, err error) {
	err = c.body(c.cfg.MaxBodyBytes, func(media string, body []byte) error {
		switch {
		case media == restapi.MediaNDJSON:
			return refusal{queue.Invalid("Content-Type", "send "+restapi.MediaJSON), http.StatusUnsupportedMediaType}
		case len(body) > 0:
			err := restapi.Decode(body, &v)
			dropNulls(media, &v)
			return err
		case required:
			return queue.Invalid("body", "a JSON body is needed")
		}
		return nil
	})
	return v, err
}

// decodeMany reads a JSON array, or NDJSON, of objects called name.
func decodeMany[T any](c *call, name string) (v []T, err error) {
	err = c.body(c.cfg.MaxBatchBytes, func(media string, body []byte) (err error) {
		if media == restapi.MediaNDJSON {
			v, err = restapi.DecodeLines[T](body, name)
		} else {
			v, err = restapi.DecodeMany[T](body, name)
		}
		for i := range v {
			dropNulls(media, &v[i])
		}
		return err
	})
	return v, err
}

func dropNulls(media string, v any) {
	if d, ok := v.(restapi.NullDropper); ok && media != restapi.MediaExactJSON {
		d.DropNulls()
	}
}

// Answers are built in one buffer and written at once.
var answers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

var (
	mediaJSON    = []string{restapi.MediaJSON}
	mediaProblem = []string{restapi.MediaProblem}
)

const (
	// compressFrom is the size from which an answer is worth compressing.
	compressFrom = 1400
	// chunkFrom is the size from which net/http sends an answer in chunks by itself.
	chunkFrom = 2048
)

// reply answers with v as JSON.
func (c *call) reply(status int, v any) error {
	return c.write(status, mediaJSON, v)
}

func (c *call) write(status int, media []string, v any) error {
	buf, _ := answers.Get().(*[]byte)
	b, err := restapi.Append((*buf)[:0], v)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	c.w.Header()["Content-Type"] = media
	if len(b) >= compressFrom && c.r.Header.Get("Accept-Encoding") != "" {
		c.gzip(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write(b) // the recorder has the error
		}))(c.w, c.r)
	} else {
		if c.flushed && len(b) < chunkFrom { // else net/http would send it in chunks
			c.w.Header()["Content-Length"] = []string{strconv.Itoa(len(b))}
		}
		c.w.WriteHeader(status)
		_, c.lost = c.w.Write(b)
	}
	if w, ok := c.w.(*recorder); ok && c.lost == nil { // a client that went away is no error of ours
		c.lost = w.err
	}
	if cap(b) <= keepBody {
		*buf = b
		answers.Put(buf)
	}
	return nil
}

// fail answers with err as a problem.
func (c *call) fail(err error) {
	if gone := c.ctx().Err(); gone != nil && errors.Is(err, gone) {
		err = &queue.Error{Kind: queue.KindCanceled, Err: err} // for the log alone
	}
	p := restapi.ProblemOf(err)
	p.RequestID = c.w.Header().Get(restapi.HeaderRequestID)
	if r, ok := errors.AsType[refusal](err); ok {
		p.Status = r.status
	}
	if p.Code == string(queue.KindUnavailable) {
		c.w.Header().Set("Retry-After", "1")
	}
	if p.Code == string(queue.KindInternal) {
		c.cfg.Logger.ErrorContext(c.ctx(), "request failed", "method", c.r.Method, "path", c.r.URL.Path, "request_id", p.RequestID, "error", err)
	}
	_ = c.write(p.Status, mediaProblem, p) // a problem always marshals
}

// linger prepares a request that may wait: no deadline cuts it short, and it ends when the server shuts down. The
// caller must call done.
func (c *call) linger(wait time.Duration) (ctx context.Context, done func()) {
	ctl := http.NewResponseController(c.w)
	_ = ctl.SetReadDeadline(time.Time{})
	_ = ctl.SetWriteDeadline(time.Now().Add(wait + c.cfg.Timeouts.Write))
	ctx, cancel := context.WithCancelCause(c.ctx())
	stop := context.AfterFunc(c.Server.ctx, func() { cancel(context.Cause(c.Server.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

// ended replaces an error that only says that ctx ended by why it ended.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		if e, ok := errors.AsType[*queue.Error](context.Cause(ctx)); ok {
			return e
		}
	}
	return err
}

// query is a request's query, read with the first fault kept.
type query struct {
	values map[string][]string
	err    error
}

func (c *call) query() *query { return &query{values: c.values} }

func (q *query) refuse(err error) {
	if q.err == nil {
		q.err = err
	}
}

func (q *query) has(name string) bool { return q.text(name) != "" }

func (q *query) text(name string) string {
	if v := q.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// list takes repeats and commas.
func (q *query) list(name string) []string {
	var out []string
	for _, v := range q.values[name] {
		for s := range strings.SplitSeq(v, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

func (q *query) int(name string) int {
	s := q.text(name)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		q.refuse(queue.Invalid(name, "a number is needed"))
	}
	return n
}

func (q *query) flag(name string) bool {
	s := q.text(name)
	if s == "" {
		return false
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		q.refuse(queue.Invalid(name, "true or false is needed"))
	}
	return v
}

func (q *query) duration(name string) time.Duration {
	s := q.text(name)
	if s == "" {
		return 0
	}
	d, err := restapi.ParseDuration(name, s)
	if err != nil {
		q.refuse(err)
	}
	return d
}

func (q *query) time(name string) time.Time {
	s := q.text(name)
	if s == "" {
		return time.Time{}
	}
	t, err := restapi.ParseTime(name, s)
	if err != nil {
		q.refuse(err)
	}
	return t
}

// page reads offset and limit; a limit that is given is at least 1.
func (q *query) page() queue.Page {
	p := queue.Page{Offset: q.int("offset"), Limit: q.int("limit"), Cursor: q.text("cursor")}
	if q.has("limit") && p.Limit == 0 {
		q.refuse(queue.Invalid("limit", "a number from 1 to "+strconv.Itoa(queue.MaxPage)+" is needed"))
	}
	return p
}

func statuses(names []string) []queue.Status {
	out := make([]queue.Status, len(names))
	for i, n := range names {
		out[i] = queue.Status(n)
	}
	return out
}

// accepts says whether the client asks for media by name.
func (c *call) accepts(media string) bool {
	return slices.ContainsFunc(c.r.Header.Values("Accept"), func(h string) bool { return strings.Contains(strings.ToLower(h), media) })
}
