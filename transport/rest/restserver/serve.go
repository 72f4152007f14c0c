package restserver

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// recorder records the answer of a request.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	err    error // the error of the first failed write

	timeout time.Duration // for each paceBytes of the answer
	paced   int           // bytes since the write deadline moved
}

// paceBytes is the part of a body or an answer that must move within one timeout. A transfer at this pace may take
// any time in total; a transfer below it is cut.
const paceBytes = 64 << 10

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	written := 0
	for {
		piece := b[written:min(len(b), written+paceBytes)]
		if w.paced += len(piece); w.paced >= paceBytes {
			// Earlier pieces have left or are in a buffer of the system.
			w.paced = 0
			_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout))
		}

		n, err := w.ResponseWriter.Write(piece)
		written += n
		w.bytes += int64(n)
		w.keepError(err)
		if err != nil || written == len(b) {
			return written, err
		}
	}
}

func (w *recorder) keepError(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Unwrap gives http.ResponseController access to the writer below.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// FlushError implements flushing for http.ResponseController: a delivery must learn of a failed flush.
func (w *recorder) FlushError() error {
	err := http.NewResponseController(w.ResponseWriter).Flush()
	if !errors.Is(err, errors.ErrUnsupported) {
		w.keepError(err)
	}
	return err
}

// Flush implements http.Flusher for callers without http.ResponseController.
func (w *recorder) Flush() { _ = w.FlushError() }

// slowAnswer is the duration from which the last bytes of an answer are flushed before its log line. The shortest
// deadline of a connection is longer, so a deadline cannot have cut a faster answer.
const slowAnswer = time.Second

// wasAborted reports whether the client has not received the whole answer: a write failed, or the client disconnected
// before the end. A stream ends by the disconnect of its client. An answer of a known length may be complete before
// it.
func (w *recorder) wasAborted(r *http.Request, took time.Duration) bool {
	if w.err == nil && took >= slowAnswer {
		_ = w.FlushError()
	}
	h := w.Header()
	left := r.Context().Err() != nil && h.Get("Content-Length") == "" && h.Get("Content-Type") != restapi.MediaEventStream
	return w.err != nil || left
}

// serveRequest wraps every route: request id, shutdown, panics and access log.
func (s *Server) serveRequest(rw http.ResponseWriter, r *http.Request) {
	start := time.Now()
	w := &recorder{ResponseWriter: rw, timeout: s.cfg.Timeouts.Write}
	w.Header()[restapi.HeaderRequestID] = []string{requestID(r)}
	// An http.Server without a write timeout gets the deadlines of this server.
	if srv, _ := r.Context().Value(http.ServerContextKey).(*http.Server); srv == nil || srv.WriteTimeout == 0 {
		_ = http.NewResponseController(rw).SetWriteDeadline(start.Add(s.cfg.Timeouts.Body + s.cfg.Timeouts.Write))
	}

	defer func() {
		if p := recover(); p != nil {
			s.answerPanic(w, r, p)
		}

		// The access log comes last, so that it has the final status.
		if s.cfg.Access != nil {
			took := time.Since(start)
			s.cfg.Access(r.Context(), Access{
				Method: r.Method, Path: r.URL.Path, Route: r.Pattern, Namespace: namespaceOf(r), Aborted: w.wasAborted(r, took), Status: w.status,
				Bytes: w.bytes, Duration: took, RequestID: w.Header().Get(restapi.HeaderRequestID), Remote: r.RemoteAddr,
			})
		}
	}()

	if !s.beginRequest() {
		if r.URL.Path == "/livez" {
			// A server that finishes its requests is alive.
			s.mux.ServeHTTP(w, r)
			return
		}

		// The client must not send its next request to a server that stops.
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}

		s.failOutside(w, r, errShutdown())
		return
	}
	defer s.endRequest()

	s.mux.ServeHTTP(w, r)
}

func (s *Server) answerPanic(w *recorder, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.cfg.Logger.ErrorContext(r.Context(), "request panicked", "method", r.Method, "path", access.HideSecrets(r.URL.Path), "panic", p, "stack", string(debug.Stack()))
	if w.status != 0 {
		// Half an answer must not look like a whole one.
		panic(http.ErrAbortHandler)
	}
	s.failOutside(w, r, &queue.Error{Kind: queue.KindInternal, Err: fmt.Errorf("panic: %v", p)})
}

// requestID returns the id that the checks in front of this server gave r, or else that of the client or a new one.
func requestID(r *http.Request) string {
	if id := access.CallerFrom(r.Context()).RequestID; id != "" {
		return id
	}
	return access.RequestID(r.Header.Get(restapi.HeaderRequestID))
}

// serveUnmatched answers a request without a matching route. It names the methods that would match.
func (s *Server) serveUnmatched(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if _, pattern := s.mux.Handler(&http.Request{Method: m, URL: r.URL, Host: r.Host}); pattern != "" && pattern != "/" {
			allowed = append(allowed, m)
		}
	}

	if len(allowed) == 0 {
		s.failOutside(w, r, &queue.Error{Kind: queue.KindNotFound, Subject: restapi.SubjectRoute, Msg: "no such route; see /docs"})
		return
	}

	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}

	w.Header().Set("Allow", strings.Join(allowed, ", "))
	s.failOutside(w, r, input.Refusal{
		Cause:  queue.Invalid("method", "must be one of "+strings.Join(allowed, ", ")+", got "+restapi.Quote(r.Method)),
		Status: http.StatusMethodNotAllowed,
	})
}
