package connectclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

var _ queue.Service = (*Client)(nil)

// Client implements queue.Service by calls to a server. It is safe for concurrent use.
type Client struct {
	*shared
	namespace string // "" = the default of the server
}

// shared holds the connections and settings that the clients of all namespaces use together.
type shared struct {
	timeout time.Duration
	retries int
	silence time.Duration   // silence after which a stream counts as dead
	own     *http.Transport // nil when the caller passed an HTTP client
	late    queue.LateRetains
	most    int // largest answer in bytes

	namespaces pgqueuev1connect.NamespaceServiceClient
	tasks      pgqueuev1connect.TaskServiceClient
	work       pgqueuev1connect.WorkServiceClient
	queues     pgqueuev1connect.QueueServiceClient
	tickers    pgqueuev1connect.TickerServiceClient
	events     pgqueuev1connect.EventServiceClient
	access     pgqueuev1connect.AccessServiceClient
}

// New returns a client of the server at baseURL, such as "http://localhost:8080". The URL is the root of the server,
// without the prefix of REST, and with a path only where a proxy adds one. New opens no connection.
func New(baseURL string, opts ...Option) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, queue.Invalid("url", fmt.Sprintf("must be an address such as http://localhost:8080, got %.64q", baseURL))
	}

	if u.RawQuery != "" || u.Fragment != "" {
		return nil, queue.Invalid("url", "must not have a query or a fragment; leave it out")
	}

	c := config{
		timeout: DefaultTimeout, retries: DefaultRetries,
		maxMessage: DefaultMaxMessageBytes,
	}
	for _, o := range opts {
		if err := o(&c); err != nil {
			return nil, err
		}
	}

	c.transport = append(c.transport, connecthttp.WithReadMaxBytes(c.maxMessage))
	// Small messages cost more to compress than they save.
	if c.compress {
		c.transport = append(c.transport, connecthttp.WithSendGzip(), connecthttp.WithCompressMinBytes(1<<10))
	} else {
		c.transport = append(c.transport, connecthttp.WithCompressors())
	}

	// Without a caller's HTTP client the connections belong to this client, which may drop dead ones.
	s := &shared{most: c.maxMessage, timeout: c.timeout, retries: c.retries, silence: 3 * aliveEvery}
	if c.http == nil {
		s.own = ownTransport(u.Scheme, c.tls)
		c.http = &http.Client{Transport: s.own, CheckRedirect: returnRedirect}
	}

	if c.header != nil || c.token != nil {
		c.http = withHeader{c.http, c.header, c.token}
	}

	cc := connect.NewClient(
		connecthttp.NewTransport(pacedClient{c.http}, strings.TrimRight(u.String(), "/"), c.transport...), c.interceptors...)
	s.namespaces = pgqueuev1connect.NewNamespaceServiceClient(cc)
	s.tasks = pgqueuev1connect.NewTaskServiceClient(cc)
	s.work = pgqueuev1connect.NewWorkServiceClient(cc)
	s.queues = pgqueuev1connect.NewQueueServiceClient(cc)
	s.tickers = pgqueuev1connect.NewTickerServiceClient(cc)
	s.events = pgqueuev1connect.NewEventServiceClient(cc)
	s.access = pgqueuev1connect.NewAccessServiceClient(cc)
	return &Client{shared: s, namespace: c.namespace}, nil
}

// ownTransport returns a transport that speaks HTTP/2 also over plain text, which gRPC and streams need. Pings detect
// dead connections within 15 seconds.
func ownTransport(scheme string, cfg *tls.Config) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = cfg.Clone()
	t.Protocols = new(http.Protocols)
	if scheme == "https" {
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
	} else {
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second}
	return t
}

// dropIdleConnections closes the idle connections, because one of them may have just proved dead.
func (s *shared) dropIdleConnections() {
	if s.own != nil {
		s.own.CloseIdleConnections()
	}
}

// Close hands back the tasks that arrive for ended retains, and then closes the idle connections of the client. Calls
// under way continue; close the streams first.
func (s *shared) Close() {
	s.late.Close()
	s.dropIdleConnections()
}

// Namespace returns the namespace of the client, or "default" if the client names none.
func (c *Client) Namespace() string { return cmp.Or(c.namespace, queue.DefaultNamespace) }

// In returns a client of namespace that shares the connections of c.
func (c *Client) In(namespace string) (queue.Service, error) {
	n, err := queue.NamespaceName(namespace)
	if err != nil {
		return nil, err
	}
	return &Client{shared: c.shared, namespace: n}, nil
}

// ListNamespaces implements queue.Scoped. It reads the names page by page.
func (c *Client) ListNamespaces(ctx context.Context) ([]string, error) {
	var names []string
	for page := (queue.Page{Limit: queue.MaxPage}); ; {
		res, err := sendCall(ctx, c, queue.OpListNamespaces, c.namespaces.ListNamespaces, &pb.ListNamespacesRequest{Page: wire.Page(page)})
		if err != nil {
			return nil, err
		}

		names = append(names, res.GetNamespaces()...)
		if res.GetNext() == "" || res.GetNext() == page.Cursor {
			return names, nil
		}
		page.Cursor = res.GetNext()
	}
}

// returnRedirect returns a redirect to the caller as the answer. Following it would turn a POST into a GET.
func returnRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
