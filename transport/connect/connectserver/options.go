package connectserver

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of the options.
const (
	// DefaultMaxMessageBytes bounds a message from a client.
	DefaultMaxMessageBytes = 32 << 20
	// DefaultAliveEvery is how often the sides of a stream show that they live.
	DefaultAliveEvery = 15 * time.Second
	// DefaultSendTimeout is how long a stream may not read before it is ended.
	DefaultSendTimeout = 30 * time.Second
	// DefaultCallTimeout bounds a call without a deadline of its own, beside the wait that it asked for.
	DefaultCallTimeout = time.Minute
)

// Option configures a Server.
type Option interface{ apply(*config) error }

type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

type config struct {
	ready        func(context.Context) error
	logger       *slog.Logger
	maxMessage   int
	large        *queue.Budget
	aliveEvery   time.Duration
	sendTimeout  time.Duration
	callTimeout  time.Duration
	interceptors []connect.ServerInterceptor
}

// WithReadiness lets gRPC's health service answer SERVING while ready returns nil. Without it the answer is always
// SERVING until Drain. ready must return within 5 seconds; its context ends then.
func WithReadiness(ready func(context.Context) error) Option {
	return option(func(c *config) error { c.ready = ready; return nil })
}

// WithLogger sets the logger of internal errors: their causes do not travel. Default slog.Default().
func WithLogger(l *slog.Logger) Option {
	return option(func(c *config) error { c.logger = l; return nil })
}

// WithLargeAnswers bounds the large answers that unary calls get at the same time. Default queue.DefaultLargeBytes.
func WithLargeAnswers(b *queue.Budget) Option {
	return option(func(c *config) error { c.large = b; return nil })
}

// WithMaxMessageBytes bounds a message from a client, after decompression; answers may be twice as large. It must leave
// room for the largest payload: 1 MiB to 1 GiB.
func WithMaxMessageBytes(n int) Option {
	return option(func(c *config) error {
		c.maxMessage = n
		return queue.CheckInt("max_message_bytes", n, 1<<20, 1<<30)
	})
}

// WithAliveEvery sets how often the sides of a stream show that they live; three times as long without a sign ends it.
// At most 15 seconds: clients count on that.
func WithAliveEvery(d time.Duration) Option {
	return option(func(c *config) error {
		c.aliveEvery = d
		if d > DefaultAliveEvery {
			return queue.Invalid("alive_every", fmt.Sprintf("must be at most %v, got %v", DefaultAliveEvery, d))
		}
		return positive("alive_every", d)
	})
}

// WithSendTimeout sets how long a client may leave the messages of a stream unread before the stream is ended.
func WithSendTimeout(d time.Duration) Option {
	return option(func(c *config) error { c.sendTimeout = d; return positive("send_timeout", d) })
}

// WithCallTimeout bounds calls that come without a deadline, beside the wait that they asked for.
func WithCallTimeout(d time.Duration) Option {
	return option(func(c *config) error { c.callTimeout = d; return positive("call_timeout", d) })
}

// WithInterceptors puts interceptors around every call, the first outermost. They see errors as clients do.
func WithInterceptors(is ...connect.ServerInterceptor) Option {
	return option(func(c *config) error { c.interceptors = append(c.interceptors, is...); return nil })
}

func positive(field string, d time.Duration) error {
	if d <= 0 {
		return queue.Invalid(field, fmt.Sprintf("must be a duration above 0, got %v", d))
	}
	return nil
}
