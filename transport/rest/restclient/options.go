package restclient

import (
	"crypto/tls"
	"errors"
	"net/http"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// DefaultTimeout bounds one attempt of a call, beside its wait: first until the answer begins, and then for each 64
// KiB.
const DefaultTimeout = 30 * time.Second

// DefaultMaxAnswerBytes bounds an answer after decompression: 128 MiB. The largest answer is that of a create with as
// many bytes as a server accepts by default.
const DefaultMaxAnswerBytes = 128 << 20

// Option configures a Client.
type Option func(*Client) error

// WithNamespace binds the client to a namespace. Without it requests carry no namespace, the server uses its default,
// and Namespace returns "default".
func WithNamespace(name string) Option {
	return func(c *Client) error {
		n, err := queue.NamespaceName(name)
		c.namespace = n
		return err
	}
}

// WithHTTPClient sends all calls through h. Its Timeout must be 0, because long polls and streams outlast any
// timeout.
func WithHTTPClient(h *http.Client) Option {
	return func(c *Client) error {
		if h == nil || h.Timeout != 0 {
			return errors.New("restclient: http client: must have no Timeout; calls have their own")
		}
		c.http = h
		return nil
	}
}

// WithTLS sets the authorities and the client certificates of https connections. It has no effect beside WithHTTPClient. The
// client changes nothing in cfg, and the caller must not either.
func WithTLS(cfg *tls.Config) Option {
	return func(c *Client) error {
		c.tls = cfg
		return nil
	}
}

// WithHeader adds a header to every request, such as Authorization.
func WithHeader(name, value string) Option {
	return func(c *Client) error {
		c.header.Add(name, value)
		return nil
	}
}

// WithToken sends "Authorization: Bearer …" with the token that source returns for each request, so that a token may be replaced
// while the client is in use. source must be safe for concurrent use.
func WithToken(source func() string) Option {
	return func(c *Client) error {
		c.token = source
		return nil
	}
}

// WithTimeout bounds one attempt of a call, beside its wait. The default is 30 s. The limit applies to the beginning
// of the answer and to each 64 KiB of a body or an answer, so that a moving transfer is not cut.
func WithTimeout(d time.Duration) Option {
	return func(c *Client) error {
		if d <= 0 {
			return errors.New("restclient: timeout: must be above 0")
		}
		c.timeout = d
		return nil
	}
}

// WithMaxAnswerBytes bounds an answer after decompression: 1 MiB to 1 GiB. The default is DefaultMaxAnswerBytes. A
// server with payloads above 32 MiB needs more.
func WithMaxAnswerBytes(n int) Option {
	return func(c *Client) error {
		c.maxAnswer = n
		return queue.CheckInt("max_answer_bytes", n, 1<<20, 1<<30)
	}
}

// WithAttempts sets the number of attempts of a call that is safe to repeat, at least 1. The default is 4.
func WithAttempts(n int) Option {
	return func(c *Client) error {
		if n < 1 {
			return errors.New("restclient: attempts: must be at least 1")
		}
		c.attempts = n
		return nil
	}
}

// WithPatience sets the time during which a stream tries to reconnect. The default is 2 min.
func WithPatience(d time.Duration) Option {
	return func(c *Client) error {
		if d < 0 {
			return errors.New("restclient: patience: must not be negative")
		}
		c.patience = d
		return nil
	}
}

// WithoutKeys stops the client from adding keys to tasks. A create without a key of the caller is then not repeated.
func WithoutKeys() Option {
	return func(c *Client) error {
		c.keyless = true
		return nil
	}
}
