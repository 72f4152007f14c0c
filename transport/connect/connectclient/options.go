package connectclient

import (
	"fmt"
	"maps"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/pgqueue/pgqueue/domain/pace"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of the options.
const (
	// DefaultTimeout ends a call without a deadline in its context when nothing moves for so long, beside the call's own wait.
	DefaultTimeout = 30 * time.Second
	// DefaultRetries is how often a failed call is repeated where that is safe.
	DefaultRetries = 3
	// DefaultMaxMessageBytes bounds an answer; a server answers with at most as much by default.
	DefaultMaxMessageBytes = 64 << 20
)

// Protocol is how a Client speaks. All do the same.
type Protocol string

// The protocols.
const (
	// Connect works over HTTP/1.1 and HTTP/2; the default.
	Connect Protocol = connect.ProtocolNameConnect
	// GRPC needs HTTP/2.
	GRPC Protocol = connect.ProtocolNameGRPC
	// GRPCWeb is for what sits behind proxies that translate gRPC-Web.
	GRPCWeb Protocol = connect.ProtocolNameGRPCWeb
)

// Option configures a Client.
type Option interface{ apply(*config) error }

type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

type config struct {
	namespace    string
	http         connecthttp.HTTPClient
	header       http.Header
	timeout      time.Duration
	retries      int
	compress     bool
	maxMessage   int
	transport    []connecthttp.Option
	interceptors []connect.ClientInterceptor
}

// WithNamespace binds the client to a namespace. Without it requests name none, the server's default counts, and
// Namespace says "default".
func WithNamespace(namespace string) Option {
	return option(func(c *config) (err error) { c.namespace, err = queue.NamespaceName(namespace); return err })
}

// WithProtocol chooses how to speak. Default Connect.
func WithProtocol(p Protocol) Option {
	return option(func(c *config) error {
		switch p {
		case Connect:
		case GRPC:
			c.transport = append(c.transport, connecthttp.WithGRPC())
		case GRPCWeb:
			c.transport = append(c.transport, connecthttp.WithGRPCWeb())
		default:
			return queue.Invalid("protocol", fmt.Sprintf("%q is none of connect, grpc, grpcweb", p))
		}
		return nil
	})
}

// WithHTTPClient sends calls through h. Without it the client has connections of its own, HTTP/2 where the server
// speaks it and over plain text always; streams that go both ways need that. h must not have a Timeout: it would cut
// streams.
func WithHTTPClient(h *http.Client) Option {
	return option(func(c *config) error {
		if h.Timeout != 0 {
			return queue.Invalid("http_client", "a client with a timeout cuts streams; use WithTimeout")
		}
		c.http = h
		return nil
	})
}

// WithHeader adds a header to every call, as Authorization.
func WithHeader(name, value string) Option {
	return option(func(c *config) error {
		if c.header == nil {
			c.header = http.Header{}
		}
		c.header.Add(name, value)
		return nil
	})
}

// withHeader sends requests with a header more.
type withHeader struct {
	connecthttp.HTTPClient
	header http.Header
}

// Do sends r, which is the caller's alone.
func (h withHeader) Do(r *http.Request) (*http.Response, error) {
	maps.Copy(r.Header, h.header)
	return h.HTTPClient.Do(r)
}

// pacedClient counts the bytes of calls that pace.Start bounds.
type pacedClient struct{ connecthttp.HTTPClient }

// Do implements connecthttp.HTTPClient.
func (c pacedClient) Do(r *http.Request) (*http.Response, error) { return pace.Do(c.HTTPClient, r) }

// WithCompression compresses messages of 1 KiB and more with gzip, both ways. It is worth its time where the network is
// slow; by default nothing is compressed.
func WithCompression() Option { return option(func(c *config) error { c.compress = true; return nil }) }

// WithTimeout ends calls without a deadline in their context when less than 64 KiB move in d, beside their own wait. It bounds
// the calls of a worker's stream as a whole.
func WithTimeout(d time.Duration) Option {
	return option(func(c *config) error {
		c.timeout = d
		if d <= 0 {
			return queue.Invalid("timeout", fmt.Sprintf("must be a duration above 0, got %v", d))
		}
		return nil
	})
}

// WithRetries sets how often a failed call is repeated where that is safe; 0 = never.
func WithRetries(n int) Option {
	return option(func(c *config) error { c.retries = n; return queue.CheckInt("retries", n, 0, 100) })
}

// WithMaxMessageBytes bounds an answer, after decompression. Retains ask for what fits.
func WithMaxMessageBytes(n int) Option {
	return option(func(c *config) error {
		c.maxMessage = n
		return queue.CheckInt("max_message_bytes", n, 1<<20, 1<<31-1)
	})
}

// WithInterceptors puts interceptors around every call, the first outermost.
func WithInterceptors(is ...connect.ClientInterceptor) Option {
	return option(func(c *config) error { c.interceptors = append(c.interceptors, is...); return nil })
}
