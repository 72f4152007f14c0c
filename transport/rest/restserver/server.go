package restserver

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/klauspost/compress/gzhttp"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Server is the REST interface as an http.Handler. Put it behind NewHTTPServer, or any other http.Server.
type Server struct {
	cfg     Config
	mux     *http.ServeMux
	api     huma.API
	handler http.Handler
	gzip    func(http.Handler) http.HandlerFunc
	acks    acks

	// ctx ends when the server shuts down; streams and long polls end with it.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	open   int           // requests under way
	closed bool          // no more are taken
	idle   chan struct{} // closed when closed and open == 0
}

var _ http.Handler = (*Server)(nil)

// New makes a Server. It starts nothing: goroutines are those of its requests.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux(), idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	// Only large answers are compressed, see call.writeJSON: the ones of the hot path are smaller than a packet.
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

// Shutdown refuses new requests, ends streams and long polls, and waits until the last request is answered or ctx ends;
// then it returns ctx's error. Call it before http.Server.Shutdown. It may be called more than once.
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

// Open is how many requests are under way, streams and long polls among them.
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

// NewHTTPServer is an http.Server for h with the timeouts of t, and with HTTP/2 also without TLS. Long polls, streams,
// and bodies and answers that move outlive the timeouts: they move their own deadlines.
func NewHTTPServer(h http.Handler, t Timeouts) *http.Server {
	t = t.withDefaults()
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: &p, ReadHeaderTimeout: t.Header, WriteTimeout: t.Body + t.Write, IdleTimeout: t.Idle,
		MaxHeaderBytes: 64 << 10, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10_000, SendPingTimeout: time.Minute},
	}
}
