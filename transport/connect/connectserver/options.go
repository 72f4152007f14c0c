package connectserver

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of the options.
const (
	// DefaultMaxMessageBytes bounds a message from a client.
	DefaultMaxMessageBytes = 32 << 20
	// DefaultAliveEvery is the interval at which the sides of a stream send signs of life.
	DefaultAliveEvery = 15 * time.Second
	// DefaultSendTimeout is the time without reads after which the server ends a stream.
	DefaultSendTimeout = 30 * time.Second
	// DefaultCallTimeout bounds a call without a deadline, beside the wait of the call.
	DefaultCallTimeout = time.Minute
)

// Option configures a Server.
type Option func(*config) error

type config struct {
	admin       access.Admin
	ready       func(context.Context) error
	logger      *slog.Logger
	maxMessage  int
	large       *queue.Budget
	bodies      *queue.Budget
	aliveEvery  time.Duration
	sendTimeout time.Duration
	callTimeout time.Duration
}

// WithReadiness makes gRPC's health service answer SERVING while ready returns nil. Without it the answer is SERVING
// until Drain. The context of ready ends after 5 seconds.
func WithReadiness(ready func(context.Context) error) Option {
	return func(c *config) error { c.ready = ready; return nil }
}

// WithAdmin sets the operations on tokens and rights. Without it they end with KindNotFound.
func WithAdmin(a access.Admin) Option {
	return func(c *config) error { c.admin = a; return nil }
}

// WithLogger sets the logger for internal errors, because their causes do not travel to clients. The default is
// slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error { c.logger = l; return nil }
}

// WithLargeAnswers sets the budget in bytes that the large answers of unary calls share. The default is
// queue.DefaultLargeBytes.
func WithLargeAnswers(b *queue.Budget) Option {
	return func(c *config) error { c.large = b; return nil }
}

// WithLargeBodies sets the budget in bytes, of queue.NewBodyBudget, that the large messages of clients share, as they are decoded. The default
// is queue.DefaultBodyBytes.
func WithLargeBodies(b *queue.Budget) Option {
	return func(c *config) error { c.bodies = b; return nil }
}

// WithMaxMessageBytes bounds a message of a client after decompression: 1 MiB to 1 GiB. Answers may be twice as
// large. The limit must be above the largest payload.
func WithMaxMessageBytes(n int) Option {
	return func(c *config) error {
		c.maxMessage = n
		return queue.CheckInt("max_message_bytes", n, 1<<20, 1<<30)
	}
}

// WithAliveEvery sets the interval at which the sides of a stream send signs of life. A stream ends after three
// intervals without one. Clients rely on at most 15 seconds.
func WithAliveEvery(d time.Duration) Option {
	return func(c *config) error {
		c.aliveEvery = d
		if d > DefaultAliveEvery {
			return queue.Invalid("alive_every", fmt.Sprintf("must be at most %v, got %v", DefaultAliveEvery, d))
		}
		return requirePositive("alive_every", d)
	}
}

// WithSendTimeout sets the time after which the server ends a stream with unread messages.
func WithSendTimeout(d time.Duration) Option {
	return func(c *config) error { c.sendTimeout = d; return requirePositive("send_timeout", d) }
}

// WithCallTimeout bounds calls without a deadline, beside the wait of the call.
func WithCallTimeout(d time.Duration) Option {
	return func(c *config) error { c.callTimeout = d; return requirePositive("call_timeout", d) }
}

func requirePositive(field string, d time.Duration) error {
	if d <= 0 {
		return queue.Invalid(field, fmt.Sprintf("must be a duration above 0, got %v", d))
	}
	return nil
}
