package run

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/oidc"
	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestCertificateAuthenticator holds client certificates to the suite of authenticators. Each has an authority of its own, which
// leaves the file of authorities to end it. A credential is the name under which the test keeps a certificate.
func TestCertificateAuthenticator(t *testing.T) {
	queuetest.TestAuthenticator(t, func(t *testing.T) queuetest.Authenticator {
		cfg, _ := tlsConfig(t, &lines{})
		foreign := newAuthority(t)
		cfg.TLSClientCAFile = writeFile(t, newAuthority(t).pem())
		cfg.AccessFile = writeFile(t, "rules: []")
		s := start(t, cfg)

		authorities, certificates := map[string]*authority{}, map[string]*x509.Certificate{}
		rules := "rules:\n"
		reload := func(t *testing.T) {
			t.Helper()
			present := newAuthority(t).pem() // the file is never empty
			for _, a := range authorities {
				present += a.pem()
			}
			replaceFile(t, cfg.TLSClientCAFile, present)
			replaceFile(t, cfg.AccessFile, rules)
			s.Reload(t.Context())
			if err := s.files.check(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		unknown, _ := foreign.sign(forClient("ann.example.org"))
		return queuetest.Authenticator{
			Kind: access.KindCertificate, Confirm: s.control.confirm,
			Authenticate: func(ctx context.Context, credential string) (*access.Principal, error) {
				leaf := certificates[credential]
				if leaf == nil {
					leaf = unknown
				}
				r := &http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}}
				return s.certificatePrincipal(r.WithContext(ctx))
			},
			Issue: func(t *testing.T, grants ...access.Grant) string {
				t.Helper()
				credential := fmt.Sprint("kept-", len(certificates))
				name := fmt.Sprintf("ann%d.example.org", len(certificates))
				authorities[credential] = newAuthority(t)
				certificates[credential], _ = authorities[credential].sign(forClient(name))
				rules += fmt.Sprintf("  - {cert: %s, grant: ['%s']}\n", name, strings.Join(access.FormatGrants(grants), "', '"))
				reload(t)
				return credential
			},
			End: func(t *testing.T, credential string) {
				t.Helper()
				delete(authorities, credential)
				reload(t)
			},
		}
	})
}

// TestJWTAuthenticator holds the JWTs of an issuer to the suite of authenticators. The issuer loses its trust to end one.
func TestJWTAuthenticator(t *testing.T) {
	queuetest.TestAuthenticator(t, func(t *testing.T) queuetest.Authenticator {
		issuer := oidctest.Start(t)
		v := oidc.New(slog.New(slog.DiscardHandler))
		t.Cleanup(v.Close)
		v.Replace([]access.Issuer{{URL: issuer.URL(), Audience: "pgqueue"}})
		var rules []access.Rule
		var mapping access.Mapping
		a := access.NewJWTAuthenticator(v, &mapping)
		return queuetest.Authenticator{
			Kind: access.KindJWT, Authenticate: a.Authenticate,
			Confirm: func(_ context.Context, p *access.Principal) error { return a.Confirm(p) },
			Issue: func(t *testing.T, grants ...access.Grant) string {
				t.Helper()
				subject := access.NewSecret().ID()
				rules = append(rules, access.Rule{Issuer: issuer.URL(), Claim: "sub", Is: subject, Grants: grants})
				mapping.Replace(rules, v.Digests()...)
				return issuer.Mint(issuer.Claims("pgqueue", subject))
			},
			End: func(*testing.T, string) { v.Replace(nil) },
		}
	})
}
