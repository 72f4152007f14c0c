package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"time"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// Defaults of a Config.
const (
	DefaultAddr        = "localhost:8080"
	DefaultPrefix      = program.DefaultPrefix
	DefaultStopTimeout = 20 * time.Second
)

// Config says what server to run. The zero value is a server on DefaultAddr over an embedded PostgreSQL.
type Config struct {
	// Database says how to reach PostgreSQL; without a URL the server starts an embedded one.
	program.Database
	// DataDir is where the embedded PostgreSQL lives; "" = the user's data folder.
	DataDir string
	// NoMigrate leaves the schema as it is; an older or missing one is refused.
	NoMigrate bool

	// Addr is the host and port to listen on; port 0 takes any free one.
	Addr string
	// Prefix of the REST routes.
	Prefix string
	// Namespace of requests that name none.
	Namespace string
	// MaxPayloadBytes bounds payloads and results; 0 = queue.DefaultMaxPayloadBytes.
	MaxPayloadBytes int
	// CORSOrigins are those whose pages may call from browsers, as https://app.example.com.
	CORSOrigins []string
	// AllowedHosts are the names that requests over loopback may be for, beside localhost and the host of Addr.
	AllowedHosts []string
	// NoBackground leaves background work to other processes.
	NoBackground bool

	// IdleTimeout is how long an unused connection of a client stays; 0 = restserver.DefaultIdle.
	IdleTimeout time.Duration

	// StopTimeout bounds a graceful stop; 0 = DefaultStopTimeout.
	StopTimeout time.Duration
	// DrainDelay is how long readiness is off before requests are refused, for load balancers that poll it.
	DrainDelay time.Duration

	// Log is told what happens; nil = slog.Default.
	Log *slog.Logger
	// Version of the program.
	Version string

	// Store opens the store instead of what the fields above say: for other stores, and tests. close is called once,
	// after everything that uses the store has ended.
	Store func(ctx context.Context) (store queue.Store, closeStore func(context.Context) error, err error)
}

// Validate reports the first field at fault, as an error of queue.KindInvalid.
func (c Config) Validate() error {
	_, err := c.filled()
	return err
}

// filled checks c and fills in its defaults.
func (c Config) filled() (Config, error) {
	fill(&c.Addr, DefaultAddr)
	fill(&c.Prefix, DefaultPrefix)
	fill(&c.Schema, program.DefaultSchema)
	fill(&c.Namespace, queue.DefaultNamespace)
	fill(&c.StopTimeout, DefaultStopTimeout)
	fill(&c.IdleTimeout, restserver.DefaultIdle)
	fill(&c.MaxPayloadBytes, queue.DefaultMaxPayloadBytes)
	fill(&c.Version, "dev")
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if err := c.Database.Validate(); err != nil {
		return c, err
	}
	switch {
	case c.URL != "" && c.DataDir != "":
		return c, queue.Invalid("data-dir", "it is of the embedded PostgreSQL; leave it out, or the URL")
	case c.URL == "" && (c.ListenURL != "" || c.Pooler):
		return c, queue.Invalid("listen-url", "the embedded PostgreSQL has no pooler in front of it; give a URL too")
	case c.IdleTimeout < time.Second || c.IdleTimeout > 24*time.Hour:
		return c, queue.Invalid("idle-timeout", "must be a duration from 1s to 24h")
	case c.StopTimeout < 0 || c.DrainDelay < 0:
		return c, queue.Invalid("stop-timeout", "a duration from 0 on is needed")
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return c, queue.Invalid("addr", fmt.Sprintf("%q: a host and a port are needed, as %q", c.Addr, DefaultAddr))
	}
	if !plainPath.MatchString(c.Prefix) {
		return c, queue.Invalid("prefix", fmt.Sprintf("%q: a plain path is needed, as %q", c.Prefix, DefaultPrefix))
	}
	n, err := queue.NamespaceName(c.Namespace)
	c.Namespace = n
	return c, err
}

// plainPath is what a prefix may be, with or without the slashes at its ends.
var plainPath = regexp.MustCompile(`^/*([\w.~-]+/*)*$`)

func fill[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// as gives err a kind and an operation; an error that has both keeps them.
func as(kind queue.Kind, op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*queue.Error](err); ok {
		return queue.WithOp(op, err)
	}
	return &queue.Error{Op: op, Kind: kind, Err: err}
}
