package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
)

// probeAge is the time for which an answer of /readyz is reused, and probeTimeout bounds its check.
const (
	probeAge     = time.Second
	probeTimeout = 2 * time.Second
)

// probes serves /livez, /readyz and /metrics.
type probes struct {
	svc      queue.Scoped
	resting  func() []worker.PausedQueue
	draining *atomic.Bool

	mu    sync.Mutex
	asked time.Time
	last  error
}

// reportReadiness reports why the worker cannot work now, or nil.
func (p *probes) reportReadiness(ctx context.Context) error {
	if p.draining.Load() {
		return errors.New("the worker must not be draining, got a stop signal; start it anew")
	}

	for _, r := range p.resting() {
		if r.Own {
			return fmt.Errorf("tasks of queue %s cannot be started here: %w", r.Queue, r.Err)
		}
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.asked) < probeAge {
		return p.last
	}

	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, p.last = p.svc.ListNamespaces(ctx)
	p.asked = time.Now()
	return p.last
}

func (p *probes) handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answerProbe(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { answerProbe(w, p.reportReadiness(r.Context())) })
	mux.Handle("GET /metrics", metrics)
	return mux
}

func answerProbe(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(err.Error() + "\n"))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// refuseProbe answers a request that the checks of the port refuse.
func refuseProbe(w http.ResponseWriter, _ *http.Request, status int, reason *queue.Error) {
	http.Error(w, reason.Error(), status)
}

// serveProbes serves h at addr until the returned function is called; "" serves nothing. Allowed hosts are localhost, the host of addr and
// hosts.
func serveProbes(ctx context.Context, addr string, hosts []string, h http.Handler, log *slog.Logger) (func(), error) {
	if addr == "" {
		return func() {}, nil
	}

	checks, err := program.PortChecks(addr, httpaccess.Config{Hosts: hosts, Refuse: refuseProbe})
	if err != nil {
		return nil, usageError{err}
	}

	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}

	s := program.NewPortServer(checks.Wrap(h), 30*time.Second, log, slog.LevelWarn)
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.ErrorContext(ctx, "metrics are no longer served", "err", err)
		}
	})

	log.InfoContext(ctx, "serving /livez, /readyz and /metrics", "addr", l.Addr().String())
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			_ = s.Close()
		}
		served.Wait()
	}, nil
}
