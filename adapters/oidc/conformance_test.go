package oidc

import (
	"context"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestAuthenticator holds the JWTs of an issuer to the suite of authenticators. The issuer loses its trust to end one.
func TestAuthenticator(t *testing.T) {
	queuetest.TestAuthenticator(t, func(t *testing.T) queuetest.Authenticator {
		issuer := oidctest.Start(t)
		v, _ := newVerifier(t, access.Issuer{URL: issuer.URL(), Audience: "pgqueue"})
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
