package restclient

import (
	"errors"
	"net/http"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// DefaultTimeout bounds one attempt of a call: until the answer begins, beside the time that it asks to wait, and then for
// each 64 KiB.
const DefaultTimeout = 30 * time.Second

// DefaultMaxAnswerBytes bounds an answer, as it is without compression: 128 MiB. The largest is that of a create of as many
// bytes as a server takes by default.
const DefaultMaxAnswerBytes = 128 << 20

// Option configures a Client.
type Option interface{ apply(*Client) error }

type option func(*Client) error

func (o option) apply(c *Client) error { return o(c) }

// WithNamespace binds the client to a namespace. Without it requests name none, the server's default counts, and
// Namespace says "default".
func WithNamespace(name string) Option {
	return option(func(c *Client) error {
		n, err := queue.NamespaceName(name)
		c.namespace = n
		return err
	})
}

// WithHTTPClient uses h instead of a client of its own; its Timeout must be 0, for long polls and streams.
func WithHTTPClient(h *http.Client) Option {
	return option(func(c *Client) error {
		if h == nil || h.Timeout != 0 {
			return errors.New("restclient: http client: must have no Timeout; calls have their own")
		}
		c.http = h
		return nil
	})
}

// WithHeader adds a header to every request, as Authorization.
func WithHeader(name, value string) Option {
	return option(func(c *Client) error {
		c.header.Add(name, value)
		return nil
	})
}

// WithTimeout bounds one attempt of a call, beside the time that it asks to wait; default 30 s. It is for the beginning of
// the answer, and for each 64 KiB of a body or an answer: what moves is not cut.
func WithTimeout(d time.Duration) Option {
	return option(func(c *Client) error {
		if d <= 0 {
			return errors.New("restclient: timeout: must be above 0")
		}
		c.timeout = d
		return nil
	})
}

// WithMaxAnswerBytes bounds an answer, as it is without compression; default DefaultMaxAnswerBytes, at most 1 GiB. A server
// whose payloads may be larger than 32 MiB needs more.
func WithMaxAnswerBytes(n int) Option {
	return option(func(c *Client) error {
		c.maxAnswer = n
		return queue.CheckInt("max_answer_bytes", n, 1<<20, 1<<30)
	})
}

// WithAttempts is how often a call that is safe to repeat is tried, at least once; default 4.
func WithAttempts(n int) Option {
	return option(func(c *Client) error {
		if n < 1 {
			return errors.New("restclient: attempts: must be at least 1")
		}
		c.attempts = n
		return nil
	})
}

// WithPatience is how long a stream that was connected tries to reconnect before it gives up; default 2 min.
func WithPatience(d time.Duration) Option {
	return option(func(c *Client) error {
		if d < 0 {
			return errors.New("restclient: patience: must not be negative")
		}
		c.patience = d
		return nil
	})
}

// WithoutKeys creates tasks as they are: without a key of the caller's a create is not repeated.
func WithoutKeys() Option {
	return option(func(c *Client) error {
		c.keyless = true
		return nil
	})
}
