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
	// maxAnswerBytes bounds an answer of an issuer after decompression. A JWKS has about 1 KB for each key.
	maxAnswerBytes = 1 << 20
	// maxHeaderBytes bounds the header of an answer. Those of large issuers have about 2 KB.
	maxHeaderBytes = 64 << 10
	// maxFileBytes bounds a file of certificates or of a token. The certificates of a system have about 200 KB.
	maxFileBytes = 1 << 20
	// maxRedirects bounds the redirects of a request, all on one host.
	maxRedirects = 3
)

// newClient returns a client for the requests of one fetch; it keeps no connection. It reads the file of certificates anew. It sends
// token as bearer token with each request, and none when token is empty.
func newClient(i access.Issuer, token string) (*http.Client, error) {
	roots, err := readRoots(i)
	if err != nil {
		return nil, err
	}

	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: requestTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableKeepAlives:      true,
	}
	return &http.Client{
		Transport:     issuerTransport{next: transport, token: token},
		Timeout:       requestTimeout,
		CheckRedirect: checkRedirect,
	}, nil
}

// CheckFiles returns an error of KindInvalid when a file of i cannot be used now. The files are read again for each request,
// because they are rotated.
func CheckFiles(i access.Issuer) error {
	if _, err := readRoots(i); err != nil {
		return err
	}
	_, err := readToken(i)
	return err
}

// readRoots returns the CA certificates for the issuer. nil stands for those of the system.
func readRoots(i access.Issuer) (*x509.CertPool, error) {
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

// readToken returns the token for requests of keys, or "" without a file.
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
		return nil, unreadable(field, err)
	}
	defer func() { _ = f.Close() }()

	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, unreadable(field, err)
	case len(content) > maxFileBytes:
		return nil, queue.Invalid(field, fmt.Sprintf("must be a file of at most %d bytes, got a larger one in %.200q; check the path", maxFileBytes, path))
	}
	return content, nil
}

func unreadable(field string, err error) error {
	return queue.Invalid(field, fmt.Sprintf("must be a file that can be read, got %.200v; check the path and its rights", err))
}

// checkRedirect refuses a redirect to another scheme or host, and one too many. Otherwise an open redirect of the issuer could make
// another host supply the keys, or receive the token.
func checkRedirect(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	switch {
	case next.URL.Scheme != first.Scheme || next.URL.Host != first.Host:
		return fmt.Errorf("the issuer must answer itself, got a redirect to %.200q; correct its settings", next.URL.Redacted())
	case len(before) > maxRedirects:
		return fmt.Errorf("the issuer must answer within %d redirects, got one more to %.200q; correct its settings", maxRedirects, next.URL.Redacted())
	}
	return nil
}

// issuerTransport bounds each answer, and adds a token to each request. checkRedirect keeps the requests on one host.
type issuerTransport struct {
	next  *http.Transport
	token string
}

func (b issuerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		// A RoundTripper must not change the request of its caller.
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &boundedBody{ReadCloser: answer.Body, left: maxAnswerBytes}
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

// maySupplyKeys reports whether keys from a URL may be used for an issuer: over https, or from this machine when the issuer is on it.
func maySupplyKeys(i access.Issuer, keysURL string) bool {
	u, err := url.Parse(keysURL)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	own, err := url.Parse(i.URL)
	return err == nil && u.Scheme == "http" && own.Scheme == "http" && access.IsLocalHost(u.Hostname()) && access.IsLocalHost(own.Hostname())
}

// readKeys returns the body of a GET for keys, or for the document that leads to them.
func readKeys(ctx context.Context, client *http.Client, from string) ([]byte, error) {
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
