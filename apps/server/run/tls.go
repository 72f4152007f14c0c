package run

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The values of Config.TLSClientAuth.
const (
	// ClientAuthOptional lets clients without a certificate pass.
	ClientAuthOptional = "optional"
	// ClientAuthRequired refuses each request without a certificate, except to public routes such as the probes.
	ClientAuthRequired = "required"
)

// The names of the settings of TLS.
const (
	certField     = "tls-cert-file"
	keyField      = "tls-key-file"
	clientCAField = "tls-client-ca-file"
)

// portTLS has the present certificate of the port, and the present authorities of client certificates. It is safe for
// concurrent use.
type portTLS struct {
	pair    atomic.Pointer[tls.Certificate]
	clients atomic.Pointer[clientAuthorities] // nil = no client certificates
	changed func()                            // called after a change of clients
}

// clientAuthorities vouch for client certificates. Its address is its identity.
type clientAuthorities struct {
	pool    *x509.CertPool
	digests []string
}

// checkTLS reports the first wrong setting of TLS.
func (c *Config) checkTLS() error {
	switch {
	case (c.TLSCertFile == "") != (c.TLSKeyFile == ""):
		return queue.Invalid(certField, "must come with --"+keyField+"; give both or none")
	case c.TLSClientCAFile != "" && c.TLSCertFile == "":
		return queue.Invalid(clientCAField, "must come with --"+certField+", as client certificates need TLS; give that too")
	case c.TLSClientAuth != "" && c.TLSClientAuth != ClientAuthOptional && c.TLSClientAuth != ClientAuthRequired:
		return queue.Invalid("tls-client-auth", fmt.Sprintf("must be optional or required, got %.64q; choose one", c.TLSClientAuth))
	case c.TLSClientAuth != "" && c.TLSClientCAFile == "":
		return queue.Invalid("tls-client-auth", "must come with --"+clientCAField+"; give the authorities too")
	}
	return nil
}

// startTLS reads the certificates of the port now and at each reload.
func (s *Server) startTLS() error {
	if s.cfg.TLSCertFile == "" {
		return nil
	}

	s.tls = &portTLS{}
	if err := s.files.add(certField, s.cfg.TLSCertFile, s.readPair); err != nil {
		return err
	}
	if err := s.tel.WatchTLS(func() time.Time { return s.tls.pair.Load().Leaf.NotAfter }); err != nil {
		return err
	}
	if s.cfg.TLSClientCAFile == "" {
		return nil
	}
	return s.files.add(clientCAField, s.cfg.TLSClientCAFile, s.readClientAuthorities)
}

// readPair reads the certificate and the key. A pair that has expired does not replace one that is in use.
func (s *Server) readPair() (changed bool, err error) {
	pair, err := program.ReadKeyPair(certField, s.cfg.TLSCertFile, keyField, s.cfg.TLSKeyFile)
	if err != nil {
		return false, err
	}

	present := s.tls.pair.Load()
	if present != nil && slices.EqualFunc(present.Certificate, pair.Certificate, slices.Equal) {
		return false, nil
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		if present != nil {
			return false, queue.Invalid(certField, fmt.Sprintf("must be a certificate that is valid now, got one that ended at %v; renew it", end.UTC()))
		}
		s.log.Warn("the certificate of the port has expired; clients will refuse it", "file", s.cfg.TLSCertFile, "ended", end)
	}
	s.tls.pair.Store(pair)
	return true, nil
}

// readClientAuthorities reads the authorities of client certificates.
func (s *Server) readClientAuthorities() (changed bool, err error) {
	authorities, err := program.ReadAuthorities(clientCAField, s.cfg.TLSClientCAFile)
	if err != nil {
		return false, err
	}

	next := &clientAuthorities{pool: x509.NewCertPool()}
	for _, authority := range authorities {
		next.pool.AddCert(authority)
		next.digests = append(next.digests, access.AuthorityDigest(authority.Raw))
	}
	if present := s.tls.clients.Load(); present != nil && present.pool.Equal(next.pool) {
		return false, nil
	}
	s.tls.clients.Store(next)
	if s.tls.changed != nil {
		s.tls.changed()
	}
	return true, nil
}

// config returns the configuration of the port. Each handshake uses the present files. A client certificate is asked for and
// checked with each request, not in the handshake: there a refusal is a broken connection, here an answer with the reason.
func (t *portTLS) config() *tls.Config {
	base := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.pair.Load(), nil },
	}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		clients := t.clients.Load()
		if clients == nil {
			return nil, nil
		}
		cfg := base.Clone()
		cfg.GetConfigForClient = nil
		cfg.ClientAuth, cfg.ClientCAs = tls.RequestClientCert, clients.pool
		// A resumed session would bring the former certificate of the client back, and never the next one.
		cfg.SessionTicketsDisabled = true
		return cfg, nil
	}
	return base
}

// provenChain is the chain of the client certificate of one connection, or its refusal, so that its signatures are checked once.
type provenChain struct {
	mu      sync.Mutex
	clients *clientAuthorities // those that proved or refused it
	chain   []*x509.Certificate
	refused error     // nil for a chain that was proved
	until   time.Time // of refused: the certificate may begin
}

// refusalTime is how long a refused certificate stays refused on its connection without another check of its signatures.
const refusalTime = time.Second

// provenKey is the key of the provenChain of a connection in the contexts of its requests.
type provenKey struct{}

// withProvenChain returns ctx for the requests of a new connection.
func withProvenChain(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, provenKey{}, &provenChain{})
}

// findChain returns the chain of the client certificate of r up to a present authority. KindUnauthenticated for a certificate that
// is not valid at now, is not for clients, or has another authority. A connection may outlast its certificate.
func (t *portTLS) findChain(r *http.Request, now time.Time) ([]*x509.Certificate, error) {
	proven, _ := r.Context().Value(provenKey{}).(*provenChain)
	if proven == nil {
		proven = &provenChain{}
	}
	proven.mu.Lock()
	defer proven.mu.Unlock()
	clients := t.clients.Load()
	switch {
	case proven.clients != clients:
	case proven.refused != nil && now.Before(proven.until):
		return nil, proven.refused
	case proven.refused == nil && isValid(proven.chain, now):
		return proven.chain, nil
	}

	options := x509.VerifyOptions{
		Roots: clients.pool, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range r.TLS.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	chains, err := r.TLS.PeerCertificates[0].Verify(options)
	proven.clients = clients
	if err != nil {
		proven.refused = &queue.Error{
			Kind: queue.KindUnauthenticated, Field: "certificate", Err: err,
			Msg: fmt.Sprintf("must be valid now, for clients and of an authority of this server, got another: %v; connect with a new one", err),
		}
		proven.until = now.Add(refusalTime)
		return nil, proven.refused
	}
	proven.chain = chains[0]
	proven.refused = nil
	return proven.chain, nil
}

// isValid reports whether each certificate of a chain is valid at now.
func isValid(chain []*x509.Certificate, now time.Time) bool {
	return len(chain) > 0 && !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return now.Before(c.NotBefore) || now.After(c.NotAfter) })
}

// renewBefore is the time before the end of a client certificate from which the server closes connections after each answer, so
// that the client comes back with the next certificate before the present one is refused.
const renewBefore = time.Minute

// certificatePrincipal returns the principal of the client certificate of a request; nil without a certificate, and for one
// without a name. KindUnauthenticated for none where each request needs one; public routes, such as probes, do not get here.
func (s *Server) certificatePrincipal(r *http.Request) (*access.Principal, error) {
	switch {
	case s.hasCertificate(r):
	case s.cfg.TLSClientAuth == ClientAuthRequired:
		return nil, &queue.Error{
			Kind: queue.KindUnauthenticated, Field: "certificate",
			Msg: "must come with the connection, as the server has --tls-client-auth required, got none; give --cert-file and --key-file",
		}
	default:
		return nil, nil
	}

	chain, err := s.tls.findChain(r, time.Now())
	if err != nil {
		return nil, err
	}
	name := certificateName(chain[0])
	if name == "" {
		return nil, nil
	}
	return s.control.mapping.Principal(access.Proof{
		Kind: access.KindCertificate, Subject: name, Expires: earliestEnd(chain), Authority: access.AuthorityDigest(chain[len(chain)-1].Raw),
	})
}

// hasCertificate reports whether r comes over a connection with a client certificate, where the server has authorities for it.
func (s *Server) hasCertificate(r *http.Request) bool {
	return s.cfg.TLSClientCAFile != "" && r.TLS != nil && len(r.TLS.PeerCertificates) > 0
}

// earliestEnd returns the first end of the certificates of a chain.
func earliestEnd(chain []*x509.Certificate) time.Time {
	return slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
}

// certificateName returns the name of a client certificate: its SPIFFE id, or else its first DNS name. It returns "" without
// either, and for several SPIFFE ids, which the standard forbids.
func certificateName(leaf *x509.Certificate) string {
	var ids []string
	for _, id := range leaf.URIs {
		if id.Scheme == "spiffe" {
			ids = append(ids, id.String())
		}
	}
	switch {
	case len(ids) == 1:
		return ids[0]
	case len(ids) == 0 && len(leaf.DNSNames) > 0 && !strings.ContainsAny(leaf.DNSNames[0], "/:@"):
		return strings.ToLower(leaf.DNSNames[0])
	}
	return ""
}

// serveOn serves the connections of ln, over TLS when the port has a certificate.
func (s *Server) serveOn(ln net.Listener) error {
	if s.tls == nil {
		return s.http.Serve(ln)
	}
	s.http.TLSConfig = s.tls.config()
	s.http.ConnContext = withProvenChain
	return s.http.ServeTLS(ln, "", "")
}

// closeEnding wraps the routes of a port with client certificates. It closes a connection after the answer when its certificate
// ends soon, or is no longer valid, so that the client comes back with the next one.
func (s *Server) closeEnding(next http.Handler) http.Handler {
	if s.cfg.TLSClientCAFile == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.hasCertificate(r) {
			if chain, err := s.tls.findChain(r, time.Now()); err != nil || !isValid(chain, time.Now().Add(renewBefore)) {
				w.Header().Set("Connection", "close")
			}
		}
		next.ServeHTTP(w, r)
	})
}
