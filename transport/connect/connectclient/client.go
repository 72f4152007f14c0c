package connectclient

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
)

var _ queue.Service = (*Client)(nil)

// Client is a queue.Service in a server. It is safe for concurrent use.
type Client struct {
	*shared
	namespace string // "" = the server's default
}

// shared is the part that the clients of all namespaces share.
type shared struct {
	timeout time.Duration
	retries int
	silence time.Duration   // of a stream, before it is taken for dead
	own     *http.Transport // nil when the caller brought connections
	late    queue.LateRetains
	most    int // bytes of an answer

	namespaces pgqueuev1connect.NamespaceServiceClient
	tasks      pgqueuev1connect.TaskServiceClient
	work       pgqueuev1connect.WorkServiceClient
	queues     pgqueuev1connect.QueueServiceClient
	tickers    pgqueuev1connect.TickerServiceClient
	events     pgqueuev1connect.EventServiceClient
}

// New is a client of the server at baseURL, as "http://localhost:8080": the root of the server, without REST's prefix;
// with a path where a proxy puts one before it. It does not connect yet.
func New(baseURL string, opts ...Option) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, queue.Invalid("url", "an address as http://localhost:8080 is needed")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, queue.Invalid("url", "it must not have a query or a fragment")
	}
	c := config{
		timeout: DefaultTimeout, retries: DefaultRetries,
		maxMessage: DefaultMaxMessageBytes,
	}
	for _, o := range opts {
		if err := o.apply(&c); err != nil {
			return nil, err
		}
	}
	c.transport = append(c.transport, connecthttp.WithReadMaxBytes(c.maxMessage))
	if c.compress {
		c.transport = append(c.transport, connecthttp.WithSendGzip(), connecthttp.WithCompressMinBytes(1<<10))
	} else {
		c.transport = append(c.transport, connecthttp.WithCompressors())
	}
	s := &shared{most: c.maxMessage, timeout: c.timeout, retries: c.retries, silence: 3 * aliveEvery}
	if c.http == nil {
		s.own = ownTransport(u.Scheme)
		c.http = &http.Client{Transport: s.own, CheckRedirect: returnRedirect}
	}
	if c.header != nil {
		c.http = withHeader{c.http, c.header}
	}
	cc := connect.NewClient(
		connecthttp.NewTransport(pacedClient{c.http}, strings.TrimRight(u.String(), "/"), c.transport...), c.interceptors...)
	s.namespaces = pgqueuev1connect.NewNamespaceServiceClient(cc)
	s.tasks = pgqueuev1connect.NewTaskServiceClient(cc)
	s.work = pgqueuev1connect.NewWorkServiceClient(cc)
	s.queues = pgqueuev1connect.NewQueueServiceClient(cc)
	s.tickers = pgqueuev1connect.NewTickerServiceClient(cc)
	s.events = pgqueuev1connect.NewEventServiceClient(cc)
	return &Client{shared: s, namespace: c.namespace}, nil
}

// ownTransport speaks HTTP/2 also over plain text, which gRPC and streams need, and notices connections that died.
func ownTransport(scheme string) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
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

// refresh drops connections that carry nothing now, as those that just proved dead.
func (s *shared) refresh() {
	if s.own != nil {
		s.own.CloseIdleConnections()
	}
}

// Close closes the idle connections that the client made, after it has handed back what arrives for callers that have gone.
// Calls under way go on; close its streams first.
func (s *shared) Close() {
	s.late.Close()
	s.refresh()
}

// Namespace is the namespace that the client is bound to; "default" when it is bound to none.
func (c *Client) Namespace() string {
	if c.namespace == "" {
		return queue.DefaultNamespace
	}
	return c.namespace
}

// In is the same client bound to namespace. It shares its connections.
func (c *Client) In(namespace string) (queue.Service, error) {
	n, err := queue.NamespaceName(namespace)
	if err != nil {
		return nil, err
	}
	return &Client{shared: c.shared, namespace: n}, nil
}

// ListNamespaces implements queue.Scoped.
func (c *Client) ListNamespaces(ctx context.Context) ([]string, error) {
	res, err := sendCall(ctx, c, "list namespaces", repeatable, c.namespaces.ListNamespaces, &pb.ListNamespacesRequest{})
	return res.GetNamespaces(), err
}

// returnRedirect makes a redirect an error of its one request: a client that followed it would make a GET of a POST.
func returnRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
