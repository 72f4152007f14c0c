package oidc

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

// proxied is the address to which the proxy of the tests leads every name but node.invalid.
var proxied atomic.Pointer[string]

// TestMain sets the proxy before the first request, because net/http reads it once. Loopback addresses pass it by.
func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(tunnel))
	_ = os.Setenv("HTTPS_PROXY", proxy.URL)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }), goleak.IgnoreCurrent())
}

// tunnel answers CONNECT.
func tunnel(w http.ResponseWriter, r *http.Request) {
	to := proxied.Load()
	if r.Method != http.MethodConnect || to == nil || r.URL.Hostname() == "node.invalid" {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	upstream, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", *to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer func() { _ = upstream.Close() }()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")

	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(upstream, client)
		_ = upstream.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, upstream)
	_ = client.Close()
	copying.Wait()
}
