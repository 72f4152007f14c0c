package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/doctor"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/feed"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/migrate"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Store keeps tasks in PostgreSQL 14 or later. It is safe for concurrent use; any number of processes may share one
// database. Its caches and cursors only save work: their loss costs time and never correctness.
type Store struct {
	db          txn.Database
	opt         options
	migrator    *migrate.Migrator
	doctor      *doctor.Doctor
	catalog     catalog
	surplus     handBacks
	known       knownQueues
	backlogs    backlogs
	groupAudit  groupAudit
	lanes       lanes
	partitions  partitions
	notify      *feed.Notifier
	listener    *feed.Listener
	feed        *feed.Reader
	watermarks  watermarks
	rowFilters  rowFilters
	idle        idleAgents
	knownFaults knownFaults
	// asideUntil is the time (ns of this machine's clock) until which lease beats of this process may count.
	asideUntil atomic.Int64

	ticksPruned time.Time // guarded by watermarks.mu
	auditPruned time.Time // as ticksPruned
	// sessionsPruned is the time of the last search for ended sessions.
	sessionsPruned time.Time
}

// schemaName matches valid names of a schema, which the SQL text quotes.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// CheckSchema returns an error for an invalid name of a schema. It serves callers that check before they start
// anything.
func CheckSchema(name string) error {
	if !schemaName.MatchString(name) {
		return queue.Invalid("schema", fmt.Sprintf("must be a lower-case letter first, then letters, digits and '_', got %.64q", name))
	}
	return nil
}

// Open connects to the database at url and returns a Store. It checks that the database answers. It does not migrate
// and does not check the schema; see MigrateUp and Ping. The caller must close the Store.
func Open(ctx context.Context, url string, opts ...Option) (*Store, error) {
	const op = "open store"
	o := makeOptions(opts)
	connector := o.connectorTo(url)
	cfg, err := connector.PoolConfig()
	if err != nil {
		return nil, &queue.Error{Op: op, Kind: queue.KindInvalid, Field: "url", Msg: "must be a PostgreSQL connection string; use a URL such as postgres://user@host/database", Err: err}
	}

	if o.maxConns > 0 {
		cfg.MaxConns = o.maxConns
	} else if cfg.MaxConns < 10 {
		cfg.MaxConns = 10
	}

	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, txn.Translate(op, &txn.ConnectError{Err: err})
	}

	s, err := makeStore(pool, o)
	if err != nil {
		pool.Close()
		return nil, err
	}

	s.db.Owned, s.db.Planned = true, !o.pooler
	bctx, cancel := s.db.WithTimeout(ctx)
	defer cancel()
	if err := pool.Ping(bctx); err != nil {
		s.Close()
		// A pooler that refuses our start-up parameters needs WithPooler.
		if !o.pooler && txn.RefusesParameters(bctx, cfg.ConnConfig, err) {
			return nil, &queue.Error{Op: op, Kind: queue.KindUnavailable, Err: txn.ErrNeedsPooler}
		}
		return nil, txn.OpenError(op, &txn.ConnectError{Err: err})
	}

	return s, nil
}

// New returns a Store on a pool of the caller, which closes the pool after the Store. The Store cannot see the notices
// of that pool. When statement_timeout or pg_cancel_backend ends the wait for a synchronous standby, its calls
// therefore succeed. A Store of Open returns KindIndeterminate in that case.
func New(pool *pgxpool.Pool, opts ...Option) (*Store, error) {
	return makeStore(pool, makeOptions(opts))
}

// makeStore returns a store on pool, for Open and New.
func makeStore(pool *pgxpool.Pool, o options) (*Store, error) {
	if err := CheckSchema(o.schema); err != nil {
		return nil, queue.WithOp("open store", err)
	}
	if err := access.CheckAuditRetention(o.auditRetention); err != nil {
		return nil, queue.WithOp("open store", err)
	}
	s := &Store{opt: o}
	s.db = txn.Database{
		Pool: pool, Text: loadStatements(o.schema), CallTimeout: o.callTimeout, SetPlanner: setPlanner,
		ID: rand.Text(), OnNewConnection: s.forgetHistory, OnFault: s.noteDatabaseFault,
	}
	s.migrator = &migrate.Migrator{DB: &s.db, Schema: o.schema, Logger: o.logger}
	s.catalog.init()
	s.lanes.init()
	s.watermarks.init()
	s.partitions.init()
	s.rowFilters.init()
	s.notify = feed.NewNotifier(&s.db, feed.Config{Channel: notifyChannel(o.schema), Every: o.notifyEvery, Off: o.noNotify, Failed: s.logLostWakeUps})
	s.listener = feed.NewListener(&s.db, s.notify, *o.connectorTo(o.listenURL))
	s.feed = feed.NewReader(&s.db)
	s.doctor = &doctor.Doctor{
		DB: &s.db, Schema: o.schema, Migrator: s.migrator, AroundPooler: o.pooler && o.listenURL != "",
		Listen: s.listener.Open, Notify: s.notify.SendProof, Tokens: s.ListTokens,
		QueueCounts: queueReadOfCounts,
	}
	return s, nil
}

// forgetHistory forgets what a failover to a standby, or a restore, may have undone.
func (s *Store) forgetHistory() {
	s.lanes.invalidateCursors()
	s.known.forgetAll()
}

// noteDatabaseFault forgets the history, except after a missing partition, which a create makes by itself.
func (s *Store) noteDatabaseFault(err error) {
	if !noPartition(err) {
		s.forgetHistory()
	}
}

// logLostWakeUps reports a notification that the store could not send.
func (s *Store) logLostWakeUps(err error) {
	s.opt.logger.Warn("could not notify other processes; they will find the tasks by polling", "error", err)
}

// Close ends the goroutines of the store, and its connections if Open made them.
func (s *Store) Close() {
	// Pending hand-backs, wake-ups and extensions use connections, so the pool closes last.
	s.surplus.close()
	s.notify.Close()
	s.partitions.close()
	if s.db.Owned {
		s.db.Pool.Close()
	}
}

// Pool returns the connection pool, for callers that run transactions of their own beside the queue's.
func (s *Store) Pool() *pgxpool.Pool { return s.db.Pool }

// Schema returns the name of the schema.
func (s *Store) Schema() string { return s.opt.schema }

// notifyChannel returns the NOTIFY channel of the schema, at most 63 bytes for any name of a schema. The function channel of the
// schema returns the same.
func notifyChannel(schema string) string {
	if schema == DefaultSchema {
		return DefaultSchema
	}
	sum := sha256.Sum256([]byte(schema))
	return "pgqueue_" + hex.EncodeToString(sum[:16])
}

var _ queue.Store = (*Store)(nil)

// These statements read the clock of the database, or set properties of a transaction.
var (
	readClock      = statement("clock")
	setPlanner     = statement("tx.plan")
	waitForStandby = statement("tx.wait")
	allowBitmaps   = statement("tx.bitmaps")
)
