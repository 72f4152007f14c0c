package restclient

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Client is a queue.Service over REST. It is safe for concurrent use.
type Client struct {
	base      string
	namespace string // "" = the server's default
	http      *http.Client
	own       bool // http is ours to close
	header    http.Header
	timeout   time.Duration
	attempts  int
	maxAnswer int
	patience  time.Duration
	keyless   bool
	late      *queue.LateRetains
}

var _ queue.Service = (*Client)(nil)

// New makes a client of the server at baseURL, which has the prefix: "http://localhost:8080/api". It connects to nothing
// yet.
func New(baseURL string, opts ...Option) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &queue.Error{Op: "connect", Kind: queue.KindInvalid, Field: "url", Msg: `must be a URL such as "http://localhost:8080/api"`}
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, &queue.Error{Op: "connect", Kind: queue.KindInvalid, Field: "url", Msg: "must not have a query or a fragment"}
	}
	c := &Client{
		base: strings.TrimRight(u.String(), "/"), header: http.Header{}, timeout: DefaultTimeout, attempts: 4, maxAnswer: DefaultMaxAnswerBytes, patience: 2 * time.Minute,
		late: new(queue.LateRetains),
	}
	for _, o := range opts {
		if err := o.apply(c); err != nil {
			return nil, err
		}
	}
	if c.http == nil {
		c.http, c.own = &http.Client{Transport: transport(), CheckRedirect: noRedirect}, true
	}
	return c, nil
}

// transport keeps as many connections as a busy worker needs, and finds dead ones.
func transport() *http.Transport {
	return &http.Transport{
		Proxy:        http.ProxyFromEnvironment,
		DialContext:  (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns: 1024, MaxIdleConnsPerHost: 512, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
	}
}

// noRedirect returns a redirect as the answer, because it means a wrong URL. Following it would turn a POST into a GET.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Close closes the idle connections of a client that made its own, after it has handed back what arrives for callers that
// have gone. Clients from In share them.
func (c *Client) Close() {
	c.late.Close()
	if c.own {
		c.http.CloseIdleConnections()
	}
}

// Namespace is the namespace that the client is bound to; "default" when it is bound to none.
func (c *Client) Namespace() string {
	if c.namespace == "" {
		return queue.DefaultNamespace
	}
	return c.namespace
}

// In is the same client bound to namespace.
func (c *Client) In(namespace string) (queue.Service, error) {
	n, err := queue.NamespaceName(namespace)
	if err != nil {
		return nil, err
	}
	in := *c
	in.namespace = n
	return &in, nil
}

// ListNamespaces lists every namespace there is.
func (c *Client) ListNamespaces(ctx context.Context) ([]string, error) {
	var names []string
	for {
		var page restapi.List[string]
		err := c.sendRequest(ctx, request{op: "list namespaces", route: restapi.ListNamespaces, query: pageQuery(queue.Page{Offset: len(names), Limit: queue.MaxPage}), safe: true}, &page)
		if err != nil {
			return nil, err
		}
		names = append(names, page.Body...)
		if len(page.Body) == 0 || int64(len(names)) >= page.Count {
			return names, nil
		}
	}
}

// contextError is the error of a caller whose ctx is over.
func contextError(ctx context.Context, op string) *queue.Error {
	k := queue.KindCanceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		k = queue.KindDeadline
	}
	return &queue.Error{Op: op, Kind: k, Err: ctx.Err()}
}
