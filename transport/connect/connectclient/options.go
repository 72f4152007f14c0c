package connectclient

import (
	"crypto/tls"
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
	// DefaultTimeout ends a call without a deadline when no bytes move for this time, beside the wait of the call.
	DefaultTimeout = 30 * time.Second
	// DefaultRetries is the number of repeats of a failed call, where a repeat is safe.
	DefaultRetries = 3
	// DefaultMaxMessageBytes bounds an answer. The default limit of the server is the same.
	DefaultMaxMessageBytes = 64 << 20
)

// Protocol is the protocol of a Client. All protocols offer the same operations.
type Protocol string

// Values of Protocol.
const (
	// Connect works over HTTP/1.1 and HTTP/2. It is the default.
	Connect Protocol = connect.ProtocolNameConnect
	// GRPC needs HTTP/2.
	GRPC Protocol = connect.ProtocolNameGRPC
	// GRPCWeb is for servers behind proxies that translate gRPC-Web.
	GRPCWeb Protocol = connect.ProtocolNameGRPCWeb
)

// Option configures a Client.
type Option func(*config) error

type config struct {
	namespace    string
	http         connecthttp.HTTPClient
	header       http.Header
	token        func() string
	tls          *tls.Config
	timeout      time.Duration
	retries      int
	compress     bool
	maxMessage   int
	transport    []connecthttp.Option
	interceptors []connect.ClientInterceptor
}

// WithNamespace binds the client to a namespace. Without it requests carry no namespace, the server uses its default,
// and Namespace returns "default".
func WithNamespace(namespace string) Option {
	return func(c *config) (err error) { c.namespace, err = queue.NamespaceName(namespace); return err }
}

// WithProtocol sets the protocol. The default is Connect.
func WithProtocol(p Protocol) Option {
	return func(c *config) error {
		switch p {
		case Connect:
		case GRPC:
			c.transport = append(c.transport, connecthttp.WithGRPC())
		case GRPCWeb:
			c.transport = append(c.transport, connecthttp.WithGRPCWeb())
		default:
			return queue.Invalid("protocol", fmt.Sprintf("must be connect, grpc or grpcweb, got %.64q", p))
		}
		return nil
	}
}

// WithTLS sets the authorities and the client certificates of https connections. It has no effect beside WithHTTPClient. The
// client changes nothing in cfg, and the caller must not either.
func WithTLS(cfg *tls.Config) Option {
	return func(c *config) error {
		c.tls = cfg
		return nil
	}
}

// WithHTTPClient sends all calls through h. Without it the client opens its own connections: HTTP/2 over plain text,
// and HTTP/2 over TLS where the server offers it. Bidirectional streams need HTTP/2. h must not have a Timeout, which
// would cut streams.
func WithHTTPClient(h *http.Client) Option {
	return func(c *config) error {
		if h.Timeout != 0 {
			return queue.Invalid("http_client", "must not have a timeout, which would cut streams; use WithTimeout")
		}
		c.http = h
		return nil
	}
}

// WithHeader adds a header to every call, such as Authorization.
func WithHeader(name, value string) Option {
	return func(c *config) error {
		if c.header == nil {
			c.header = http.Header{}
		}
		c.header.Add(name, value)
		return nil
	}
}

// WithToken sends "Authorization: Bearer …" with the token that source returns for each call, so that a token may be replaced
// while the client is in use. source must be safe for concurrent use.
func WithToken(source func() string) Option {
	return func(c *config) error { c.token = source; return nil }
}

// withHeader adds header and the token to every request.
type withHeader struct {
	connecthttp.HTTPClient
	header http.Header
	token  func() string // nil = none
}

// Do sends r. Only this call uses r, so it may change the header in place.
func (h withHeader) Do(r *http.Request) (*http.Response, error) {
	maps.Copy(r.Header, h.header)
	if h.token != nil {
		r.Header["Authorization"] = []string{"Bearer " + h.token()}
	}
	return h.HTTPClient.Do(r)
}

// pacedClient counts the bytes of the calls that pace.Start bounds.
type pacedClient struct{ connecthttp.HTTPClient }

// Do implements connecthttp.HTTPClient.
func (c pacedClient) Do(r *http.Request) (*http.Response, error) { return pace.Do(c.HTTPClient, r) }

// WithCompression compresses messages of 1 KiB and more with gzip in both directions. It pays off on a slow network.
// By default messages are not compressed.
func WithCompression() Option { return func(c *config) error { c.compress = true; return nil } }

// WithTimeout ends a call without a deadline when less than 64 KiB move within d, beside the wait of the call. For
// the calls of a worker's stream it bounds the whole duration.
func WithTimeout(d time.Duration) Option {
	return func(c *config) error {
		c.timeout = d
		if d <= 0 {
			return queue.Invalid("timeout", fmt.Sprintf("must be a duration above 0, got %v", d))
		}
		return nil
	}
}

// WithRetries sets the number of repeats of a failed call, where a repeat is safe: 0 to 100.
func WithRetries(n int) Option {
	return func(c *config) error { c.retries = n; return queue.CheckInt("retries", n, 0, 100) }
}

// WithMaxMessageBytes bounds an answer after decompression: 1 MiB to 2 GiB - 1. Retains ask only for tasks that fit.
func WithMaxMessageBytes(n int) Option {
	return func(c *config) error {
		c.maxMessage = n
		return queue.CheckInt("max_message_bytes", n, 1<<20, 1<<31-1)
	}
}

// WithInterceptors puts interceptors around every call. The first one is the outermost.
func WithInterceptors(is ...connect.ClientInterceptor) Option {
	return func(c *config) error { c.interceptors = append(c.interceptors, is...); return nil }
}
