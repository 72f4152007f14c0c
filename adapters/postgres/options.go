package postgres

import (
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Option sets up a Store.
type Option interface{ apply(*options) }

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

type options struct {
	schema       string
	listenURL    string
	pooler       bool
	maxConns     int32
	callTimeout  time.Duration
	notifyEvery  time.Duration
	logger       *slog.Logger
	noNotify     bool
	maxPayload   int
	partitionMin int64
	tracer       pgx.QueryTracer
}

func defaultOptions() options {
	return options{
		schema:       DefaultSchema,
		callTimeout:  DefaultCallTimeout,
		notifyEvery:  5 * time.Millisecond,
		logger:       slog.New(slog.DiscardHandler),
		partitionMin: 1 << 20,
		maxPayload:   queue.DefaultMaxPayloadBytes,
	}
}

// WithSchema puts pgqueue's tables into another schema than "pgqueue".
func WithSchema(name string) Option { return optionFunc(func(o *options) { o.schema = name }) }

// WithListenURL gives a direct connection string for LISTEN, for when the main one leads through a pooler in
// transaction mode, where LISTEN is accepted and never delivers.
func WithListenURL(url string) Option { return optionFunc(func(o *options) { o.listenURL = url }) }

// WithPooler says that the main connection string leads through a transaction pooler such as pgbouncer: statements are
// described and not prepared by name, and the only start-up parameters sent are those that poolers know (client_encoding and
// standard_conforming_strings).
func WithPooler() Option { return optionFunc(func(o *options) { o.pooler = true }) }

// WithMaxConns bounds the connections of the pool. Default: what the connection string says, else 10.
func WithMaxConns(n int) Option { return optionFunc(func(o *options) { o.maxConns = int32(n) }) }

// DefaultCallTimeout bounds a call of the store, unless its caller has less time.
const DefaultCallTimeout = 30 * time.Second

// WithCallTimeout bounds every call to the database (default 30 s); a nearer deadline of the caller counts first.
func WithCallTimeout(d time.Duration) Option {
	return optionFunc(func(o *options) { o.callTimeout = d })
}

// WithNotifyInterval bounds how often this process notifies others of tasks that became ready (default every 5 ms).
func WithNotifyInterval(d time.Duration) Option {
	return optionFunc(func(o *options) { o.notifyEvery = d })
}

// WithoutNotify never notifies: other processes find tasks by polling.
func WithoutNotify() Option { return optionFunc(func(o *options) { o.noNotify = true }) }

// WithTracer has the connections that Open makes traced by t, which may be a pgx tracer of any kind. Default: none.
func WithTracer(t pgx.QueryTracer) Option { return optionFunc(func(o *options) { o.tracer = t }) }

// WithLogger is told of what background work had to put up with. Default: nobody.
func WithLogger(l *slog.Logger) Option { return optionFunc(func(o *options) { o.logger = l }) }

// WithPartitionSize is the least number of ids in a partition of tasks (default 1,048,576; at least 1024, rounded up to a
// multiple of 32). Partitions grow with the rate.
func WithPartitionSize(ids int64) Option {
	return optionFunc(func(o *options) { o.partitionMin = (max(ids, 1024) + runMost - 1) / runMost * runMost })
}

// WithMaxPayloadBytes bounds payloads and results of InTx (default 1 MiB); elsewhere the manager checks them.
func WithMaxPayloadBytes(n int) Option { return optionFunc(func(o *options) { o.maxPayload = n }) }
