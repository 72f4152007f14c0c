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
	"syscall"
	"time"

	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// Server is a server that Start started. Its methods are safe for concurrent use.
type Server struct {
	cfg     Config
	log     *slog.Logger
	ln      net.Listener
	tel     *telemetry.Telemetry
	health  *telemetry.Health
	manager *manager.Manager
	service queue.Service // the manager, observed
	checks  *httpaccess.Checks
	http    *http.Server
	root    atomic.Pointer[http.Handler] // what http answers with
	ready   atomic.Bool

	// stops are the steps of Stop, in their order.
	stops []step

	done     chan struct{} // closed when the server cannot go on, or has stopped
	finished sync.Once
	err      error // why it could not go on; written before done is closed

	stopOnce sync.Once
	stopErr  error
}

// step is one thing that Stop does. It is done whatever became of those before it.
type step struct {
	name string
	do   func(context.Context) error
}

// Start starts a server and returns when it is ready. ctx bounds the start alone; afterwards the server runs until
// Stop. Errors are one line each and of these kinds: KindInvalid for a field of cfg, KindUnavailable when the database
// does not answer, KindConflict when port or data folder are in use, KindDenied when the database's role may not do what
// is needed. After an error nothing runs.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg, err = cfg.filled()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, done: make(chan struct{})}
	s.checks, err = newChecks(cfg, func(reason string) { s.tel.HTTPRefused(reason) })
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.StopTimeout)
			defer cancel()
			_ = s.takeApart(ctx)
		}
	}()
	// Telemetry precedes the port, because the checks of the port count what they refuse.
	if err := s.startTelemetry(ctx); err != nil {
		return nil, err
	}

	// The port precedes the database: a second server by mistake must not start, or migrate, anything. Requests that
	// arrive before the rest is there are answered that the server is starting.
	if err := s.listen(ctx); err != nil {
		return nil, err
	}
	s.serve()
	if err := s.assemble(ctx); err != nil {
		return nil, err
	}
	s.ready.Store(true)
	s.log.InfoContext(ctx, "ready", "url", s.URL(), "namespace", cfg.Namespace, "version", cfg.Version,
		"took", time.Since(begin).Round(time.Millisecond))
	return s, nil
}

func (s *Server) listen(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &queue.Error{
			Op: "listen", Kind: queue.KindConflict, Subject: s.cfg.Addr,
			Msg: "the port is in use; stop what uses it, or choose another with --addr",
		}
	}
	if err != nil {
		return &queue.Error{Op: "listen", Kind: queue.KindInvalid, Subject: s.cfg.Addr, Msg: "cannot listen there", Err: err}
	}
	s.ln = ln
	return nil
}

// serve answers on the port, at first that the server is starting.
func (s *Server) serve() {
	s.answer(http.HandlerFunc(starting))
	root := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.root.Load()).ServeHTTP(w, r) })
	s.http = restserver.NewHTTPServer(s.checks.Wrap(root), restserver.Timeouts{Idle: s.cfg.IdleTimeout})
	s.http.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("serving ended: %w", err))
		}
	})
	s.first("close the port", func(context.Context) error {
		err := s.http.Close()
		serving.Wait()
		return err
	})
}

// answer makes h what the port answers with from now on.
func (s *Server) answer(h http.Handler) { s.root.Store(&h) }

// first puts a step in front of the others: what was started last stops first.
func (s *Server) first(name string, do func(context.Context) error) {
	s.stops = append([]step{{name, do}}, s.stops...)
}

// assemble puts the server together, from the bottom to the top. Stop takes it apart the other way round.
func (s *Server) assemble(ctx context.Context) error {
	store, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	if store, err = s.observe(store); err != nil {
		return err
	}
	s.manager, err = manager.New(store, manager.WithNamespace(s.cfg.Namespace), manager.WithLogger(s.log),
		manager.WithMaxPayloadBytes(s.cfg.MaxPayloadBytes), manager.WithBackgroundWork(!s.cfg.NoBackground))
	if err != nil {
		return err
	}
	var work sync.WaitGroup
	work.Go(func() {
		if err := s.manager.Run(context.WithoutCancel(ctx)); err != nil {
			s.fail(fmt.Errorf("background work ended: %w", err))
		}
	})
	s.first("close the manager", func(ctx context.Context) error {
		err := s.manager.Close(ctx)
		work.Wait()
		return err
	})
	s.service = s.tel.Service(s.manager)
	if err := s.watchHealth(); err != nil {
		return err
	}
	handler, err := s.handler()
	if err != nil {
		return err
	}
	s.answer(s.tel.HTTP(handler.mux))
	s.first("finish requests", func(ctx context.Context) error {
		err := s.http.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, s.http.Close())
		}
		return err
	})
	s.first("end streams", handler.drain)
	s.first("turn readiness off", func(ctx context.Context) error {
		s.ready.Store(false)
		s.health.Drain()
		return pause(ctx, s.cfg.DrainDelay)
	})
	return nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Addr is the address the server listens on.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// URL is where the server is reached from this machine, without a prefix.
func (s *Server) URL() string {
	host, _, _ := net.SplitHostPort(s.cfg.Addr)
	_, port, _ := net.SplitHostPort(s.ln.Addr().String())
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Service is what the server serves, for the process that it runs in.
func (s *Server) Service() queue.Service { return s.service }

// Done is closed when the server cannot go on by itself, or has stopped; Err tells which. Stop is needed in any case.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server cannot go on; nil while it runs and when it ended by Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

func (s *Server) fail(err error) {
	s.finished.Do(func() {
		s.err = err
		close(s.done)
	})
}

// Stop stops the server in this order: readiness off, streams told, requests under way finished, manager closed, store
// closed, embedded PostgreSQL stopped. When ctx ends first it goes on to the next step at once; nothing acknowledged is
// lost. It returns what went wrong. Later calls wait for the first and return the same.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		begin := time.Now()
		s.log.InfoContext(ctx, "stopping")
		s.stopErr = s.takeApart(ctx)
		s.fail(nil)
		s.log.InfoContext(ctx, "stopped", "took", time.Since(begin).Round(time.Millisecond))
	})
	return s.stopErr
}

func (s *Server) takeApart(ctx context.Context) error {
	var errs []error
	for _, st := range s.stops {
		s.log.DebugContext(ctx, "stopping", "step", st.name)
		if err := st.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", st.name, err))
		}
	}
	return errors.Join(errs...)
}

// Ready reports whether the server can answer: not stopping, the database reachable, with a schema it works with.
func (s *Server) Ready(ctx context.Context) error {
	if !s.ready.Load() {
		return errors.New("the server is starting or stopping")
	}
	return s.health.Ready(ctx)
}
