package access

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Verifier is the driven port to the issuers of JWTs. It is safe for concurrent use.
type Verifier interface {
	// Verify returns the identity that a JWT proves. KindUnauthenticated for a text that is not a valid JWT of a trusted
	// issuer, with a [ClaimError] as its cause; KindUnavailable when no issuer answers to check it.
	Verify(ctx context.Context, text string) (Proof, error)
}

// ClaimError is the cause of the refusal of a JWT, with the identity that it claims without a proof. The texts are of the
// caller: [AuditEntry.Clean] makes them fit for a record.
type ClaimError struct {
	Issuer, Subject string
	Err             error
}

// Error returns the cause and the claims, each within 100 letters and without control characters.
func (e *ClaimError) Error() string {
	return fmt.Sprintf("%v; the JWT claims the issuer %.100q and the subject %.100q", e.Err, e.Issuer, e.Subject)
}

// Unwrap returns the cause.
func (e *ClaimError) Unwrap() error { return e.Err }

// JWTPrincipalID returns the id of the principal of a JWT.
func JWTPrincipalID(issuer, subject string) string { return subject + "@" + issuer }

// JWTAuthenticator proves the identity of callers by JWTs, and gives them the grants of rules. It checks the signature of a JWT
// once: the principal stays known until the JWT expires, its issuer or key loses trust, or the rules change. It is safe for
// concurrent use.
type JWTAuthenticator struct {
	verifier Verifier
	mapping  *Mapping

	mu    sync.Mutex
	known map[[sha256.Size]byte]*Principal // by the digest of the JWT, at most maxCached
}

// NewJWTAuthenticator returns an authenticator of the JWTs that v verifies, with the grants of m.
func NewJWTAuthenticator(v Verifier, m *Mapping) *JWTAuthenticator {
	return &JWTAuthenticator{verifier: v, mapping: m, known: map[[sha256.Size]byte]*Principal{}}
}

// IsJWT reports whether text has the form of a JWT, three parts with dots between. A token of pgqueue has no dot.
func IsJWT(text string) bool { return strings.Count(text, ".") == 2 }

// Authenticate returns the principal of a JWT. KindUnauthenticated for one that is not valid, with the same text for each
// reason; KindUnavailable when no issuer answers to check it.
func (a *JWTAuthenticator) Authenticate(ctx context.Context, text string) (*Principal, error) {
	digest := sha256.Sum256([]byte(text))
	a.mu.Lock()
	p := a.known[digest]
	a.mu.Unlock()
	if p != nil && a.Confirm(p) == nil {
		return p, nil
	}

	proof, err := a.verifier.Verify(ctx, text)
	if err == nil {
		if p, err = a.mapping.Principal(proof); err != nil {
			err = &ClaimError{Issuer: proof.Issuer, Subject: proof.Subject, Err: err}
		}
	}
	if err == nil {
		err = a.Confirm(p) // the issuers and the rules may have changed meanwhile
	}
	switch {
	case queue.KindOf(err) == queue.KindUnauthenticated:
		return nil, refuse(err)
	case err != nil:
		return nil, err
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxCached {
		clear(a.known) // costs each JWT one check of its signature
	}
	a.known[digest] = p
	return p, nil
}

// Confirm returns an error when the JWT of p has expired, its issuer or key is no longer trusted, or the rules have changed.
func (a *JWTAuthenticator) Confirm(p *Principal) error { return a.mapping.Confirm(p, time.Now()) }
