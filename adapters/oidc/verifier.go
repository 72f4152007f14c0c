package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Verifier proves identities by JWTs of trusted issuers. It is safe for concurrent use.
type Verifier struct {
	log     *slog.Logger
	now     func() time.Time
	issuers atomic.Pointer[map[string]*remote]

	ctx     context.Context //nolint:containedctx // the life of the fetches, which no caller's end ends
	cancel  context.CancelFunc
	mu      sync.Mutex // guards closed and Add of fetches
	closed  bool
	fetches sync.WaitGroup
}

// New returns a verifier without issuers. Close ends it.
func New(log *slog.Logger) *Verifier {
	v := &Verifier{log: log, now: time.Now}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	v.Replace(nil)
	return v
}

// Replace makes issuers the trusted issuers from now on. An issuer that is as before, with the certificates of its file, keeps its
// keys, and the proofs of the others lose their trust. No request is made. Of two issuers with one URL the last counts. Call it
// from one goroutine at a time.
func (v *Verifier) Replace(issuers []access.Issuer) {
	before := v.issuers.Load()
	after := make(map[string]*remote, len(issuers))
	for _, i := range issuers {
		next := &remote{Issuer: i, digest: digestOf(i), verifier: v}
		if before != nil && (*before)[i.URL] != nil && (*before)[i.URL].Issuer == i && (*before)[i.URL].digest == next.digest {
			next = (*before)[i.URL]
		}
		after[i.URL] = next
	}
	v.issuers.Store(&after)
}

// Digests returns the [access.Issuer.Digest] of each trusted issuer, as the proofs of its JWTs have it.
func (v *Verifier) Digests() []string {
	var digests []string
	for _, r := range *v.issuers.Load() {
		digests = append(digests, r.digest)
	}
	return digests
}

// HasNewCertificates reports whether the file with the certificates of a trusted issuer has changed since Replace.
func (v *Verifier) HasNewCertificates() bool {
	for _, r := range *v.issuers.Load() {
		if digestOf(r.Issuer) != r.digest {
			return true
		}
	}
	return false
}

// digestOf returns the digest of an issuer with the present certificates of its file. A file that cannot be read counts as an
// empty one: no request to the issuer succeeds then.
func digestOf(i access.Issuer) string {
	if i.CAFile == "" {
		return i.Digest("")
	}
	content, _ := readFile("ca_file", i.CAFile)
	return i.Digest(string(content))
}

// Check returns an error that names each issuer with keys that could not be fetched at the last attempt.
func (v *Verifier) Check(context.Context) error {
	var faults []error
	for url, r := range *v.issuers.Load() {
		r.mu.Lock()
		if r.fault != nil {
			faults = append(faults, fmt.Errorf("the keys of %s cannot be fetched: %s", url, trim(r.fault.Error())))
		}
		r.mu.Unlock()
	}
	return errors.Join(faults...)
}

// Close ends the requests to issuers under way. A later Verify works with the known keys.
func (v *Verifier) Close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.cancel()
	v.fetches.Wait()
}

// goFetch runs f in the background until Close; it reports false after that.
func (v *Verifier) goFetch(f func(ctx context.Context)) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false
	}
	v.fetches.Go(func() { f(v.ctx) })
	return true
}

// Verify returns the identity that a JWT proves. KindUnauthenticated for a text that is not a valid JWT of a trusted issuer:
// its cause names the broken rule, for logs, and is an *access.ClaimError where the JWT claims an issuer and a subject.
// KindUnavailable when the keys of the issuer are unknown because it does not answer. The Trusted of the proof reports whether
// the issuer and the key are still trusted.
func (v *Verifier) Verify(ctx context.Context, text string) (access.Proof, error) {
	t, err := parseToken(text)
	if err != nil {
		return access.Proof{}, t.refuse(err)
	}
	r := (*v.issuers.Load())[t.issuer]
	if r == nil {
		return access.Proof{}, t.refuse(errors.New("the issuer of the JWT is not trusted"))
	}
	// The claims come before the signature: an expired JWT costs neither a request nor a check of its signature.
	if err := t.check(r.Issuer, v.now()); err != nil {
		return access.Proof{}, t.refuse(err)
	}

	s := &signature{remote: r, header: t.header}
	config := &goidc.Config{ClientID: r.Audience, SupportedSigningAlgs: algorithms, Now: v.now}
	proved, err := goidc.NewVerifier(r.URL, s, config).Verify(ctx, text)
	switch {
	case s.fault != nil:
		return access.Proof{}, s.fault
	case err != nil:
		return access.Proof{}, t.refuse(err)
	case proved.Issuer != t.issuer || proved.Subject != t.subject:
		return access.Proof{}, t.refuse(errors.New("the JWT must have one meaning"))
	}

	proof := access.Proof{
		Kind: access.KindJWT, Issuer: t.issuer, Subject: t.subject, Authority: r.digest, Claims: t.texts, Expires: t.expires,
		Trusted: func() bool { return (*v.issuers.Load())[t.issuer] == r && r.has(s.key) },
	}
	if names := t.texts[r.Name]; len(names) > 0 {
		proof.Name = names[0]
	}
	return proof, nil
}

// refuse returns the error of a JWT that breaks a rule, with its claimed issuer and subject.
func (t token) refuse(cause error) error {
	return &queue.Error{
		Kind: queue.KindUnauthenticated, Msg: "must be a valid JWT of a trusted issuer, got another; ask for a new one",
		Err: &access.ClaimError{Issuer: t.issuer, Subject: t.subject, Err: errors.New(trim(cause.Error()))},
	}
}

// signature checks the signature of one JWT for the library.
type signature struct {
	remote *remote
	header header
	key    jose.JSONWebKey // the key that made it
	fault  error           // the keys are unknown
}

// VerifySignature returns the claims of a JWT with a signature by a key of the issuer. When no known key fits, as after a
// rotation, it asks the issuer.
func (s *signature) VerifySignature(ctx context.Context, text string) ([]byte, error) {
	parsed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(s.header.algorithm)})
	if err != nil {
		return nil, err
	}
	if payload, ok := s.try(parsed, s.remote.present()); ok {
		return payload, nil
	}

	keys, err := s.remote.ask(ctx)
	if payload, ok := s.try(parsed, keys); ok {
		return payload, nil
	}
	switch {
	case ctx.Err() != nil:
		s.fault = queue.ContextError(ctx.Err())
	case err != nil || keys == nil:
		s.fault = &queue.Error{
			Kind: queue.KindUnavailable, Subject: "issuer " + s.remote.URL, Msg: "its keys are not known, and it does not answer; repeat the call", Err: err,
		}
	}
	return nil, fmt.Errorf("no key of the issuer made the signature; the JWT has the kid %.64q", s.header.kid)
}

// try checks the signature with each key that may have made it.
func (s *signature) try(parsed *jose.JSONWebSignature, keys []jose.JSONWebKey) ([]byte, bool) {
	for _, key := range candidates(keys, s.header.kid, s.header.algorithm) {
		if payload, err := parsed.Verify(&key); err == nil {
			s.key = key
			return payload, true
		}
	}
	return nil, false
}
