package restserver

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// serveProbe answers "ok", or 503 with the error of check.
func (s *Server) serveProbe(check func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if check != nil {
			if err := check(r.Context()); err != nil {
				s.cfg.Logger.WarnContext(r.Context(), "probe failed", "path", r.URL.Path, "error", err)
				s.failOutside(w, r, &queue.Error{Kind: queue.KindUnavailable, Msg: err.Error()})
				return
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok\n")
	}
}

func serveMetrics(c *call, _ *struct{}) (*huma.StreamResponse, error) {
	if c.cfg.Metrics == nil {
		return nil, &queue.Error{Kind: queue.KindNotFound, Msg: "this server keeps no metrics; start it with metrics"}
	}
	return streamOutput(func() { c.cfg.Metrics.ServeHTTP(c.w, c.r) }), nil
}

// authorize decides about a route that calls no operation of the service.
func (c *call) authorize(action queue.Action, namespace string) error {
	if c.cfg.Authorize == nil {
		return nil
	}
	return c.cfg.Authorize(c.requestContext(), action, namespace)
}
