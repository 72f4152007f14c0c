package httprun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// reserved are headers that every request already has: those of the connection, which HTTP sets, and those of the
// task.
var reserved = []string{
	"Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Traceparent", "Tracestate", "Baggage",
}

// reservedPrefixes begin the names of headers that describe the task.
var reservedPrefixes = []string{"Pgqueue-", "Webhook-"}

// parseURL checks the URL to post to.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, queue.Invalid("http", fmt.Sprintf("must be an http or https URL with a host, such as https://example.com/task, got %.64q", s))
	case u.Fragment != "" || u.RawFragment != "":
		return nil, queue.Invalid("http", "must have no #fragment: it is never sent; leave it out")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, queue.Invalid("http", fmt.Sprintf("must have a port from 1 to 65535, got %.64s", port))
		}
	}
	return u, nil
}

// checkHeader refuses headers that net/http would drop or change.
func checkHeader(h http.Header) error {
	for name, values := range h {
		canon := http.CanonicalHeaderKey(name)
		switch {
		case slices.Contains(reserved, canon), slices.ContainsFunc(reservedPrefixes, func(p string) bool { return strings.HasPrefix(canon, p) }):
			return queue.Invalid("header", fmt.Sprintf("must be one that the request does not set itself, got %.64s; leave it out", canon))
		case canon == "Host" && (len(values) != 1 || !isPlainHost(values[0])):
			return queue.Invalid("header", fmt.Sprintf("Host must be one name, or name:port, such as example.com:8443, got %.64q", values))
		}
	}
	return nil
}

// isPlainHost reports whether net/http sends s unchanged as a Host. It silently cuts other values.
func isPlainHost(s string) bool {
	u, err := url.Parse("http://" + s)
	return err == nil && u.Hostname() != "" && u.Host == s && !strings.ContainsAny(s, " /")
}

// errTried ends a request that only tests whether HTTP accepts it.
var errTried = errors.New("nothing is sent")

// tryRequest makes the request of a task up to the connect. It finds every refusal of net/http now and not at the cost of
// each task.
func (p *Push) tryRequest() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := p.request(ctx, &queue.Task{ID: 1, Namespace: queue.DefaultNamespace, Queue: "q", Payload: queue.EmptyJSON}, time.Now())
	if err != nil {
		return queue.Invalid("http", err.Error())
	}

	if err := req.Write(io.Discard); err != nil {
		// Write checks the host.
		return queue.Invalid("header", "must be as HTTP can carry it: "+err.Error()+"; correct it")
	}

	// The transport checks headers just before it connects.
	// No connect happens, so a target that is down does not stop the start of a worker.
	t := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errTried }}
	res, err := t.RoundTrip(req)
	if err == nil {
		_ = res.Body.Close()
		return nil
	}

	if errors.Is(err, errTried) {
		return nil
	}

	return queue.Invalid("header", "must be as HTTP can carry it: "+err.Error()+"; correct it")
}
