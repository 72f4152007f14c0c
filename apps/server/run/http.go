package run

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// handler answers all requests of the port.
type handler struct {
	mux *http.ServeMux
	// patterns are those of mux. The ones of REST are below "/".
	patterns []string
	// drain ends streams and long polls, refuses new REST requests and waits for running ones.
	drain func(context.Context) error
}

// newChecks returns the checks that precede every route.
func (s *Server) newChecks() (*httpaccess.Checks, error) {
	hosts, origins := s.cfg.AllowedHosts, s.cfg.CORSOrigins
	public, err := s.cfg.publicURL()
	if err != nil {
		return nil, err
	}
	if public != nil {
		// Browsers send the public name, also where a proxy keeps it.
		hosts = append(slices.Clone(hosts), public.Hostname())
		origins = append(slices.Clone(origins), public.Scheme+"://"+public.Host)
	}
	return program.PortChecks(s.cfg.Addr, httpaccess.Config{
		Hosts: hosts, Origins: origins, Refuse: s.refuse,
		Pages:    s.pages(),
		Consumes: restserver.IsTickStream,
	})
}

// refuse answers a request that no route may see. It counts the refusals by one of five wrong headers.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, reason *queue.Error) {
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "refused", slog.Int("status", status), slog.String("method", r.Method),
		slog.String("path", access.HideSecrets(r.URL.Path)), slog.String("reason", access.HideSecrets(reason.Error())), slog.String("remote", r.RemoteAddr), attrRequestID(r.Context()))
	s.tel.HTTPRefused(strings.ToLower(reason.Field))
	shown := *reason
	shown.Msg = access.HideSecrets(shown.Msg)
	answerError(w, r, status, &shown)
}

// handler returns REST below its prefix and Connect beside it.
func (s *Server) handler() (handler, error) {
	body, batch, message := messageLimits(s.cfg.MaxPayloadBytes)
	large, bodies := queue.NewBudget(queue.DefaultLargeBytes), queue.NewBodyBudget(queue.DefaultBodyBytes)
	rest, err := restserver.New(restserver.Config{
		Service: s.guarded, Authorize: s.audit.Require, Admin: s.control.admin,
		Sessions: s.control.sessions, Cookie: s.control.cookie, CountRefusal: s.control.countRefusal, Large: large, Bodies: bodies, Prefix: s.cfg.Prefix, Metrics: s.tel.Handler(), Ready: s.Ready, Diagnose: s.manager.Diagnose, Cells: s.manager.ListCells,
		MaxBodyBytes: body, MaxBatchBytes: batch, Logger: s.log, Version: s.cfg.Version,
		Access: func(ctx context.Context, a restserver.Access) {
			s.log.LogAttrs(ctx, requestLevel(a.Path, s.cfg.Prefix, a.Status), "request", append(answered(a.Status, a.Aborted),
				slog.String("method", a.Method), slog.String("path", access.HideSecrets(a.Path)),
				slog.Int64("bytes", a.Bytes), slog.Duration("took", a.Duration.Round(time.Microsecond)),
				slog.String("namespace", access.HideSecrets(a.Namespace)), slog.String("remote", a.Remote), slog.String("request_id", a.RequestID))...)
		},
	})
	if err != nil {
		return handler{}, err
	}

	// REST and Connect share one budget for large answers, and one for large bodies.
	rpc, err := connectserver.New(s.guarded, connectserver.WithReadiness(s.Ready), connectserver.WithLogger(s.log),
		connectserver.WithMaxMessageBytes(message), connectserver.WithLargeAnswers(large),
		connectserver.WithLargeBodies(bodies), connectserver.WithAdmin(s.control.admin))
	if err != nil {
		return handler{}, err
	}

	routes := map[string]http.Handler{"/": rest}
	s.addLogin(routes)
	if err := s.addDashboard(routes, rest); err != nil {
		return handler{}, err
	}
	// The verbose form lists each check; the plain form belongs to REST.
	routes["GET /readyz"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isVerbose(r) {
			if err := s.audit.Require(r.Context(), queue.ActionSystemRead, ""); err != nil {
				answerDomainError(w, r, err)
				return
			}
			s.health.Readyz().ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})

	// REST writes its own log lines.
	logged := s.logRequests(rpc)
	for _, path := range rpc.Paths() {
		routes[path] = logged
	}

	h := handler{mux: http.NewServeMux(), patterns: append(rest.Patterns(), slices.Sorted(maps.Keys(routes))...)}
	for pattern, route := range routes {
		h.mux.Handle(pattern, route)
	}
	h.drain = func(ctx context.Context) error {
		// The streams of Connect must end before the wait for REST requests.
		rpc.Drain()
		return rest.Shutdown(ctx)
	}
	return h, nil
}

// requestLevel returns the log level of a request: debug for the paths of probes, and error for faults of the server.
func requestLevel(path, prefix string, status int) slog.Level {
	switch {
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable:
		return slog.LevelError
	case path == "/livez" || path == "/readyz" || path == prefix+"/metrics":
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// answered returns the log attributes of an answer. An answer that did not arrive has status 499, as in nginx, beside
// its original status.
func answered(status int, aborted bool) []slog.Attr {
	if !aborted {
		return []slog.Attr{slog.Int("status", status)}
	}
	return []slog.Attr{slog.Int("status", 499), slog.Bool("aborted", true), slog.Int("answer", status)}
}

// messageLimits returns the limits of the body of a REST request, of a REST batch and of a Connect message for the
// largest payload. Each transport accepts at least one such task with its headers and key.
func messageLimits(payload int) (body, batch int64, message int) {
	// Headers (16 KiB), key, group and the frame of JSON, with room for escapes.
	const rest = 64 << 10
	body = int64(payload) + rest
	return body, max(body, restserver.DefaultMaxBatchBytes), min(max(payload+rest, connectserver.DefaultMaxMessageBytes), 1<<30)
}

// attrRequestID is the id of the request of ctx, which its answer and the audit have too.
func attrRequestID(ctx context.Context) slog.Attr {
	return slog.String("request_id", access.CallerFrom(ctx).RequestID)
}

// logRequests wraps h and writes a log line for each RPC call.
func (s *Server) logRequests(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			took := time.Since(begin)
			line := append(answered(rec.status, rec.aborted(r, took)), slog.String("path", access.HideSecrets(r.URL.Path)), slog.String("proto", r.Proto),
				slog.String("type", access.HideSecrets(r.Header.Get("Content-Type"))), slog.Int64("bytes", rec.bytes),
				slog.Duration("took", took.Round(time.Microsecond)), slog.String("remote", r.RemoteAddr),
				attrRequestID(r.Context()))
			if code := rec.grpcStatus(); code != "" {
				line = append(line, slog.String("grpc_status", code))
			}
			s.log.LogAttrs(r.Context(), slog.LevelInfo, "call", line...)
		}()
		h.ServeHTTP(rec, r)
	})
}

// slowCall is the duration from which the last bytes of an answer are flushed before its log line. The shortest
// deadline of a connection is longer, so a deadline cannot have cut a faster answer.
const slowCall = time.Second

// recorder records the answer of an RPC call.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	err    error // the error of the first failed write
}

func (w *recorder) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	w.recordFailure(err)
	return n, err
}

// FlushError implements flushing for http.ResponseController: the handler must learn of a failed flush.
func (w *recorder) FlushError() error {
	err := http.NewResponseController(w.ResponseWriter).Flush()
	if !errors.Is(err, errors.ErrUnsupported) {
		w.recordFailure(err)
	}
	return err
}

// Flush implements http.Flusher for the framework, which gets no error from it.
func (w *recorder) Flush() { _ = w.FlushError() }

// Unwrap gives http.ResponseController access to the writer below.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) recordFailure(err error) {
	if w.err == nil {
		w.err = err
	}
}

// aborted reports whether the caller has not received the answer: a write failed, or the caller disconnected before
// the end.
func (w *recorder) aborted(r *http.Request, took time.Duration) bool {
	if w.err == nil && took >= slowCall {
		_ = w.FlushError()
	}
	return w.err != nil || r.Context().Err() != nil
}

// grpcStatus returns the code of gRPC, which is a trailer, or a header in an answer without messages.
func (w *recorder) grpcStatus() string {
	if code := w.Header().Get(http.TrailerPrefix + "Grpc-Status"); code != "" {
		return code
	}
	return w.Header().Get("Grpc-Status")
}
