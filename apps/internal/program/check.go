package program

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// checkPatience bounds a check. Its callers poll until a server is ready.
const checkPatience = 5 * time.Second

// Check checks the readiness of the program at addr on this machine. It serves images without another program for
// this. With secure the program speaks https. The error has KindUnavailable if the program is not ready.
func Check(ctx context.Context, addr string, secure bool) error {
	const op = "check"
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return &queue.Error{Op: op, Kind: queue.KindInvalid, Field: "addr", Msg: fmt.Sprintf("must be a host and a port such as localhost:9090, got %.64q", addr)}
	}

	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}

	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	scheme := "http"
	if secure {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+"/readyz", http.NoBody)
	if err != nil {
		return &queue.Error{Op: op, Kind: queue.KindInvalid, Field: "addr", Err: err}
	}

	// A transport of its own keeps the check away from proxies.
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		// The certificate has the public name of the program. The check sends nothing secret, and a wrong answer harms nothing.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as the probes of Kubernetes
	}}
	res, err := client.Do(req)
	if err != nil {
		return &queue.Error{Op: op, Kind: queue.KindUnavailable, Err: err}
	}
	defer func() { _ = res.Body.Close() }()

	if res.StatusCode == http.StatusOK {
		return nil
	}

	why, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	return &queue.Error{Op: op, Kind: queue.KindUnavailable, Msg: fmt.Sprintf("%s: %s", res.Status, strings.TrimSpace(string(why)))}
}
