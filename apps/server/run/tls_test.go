package run

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(template)
	return a
}

// sign makes a key and signs the template, by itself for the certificate of the authority.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		a.t.Fatal(err)
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (a *authority) pem() string { return pemOf("CERTIFICATE", a.cert.Raw) }

// issue returns a certificate and its key in PEM.
func (a *authority) issue(template *x509.Certificate) (cert, key string) {
	a.t.Helper()
	c, k := a.sign(template)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return pemOf("CERTIFICATE", c.Raw), pemOf("PRIVATE KEY", der)
}

// forServer is the template of a certificate of the port.
func forServer() *x509.Certificate {
	return &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// forClient is the template of a client certificate with a DNS name or a SPIFFE id.
func forClient(name string) *x509.Certificate {
	c := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if u, err := url.Parse(name); err == nil && u.Scheme != "" {
		c.URIs = []*url.URL{u}
	} else {
		c.DNSNames = []string{name}
	}
	return c
}

// clientPairOf issues a client certificate for a connection.
func (a *authority) clientPairOf(template *x509.Certificate) *tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(bytesOf(a.issue(template)))
	if err != nil {
		a.t.Fatal(err)
	}
	return &pair
}

func bytesOf(cert, key string) ([]byte, []byte) { return []byte(cert), []byte(key) }

// trust returns a configuration of clients that trust a, with a client certificate unless it is nil.
func (a *authority) trust(pair *tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	cfg := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if pair != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	return cfg
}

// tlsConfig returns the settings of a server with TLS, closed by an admin token, and the authority of its certificate.
func tlsConfig(t *testing.T, log io.Writer) (Config, *authority) {
	t.Helper()
	store := newSlow()
	store.entered = make(chan struct{}, 10_000) // so that no create waits
	close(store.leave)
	cfg, ca := store.config(log), newAuthority(t)
	cfg.AdminToken = access.NewSecret().Reveal()
	cert, key := ca.issue(forServer())
	dir := t.TempDir()
	cfg.TLSCertFile, cfg.TLSKeyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	replaceFile(t, cfg.TLSCertFile, cert)
	replaceFile(t, cfg.TLSKeyFile, key)
	return cfg, ca
}

// dialTLS returns a client by a protocol, a configuration of TLS and a token.
func dialTLS(t *testing.T, s *Server, way string, cfg *tls.Config, token string) queue.Service {
	t.Helper()
	source := func() string { return token }
	if way == "rest" {
		opts := []restclient.Option{restclient.WithTLS(cfg), restclient.WithAttempts(1)}
		if token != "" {
			opts = append(opts, restclient.WithToken(source))
		}
		c, err := restclient.New(s.URL()+"/api", opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	protocol := map[string]connectclient.Protocol{"connect": connectclient.Connect, "grpc": connectclient.GRPC, "grpcweb": connectclient.GRPCWeb}[way]
	opts := []connectclient.Option{connectclient.WithProtocol(protocol), connectclient.WithTLS(cfg), connectclient.WithRetries(0)}
	if token != "" {
		opts = append(opts, connectclient.WithToken(source))
	}
	c, err := connectclient.New(s.URL(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// streamTLS returns a worker's stream by one of streamWays.
func streamTLS(t *testing.T, s *Server, way string, cfg *tls.Config, token string) *connectclient.Stream {
	t.Helper()
	stream := connectclient.NewStream(dialTLS(t, s, strings.TrimSuffix(way, " stream"), cfg, token).(*connectclient.Client))
	t.Cleanup(stream.Close)
	return stream
}

// retainTLS retains a task of the queue mail over a worker's stream.
func retainTLS(t *testing.T, s *Server, way string, cfg *tls.Config, token string) error {
	t.Helper()
	_, err := streamTLS(t, s, way, cfg, token).RetainTasks(t.Context(), queue.RetainRequest{Queues: []string{"mail"}, Worker: "w", Limit: 1})
	return err
}

// subscribe follows the events of c.
func subscribe(ctx context.Context, c queue.Service) (events <-chan struct{}, ended <-chan error) {
	seen, end := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		end <- c.SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error {
			select {
			case seen <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	return seen, end
}

// awaitEvent creates tasks until the stream of events has one.
func awaitEvent(t *testing.T, c queue.Service, name string, events <-chan struct{}, ended <-chan error) {
	t.Helper()
	for {
		if _, err := c.CreateTask(t.Context(), name, queue.TaskMeta{}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-events:
			return
		case err := <-ended:
			t.Fatalf("the stream of events has ended: %v", err)
		case <-time.After(20 * time.Millisecond): // the stream may not be open yet
		}
	}
}

// TestTLS serves every protocol and streams over TLS.
func TestTLS(t *testing.T) {
	log := &lines{}
	cfg, ca := tlsConfig(t, log)
	cfg.Addr = "0.0.0.0:0"
	s := start(t, cfg)
	if !strings.HasPrefix(s.URL(), "https://localhost:") {
		t.Errorf("the URL is %s", s.URL())
	}
	if countLines(t, log, accessLines["closed, plain"].message) != 0 || countLines(t, log, accessLines["closed"].message) != 1 {
		t.Error("the log warns of a port without TLS, or does not say that it is closed")
	}

	for i, way := range callWays {
		c := dialTLS(t, s, way, ca.trust(nil), cfg.AdminToken)
		if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: way}); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		events, ended := subscribe(t.Context(), c)
		awaitEvent(t, c, way, events, ended)
		if _, err := dialTLS(t, s, way, newAuthority(t).trust(nil), cfg.AdminToken).ListQueues(t.Context(), queue.Page{}); queue.KindOf(err) != queue.KindDenied {
			t.Errorf("%s: a server of an unknown authority gives %v (%d)", way, err, i)
		}
	}

	for _, protocol := range []string{"h2", "http/1.1"} {
		c := ca.trust(nil)
		c.NextProtos = []string{protocol}
		conn := handshake(t, s, c)
		if got := conn.ConnectionState(); got.NegotiatedProtocol != protocol || got.Version != tls.VersionTLS13 {
			t.Errorf("%s: got %q in version %x", protocol, got.NegotiatedProtocol, got.Version)
		}
	}
	old := ca.trust(nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := tls.Dial("tcp", s.Addr().String(), old); err == nil {
		t.Error("TLS 1.1 is accepted")
	}

	if err := program.Check(t.Context(), s.Addr().String(), true); err != nil {
		t.Errorf("the check of readiness: %v", err)
	}
	h := http.Client{Transport: &http.Transport{TLSClientConfig: ca.trust(nil), DisableKeepAlives: true}}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/api/metrics", http.NoBody)
	req.Header.Set("Authorization", "Bearer "+cfg.AdminToken)
	resp, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); !strings.Contains(string(b), "pgqueue_tls_not_after_timestamp_seconds 1.") {
		t.Error("the metrics must have the end of the certificate")
	}
	if s.http.ReadHeaderTimeout <= 0 {
		t.Error("a handshake needs an end")
	}

	// Requests without TLS, and scanners, fill no log.
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
	answer, _ := io.ReadAll(conn)
	if !strings.Contains(string(answer), "HTTP request to an HTTPS server") {
		t.Errorf("plain HTTP is answered by %q", answer)
	}
	_ = conn.Close()
	for _, r := range log.all(t, "http: TLS handshake error") {
		t.Errorf("the log shows a scanner: %v", r)
	}
}

// handshake opens a connection, and reads so far that the server has decided about the client certificate.
func handshake(t *testing.T, s *Server, cfg *tls.Config) *tls.Conn {
	t.Helper()
	cfg = cfg.Clone()
	cfg.ServerName = "localhost"
	conn, err := tls.Dial("tcp", s.Addr().String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestTLSReload replaces the certificate while connections are open.
func TestTLSReload(t *testing.T) {
	const wrong = "a file of settings is wrong, so its former content stays in use"
	log := &lines{}
	cfg, ca := tlsConfig(t, log)
	s := start(t, cfg)
	first := handshake(t, s, ca.trust(nil)).ConnectionState().PeerCertificates[0]
	present := func() *x509.Certificate {
		t.Helper()
		return handshake(t, s, ca.trust(nil)).ConnectionState().PeerCertificates[0]
	}
	open := dialTLS(t, s, "connect", ca.trust(nil), cfg.AdminToken)
	if _, err := open.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, ended := subscribe(ctx, open)
	awaitEvent(t, open, "mail", events, ended)

	cert, key := ca.issue(forServer())
	for _, step := range []struct {
		name    string
		replace func()
		faults  int
		changed bool
	}{
		{"a certificate without its key", func() { replaceFile(t, cfg.TLSCertFile, cert) }, 1, false},
		{"both", func() { replaceFile(t, cfg.TLSKeyFile, key) }, 0, true},
		{"a key without its certificate", func() { _, other := ca.issue(forServer()); replaceFile(t, cfg.TLSKeyFile, other) }, 1, false},
		{"no PEM", func() { replaceFile(t, cfg.TLSCertFile, "garbage") }, 1, false},
		{"half a file", func() { replaceFile(t, cfg.TLSCertFile, cert[:len(cert)/2]); replaceFile(t, cfg.TLSKeyFile, key) }, 0, false}, // the same text as before
		{"no file", func() { _ = os.Remove(cfg.TLSKeyFile) }, 1, false},
		{"an expired one", func() {
			past := forServer()
			past.NotAfter = time.Now().Add(-time.Minute)
			c, k := ca.issue(past)
			replaceFile(t, cfg.TLSCertFile, c)
			replaceFile(t, cfg.TLSKeyFile, k)
		}, 1, false},
		{"the former one again", func() { replaceFile(t, cfg.TLSCertFile, cert); replaceFile(t, cfg.TLSKeyFile, key) }, 0, false},
	} {
		before, lines := present(), countLines(t, log, wrong)
		step.replace()
		s.Reload(t.Context())
		s.Reload(t.Context())
		if got := countLines(t, log, wrong) - lines; got != step.faults && step.name != "half a file" {
			t.Errorf("%s: %d faults in the log, want %d", step.name, got, step.faults)
		}
		if changed := !present().Equal(before); changed != step.changed {
			t.Errorf("%s: the certificate has changed: %v", step.name, changed)
		}
	}
	if present().Equal(first) {
		t.Error("the certificate of the start is still in use")
	}
	for _, r := range log.all(t, wrong) {
		if text, _ := r["error"].(string); strings.Contains(text, key[30:60]) || !strings.Contains(text, "; ") {
			t.Errorf("the log shows a key, or no remedy: %v", r)
		}
	}

	// The connection of the former certificate lives on.
	awaitEvent(t, open, "mail", events, ended)
	cancel()
	<-ended //nolint:errcheck // the end of the context
}

// TestTLSReloadThroughLinks replaces files as Kubernetes does: the names are links to a link of a folder, and only that link
// changes.
func TestTLSReloadThroughLinks(t *testing.T) {
	cfg, ca := tlsConfig(t, io.Discard)
	dir := t.TempDir()
	mount := func(folder string) {
		t.Helper()
		cert, key := ca.issue(forServer())
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		replaceFile(t, filepath.Join(dir, folder, "tls.crt"), cert)
		replaceFile(t, filepath.Join(dir, folder, "tls.key"), key)
		if err := os.Symlink(folder, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	mount("..1")
	cfg.TLSCertFile, cfg.TLSKeyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, cfg)
	first := handshake(t, s, ca.trust(nil)).ConnectionState().PeerCertificates[0]
	mount("..2")
	s.Reload(t.Context())
	if handshake(t, s, ca.trust(nil)).ConnectionState().PeerCertificates[0].Equal(first) {
		t.Error("the former certificate is still in use")
	}
}

// whoAmI returns the id of the caller, or its refusal.
func whoAmI(t *testing.T, c queue.Service) (string, error) {
	t.Helper()
	identity, err := c.(access.Admin).WhoAmI(t.Context())
	return identity.ID, err
}

// TestClientCertificates proves callers by certificates, over each way in.
func TestClientCertificates(t *testing.T) {
	cfg, ca := tlsConfig(t, &lines{})
	clients := newAuthority(t)
	cfg.TLSClientCAFile = writeFile(t, clients.pem())
	cfg.AccessFile = writeFile(t, `rules:
  - {cert: worker.example.org, grant: [viewer@default, worker@default]}
  - {cert: "spiffe://example.org/ns/mail/*", grant: [viewer@default, worker@default]}`)
	s := start(t, cfg)
	if _, err := dialTLS(t, s, "rest", ca.trust(nil), cfg.AdminToken).CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}

	ended := forClient("worker.example.org")
	ended.NotAfter = time.Now().Add(-time.Minute)
	early := forClient("worker.example.org")
	early.NotBefore = time.Now().Add(30 * time.Minute)
	serverAuth := forClient("worker.example.org")
	serverAuth.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	twoIDs := forClient("spiffe://example.org/ns/mail/a")
	twoIDs.URIs = append(twoIDs.URIs, &url.URL{Scheme: "spiffe", Host: "example.org", Path: "/ns/mail/b"})
	both := forClient("spiffe://example.org/ns/other")
	both.DNSNames = []string{"worker.example.org"}
	trick := forClient("a")
	trick.DNSNames = []string{"spiffe://example.org/ns/mail/a"}
	for name, c := range map[string]struct {
		pair  *tls.Certificate
		token string
		want  queue.Kind
	}{
		"none":                                    {nil, "", queue.KindUnauthenticated},
		"a token alone":                           {nil, cfg.AdminToken, ""},
		"a DNS name with a rule":                  {clients.clientPairOf(forClient("worker.example.org")), "", ""},
		"a SPIFFE id with a rule":                 {clients.clientPairOf(forClient("spiffe://example.org/ns/mail/a")), "", ""},
		"a name without a rule":                   {clients.clientPairOf(forClient("other.example.org")), "", queue.KindDenied},
		"a SPIFFE id without a rule, and a name":  {clients.clientPairOf(both), "", queue.KindDenied},
		"two SPIFFE ids":                          {clients.clientPairOf(twoIDs), "", queue.KindUnauthenticated},
		"a DNS name that looks like a SPIFFE id":  {clients.clientPairOf(trick), "", queue.KindUnauthenticated},
		"no name":                                 {clients.clientPairOf(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), "", queue.KindUnauthenticated},
		"another authority":                       {newAuthority(t).clientPairOf(forClient("worker.example.org")), "", queue.KindUnauthenticated},
		"expired":                                 {clients.clientPairOf(ended), "", queue.KindUnauthenticated},
		"not yet valid":                           {clients.clientPairOf(early), "", queue.KindUnauthenticated},
		"a certificate for servers":               {clients.clientPairOf(serverAuth), "", queue.KindUnauthenticated},
		"a certificate with grants and a token":   {clients.clientPairOf(forClient("worker.example.org")), cfg.AdminToken, queue.KindInvalid},
		"a proxy's certificate and a token":       {clients.clientPairOf(forClient("other.example.org")), cfg.AdminToken, ""},
		"a proxy's certificate and a wrong token": {clients.clientPairOf(forClient("other.example.org")), access.NewSecret().Reveal(), queue.KindUnauthenticated},
	} {
		for _, way := range callWays {
			_, err := dialTLS(t, s, way, ca.trust(c.pair), c.token).ListQueues(t.Context(), queue.Page{})
			if queue.KindOf(err) != c.want {
				t.Errorf("%s over %s: %v, want %q", name, way, err, c.want)
			}
		}
		for _, way := range streamWays {
			if err := retainTLS(t, s, way, ca.trust(c.pair), c.token); queue.KindOf(err) != c.want {
				t.Errorf("%s over a %s: %v, want %q", name, way, err, c.want)
			}
		}
		if c.want == "" {
			continue // it would wait for an event
		}
		err := dialTLS(t, s, "rest", ca.trust(c.pair), c.token).SubscribeEvents(t.Context(), queue.EventFilter{}, func(queue.Event) error { return errDone })
		if queue.KindOf(err) != c.want {
			t.Errorf("%s over server-sent events: %v, want %q", name, err, c.want)
		}
	}

	pair := clients.clientPairOf(forClient("Worker.Example.org"))
	if id, err := whoAmI(t, dialTLS(t, s, "rest", ca.trust(pair), "")); id != "worker.example.org" || err != nil {
		t.Errorf("the caller is %q: %v", id, err)
	}
}

// TestRequiredClientCertificates: a probe needs none, everything else does.
func TestRequiredClientCertificates(t *testing.T) {
	cfg, ca := tlsConfig(t, &lines{})
	clients := newAuthority(t)
	cfg.TLSClientCAFile, cfg.TLSClientAuth = writeFile(t, clients.pem()), ClientAuthRequired
	s := start(t, cfg)
	pair := clients.clientPairOf(forClient("any.example.org"))
	if _, err := dialTLS(t, s, "rest", ca.trust(pair), cfg.AdminToken).CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	for _, way := range callWays {
		_, err := dialTLS(t, s, way, ca.trust(nil), cfg.AdminToken).ListQueues(t.Context(), queue.Page{})
		if queue.KindOf(err) != queue.KindUnauthenticated || !strings.Contains(err.Error(), "--tls-client-auth required") {
			t.Errorf("%s without a certificate: %v", way, err)
		}
		if _, err := dialTLS(t, s, way, ca.trust(pair), cfg.AdminToken).ListQueues(t.Context(), queue.Page{}); err != nil {
			t.Errorf("%s with one: %v", way, err)
		}
	}
	for _, way := range streamWays {
		err := retainTLS(t, s, way, ca.trust(nil), cfg.AdminToken)
		if queue.KindOf(err) != queue.KindUnauthenticated || !strings.Contains(err.Error(), "--tls-client-auth required") {
			t.Errorf("%s without a certificate: %v", way, err)
		}
		if err := retainTLS(t, s, way, ca.trust(pair), cfg.AdminToken); err != nil {
			t.Errorf("%s with one: %v", way, err)
		}
	}
	if err := program.Check(t.Context(), s.Addr().String(), true); err != nil {
		t.Errorf("the check of readiness: %v", err)
	}
}

// TestRefusedCertificatesAreCounted: a request without the certificate that it needs, and one with a certificate of another
// authority, are in the audit and under the limit of refused credentials, and a valid certificate passes all the same.
func TestRefusedCertificatesAreCounted(t *testing.T) {
	cfg, ca := tlsConfig(t, &lines{})
	clients := newAuthority(t)
	cfg.TLSClientCAFile, cfg.TLSClientAuth = writeFile(t, clients.pem()), ClientAuthRequired
	for name, pair := range map[string]*tls.Certificate{"without a certificate": nil, "with one of another authority": newAuthority(t).clientPairOf(forClient("a.example.org"))} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
				return &auditedStore{memory.New(), memory.NewAudit(nil)}, func(context.Context) error { return nil }, nil
			}
			s := start(t, cfg)
			get := func(pair *tls.Certificate) *http.Response {
				t.Helper()
				c := http.Client{Transport: &http.Transport{TLSClientConfig: ca.trust(pair)}}
				t.Cleanup(c.CloseIdleConnections)
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/api/queue", http.NoBody)
				req.Header.Set("Authorization", "Bearer "+cfg.AdminToken)
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				return resp
			}
			for i := range 20 {
				if resp := get(pair); resp.StatusCode != http.StatusUnauthorized {
					t.Fatalf("request %d gets %d", i, resp.StatusCode)
				}
			}
			if resp := get(pair); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
				t.Errorf("one more gets %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
			}
			valid := clients.clientPairOf(forClient("any.example.org"))
			if resp := get(valid); resp.StatusCode != http.StatusOK {
				t.Errorf("a valid certificate gets %d", resp.StatusCode)
			}

			page, err := s.audit.Log.ListAudit(t.Context(), access.AuditFilter{Outcome: string(queue.KindUnauthenticated), Limit: 10})
			if err != nil || len(page.Entries) != 1 || page.Entries[0].PrincipalKind != access.KindCertificate || page.Entries[0].Remote == "" {
				t.Errorf("the audit has %+v, %v", page.Entries, err)
			}
		})
	}
}

// TestARefusedCertificateIsCheckedOnce: both checks of a request share one verification, and a certificate that has begun since
// passes.
func TestARefusedCertificateIsCheckedOnce(t *testing.T) {
	clients := newAuthority(t)
	template := forClient("a.example.org")
	template.NotBefore = time.Now().Add(time.Minute)
	leaf, _ := clients.sign(template)
	pool := x509.NewCertPool()
	pool.AddCert(clients.cert)
	port := &portTLS{}
	port.clients.Store(&clientAuthorities{pool: pool})
	r := (&http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}}).WithContext(withProvenChain(t.Context(), nil))

	now := time.Now()
	_, first := port.findChain(r, now)
	_, second := port.findChain(r, now.Add(refusalTime-1))
	_, third := port.findChain(r, now.Add(refusalTime))
	if first == nil || first != second || first == third { //nolint:errorlint // the same refusal, not one that is equal
		t.Errorf("the refusals are %p, %p and %p", first, second, third)
	}
	for range 2 {
		if _, err := port.findChain(r, template.NotBefore.Add(time.Second)); err != nil {
			t.Errorf("the certificate after its begin: %v", err)
		}
	}
}

// TestClientCertificateEnds: requests of an open connection are refused after the authority has lost its trust, and the
// connection closes, so that the client can come back with another certificate.
func TestClientCertificateEnds(t *testing.T) {
	cfg, ca := tlsConfig(t, &lines{})
	former, next := newAuthority(t), newAuthority(t)
	cfg.TLSClientCAFile = writeFile(t, former.pem())
	cfg.AccessFile = writeFile(t, "rules: [{cert: worker.example.org, grant: [viewer@default]}]")
	s := start(t, cfg)
	pair := former.clientPairOf(forClient("worker.example.org"))
	trust := ca.trust(nil)
	trust.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	trust.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	for _, way := range []string{"rest", "grpc"} {
		replaceFile(t, cfg.TLSClientCAFile, former.pem())
		s.Reload(t.Context())
		pair = former.clientPairOf(forClient("worker.example.org"))
		c := dialTLS(t, s, way, trust, "")
		list := func() error {
			_, err := c.ListQueues(t.Context(), queue.Page{})
			return err
		}
		if err := list(); err != nil {
			t.Fatal(way, err)
		}

		replaceFile(t, cfg.TLSClientCAFile, former.pem()+next.pem())
		s.Reload(t.Context())
		if err := list(); err != nil {
			t.Errorf("%s: with a second authority: %v", way, err)
		}
		replaceFile(t, cfg.TLSClientCAFile, next.pem())
		s.Reload(t.Context())
		if err := list(); queue.KindOf(err) != queue.KindUnauthenticated {
			t.Errorf("%s: over the connection of a removed authority: %v", way, err)
		}
		if err := list(); queue.KindOf(err) != queue.KindUnauthenticated {
			t.Errorf("%s: a new connection with the certificate of a removed authority: %v", way, err)
		}
		// A call may leave before the close of its connection arrives.
		pair = next.clientPairOf(forClient("worker.example.org"))
		var err error
		for range 100 {
			if err = list(); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("%s: with the next certificate: %v", way, err)
		}
	}
}

// TestCertificateStreamsEnd: open streams, those of workers among them, and waiting calls end within 10 s after a change of the
// rules, after the end of their certificate, and after the authority has lost its trust.
func TestCertificateStreamsEnd(t *testing.T) {
	for name, life := range map[string]time.Duration{"changed rules": time.Hour, "an expired certificate": 3 * time.Second, "a removed authority": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, ca := tlsConfig(t, &lines{})
			cfg.confirmEvery, cfg.watchEvery = 100*time.Millisecond, 100*time.Millisecond
			clients := newAuthority(t)
			cfg.TLSClientCAFile = writeFile(t, clients.pem())
			cfg.AccessFile = writeFile(t, "rules: [{cert: worker.example.org, grant: [admin@default]}]")
			s := start(t, cfg)
			template := forClient("worker.example.org")
			template.NotAfter = time.Now().Add(life)
			trust := ca.trust(clients.clientPairOf(template))
			c := dialTLS(t, s, "connect", trust, "")
			for _, name := range []string{"mail", "empty"} {
				if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: name}); err != nil {
					t.Fatal(err)
				}
			}

			events, closed := subscribe(t.Context(), c)
			awaitEvent(t, c, "mail", events, closed)
			waiting := map[string]queue.Consumer{"a waiting retain": c}
			for _, way := range streamWays {
				stream := streamTLS(t, s, way, trust, "")
				if _, err := stream.RetainTasks(t.Context(), queue.RetainRequest{Queues: []string{"empty"}, Worker: "w", Limit: 1}); err != nil {
					t.Fatalf("the %s does not open: %v", way, err)
				}
				waiting["a retain of the "+way] = stream
			}

			type end struct {
				name string
				err  error
			}
			ended := make(chan end, len(waiting)+1)
			go func() { ended <- end{"the stream of events", <-closed} }()
			for name, consumer := range waiting {
				go func() {
					_, err := consumer.RetainTasks(t.Context(), queue.RetainRequest{Queues: []string{"empty"}, Worker: "w", Limit: 1, Wait: time.Minute})
					ended <- end{name, err}
				}()
			}

			begin := time.Now()
			switch name {
			case "changed rules":
				replaceFile(t, cfg.AccessFile, "rules: []")
			case "a removed authority":
				replaceFile(t, cfg.TLSClientCAFile, newAuthority(t).pem())
			default:
				begin = begin.Add(life)
			}
			for range len(waiting) + 1 {
				e := <-ended
				if took := time.Since(begin); queue.KindOf(e.err) != queue.KindUnauthenticated || took > 10*time.Second {
					t.Errorf("%s ended with %v after %v", e.name, e.err, took)
				}
			}
		})
	}
}

// TestTLSSettings refuses wrong settings at the start.
func TestTLSSettings(t *testing.T) {
	good, ca := tlsConfig(t, io.Discard)
	cert, _ := ca.issue(forServer())
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"a certificate without a key":      {func(c *Config) { c.TLSKeyFile = "" }, "must come with --tls-key-file"},
		"a key without a certificate":      {func(c *Config) { c.TLSCertFile = "" }, "must come with --tls-key-file"},
		"a file that does not exist":       {func(c *Config) { c.TLSCertFile = "/nowhere/tls.crt" }, "tls-cert-file: must be a file that can be read"},
		"another key":                      {func(c *Config) { c.TLSCertFile = writeFile(t, cert) }, "replace both files"},
		"a file without an end":            {func(c *Config) { c.TLSKeyFile = "/dev/zero" }, "tls-key-file: must be a file of at most"},
		"client certificates without TLS":  {func(c *Config) { c.TLSCertFile, c.TLSKeyFile, c.TLSClientCAFile = "", "", c.TLSCertFile }, "must come with --tls-cert-file"},
		"an unknown mode":                  {func(c *Config) { c.TLSClientAuth = "maybe" }, "must be optional or required"},
		"a mode without authorities":       {func(c *Config) { c.TLSClientAuth = ClientAuthRequired }, "must come with --tls-client-ca-file"},
		"a key in place of authorities":    {func(c *Config) { c.TLSClientCAFile = c.TLSKeyFile }, "must have certificates alone"},
		"no authority":                     {func(c *Config) { c.TLSClientCAFile = writeFile(t, "none") }, "must have a certificate in PEM, got none"},
		"a damaged authority":              {func(c *Config) { c.TLSClientCAFile = writeFile(t, pemOf("CERTIFICATE", bytes.Repeat([]byte("x"), 50))) }, "copy the file again"},
		"every address as a trusted proxy": {func(c *Config) { c.TrustedProxies = []string{"0.0.0.0/0"} }, "name the proxies"},
		"a trusted proxy by a name":        {func(c *Config) { c.TrustedProxies = []string{"proxy.example.org"} }, "must be a network or an address"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			s, err := Start(t.Context(), cfg)
			if err == nil {
				_ = s.Stop(context.Background())
			}
			if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v should say %q", err, c.says)
			}
		})
	}
}
