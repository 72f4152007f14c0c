package feed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// These constants govern the proof of delivery and the reconnects of a listener.
const (
	// proofEvery is the interval between two notifications of the listener to itself.
	proofEvery = 10 * time.Second
	// proofPatience limits the travel time of such a notification. After it the connection counts as deaf.
	proofPatience = 5 * time.Second
	// listenConnectTimeout bounds the connect and the LISTEN statement together.
	listenConnectTimeout = 10 * time.Second
	listenFirstBackoff   = 100 * time.Millisecond
	listenMaxBackoff     = 30 * time.Second
)

// errDeaf ends a connection that accepted LISTEN and delivers nothing. The causes are a pooler in transaction mode, or
// a network that dropped the connection silently.
var errDeaf = errors.New("LISTEN delivers nothing: a notification to itself did not come back; " +
	"behind a transaction pooler give a direct connection: --listen-url (postgres.WithListenURL)")

// Listener receives the wake-ups of other processes.
type Listener struct {
	db        *txn.Database
	notifier  *Notifier
	connector txn.Connector // of URL, "" = the pool's
	listening atomic.Int32  // number of listening connections

	// Tokens has the functions to call after a change of tokens.
	Tokens access.Watchers
}

// NewListener returns a listener that connects with connector. A connector without URL stands for the configuration of
// the pool of db.
func NewListener(db *txn.Database, n *Notifier, connector txn.Connector) *Listener {
	return &Listener{db: db, notifier: n, connector: connector}
}

// Listen implements queue.Listener on one connection of its own, outside of the pool. It notifies itself through the
// pool every 10 s and ends the connection if the notification takes longer than 5 s. A notifier that is off sends
// no proofs and notices only a broken connection. Notifications of this process do not call wake. Several calls may
// listen concurrently. Listen reconnects with backoff until ctx ends and then returns its error. An invalid listen URL
// is KindInvalid.
func (l *Listener) Listen(ctx context.Context, wake func(queue.Wake)) error {
	const op = "listen"
	if l.connector.URL != "" {
		if _, err := pgx.ParseConfig(l.connector.URL); err != nil {
			return badListenURL(op, err)
		}
	}

	backoff := listenFirstBackoff
	for {
		proved, err := l.listenOnConnection(ctx, wake)
		if ctx.Err() != nil {
			return ctx.Err()
		}

		if proved {
			backoff = listenFirstBackoff
		}

		// Jitter keeps the listeners of many processes from reconnecting at the same moment.
		wait := time.Duration((0.5 + mathrand.Float64()) * float64(backoff))
		l.connector.Logger.WarnContext(ctx, "listening ended; tasks are found by polling until it is back", "error", err, "again_in", wait)
		backoff = min(2*backoff, listenMaxBackoff)
		if !retry.Sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// Listening reports whether a connection listens now. A deaf connection counts until its proof fails, at most 15 s.
func (l *Listener) Listening() bool { return l.listening.Load() > 0 }

// listenOnConnection listens on one connection until it fails, and returns the error. It reports whether a proof ever
// arrived.
func (l *Listener) listenOnConnection(ctx context.Context, wake func(queue.Wake)) (proved bool, err error) {
	conn, err := l.Open(ctx)
	if err != nil {
		return false, err
	}
	// The connection ends when the prover returns; the prover ends when the connection does.
	ctx, end := context.WithCancelCause(ctx)
	heard := make(chan string, 16) // holds proofs of other listeners of this Store too
	var prover sync.WaitGroup
	defer func() {
		end(nil)
		prover.Wait()
		txn.Disconnect(ctx, conn)
	}()

	if proved = l.notifier.config.Off; !proved {
		prover.Go(func() { end(l.proveListening(ctx, heard)) })
	}

	l.listening.Add(1)
	defer l.listening.Add(-1)
	wake(queue.Wake{}) // covers the time before LISTEN took effect
	l.Tokens.Report()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return proved, err
		}

		if n.Payload == tokensPayload {
			l.Tokens.Report()
			continue
		}

		// Notifications of this process are proofs; it has woken its own waiting callers directly.
		sender, wakes, proof := parsePayload(n.Payload)
		switch {
		case sender != l.notifier.sender:
			for _, w := range wakes {
				wake(w)
			}
		case proof != "":
			proved = true
			select {
			case heard <- proof:
			default: // the channel is full of expired proofs
			}
		}
	}
}

// proveListening sends proofs until one fails to return in time, or ctx ends. It returns the reason.
func (l *Listener) proveListening(ctx context.Context, heard <-chan string) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-heard: // a proof that came after its deadline
			continue
		case <-again.C:
		}
		if err := l.sendProof(ctx, heard); errors.Is(err, errDeaf) {
			return err
		} else if err != nil {
			// The send failed, so it gives no evidence about delivery.
			l.connector.Logger.WarnContext(ctx, "could not send a notification to itself", "error", err)
		}
		again.Reset(proofEvery)
	}
}

// sendProof sends one notification through the pool and waits until heard delivers it. It returns errDeaf after
// proofPatience.
func (l *Listener) sendProof(ctx context.Context, heard <-chan string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*proofPatience, context.DeadlineExceeded)
	defer cancel()
	nonce := rand.Text()
	if _, err := l.notifier.SendProof(ctx, nonce); err != nil {
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

// listenConfig returns the configuration of the connection that listens: the listen URL, or else the one of the pool.
func (l *Listener) listenConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	if l.connector.URL != "" {
		cfg, err := pgx.ParseConfig(l.connector.URL)
		if err != nil {
			return nil, badListenURL("", err)
		}
		if cfg.RuntimeParams["application_name"] == "" {
			cfg.RuntimeParams["application_name"] = "pgqueue listen"
		}
		l.connector.Prepare(cfg, false)
		return cfg, nil
	}
	return l.db.ExtraConfig(ctx, "pgqueue listen")
}

// badListenURL reports a connection string that pgx cannot parse.
func badListenURL(op string, err error) error {
	return &queue.Error{Op: op, Kind: queue.KindInvalid, Field: "listen_url", Msg: "must be a PostgreSQL connection string; use a URL such as postgres://user@host/database", Err: err}
}

// Open connects and runs LISTEN, within listenConnectTimeout.
func (l *Listener) Open(ctx context.Context) (*pgx.Conn, error) {
	cctx, cancel := context.WithTimeout(ctx, listenConnectTimeout)
	defer cancel()
	cfg, err := l.listenConfig(cctx)
	if err != nil {
		return nil, err
	}
	conn, err := txn.Connect(cctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := conn.PgConn().Exec(cctx, "listen "+pgx.Identifier{l.notifier.config.Channel}.Sanitize()).Close(); err != nil {
		txn.Disconnect(ctx, conn)
		return nil, fmt.Errorf("listen: %w", err)
	}
	return conn, nil
}
