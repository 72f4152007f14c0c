package restserver

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/klauspost/compress/gzhttp"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Server is the REST interface as an http.Handler. Put it behind NewHTTPServer or any other http.Server. It is safe
// for concurrent use.
type Server struct {
	cfg     Config
	mux     *routeMux
	api     huma.API
	handler http.Handler
	gzip    func(http.Handler) http.HandlerFunc
	acks    acks

	examining chan struct{} // has an element while an examination of the store runs

	// ctx ends when the server shuts down, and ends streams and long polls.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	open   int           // running requests
	closed bool          // new requests are refused
	idle   chan struct{} // closed when closed is set and open is 0
}

var _ http.Handler = (*Server)(nil)

// New returns a Server. It starts no goroutine; only requests have goroutines.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, mux: &routeMux{ServeMux: http.NewServeMux()}, idle: make(chan struct{}), examining: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	// Only large answers are compressed, see call.writeJSON. Those of the hot path are smaller than a packet.
	if s.gzip, err = gzhttp.NewWrapper(gzhttp.MinSize(compressFrom)); err != nil {
		return nil, err
	}
	s.api = newHumaAPI(s)
	s.registerRoutes()
	s.handler = http.HandlerFunc(s.serveRequest)
	if cfg.Middleware != nil {
		s.handler = cfg.Middleware(s.handler)
	}
	return s, nil
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Patterns returns the patterns that the server handles, such as "GET /api/queue", so that access control can be compared
// with all of them.
func (s *Server) Patterns() []string { return slices.Clone(s.mux.patterns) }

// routeMux is a mux that knows its patterns.
type routeMux struct {
	*http.ServeMux

	patterns []string
}

// HandleFunc registers handle for pattern.
func (m *routeMux) HandleFunc(pattern string, handle func(http.ResponseWriter, *http.Request)) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.HandleFunc(pattern, handle)
}

// Shutdown refuses new requests and ends streams and long polls. It waits until the last request is answered, or
// until ctx ends; then it returns the error of ctx. Call it before http.Server.Shutdown. It may be called more than
// once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		if s.open == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	s.cancel(errShutdown())
	select {
	case <-s.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Open returns the number of running requests, streams and long polls included.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func errShutdown() *queue.Error {
	return &queue.Error{Kind: queue.KindUnavailable, Msg: "the server is shutting down; try again"}
}

func (s *Server) beginRequest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open++
	return true
}

func (s *Server) endRequest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open--; s.open == 0 && s.closed {
		close(s.idle)
	}
}

// NewHTTPServer returns an http.Server for h with the timeouts of t, and with HTTP/2 also over plain text. Long
// polls, streams and moving transfers outlast the timeouts, because they move their own deadlines.
func NewHTTPServer(h http.Handler, t Timeouts) *http.Server {
	t = t.withDefaults()
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: &p, ReadHeaderTimeout: t.Header, WriteTimeout: t.Body + t.Write, IdleTimeout: t.Idle,
		MaxHeaderBytes: 64 << 10, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10_000, SendPingTimeout: time.Minute},

		// "OPTIONS *" passes the checks of h too. The library would answer it by itself.
		DisableGeneralOptionsHandler: true,
	}
}
