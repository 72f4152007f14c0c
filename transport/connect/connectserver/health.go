package connectserver

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/grpchealth"
)

const (
	healthTimeout = 5 * time.Second
	// healthPoll is the interval at which a watch checks the health.
	healthPoll = 5 * time.Second
)

// health reports the health of the process. All services have the same health.
type health struct {
	s     *Server
	known *grpchealth.StaticChecker // the names of the services
}

// Check implements grpchealth.Checker.
func (h *health) Check(ctx context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if _, err := h.known.Check(ctx, req); err != nil {
		// The request names an unknown service.
		return nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	select {
	case <-h.s.draining:
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	default:
	}
	if h.s.ready != nil && h.s.ready(ctx) != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// Watch implements grpchealth.Watcher by a check every healthPoll and at the start of Drain.
func (h *health) Watch(_ context.Context, _ *grpchealth.CheckRequest, onChange func()) (func(), error) {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		tick := time.NewTicker(healthPoll)
		defer tick.Stop()
		draining := h.s.draining
		for {
			select {
			case <-ctx.Done():
				return
			case <-draining:
				draining = nil
			case <-tick.C:
			}

			onChange()
		}
	}()

	return stop, nil
}

// untilDrained ends the watches of next when the server is drained. A check continues: the end of its context would
// reach the caller as canceled (499) instead of NOT_SERVING.
func (s *Server) untilDrained(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/Watch") {
			next.ServeHTTP(w, r)
			return
		}

		ctx, cancel := context.WithCancelCause(r.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.watchShutdown(ctx, cancel) })
		next.ServeHTTP(w, r.WithContext(ctx))
		cancel(nil)
		wg.Wait()
	})
}
