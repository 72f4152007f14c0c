package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Server is a PostgreSQL server that Start started. Its methods are safe for concurrent use.
type Server struct {
	cfg    config
	folder *folder
	bin    install
	pm     *postmaster
	path   string
	dsn    string

	done    chan struct{} // closes when PostgreSQL has ended
	stopped chan struct{} // closes when the first Stop returns

	mu       sync.Mutex
	stopping bool
	err      error // reason for an end without Stop
	stopErr  error // result of the first Stop
}

// Start starts a PostgreSQL server and returns when it accepts connections. Both ctx and WithStartTimeout limit the
// start only. The server then runs until Stop, which the caller must call before it ends.
//
// One program at a time uses a data folder; a second one gets ErrInUse at once. Start first stops a PostgreSQL that a
// killed program left behind. Each error is one line with its remedy; see ErrNotFound and the errors beside it. After
// an error nothing runs and no lock is held.
func Start(ctx context.Context, opts ...Option) (_ *Server, err error) {
	if !supported {
		return nil, fmt.Errorf("embedded: %w: use a PostgreSQL server that runs already", ErrUnsupported)
	}

	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}

	f, err := openFolder(ctx, &cfg)
	if err != nil {
		return nil, err
	}

	s := &Server{cfg: cfg, folder: f, path: f.path, done: make(chan struct{}), stopped: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = s.releaseFolder()
		}
	}()

	// The data fixes the major version, so it is read before the search for binaries.
	major, err := f.readMajor()
	if err != nil {
		return nil, err
	}
	if s.bin, err = cfg.findInstall(ctx, f, major); err != nil {
		return nil, err
	}

	// The limit begins here: a download has its own limit.
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.startTimeout, fmt.Errorf("start timeout of %v: %w", cfg.startTimeout, context.DeadlineExceeded))
	defer cancel()

	begin := time.Now()
	if err := s.startServer(ctx, major == 0); err != nil {
		return nil, err
	}

	cfg.logger.InfoContext(ctx, "PostgreSQL started", "version", s.bin.major, "binaries", s.bin.dir, "folder", f.path,
		"user", f.account.name, "pid", s.pm.cmd.Process.Pid, "took", time.Since(begin).Round(time.Millisecond))
	go s.watchPostmaster()
	return s, nil
}

// startServer prepares the data folder, launches PostgreSQL and waits until it is ready. With fresh it initialises the data
// first.
func (s *Server) startServer(ctx context.Context, fresh bool) error {
	f, c := s.folder, &s.cfg
	if err := f.lockServer(ctx, c.logger, c.stopTimeout); err != nil {
		return err
	}

	password, err := f.password()
	if err != nil {
		return err
	}

	if fresh {
		c.logger.InfoContext(ctx, "initialising a data folder", "folder", f.path, "version", s.bin.major)
		if err := f.initialise(ctx, c, s.bin); err != nil {
			return err
		}
	}

	// Processes of a server that was started by hand can delay the single-user mode until they end.
	for {
		err := f.prepareDatabase(ctx, c, s.bin, password)
		if err == nil {
			break
		}
		if err := waitSurvivors(ctx, f, err); err != nil {
			return err
		}
	}

	port, err := s.listenOnPort(ctx)
	if err != nil {
		return err
	}

	// A server without its own lock must not stay, so a failure here stops it.
	if err := f.handOverLock(port); err != nil {
		_, stopErr := s.pm.stopProcess(ctx)
		return errors.Join(err, stopErr)
	}
	s.dsn = buildURL(password, port)
	return nil
}

// waitSurvivors returns every error except errSurvivors. For errSurvivors it waits 20 polls (200 ms) and returns nil.
// The server lock excludes processes of this package, so the survivors belong to a server started by hand.
func waitSurvivors(ctx context.Context, f *folder, err error) error {
	if !errors.Is(err, errSurvivors) {
		return err
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("embedded: %w: %w in %s: end them", ErrInUse, err, f.path)
	case <-time.After(20 * pollEvery):
		return nil
	}
}

// handOverLock leaves the server lock to the processes of PostgreSQL and records the port for the next run.
func (f *folder) handOverLock(port int) error {
	if err := f.server.Close(); err != nil {
		return fmt.Errorf("embedded: %w: server lock: %w", ErrDataDir, err)
	}
	f.server = nil

	if port == f.readLastPort() {
		return nil
	}
	if err := f.replaceFile(portName, strconv.Itoa(port)+"\n"); err != nil {
		return fmt.Errorf("embedded: %w: keeping the port: %w", ErrDataDir, err)
	}
	return nil
}

// listenOnPort launches PostgreSQL on a port and waits until it is ready. Another program may take a free port between its
// choice and its use. So listen tries up to five free ports; a port of WithPort it tries once.
func (s *Server) listenOnPort(ctx context.Context) (int, error) {
	f, c := s.folder, &s.cfg
	const attempts = 5
	for attempt := 0; ; {
		port, err := s.choosePort(ctx, attempt)
		if err != nil {
			return 0, err
		}

		args := append([]string{"-D", f.cluster(), "-p", strconv.Itoa(port)}, c.settingArgs(f.processMark())...)
		// The process outlives the start, so its context does not end with ctx.
		cmd := f.command(context.WithoutCancel(ctx), filepath.Join(s.bin.dir, "postgres"), args...)
		pm, err := launchPostmaster(cmd, c.logger)
		if err != nil {
			return 0, err
		}

		err = pm.waitReady(ctx, f)
		if err == nil {
			s.pm = pm
			return port, nil
		}

		// A process that failed to start gets no time for a fast shutdown.
		now, cancel := context.WithCancel(ctx)
		cancel()
		if _, stopErr := pm.stopProcess(now); stopErr != nil {
			return 0, errors.Join(err, stopErr)
		}

		if errors.Is(err, errBind) {
			if attempt++; c.port != 0 || attempt == attempts {
				return 0, portError(port, pm.log.findReason())
			}
			continue
		}
		if err := waitSurvivors(ctx, f, err); err != nil {
			return 0, err
		}
	}
}

// portError returns ErrPortTaken with the address, the reason and the remedy.
func portError(port int, why string) error {
	return fmt.Errorf("embedded: %w: cannot listen on %s:%d (%s): stop what uses it, choose another with WithPort, or leave it out",
		ErrPortTaken, host, port, why)
}

// choosePort returns the port of WithPort, else the free port of the last run, else any free port. Only the first
// attempt tries the last port.
func (s *Server) choosePort(ctx context.Context, attempt int) (int, error) {
	free := func(port int) (int, error) {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return 0, err
		}
		port = l.Addr().(*net.TCPAddr).Port
		return port, l.Close()
	}

	if s.cfg.port != 0 {
		if _, err := free(s.cfg.port); err != nil {
			return 0, portError(s.cfg.port, oneLine(err.Error()))
		}
		return s.cfg.port, nil
	}

	if last := s.folder.readLastPort(); last != 0 && attempt == 0 {
		if port, err := free(last); err == nil {
			return port, nil
		}
	}

	port, err := free(0)
	if err != nil {
		return 0, fmt.Errorf("embedded: no free port on %s: %w", host, err)
	}
	return port, nil
}

// watchPostmaster waits for the end of PostgreSQL, records and logs an end without Stop, and closes done.
func (s *Server) watchPostmaster() {
	<-s.pm.exited
	s.mu.Lock()
	if !s.stopping {
		s.err = fmt.Errorf("embedded: PostgreSQL ended by itself (%w): %s", endedBy(s.pm.state), s.pm.log.findReason())
		s.cfg.logger.Error("PostgreSQL ended by itself", "folder", s.path, "error", s.err)
	}
	s.mu.Unlock()
	close(s.done)
}

// DSN returns the URL for clients, postgres://…, with the password in it. It is valid until Stop. Without WithPort
// the next run uses the same port while that is free.
func (s *Server) DSN() string { return s.dsn }

// Version returns the major version of PostgreSQL, such as 18.
func (s *Server) Version() int { return s.bin.major }

// BinDir returns the folder of the binaries in use.
func (s *Server) BinDir() string { return s.bin.dir }

// DataDir returns the data folder in use, with links resolved.
func (s *Server) DataDir() string { return s.path }

// Done returns a channel that closes when PostgreSQL has ended, with or without Stop; Err separates the two. The
// caller must still call Stop, which frees the data folder.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns the reason for an end of PostgreSQL without Stop. It is nil while PostgreSQL runs and after an end by
// Stop.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stop ends PostgreSQL, frees the data folder and removes a temporary one. A fast shutdown closes sessions and rolls
// open transactions back. It has until WithStopTimeout or the end of ctx; then an immediate shutdown follows and Stop
// returns an error. Committed data is safe in both cases: the next start recovers it. The immediate shutdown can take
// some seconds beyond ctx.
//
// Stop is idempotent. Later calls wait for the first call or the end of their ctx, and return the same result.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopping
	s.stopping = true
	s.mu.Unlock()

	if !first {
		select {
		case <-s.stopped:
			return s.stopErr
		case <-ctx.Done():
			return fmt.Errorf("embedded: waiting for PostgreSQL to stop: %w", context.Cause(ctx))
		}
	}

	s.stopErr = s.stopServer(ctx)
	close(s.stopped)
	return s.stopErr
}

// stopServer does the work of the first Stop and returns an error for an unclean shutdown.
func (s *Server) stopServer(ctx context.Context) error {
	died := false
	select {
	case <-s.pm.exited:
		died = true
	default:
	}

	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.stopTimeout, fmt.Errorf("stop timeout of %v: %w", s.cfg.stopTimeout, context.DeadlineExceeded))
	defer cancel()

	clean, err := s.pm.stopProcess(ctx)
	if err != nil {
		return err // the folder stays locked: PostgreSQL still uses it
	}
	<-s.done // this returns at once: watch waits for exited only

	switch {
	case clean || died:
	case ctx.Err() != nil:
		err = fmt.Errorf("embedded: PostgreSQL was stopped at once, not cleanly (%w): the next start recovers it", context.Cause(ctx))
	default:
		err = fmt.Errorf("embedded: PostgreSQL did not end cleanly (%w): the next start recovers it", endedBy(s.pm.state))
	}

	s.cfg.logger.InfoContext(ctx, "PostgreSQL stopped", "folder", s.path, "clean", clean)
	return errors.Join(err, s.releaseFolder())
}

// releaseFolder frees the folder and removes a temporary one.
func (s *Server) releaseFolder() error {
	defer s.folder.closeFolder()
	if !s.cfg.temporary {
		return nil
	}
	if err := os.RemoveAll(s.path); err != nil {
		return fmt.Errorf("embedded: removing the temporary data folder: %w", err)
	}
	return nil
}
