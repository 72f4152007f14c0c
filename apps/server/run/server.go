package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// Server is a running server, as Start returns it. Its methods are safe for concurrent use.
type Server struct {
	cfg     Config
	log     *slog.Logger
	ln      net.Listener
	tel     *telemetry.Telemetry
	health  *telemetry.Health
	manager *manager.Manager
	service queue.Service         // the manager with its observers
	guarded queue.Service         // service with a decision about access before each operation
	audit   *access.AuditRecorder // nil for a store without an audit
	control *accessControl
	files   settingFiles
	tls     *portTLS // nil = the port speaks plain HTTP
	proxies httpaccess.Proxies
	checks  *httpaccess.Checks
	http    *http.Server
	root    atomic.Pointer[http.Handler] // the present handler of http
	// publicRoutes returns listPublicRoutes, made at the first request.
	publicRoutes func() []publicRoute
	ready        atomic.Bool

	// stops holds the steps of Stop in order.
	stops []step

	done     chan struct{} // closed when the server has failed or stopped
	finished sync.Once
	err      error // the failure; written before done is closed

	stopOnce sync.Once
	stopErr  error
}

// step is one step of Stop. It runs even if an earlier step has failed.
type step struct {
	name string
	do   func(context.Context) error
}

// Start starts a server and returns when it is ready. ctx bounds only the start; afterwards the server runs until
// Stop. Errors take one line and have these kinds: KindInvalid for a field of cfg, KindUnavailable if the database
// does not answer, KindConflict if the port or the data folder is in use, KindDenied if the database role lacks a
// right. After an error no part of the server runs.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg, err = cfg.fillDefaults()
	if err != nil {
		return nil, err
	}

	s := &Server{cfg: cfg, log: cfg.Log, done: make(chan struct{}), files: settingFiles{log: cfg.Log}}
	s.publicRoutes = sync.OnceValue(s.listPublicRoutes)
	if s.checks, err = s.newChecks(); err != nil {
		return nil, err
	}
	if s.proxies, err = httpaccess.ParseProxies(cfg.TrustedProxies); err != nil {
		return nil, err
	}

	// After a failed start no part may keep running.
	begin := time.Now()
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.StopTimeout)
			defer cancel()
			_ = s.takeApart(ctx)
		}
	}()

	// Telemetry precedes the port, because the checks of the port count their refusals.
	if err := s.startTelemetry(ctx); err != nil {
		return nil, err
	}

	if cfg.ProfilesAddr != "" {
		stopProfiles, err := program.ServeProfiles(ctx, cfg.ProfilesAddr, s.log)
		if err != nil {
			return nil, err
		}
		s.prependStep("close the profiles", func(context.Context) error { stopProfiles(); return nil })
	}

	if err := s.startTLS(); err != nil {
		return nil, err
	}

	// The port precedes the database, so that a second server by mistake neither starts nor migrates a database.
	// Until the server is ready, requests get the answer that it is starting.
	if err := s.listenOnPort(ctx); err != nil {
		return nil, err
	}

	s.serveRequests()
	if err := s.checkAccess(); err != nil {
		return nil, err
	}
	if err := s.assemble(ctx); err != nil {
		return nil, err
	}

	s.ready.Store(true)
	s.log.InfoContext(ctx, "ready", "url", s.URL(), "namespace", cfg.Namespace, "version", cfg.Version,
		"took", time.Since(begin).Round(time.Millisecond))
	return s, nil
}

func (s *Server) listenOnPort(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &queue.Error{
			Op: "listen", Kind: queue.KindConflict, Subject: s.cfg.Addr,
			Msg: "the port is in use; stop what uses it, or choose another with --addr",
		}
	}
	if err != nil {
		return &queue.Error{Op: "listen", Kind: queue.KindInvalid, Subject: s.cfg.Addr, Msg: fmt.Sprintf("must be an address of this machine, got %.64q; choose another with --addr", s.cfg.Addr), Err: err}
	}
	s.ln = ln
	return nil
}

// serveRequests answers on the port. At first the answer is that the server is starting.
func (s *Server) serveRequests() {
	s.setHandler(http.HandlerFunc(starting))
	root := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.root.Load()).ServeHTTP(w, r) })
	s.http = restserver.NewHTTPServer(s.proxies.Wrap(httpaccess.Identify(s.checks.Wrap(root))), restserver.Timeouts{Idle: s.cfg.IdleTimeout})
	s.http.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.serveOn(s.ln); !errors.Is(err, http.ErrServerClosed) {
			s.recordFault(fmt.Errorf("serving ended: %w", err))
		}
	})
	// Stop closes the port after every part that starts later.
	s.prependStep("close the port", func(context.Context) error {
		err := s.http.Close()
		serving.Wait()
		return err
	})
}

// setHandler makes h the handler of the port from now on.
func (s *Server) setHandler(h http.Handler) { s.root.Store(&h) }

// prependStep puts a step in front of the others, because the part that started last stops first.
func (s *Server) prependStep(name string, do func(context.Context) error) {
	s.stops = append([]step{{name, do}}, s.stops...)
}

// assemble starts the parts of the server from the bottom to the top. Stop ends them in the reverse order.
func (s *Server) assemble(ctx context.Context) error {
	store, err := s.openStore(ctx)
	if err != nil {
		return err
	}

	if err := s.startAccess(ctx, store); err != nil {
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

	// Background work runs until Close, so the context of the start must not end it.
	var work sync.WaitGroup
	work.Go(func() {
		if err := s.manager.Run(context.WithoutCancel(ctx)); err != nil {
			s.recordFault(fmt.Errorf("background work ended: %w", err))
		}
	})

	// The manager closes after the requests that use it, and before the store.
	s.prependStep("close the manager", func(ctx context.Context) error {
		err := s.manager.Close(ctx)
		work.Wait()
		return err
	})

	s.service = s.tel.Service(s.manager)
	s.guarded = s.guard(store)
	if err := s.watchHealth(); err != nil {
		return err
	}

	handler, err := s.handler()
	if err != nil {
		return err
	}

	// From here on the port answers with the real routes.
	s.setHandler(s.closeEnding(s.credentials().Wrap(s.tel.HTTP(handler.mux))))
	s.prependStep("finish requests", func(ctx context.Context) error {
		// Shutdown waits for running requests; at the end of ctx Close cuts them.
		err := s.http.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, s.http.Close())
		}
		return err
	})

	s.prependStep("end streams", handler.drain)
	s.prependStep("turn readiness off", func(ctx context.Context) error {
		s.ready.Store(false)
		s.health.Drain()
		// Load balancers need this time to notice the end of readiness.
		if s.cfg.DrainDelay > 0 && !retry.Sleep(ctx, s.cfg.DrainDelay) {
			return ctx.Err()
		}
		return nil
	})

	return nil
}

// Addr returns the address on which the server listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// URL returns the URL of the server for this machine, without a prefix.
func (s *Server) URL() string {
	host, _, _ := net.SplitHostPort(s.cfg.Addr)
	_, port, _ := net.SplitHostPort(s.ln.Addr().String())
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	if s.tls != nil {
		return "https://" + net.JoinHostPort(host, port)
	}
	return "http://" + net.JoinHostPort(host, port)
}

// APIURL returns the URL of the REST API for this machine, as clients need it.
func (s *Server) APIURL() string {
	return strings.TrimRight(s.URL()+"/"+strings.Trim(s.cfg.Prefix, "/"), "/")
}

// Service returns the service that the server serves, for use in the same process. It makes no decision about access.
func (s *Server) Service() queue.Service { return s.service }

// Done is closed when the server has failed or stopped. Err distinguishes the two. Stop is necessary in both cases.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns the failure of the server. It is nil while the server runs and after a Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

func (s *Server) recordFault(err error) {
	s.finished.Do(func() {
		s.err = err
		close(s.done)
	})
}

// Stop stops the server in this order: readiness off, streams ended, running requests finished, manager closed, store
// closed, embedded PostgreSQL stopped. When ctx ends, it continues at once with the next step; acknowledged tasks are
// not lost. It returns the errors of the steps. Later calls wait for the first one and return the same error.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		begin := time.Now()
		s.log.InfoContext(ctx, "stopping")
		s.stopErr = s.takeApart(ctx)
		s.recordFault(nil)
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

// Ready reports whether the server can answer: it is not stopping, and the database is reachable and has a fitting
// schema.
func (s *Server) Ready(ctx context.Context) error {
	if !s.ready.Load() {
		return errors.New("the server must be started to answer, got a check before that; repeat the check")
	}
	return s.health.Ready(ctx)
}
