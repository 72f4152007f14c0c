package restserver

import (
	"context"
	"io"
	"net/http"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// probe answers "ok", or 503 with what is wrong.
func (s *Server) probe(check func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if check != nil {
			if err := check(r.Context()); err != nil {
				s.cfg.Logger.WarnContext(r.Context(), "probe failed", "path", r.URL.Path, "error", err)
				(&call{Server: s, w: w, r: r}).fail(&queue.Error{Kind: queue.KindUnavailable, Msg: err.Error()})
				return
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok\n")
	}
}

func metrics(c *call) error {
	if c.cfg.Metrics == nil {
		return &queue.Error{Kind: queue.KindNotFound, Msg: "this server keeps no metrics"}
	}
	c.cfg.Metrics.ServeHTTP(c.w, c.r)
	return nil
}
