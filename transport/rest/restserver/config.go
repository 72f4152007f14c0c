package restserver

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Config holds the service and the settings of a server. Only Service is required.
type Config struct {
	// Service answers; its namespace is the default of requests that name none.
	Service queue.Service
	// Prefix of the routes; "" = /api, "/" = none.
	Prefix string
	// Metrics answers GET {prefix}/metrics; nil = 404.
	Metrics http.Handler
	// Live and Ready answer /livez and /readyz; nil = always well.
	Live  func(context.Context) error
	Ready func(context.Context) error
	// MaxBodyBytes bounds a request's body; 0 = the default payload and 64 KiB. Set it with the manager's payload limit.
	MaxBodyBytes int64
	// MaxBatchBytes bounds the body of many tasks, releases or heartbeats; 0 = 64 MiB.
	MaxBatchBytes int64
	// Large bounds the large answers that are made at the same time; nil = queue.DefaultLargeBytes of its own.
	Large *queue.Budget
	// Timeouts; zero ones are filled in.
	Timeouts Timeouts
	// Logger of defects and refused work; nil = slog.Default.
	Logger *slog.Logger
	// Access, when set, is called after each request.
	Access func(context.Context, Access)
	// Middleware is put around everything, when set.
	Middleware func(http.Handler) http.Handler
	// Version of the program, for OpenAPI.
	Version string
}

// DefaultIdle is longer than load balancers keep an unused connection: Google's for 600 s, AWS's and nginx's for 60 s
// by default. The side that closes first must be theirs, else a request meets a connection that is being
// closed, and a POST that was cut so is not sent again.
const DefaultIdle = 620 * time.Second

// Defaults of a Config.
const (
	// DefaultMaxBatchBytes bounds the body of many tasks, releases or heartbeats.
	DefaultMaxBatchBytes = 64 << 20
	// DefaultBodyTimeout is how long each 64 KiB of a request's body may take to arrive, and the last of it.
	DefaultBodyTimeout = 30 * time.Second
	// DefaultWriteTimeout is how long each 64 KiB of an answer, or one event of a stream, may take to leave.
	DefaultWriteTimeout = 30 * time.Second
)

// Timeouts bound how long a client may keep the server waiting.
type Timeouts struct {
	// Body is how long each 64 KiB of a request's body may take to arrive, and the last of it; default 30 s.
	Body time.Duration
	// Write is how long each 64 KiB of an answer, or one event of a stream, may take to leave; default 30 s.
	Write time.Duration
	// Idle is how long an unused connection stays; default DefaultIdle.
	Idle time.Duration
	// Header is how long a request's header may take to arrive; default 10 s.
	Header time.Duration
	// Heartbeat is the time between the comments of a silent stream, at most 15 s; default 10 s.
	Heartbeat time.Duration
}

// Access is one request, for a log.
type Access struct {
	Method    string
	Path      string
	Route     string // the pattern that matched, "" when none
	Namespace string // as the request named it, "" when it did not
	Status    int    // as it was answered, also when that did not arrive
	Aborted   bool   // the client has not got the answer, or not all of it
	Bytes     int64
	Duration  time.Duration
	RequestID string
	Remote    string
}

func (t Timeouts) withDefaults() Timeouts {
	setDefault(&t.Body, DefaultBodyTimeout)
	setDefault(&t.Write, DefaultWriteTimeout)
	setDefault(&t.Idle, DefaultIdle)
	setDefault(&t.Header, 10*time.Second)
	setDefault(&t.Heartbeat, 10*time.Second)
	t.Heartbeat = min(t.Heartbeat, 15*time.Second)
	return t
}

func (c Config) withDefaults() (Config, error) {
	if c.Service == nil {
		return c, errors.New("restserver: Config.Service is required")
	}
	setDefault(&c.Prefix, restapi.DefaultPrefix)
	c.Prefix = strings.TrimRight("/"+strings.Trim(c.Prefix, "/"), "/")
	if strings.ContainsAny(c.Prefix, "{} ") {
		return c, errors.New("restserver: Config.Prefix must be a plain path")
	}
	setDefault(&c.MaxBodyBytes, queue.DefaultMaxPayloadBytes+64<<10)
	setDefault(&c.MaxBatchBytes, DefaultMaxBatchBytes)
	setDefault(&c.Version, "dev")
	if c.Large == nil {
		c.Large = queue.NewBudget(queue.DefaultLargeBytes)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Timeouts = c.Timeouts.withDefaults()
	return c, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
