package postgres

import (
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Option configures a Store.
type Option func(*options)

type options struct {
	schema         string
	listenURL      string
	ddlURL         string
	home           string
	pooler         bool
	maxConns       int32
	callTimeout    time.Duration
	notifyEvery    time.Duration
	logger         *slog.Logger
	noNotify       bool
	maxPayload     int
	partitionMin   int64
	tracer         pgx.QueryTracer
	auditRetention time.Duration
}

// connectorTo returns the connector of connections to the database at url.
func (o *options) connectorTo(url string) *txn.Connector {
	return &txn.Connector{URL: url, Pooler: o.pooler, Tracer: o.tracer, Logger: o.logger, Home: o.home}
}

// makeOptions returns the defaults, changed by opts.
func makeOptions(opts []Option) options {
	o := options{
		schema:         DefaultSchema,
		callTimeout:    DefaultCallTimeout,
		notifyEvery:    5 * time.Millisecond,
		logger:         slog.New(slog.DiscardHandler),
		partitionMin:   1 << 20,
		maxPayload:     queue.DefaultMaxPayloadBytes,
		auditRetention: access.DefaultAuditRetention,
	}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithSchema puts the tables of pgqueue into the schema name instead of "pgqueue".
func WithSchema(name string) Option { return func(o *options) { o.schema = name } }

// WithListenURL sets a direct connection string for LISTEN. It is needed if the main connection goes through a pooler
// in transaction mode, which accepts LISTEN and never delivers.
func WithListenURL(url string) Option { return func(o *options) { o.listenURL = url } }

// WithDDLURL sets the connection string for commands that create, change and drop partitions: that of the coordinator, where
// the schema is a distributed schema of Citus and the main connection leads to another node. Default: the main connection.
func WithDDLURL(url string) Option { return func(o *options) { o.ddlURL = url } }

// WithHome makes each connection check that it leads to the server with the given identity, the home of a cell (Home.Server). A
// connection to another server is refused before it reads or writes anything.
func WithHome(server string) Option { return func(o *options) { o.home = server } }

// WithPooler declares that the main connection goes through a transaction pooler such as pgbouncer. The store then
// describes statements instead of preparing them by name. It sends only the start-up parameters that poolers know:
// client_encoding and standard_conforming_strings.
func WithPooler() Option { return func(o *options) { o.pooler = true } }

// WithMaxConns bounds the connections of the pool. The default is the value of the connection string, or else 10.
func WithMaxConns(n int) Option { return func(o *options) { o.maxConns = int32(n) } }

// DefaultCallTimeout bounds a call of the store, unless the deadline of the caller is nearer.
const DefaultCallTimeout = 30 * time.Second

// WithCallTimeout bounds every call to the database (default 30 s). A nearer deadline of the caller takes precedence.
func WithCallTimeout(d time.Duration) Option { return func(o *options) { o.callTimeout = d } }

// WithNotifyInterval sets the least time between two notifications of this process to other processes (default 5 ms).
func WithNotifyInterval(d time.Duration) Option { return func(o *options) { o.notifyEvery = d } }

// WithoutNotify turns notifications off: other processes find tasks by polling.
func WithoutNotify() Option { return func(o *options) { o.noNotify = true } }

// WithTracer makes t trace the connections that Open makes; t may be a pgx tracer of any kind. Default: none.
func WithTracer(t pgx.QueryTracer) Option { return func(o *options) { o.tracer = t } }

// WithLogger makes the store log the faults that background work survived. Default: no log.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithPartitionSize sets the smallest number of ids in a partition of tasks (default 1,048,576). The store raises it to
// at least 1024 and rounds it up to a multiple of 32. Partitions grow with the rate of tasks.
func WithPartitionSize(ids int64) Option {
	return func(o *options) { o.partitionMin = (max(ids, 1024) + runMost - 1) / runMost * runMost }
}

// WithAuditRetention sets the age at which background work removes entries of the audit (default 365 days). It must be 0,
// which keeps all, or at least [access.MinAuditRetention].
func WithAuditRetention(d time.Duration) Option { return func(o *options) { o.auditRetention = d } }

// WithMaxPayloadBytes bounds payloads and results of InTx (default 1 MiB). For all other calls the manager checks the
// sizes.
func WithMaxPayloadBytes(n int) Option { return func(o *options) { o.maxPayload = n } }
