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

// Server is a PostgreSQL that Start started. Its methods may be called from
// many goroutines at once.
type Server struct {
	cfg    config
	folder *folder
	bin    install
	pm     *postmaster
	path   string
	dsn    string

	done    chan struct{} // closed when PostgreSQL ended
	stopped chan struct{} // closed when the first Stop is through

	mu       sync.Mutex
	stopping bool
	err      error // why PostgreSQL ended by itself
	stopErr  error // what the first Stop returns
}

// Start starts a PostgreSQL and returns when it lets connections in. ctx and
// WithStartTimeout bound the start only: afterwards the server runs until Stop,
// so the caller stops it when it ends itself.
//
// One program at a time uses a data folder: a second gets ErrInUse, at once. A
// PostgreSQL left over from a program that was killed is stopped first. Errors
// are one line that says what to do; see ErrNotFound and its neighbours. After
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
			_ = s.release()
		}
	}()
	major, err := f.major()
	if err != nil {
		return nil, err
	}
	if s.bin, err = cfg.find(ctx, f, major); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.startTimeout, fmt.Errorf("start timeout of %v: %w", cfg.startTimeout, context.DeadlineExceeded))
	defer cancel()
	begin := time.Now()
	if err := s.start(ctx, major == 0); err != nil {
		return nil, err
	}
	cfg.logger.InfoContext(ctx, "PostgreSQL started", "version", s.bin.major, "binaries", s.bin.dir, "folder", f.path,
		"user", f.account.name, "pid", s.pm.cmd.Process.Pid, "took", time.Since(begin).Round(time.Millisecond))
	go s.watch()
	return s, nil
}

func (s *Server) start(ctx context.Context, fresh bool) error {
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
	for {
		err := f.prepare(ctx, c, s.bin, password)
		if err == nil {
			break
		}
		if err := waitSurvivors(ctx, f, err); err != nil {
			return err
		}
	}
	port, err := s.listen(ctx)
	if err != nil {
		return err
	}
	if err := f.handOver(port); err != nil {
		_, stopErr := s.pm.stop(ctx)
		return errors.Join(err, stopErr)
	}
	s.dsn = dsn(password, port)
	return nil
}

// waitSurvivors waits a little when err is errSurvivors and returns any other.
// The server lock keeps ours away, so these are of a server started by hand.
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

// handOver keeps the port for the next run and leaves the server lock to the
// processes of PostgreSQL alone.
func (f *folder) handOver(port int) error {
	if err := f.server.Close(); err != nil {
		return fmt.Errorf("embedded: %w: server lock: %w", ErrDataDir, err)
	}
	f.server = nil
	if port == f.lastPort() {
		return nil
	}
	if err := f.write(portName, strconv.Itoa(port)+"\n"); err != nil {
		return fmt.Errorf("embedded: %w: keeping the port: %w", ErrDataDir, err)
	}
	return nil
}

// listen launches PostgreSQL on a port and waits until it is ready. Between the
// choice of a free port and its use another program may take it, so it tries
// again with another.
func (s *Server) listen(ctx context.Context) (int, error) {
	f, c := s.folder, &s.cfg
	const attempts = 5
	for attempt := 0; ; {
		port, err := s.choosePort(ctx, attempt)
		if err != nil {
			return 0, err
		}
		args := append([]string{"-D", f.cluster(), "-p", strconv.Itoa(port)}, c.settingArgs(f.mark())...)
		// Not bound to ctx: it outlives the start.
		cmd := f.command(context.WithoutCancel(ctx), filepath.Join(s.bin.dir, "postgres"), args...)
		pm, err := launch(cmd, c.logger)
		if err != nil {
			return 0, err
		}
		err = pm.waitReady(ctx, f)
		if err == nil {
			s.pm = pm
			return port, nil
		}
		now, cancel := context.WithCancel(ctx)
		cancel() // no patience with what did not start
		if _, stopErr := pm.stop(now); stopErr != nil {
			return 0, errors.Join(err, stopErr)
		}
		if errors.Is(err, errBind) {
			if attempt++; c.port != 0 || attempt == attempts {
				return 0, portError(port, pm.log.reason())
			}
			continue
		}
		if err := waitSurvivors(ctx, f, err); err != nil {
			return 0, err
		}
	}
}

func portError(port int, why string) error {
	return fmt.Errorf("embedded: %w: cannot listen on %s:%d (%s): stop what uses it, choose another with WithPort, or leave it out",
		ErrPortTaken, host, port, why)
}

// choosePort gives the port asked for, else that of the last run, else any.
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
	if last := s.folder.lastPort(); last != 0 && attempt == 0 {
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

// watch ends with PostgreSQL and says so.
func (s *Server) watch() {
	<-s.pm.exited
	s.mu.Lock()
	if !s.stopping {
		s.err = fmt.Errorf("embedded: PostgreSQL ended by itself (%w): %s", endedBy(s.pm.state), s.pm.log.reason())
		s.cfg.logger.Error("PostgreSQL ended by itself", "folder", s.path, "error", s.err)
	}
	s.mu.Unlock()
	close(s.done)
}

// DSN is a URL for clients: postgres://…, with the password in it. It holds
// until Stop. Without WithPort the next run has the same port where it is free.
func (s *Server) DSN() string { return s.dsn }

// Version is PostgreSQL's major version, such as 18.
func (s *Server) Version() int { return s.bin.major }

// BinDir is the folder of the binaries in use.
func (s *Server) BinDir() string { return s.bin.dir }

// DataDir is the data folder in use, with links resolved.
func (s *Server) DataDir() string { return s.path }

// Done is closed when PostgreSQL has ended, by itself or by Stop; Err tells
// which. Stop is still needed after it, to free the data folder.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why PostgreSQL ended by itself. It is nil while it runs and when it
// ended by Stop.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stop ends PostgreSQL and frees the data folder; a temporary one is removed.
// Sessions are cut off and open transactions rolled back (a fast shutdown). When
// that is not through by WithStopTimeout or the end of ctx, PostgreSQL is ended
// at once and Stop returns an error: nothing committed is lost, the next start
// recovers it. That takes some seconds beyond ctx at the worst.
//
// Stop is idempotent: later calls wait for the first one, or for their ctx, and
// return what it returned.
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
	s.stopErr = s.stop(ctx)
	close(s.stopped)
	return s.stopErr
}

func (s *Server) stop(ctx context.Context) error {
	died := false
	select {
	case <-s.pm.exited:
		died = true
	default:
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.stopTimeout, fmt.Errorf("stop timeout of %v: %w", s.cfg.stopTimeout, context.DeadlineExceeded))
	defer cancel()
	clean, err := s.pm.stop(ctx)
	if err != nil {
		return err // the folder stays locked: PostgreSQL is in it
	}
	<-s.done // at once: watch waits for exited alone
	switch {
	case clean || died:
	case ctx.Err() != nil:
		err = fmt.Errorf("embedded: PostgreSQL was stopped at once, not cleanly (%w): the next start recovers it", context.Cause(ctx))
	default:
		err = fmt.Errorf("embedded: PostgreSQL did not end cleanly (%w): the next start recovers it", endedBy(s.pm.state))
	}
	s.cfg.logger.InfoContext(ctx, "PostgreSQL stopped", "folder", s.path, "clean", clean)
	return errors.Join(err, s.release())
}

// release frees the folder, and removes a temporary one.
func (s *Server) release() error {
	defer s.folder.close()
	if !s.cfg.temporary {
		return nil
	}
	if err := os.RemoveAll(s.path); err != nil {
		return fmt.Errorf("embedded: removing the temporary data folder: %w", err)
	}
	return nil
}
