package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Store keeps tasks in PostgreSQL 14 or later. It is safe for concurrent use; any number of processes may share one
// database. Its caches and cursors only save work: their loss costs time and never correctness.
type Store struct {
	pool        *pgxpool.Pool
	owned       bool // Close closes the pool
	tuned       bool // the connections have our planner settings, see Open
	opt         options
	sql         statements
	catalog     catalog
	lanes       lanes
	partitions  partitions
	notify      *notifier
	watermarks  watermarks
	rowFilters  rowFilters
	idle        idleAgents
	knownFaults knownFaults
	// asideUntil is the time (ns of this machine's clock) until which lease beats of this process may count.
	asideUntil atomic.Int64

	feedSnapshots feedSnapshots

	ticksPruned time.Time // guarded by watermarks.mu

	listening atomic.Int32 // number of listening connections
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
	o := defaultOptions()
	for _, opt := range opts {
		opt.apply(&o)
	}

	source := poolSource{url: url, opt: &o}
	cfg, err := source.parseConfig()
	if err != nil {
		return nil, &queue.Error{Op: op, Kind: queue.KindInvalid, Field: "url", Msg: "must be a PostgreSQL connection string; use a URL such as postgres://user@host/database", Err: err}
	}

	// Credentials may change while the process runs, so each connection reads them again.
	cfg.BeforeConnect = source.refreshConfig
	if o.maxConns > 0 {
		cfg.MaxConns = o.maxConns
	} else if cfg.MaxConns < 10 {
		cfg.MaxConns = 10
	}

	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, translateError(op, &connectError{err})
	}

	s, err := makeStore(pool, o)
	if err != nil {
		pool.Close()
		return nil, err
	}

	s.owned, s.tuned = true, !o.pooler
	bctx, cancel := s.withCallTimeout(ctx)
	defer cancel()
	if err := pool.Ping(bctx); err != nil {
		s.Close()
		// A pooler that refuses our start-up parameters needs WithPooler.
		if !o.pooler && refusesParameters(bctx, cfg.ConnConfig, err) {
			return nil, &queue.Error{Op: op, Kind: queue.KindUnavailable, Err: errNeedsPooler}
		}
		return nil, makeOpenError(op, &connectError{err})
	}

	return s, nil
}

// New returns a Store on a pool of the caller, which closes the pool after the Store. The Store cannot see the notices
// of that pool. When statement_timeout or pg_cancel_backend ends the wait for a synchronous standby, its calls
// therefore succeed. A Store of Open returns KindIndeterminate in that case.
func New(pool *pgxpool.Pool, opts ...Option) (*Store, error) {
	o := defaultOptions()
	for _, opt := range opts {
		opt.apply(&o)
	}
	return makeStore(pool, o)
}

// makeStore returns a store on pool, for Open and New.
func makeStore(pool *pgxpool.Pool, o options) (*Store, error) {
	if err := CheckSchema(o.schema); err != nil {
		return nil, queue.WithOp("open store", err)
	}
	s := &Store{pool: pool, opt: o, sql: loadStatements(o.schema)}
	s.catalog.init()
	s.lanes.init()
	s.watermarks.init()
	s.partitions.init()
	s.rowFilters.init()
	s.notify = newNotifier(s)
	return s, nil
}

// Close ends the goroutines of the store, and its connections if Open made them.
func (s *Store) Close() {
	// Pending wake-ups and extensions use connections, so the pool closes last.
	s.notify.closeNotifier()
	s.partitions.close()
	if s.owned {
		s.pool.Close()
	}
}

// Pool returns the connection pool, for callers that run transactions of their own beside the queue's.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Schema returns the name of the schema.
func (s *Store) Schema() string { return s.opt.schema }

// Ping reports whether the store can work now: the database is reachable and writable, and this program can work with
// its schema.
func (s *Store) Ping(ctx context.Context) error {
	const op = "ping store"
	ctx, cancel := s.withCallTimeout(ctx)
	defer cancel()
	var recovery bool
	values := make([]string, len(refusedSettings))
	err := s.pool.QueryRow(ctx, s.sql.get("diagnose.refused")).Scan(&recovery, &values[0], &values[1], &values[2])
	if err != nil {
		return translateError(op, err)
	}

	if recovery {
		return &queue.Error{Op: op, Kind: queue.KindUnavailable, Msg: "the database is read-only (a standby?); connect to the primary"}
	}

	// A setting of the role could otherwise break each later call.
	for i, setting := range refusedSettings {
		if refusesSetting(setting.Name, values[i]) {
			return &queue.Error{
				Op: op, Kind: queue.KindUnavailable, Subject: "setting " + setting.Name,
				Msg: "is " + values[i] + " for this role or database, which pgqueue cannot work with; run: alter role … reset " + setting.Name,
			}
		}
	}

	return s.checkVersion(ctx)
}

// notifyChannel returns the NOTIFY channel of the schema, at most 63 bytes for any name of a schema.
func (s *Store) notifyChannel() string {
	if s.opt.schema == DefaultSchema {
		return DefaultSchema
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.opt.schema))
	return fmt.Sprintf("pgqueue_%x", h.Sum64())
}

// query runs one statement outside a transaction and repeats it after a transient fault. It is for reads only.
func (s *Store) query(ctx context.Context, op, name string, each func(pgx.Rows) error, args ...any) error {
	return s.queryWithText(ctx, op, s.sql.get(name), each, args...)
}

// queryWithText is query for a text.
func (s *Store) queryWithText(ctx context.Context, op, text string, each func(pgx.Rows) error, args ...any) error {
	ctx, cancel := s.withCallTimeout(ctx)
	defer cancel()
	for try := 1; ; try++ {
		err := s.queryTextOnce(ctx, text, each, args...)
		if err == nil || try == maxTries || ctx.Err() != nil || !isTransient(err) {
			return translateError(op, err)
		}
	}
}

// queryTextOnce makes one attempt of queryWithText.
func (s *Store) queryTextOnce(ctx context.Context, sql string, each func(pgx.Rows) error, args ...any) error {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// queryRows runs one statement with named parameters outside a transaction and repeats it after a transient fault. It
// is for reads only.
func (s *Store) queryRows(ctx context.Context, op string, st sqltext.Statement, each func(pgx.Rows) error, args ...sqltext.Arg) error {
	return s.queryWithText(ctx, op, s.sql.Of(st), each, s.sql.Values(st, args)...)
}

// isEmptyResult reports whether a QueryRow found no row.
func isEmptyResult(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
