package restserver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Config holds the service and the settings of a server. Only Service is required.
type Config struct {
	// Service serves the requests. Its namespace is the default for requests without one.
	Service queue.Service
	// Authorize decides about the routes that call no operation of Service: metrics, doctor and the settling of ticks; nil =
	// every caller may use them. namespace is "" for metrics and doctor.
	Authorize func(ctx context.Context, action queue.Action, namespace string) error
	// Admin serves the routes of tokens and rights; nil = they answer 404.
	Admin access.Admin
	// Sessions serves the routes of sessions, and Cookie keeps their secrets in browsers; nil = they answer 404.
	Sessions access.Sessions
	Cookie   SessionCookie
	// CountRefusal counts a sign-in that failed, and returns how long the caller is to wait and why it must; nil = it need not.
	CountRefusal func(r *http.Request) (wait time.Duration, reason *queue.Error)
	// Diagnose examines the store for GET {prefix}/doctor; nil = 404.
	Diagnose func(context.Context) ([]queue.Finding, error)
	// Cells lists the cells of the store for GET {prefix}/cell; nil = 404.
	Cells func(context.Context) ([]queue.CellStatus, error)
	// Prefix of the routes; "" = /api, "/" = no prefix.
	Prefix string
	// Metrics answers GET {prefix}/metrics; nil = 404.
	Metrics http.Handler
	// Live and Ready answer /livez and /readyz; nil = always ok.
	Live  func(context.Context) error
	Ready func(context.Context) error
	// MaxBodyBytes bounds the body of a request; 0 = the default payload plus 64 KiB. Set it together with the
	// payload limit of the manager.
	MaxBodyBytes int64
	// MaxBatchBytes bounds the body of a batch of tasks, releases or heartbeats; 0 = 64 MiB.
	MaxBatchBytes int64
	// Large is the budget in bytes that large answers share; nil = a budget of queue.DefaultLargeBytes.
	Large *queue.Budget
	// Bodies is the budget in bytes that large bodies share; nil = a budget of queue.DefaultBodyBytes.
	Bodies *queue.Budget
	// Timeouts of the server; zero values get their defaults.
	Timeouts Timeouts
	// Logger for defects and refused work; nil = slog.Default.
	Logger *slog.Logger
	// Access is called after each request; nil = no call.
	Access func(context.Context, Access)
	// Middleware wraps the whole handler; nil = none.
	Middleware func(http.Handler) http.Handler
	// Version of the program, for OpenAPI.
	Version string
}

// DefaultIdle is longer than load balancers keep an unused connection: 600 s at Google, 60 s at AWS and nginx by
// default. The balancer must close first. Otherwise a request may hit a connection that closes, and a POST that is
// cut in this way is not sent again.
const DefaultIdle = 620 * time.Second

// Defaults of a Config.
const (
	// DefaultMaxBatchBytes bounds the body of a batch of tasks, releases or heartbeats.
	DefaultMaxBatchBytes = 64 << 20
	// DefaultBodyTimeout bounds the arrival of each 64 KiB of a request's body, and of the rest.
	DefaultBodyTimeout = 30 * time.Second
	// DefaultWriteTimeout bounds the send of each 64 KiB of an answer, or of one event of a stream.
	DefaultWriteTimeout = 30 * time.Second
)

// Timeouts bound the time that a client may keep the server waiting.
type Timeouts struct {
	// Body bounds the arrival of each 64 KiB of a request's body, and of the rest; default 30 s.
	Body time.Duration
	// Write bounds the send of each 64 KiB of an answer, or of one event of a stream; default 30 s.
	Write time.Duration
	// Idle is the time after which an unused connection is closed; default DefaultIdle.
	Idle time.Duration
	// Header bounds the arrival of a request's header; default 10 s.
	Header time.Duration
	// Heartbeat is the interval of the comments in a silent stream, at most 15 s; default 10 s.
	Heartbeat time.Duration
}

// Access describes one request, for a log.
type Access struct {
	Method    string
	Path      string
	Route     string // the matched pattern, or ""
	Namespace string // as the request names it, or ""
	Status    int    // of the answer, also when it did not arrive
	Aborted   bool   // the client has not received the whole answer
	Bytes     int64
	Duration  time.Duration
	RequestID string
	Remote    string
}

func (t Timeouts) withDefaults() Timeouts {
	t.Body = cmp.Or(t.Body, DefaultBodyTimeout)
	t.Write = cmp.Or(t.Write, DefaultWriteTimeout)
	t.Idle = cmp.Or(t.Idle, DefaultIdle)
	t.Header = cmp.Or(t.Header, 10*time.Second)
	t.Heartbeat = cmp.Or(t.Heartbeat, 10*time.Second)
	t.Heartbeat = min(t.Heartbeat, 15*time.Second)
	return t
}

func (c Config) withDefaults() (Config, error) {
	if c.Service == nil {
		return c, errors.New("restserver: Config.Service is required")
	}

	c.Prefix = cmp.Or(c.Prefix, restapi.DefaultPrefix)
	c.Prefix = strings.TrimRight("/"+strings.Trim(c.Prefix, "/"), "/")
	if strings.ContainsAny(c.Prefix, "{} ") {
		return c, errors.New("restserver: Config.Prefix must be a plain path")
	}

	c.MaxBodyBytes = cmp.Or(c.MaxBodyBytes, queue.DefaultMaxPayloadBytes+64<<10)
	c.MaxBatchBytes = cmp.Or(c.MaxBatchBytes, DefaultMaxBatchBytes)
	c.Version = cmp.Or(c.Version, "dev")
	if c.Large == nil {
		c.Large = queue.NewBudget(queue.DefaultLargeBytes)
	}
	if c.Bodies == nil {
		c.Bodies = queue.NewBodyBudget(queue.DefaultBodyBytes)
	}

	if c.Logger == nil {
		c.Logger = slog.Default()
	}

	c.Timeouts = c.Timeouts.withDefaults()
	return c, nil
}
