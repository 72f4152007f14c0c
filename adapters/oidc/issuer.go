package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	// requestTimeout bounds a request to an issuer, with its redirects and its body.
	requestTimeout = 5 * time.Second
	// maxAnswerBytes bounds an answer of an issuer, without compression. A JWKS has about 1 KB for each key.
	maxAnswerBytes = 1 << 20
	// maxRedirects bounds the redirects of a request, all on one host.
	maxRedirects = 3
)

// newClient returns a client for one request or a few to an issuer. It reads the files anew, because they are rotated, and
// keeps no connection. token "" sends none.
func newClient(i access.Issuer, token string) (*http.Client, error) {
	roots, err := readAuthorities(i)
	if err != nil {
		return nil, err
	}

	secure := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	transport := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: requestTimeout}).DialContext, TLSClientConfig: secure, ForceAttemptHTTP2: true,
		MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true,
	}
	return &http.Client{Transport: bounded{transport, token}, Timeout: requestTimeout, CheckRedirect: checkRedirect}, nil
}

// CheckFiles returns an error of KindInvalid when a file of i cannot be used now. The files are read again for each request,
// because they are rotated.
func CheckFiles(i access.Issuer) error {
	if _, err := readAuthorities(i); err != nil {
		return err
	}
	_, err := readToken(i)
	return err
}

// readAuthorities returns the certificates that vouch for the issuer; nil = those of the system.
func readAuthorities(i access.Issuer) (*x509.CertPool, error) {
	if i.CAFile == "" {
		return nil, nil
	}
	content, err := readFile("ca_file", i.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		return nil, queue.Invalid("ca_file", fmt.Sprintf("must be a file of PEM certificates, got another form in %.200q; check the file", i.CAFile))
	}
	return roots, nil
}

// readToken returns the token of the requests for keys; "" without a file.
func readToken(i access.Issuer) (string, error) {
	if i.TokenFile == "" {
		return "", nil
	}
	content, err := readFile("token_file", i.TokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", queue.Invalid("token_file", fmt.Sprintf("must be a file with a token in one line, got another form in %.200q; check the file", i.TokenFile))
	}
	return token, nil
}

// readFile returns the content of a small file of an issuer.
func readFile(field, path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // a setting of the operator
	if err != nil {
		return nil, queue.Invalid(field, fmt.Sprintf("must be a file that can be read, got %v; check the path and its rights", err))
	}
	defer func() { _ = f.Close() }()

	content, err := io.ReadAll(io.LimitReader(f, maxAnswerBytes+1))
	switch {
	case err != nil:
		return nil, queue.Invalid(field, fmt.Sprintf("must be a file that can be read, got %v; check the path and its rights", err))
	case len(content) > maxAnswerBytes:
		return nil, queue.Invalid(field, fmt.Sprintf("must be a file of at most %d bytes, got a larger one in %.200q; check the path", maxAnswerBytes, path))
	}
	return content, nil
}

// checkRedirect follows an issuer on its own host alone, so that a fault of its web server does not make another host vouch
// for callers.
func checkRedirect(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	if len(before) > maxRedirects || next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
		return fmt.Errorf("the issuer must answer itself, got a redirect to %.200q; correct its settings", next.URL.Redacted())
	}
	return nil
}

// bounded bounds each answer, and adds a token to each request.
type bounded struct {
	next  *http.Transport
	token string
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		// A RoundTripper must not change the request of its caller.
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &boundedBody{answer.Body, maxAnswerBytes}
	return answer, nil
}

// boundedBody fails at the byte after the limit.
type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(to []byte) (int, error) {
	// One byte more shows that the answer exceeds the bound.
	if len(to) > b.left+1 {
		to = to[:b.left+1]
	}
	n, err := b.ReadCloser.Read(to)
	b.left -= n
	if b.left < 0 {
		return 0, fmt.Errorf("the answer of the issuer must be at most %d bytes, got more", maxAnswerBytes)
	}
	return n, err
}

// isTrustworthy reports whether the keys that come from a URL may vouch for callers: over https, or from this machine for an
// issuer on this machine.
func isTrustworthy(i access.Issuer, text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	own, err := url.Parse(i.URL)
	return err == nil && u.Scheme == "http" && own.Scheme == "http" && access.IsLocalHost(u.Hostname()) && access.IsLocalHost(own.Hostname())
}

// read returns the body of a GET.
func read(ctx context.Context, client *http.Client, from string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New("the keys of the issuer must come with status 200, got " + answer.Status)
	}
	return io.ReadAll(answer.Body)
}
