package restclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Client implements queue.Service over REST. It is safe for concurrent use.
type Client struct {
	base      string
	namespace string // "" = the default of the server
	http      *http.Client
	own       bool // the client made http and closes it
	header    http.Header
	token     func() string // nil = none
	tls       *tls.Config   // nil = the defaults
	timeout   time.Duration
	attempts  int
	maxAnswer int
	patience  time.Duration
	keyless   bool
	late      *queue.LateRetains
}

var _ queue.Service = (*Client)(nil)

// New returns a client of the server at baseURL, which includes the prefix: "http://localhost:8080/api". It opens no
// connection.
func New(baseURL string, opts ...Option) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &queue.Error{Op: "connect", Kind: queue.KindInvalid, Field: "url", Msg: fmt.Sprintf(`must be a URL such as "http://localhost:8080/api", got %.64q`, baseURL)}
	}

	if u.RawQuery != "" || u.Fragment != "" {
		return nil, &queue.Error{Op: "connect", Kind: queue.KindInvalid, Field: "url", Msg: "must not have a query or a fragment; leave it out"}
	}

	c := &Client{
		base: strings.TrimRight(u.String(), "/"), header: http.Header{}, timeout: DefaultTimeout, attempts: 4, maxAnswer: DefaultMaxAnswerBytes, patience: 2 * time.Minute,
		late: new(queue.LateRetains),
	}
	for _, o := range opts {
		if err := o(c); err != nil {
			return nil, err
		}
	}

	if c.http == nil {
		c.http, c.own = &http.Client{Transport: transport(c.tls), CheckRedirect: noRedirect}, true
	}

	return c, nil
}

// transport returns a transport with enough connections for a busy worker. It detects dead connections.
func transport(cfg *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig: cfg.Clone(),

		Proxy:        http.ProxyFromEnvironment,
		DialContext:  (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns: 1024, MaxIdleConnsPerHost: 512, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
	}
}

// noRedirect returns a redirect as the answer, because it means a wrong URL. Following it would turn a POST into a
// GET.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Close hands back the tasks that arrive for ended retains, and then closes the idle connections that the client
// made. Clients from In share them.
func (c *Client) Close() {
	c.late.Close()
	if c.own {
		c.http.CloseIdleConnections()
	}
}

// Namespace returns the namespace of the client, or "default" if the client names none.
func (c *Client) Namespace() string { return cmp.Or(c.namespace, queue.DefaultNamespace) }

// In returns a client of namespace that shares the connections of c.
func (c *Client) In(namespace string) (queue.Service, error) {
	n, err := queue.NamespaceName(namespace)
	if err != nil {
		return nil, err
	}
	in := *c
	in.namespace = n
	return &in, nil
}

// ListNamespaces returns the names of all namespaces. It reads them page by page.
func (c *Client) ListNamespaces(ctx context.Context) ([]string, error) {
	var names []string
	for window := (queue.Page{Limit: queue.MaxPage}); ; {
		var page restapi.List[string]
		err := c.sendRequest(ctx, request{route: restapi.ListNamespaces, query: pageQuery(window)}, &page)
		if err != nil {
			return nil, err
		}

		names = append(names, page.Body...)
		if page.Next == "" || page.Next == window.Cursor {
			return names, nil
		}
		window.Cursor = page.Next
	}
}

// contextError returns the error of a call after the end of its ctx.
func contextError(ctx context.Context, op string) *queue.Error {
	err := queue.ContextError(ctx.Err())
	err.Op = op
	return err
}
