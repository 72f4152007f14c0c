package run

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// handler is everything the port answers.
type handler struct {
	mux *http.ServeMux
	// drain ends streams and long polls, refuses new REST requests and waits for those under way.
	drain func(context.Context) error
}

// newChecks makes what looks at each request first. The host that the server was told to listen on is one of its names.
func newChecks(cfg Config) (*httpaccess.Checks, error) {
	hosts := cfg.AllowedHosts
	if host, _, err := net.SplitHostPort(cfg.Addr); err == nil && host != "" {
		hosts = append([]string{host}, hosts...)
	}
	return httpaccess.New(httpaccess.Config{
		Hosts: hosts, Origins: cfg.CORSOrigins, Refuse: answerError,
		// Documents that change nothing and hold nothing of any namespace.
		Pages: []string{"/", "/docs", "/docs/", "/openapi.json", "/openapi.yaml"},
	})
}

// handler puts REST under its prefix and Connect beside it.
func (s *Server) handler() (handler, error) {
	rest, err := restserver.New(restserver.Config{
		Service: s.service, Prefix: s.cfg.Prefix, Metrics: s.tel.Handler(), Ready: s.Ready,
		MaxBodyBytes: int64(s.cfg.MaxPayloadBytes) + 64<<10, Logger: s.log, Version: s.cfg.Version,
		Access: func(ctx context.Context, a restserver.Access) {
			s.log.LogAttrs(ctx, level(a.Path, s.cfg.Prefix, a.Status), "request", slog.String("method", a.Method), slog.String("path", a.Path),
				slog.Int("status", a.Status), slog.Int64("bytes", a.Bytes), slog.Duration("took", a.Duration.Round(time.Microsecond)),
				slog.String("namespace", a.Namespace), slog.String("remote", a.Remote), slog.String("request_id", a.RequestID))
		},
	})
	if err != nil {
		return handler{}, err
	}
	rpc, err := connectserver.New(s.service, connectserver.WithReadiness(s.Ready), connectserver.WithLogger(s.log))
	if err != nil {
		return handler{}, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", rest)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("verbose") {
			s.health.Readyz().ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
	logged := s.logged(rpc)
	for _, path := range rpc.Paths() {
		mux.Handle(path, logged)
	}
	return handler{mux: mux, drain: func(ctx context.Context) error {
		rpc.Drain()
		return rest.Shutdown(ctx)
	}}, nil
}

// level is that of a request's line: what probes ask for is of no interest, what we broke is.
func level(path, prefix string, status int) slog.Level {
	switch {
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable:
		return slog.LevelError
	case path == "/livez" || path == "/readyz" || path == prefix+"/metrics":
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// logged writes a line for each call of RPC. The status of gRPC is in its trailers, so only the duration tells here.
func (s *Server) logged(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		defer func() {
			s.log.LogAttrs(r.Context(), slog.LevelInfo, "call", slog.String("path", r.URL.Path), slog.String("proto", r.Proto),
				slog.String("type", r.Header.Get("Content-Type")), slog.Duration("took", time.Since(begin).Round(time.Microsecond)),
				slog.String("remote", r.RemoteAddr))
		}()
		h.ServeHTTP(w, r)
	})
}
