package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ queue.Listener = (*Store)(nil)

// How a listener proves that it hears, and how it comes back.
const (
	// proofEvery is how often it notifies itself.
	proofEvery = 10 * time.Second
	// proofPatience is how long such a notification may take before the connection counts as deaf.
	proofPatience = 5 * time.Second
	// listenConnectTimeout bounds connecting and LISTEN.
	listenConnectTimeout = 10 * time.Second
	listenFirstBackoff   = 100 * time.Millisecond
	listenMaxBackoff     = 30 * time.Second
)

// errDeaf ends a connection on which LISTEN was accepted and delivers nothing: a pooler in transaction mode, or a network
// that lost the connection without saying so.
var errDeaf = errors.New("LISTEN delivers nothing: a notification to itself did not come back; " +
	"behind a transaction pooler give a direct connection: --listen-url (postgres.WithListenURL)")

// Listen implements queue.Listener on one connection of its own, outside of the pool. It notifies itself through the pool
// every 10 s and takes 5 s of silence for deafness; a store made WithoutNotify sends no proofs and notices only a broken
// connection. What this Store itself notified does not wake it. Several may listen at once.
func (s *Store) Listen(ctx context.Context, wake func(queue.Wake)) error {
	const op = "listen"
	if s.opt.listenURL != "" {
		if _, err := pgx.ParseConfig(s.opt.listenURL); err != nil {
			return badListenURL(op, err)
		}
	}

	backoff := listenFirstBackoff
	for {
		proved, err := s.listenOnConnection(ctx, wake)
		if ctx.Err() != nil {
			return ctx.Err()
		}

		if proved {
			backoff = listenFirstBackoff
		}

		wait := time.Duration((0.5 + mathrand.Float64()) * float64(backoff))
		s.opt.logger.WarnContext(ctx, "listening ended; tasks are found by polling until it is back", "error", err, "again_in", wait)
		backoff = min(2*backoff, listenMaxBackoff)
		if !sleepFor(ctx, wait) {
			return ctx.Err()
		}
	}
}

// Listening reports whether a connection listens now. One that went deaf counts until that is noticed, 15 s at most.
func (s *Store) Listening() bool { return s.listening.Load() > 0 }

// listenOnConnection listens on one connection until that ends, which is always an error, and says whether it ever proved itself.
func (s *Store) listenOnConnection(ctx context.Context, wake func(queue.Wake)) (proved bool, err error) {
	conn, err := s.openListenConnection(ctx)
	if err != nil {
		return false, err
	}
	// The connection ends with the verdict of the prover; the prover ends with the connection.
	ctx, end := context.WithCancelCause(ctx)
	heard := make(chan string, 16) // proofs of others of this Store pass through too
	var prover sync.WaitGroup
	defer func() {
		end(nil)
		prover.Wait()
		closeConnection(ctx, conn)
	}()

	if proved = s.opt.noNotify; !proved {
		prover.Go(func() { end(s.proveListening(ctx, heard)) })
	}

	s.listening.Add(1)
	defer s.listening.Add(-1)
	wake(queue.Wake{}) // for what happened while nobody listened
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return proved, err
		}

		sender, wakes, proof := parsePayload(n.Payload)
		switch {
		case sender != s.notify.sender:
			for _, w := range wakes {
				wake(w)
			}
		case proof != "":
			proved = true
			select {
			case heard <- proof:
			default: // an old one that nobody waits for
			}
		}
	}
}

// proveListening sends proofs until one does not come back in time, or ctx ends.
func (s *Store) proveListening(ctx context.Context, heard <-chan string) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-heard: // late; the verdict on it is spoken
			continue
		case <-again.C:
		}
		if err := s.sendProof(ctx, heard); errors.Is(err, errDeaf) {
			return err
		} else if err != nil {
			// It never left: that says nothing about hearing.
			s.opt.logger.WarnContext(ctx, "could not send a notification to itself", "error", err)
		}
		again.Reset(proofEvery)
	}
}

// sendProof sends one notification through the pool and waits for it on heard.
func (s *Store) sendProof(ctx context.Context, heard <-chan string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*proofPatience, context.DeadlineExceeded)
	defer cancel()
	nonce := rand.Text()
	if err := s.notify.send(ctx, s.notify.sender+" "+proofMark+nonce); err != nil {
		return err
	}

	patience := time.NewTimer(proofPatience)
	defer patience.Stop()
	for {
		select {
		case got := <-heard:
			if got == nonce {
				return nil
			}
		case <-patience.C:
			return errDeaf
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// listenConfig is how the connection for LISTEN is made.
func (s *Store) listenConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	if s.opt.listenURL != "" {
		cfg, err := pgx.ParseConfig(s.opt.listenURL)
		if err != nil {
			return nil, badListenURL("", err)
		}
		if cfg.RuntimeParams["application_name"] == "" {
			cfg.RuntimeParams["application_name"] = "pgqueue listen"
		}
		s.opt.prepareConnection(cfg, false)
		return cfg, nil
	}
	return s.configOfExtraConn(ctx, "pgqueue listen")
}

func badListenURL(op string, err error) error {
	return &queue.Error{Op: op, Kind: queue.KindInvalid, Field: "listen_url", Msg: "is no PostgreSQL connection string", Err: err}
}

// openListenConnection connects and says LISTEN.
func (s *Store) openListenConnection(ctx context.Context) (*pgx.Conn, error) {
	cctx, cancel := context.WithTimeout(ctx, listenConnectTimeout)
	defer cancel()
	cfg, err := s.listenConfig(cctx)
	if err != nil {
		return nil, err
	}
	conn, err := openConnection(cctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := conn.PgConn().Exec(cctx, "listen "+pgx.Identifier{s.notifyChannel()}.Sanitize()).Close(); err != nil {
		closeConnection(ctx, conn)
		return nil, fmt.Errorf("listen: %w", err)
	}
	return conn, nil
}

// closeConnection says goodbye, but not for long: the caller's ctx has often ended.
func closeConnection(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
