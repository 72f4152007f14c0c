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
	// proofTimeout bounds the travel time of such a notification. After it the connection delivers nothing.
	proofTimeout = 5 * time.Second
	// proofSendTimeout bounds the statement that sends it.
	proofSendTimeout = 5 * time.Second
	// listenConnectTimeout bounds the connect and the LISTEN statement together.
	listenConnectTimeout = 10 * time.Second
	listenFirstBackoff   = 100 * time.Millisecond
	listenMaxBackoff     = 30 * time.Second
)

// errNoDelivery ends a connection that accepted LISTEN and delivers nothing. The causes are a pooler in transaction mode, or a
// network that dropped the connection silently.
var errNoDelivery = errors.New("LISTEN delivers nothing: a notification to itself did not come back; " +
	"behind a transaction pooler give a direct connection: --listen-url (postgres.WithListenURL)")

// Listener receives the wake-ups of other processes.
type Listener struct {
	db        *txn.Database
	notifier  *Notifier
	connector txn.Connector // its URL is the listen URL; without one the pool's configuration is used
	listening atomic.Int32  // number of listening connections

	// AccessTokens has the functions to call after a change of access tokens.
	AccessTokens access.Watchers
}

// NewListener returns a listener that connects with connector. A connector without URL stands for the configuration of
// the pool of db.
func NewListener(db *txn.Database, n *Notifier, connector txn.Connector) *Listener {
	return &Listener{db: db, notifier: n, connector: connector}
}

// Listen implements queue.Listener on a connection of its own. It reconnects with backoff until ctx ends, and returns the error of ctx.
// An invalid listen URL is KindInvalid. Several calls may listen concurrently.
//
// Each proofEvery it sends itself a notification through the pool, as a proof of delivery. It ends the connection when the proof takes
// longer than proofTimeout. A notifier that is off sends no proofs, so a Listen of it notices a broken connection only.
// Notifications of this process do not call wake: it wakes its own callers directly.
func (l *Listener) Listen(ctx context.Context, wake func(queue.Wake)) error {
	if l.connector.URL != "" {
		if _, err := l.parseListenURL(); err != nil {
			return queue.WithOp("listen", err)
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

// Listening reports whether a connection listens now. A connection that delivers nothing counts until a proof is overdue: for 15 s
// after the last proof and the time of a send, and longer while no proof can be sent.
func (l *Listener) Listening() bool { return l.listening.Load() > 0 }

// listenOnConnection listens on one connection until it fails, and returns the error. proved says that the connection delivered a
// proof; without proofs, that LISTEN succeeded.
func (l *Listener) listenOnConnection(ctx context.Context, wake func(queue.Wake)) (proved bool, err error) {
	conn, err := l.Open(ctx)
	if err != nil {
		return false, err
	}
	// Each ends the other: the prover ends ctx, and a failed connection ends the prover.
	ctx, end := context.WithCancelCause(ctx)
	heard := make(chan string, 16) // more than the proofs of the listeners of one process
	var prover sync.WaitGroup
	defer func() {
		end(nil)
		prover.Wait()
		txn.Disconnect(ctx, conn)
	}()

	sendsProofs := !l.notifier.config.Off
	if sendsProofs {
		prover.Go(func() { end(l.proveListening(ctx, heard)) })
	}
	proved = !sendsProofs

	l.listening.Add(1)
	defer l.listening.Add(-1)
	wake(queue.Wake{}) // wakes all queues: tasks may have become ready before LISTEN took effect
	l.AccessTokens.Report()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return proved, err
		}
		if l.handlePayload(n.Payload, wake, heard) {
			proved = true
		}
	}
}

// handlePayload passes a notification on, and reports whether it is a proof of this process. The notifier has the form of payloads.
func (l *Listener) handlePayload(payload string, wake func(queue.Wake), heard chan<- string) (isProof bool) {
	if payload == tokensPayload {
		l.AccessTokens.Report()
		return false
	}

	sender, wakes, proof := parsePayload(payload)
	switch {
	case sender != l.notifier.sender:
		for _, w := range wakes {
			wake(w)
		}
		return false
	case proof == "":
		return false
	}

	select {
	case heard <- proof:
	default: // the channel is full of expired proofs
	}
	return true
}

// proveListening sends proofs until one fails to return in time, or ctx ends. It returns the reason.
func (l *Listener) proveListening(ctx context.Context, heard <-chan string) error {
	nextProof := time.NewTimer(0)
	defer nextProof.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-heard: // a proof that came after its deadline
			continue
		case <-nextProof.C:
		}

		err := l.sendProof(ctx, heard)
		if errors.Is(err, errNoDelivery) {
			return err
		}
		if err != nil {
			// The send failed, so it gives no evidence about delivery.
			l.connector.Logger.WarnContext(ctx, "could not send a notification to itself", "error", err)
		}
		nextProof.Reset(proofEvery)
	}
}

// sendProof sends one notification through the pool and waits until heard delivers it. It returns errNoDelivery when that takes longer
// than proofTimeout. Other errors are those of the send, or of ctx.
func (l *Listener) sendProof(ctx context.Context, heard <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, proofSendTimeout+proofTimeout)
	defer cancel()
	nonce := rand.Text()
	if _, err := l.notifier.SendProof(ctx, nonce); err != nil {
		return err
	}

	overdue := time.NewTimer(proofTimeout)
	defer overdue.Stop()
	for {
		select {
		case got := <-heard:
			if got == nonce {
				return nil
			}
		case <-overdue.C:
			return errNoDelivery
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// listenName is the application name of the connection that listens.
const listenName = "pgqueue listen"

// listenConfig returns the configuration of the connection that listens: the listen URL, or else the one of the pool.
func (l *Listener) listenConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	if l.connector.URL == "" {
		return l.db.ExtraConfig(ctx, listenName)
	}

	cfg, err := l.parseListenURL()
	if err != nil {
		return nil, err
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = listenName
	}
	l.connector.Prepare(cfg, false)
	return cfg, nil
}

// parseListenURL returns the configuration of the listen URL, or KindInvalid when pgx cannot parse it.
func (l *Listener) parseListenURL() (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(l.connector.URL)
	if err != nil {
		return nil, &queue.Error{
			Kind: queue.KindInvalid, Field: "listen_url", Err: err,
			Msg: "must be a PostgreSQL connection string; use a URL such as postgres://user@host/database",
		}
	}
	return cfg, nil
}

// Open connects and runs LISTEN, within listenConnectTimeout. The caller disconnects.
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
