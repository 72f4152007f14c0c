package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	// CacheTime is how long an [Authenticator] trusts what it read of a token. With [ConfirmInterval] it bounds the time from
	// a revocation to its effect.
	CacheTime = 3 * time.Second
	// maxCached bounds the entries of the cache, unknown tokens included.
	maxCached = 10_000
	// maxReads bounds the reads of the store at one time. A flood of made-up tokens then waits for itself, and the
	// connections to the database stay free for tasks.
	maxReads = 4
)

// Authenticator proves the identity of callers by their tokens and sessions. It asks the store at most once in [CacheTime] for
// one, also for one that does not exist; a text of another form costs no query. It is safe for concurrent use.
type Authenticator struct {
	tokens   Tokens
	sessions SessionStore  // nil for none
	rules    *Mapping      // of the sessions of JWTs and certificates
	reads    chan struct{} // one element for each read under way
	static   atomic.Pointer[map[credentialDigest]*Principal]

	mu     sync.Mutex
	cached map[credentialDigest]*cachedCredential
	byID   map[credentialID]credentialDigest
}

// credentialDigest is the SHA-256 of a secret.
type credentialDigest = [sha256.Size]byte

// credentialID is the public part of a secret.
type credentialID struct {
	kind Kind
	id   string
}

// cachedCredential is an answer of the store. Callers that ask for a token while one of them reads it wait for that read.
type cachedCredential struct {
	read      chan struct{} // closed at the end of the read
	until     time.Time     // on the monotonic clock of this process
	touched   time.Time
	principal *Principal // nil when the credential gives no rights
	session   Session    // that of principal; zero for a token
	ended     error      // why it gives none
	err       error
}

// NewAuthenticator returns an authenticator of the tokens of a store.
func NewAuthenticator(tokens Tokens) *Authenticator {
	a := &Authenticator{tokens: tokens, reads: make(chan struct{}, maxReads)}
	a.AcceptStatic()
	a.Forget()
	return a
}

// AcceptStatic accepts these tokens of settings beside those of the store, in place of the ones of the call before.
func (a *Authenticator) AcceptStatic(tokens ...StaticToken) {
	static := make(map[credentialDigest]*Principal, len(tokens))
	for _, t := range tokens {
		static[t.Secret.Digest()] = NewPrincipal(t.Secret.ID(), "token of a file", KindToken, t.Grants)
	}
	a.static.Store(&static)
}

// Forget empties the cache: after a change of tokens.
func (a *Authenticator) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cached = map[credentialDigest]*cachedCredential{}
	a.byID = map[credentialID]credentialDigest{}
}

// refuse answers each credential without a live token. The text does not say which rule the credential breaks: only the
// cause does, which the log and the audit show.
func refuse(cause error) *queue.Error {
	return &queue.Error{
		Kind: queue.KindUnauthenticated, Err: cause,
		Msg: "must be a valid token, got one that is unknown, expired or revoked; ask for a new one",
	}
}

// Authenticate returns the principal of a token. KindUnauthenticated for a text that is not a live token,
// KindUnavailable and the like when the store does not answer.
func (a *Authenticator) Authenticate(ctx context.Context, text string) (*Principal, error) {
	// Static secrets come first, because they need no checksum.
	secret, err := ParseStaticSecret(text)
	if err != nil {
		return nil, err
	}
	digest := secret.Digest()
	for known, p := range *a.static.Load() {
		if subtle.ConstantTimeCompare(known[:], digest[:]) == 1 {
			return p, nil
		}
	}

	if _, err := ParseSecret(text); err != nil {
		return nil, err
	}
	return a.findPrincipal(ctx, digest)
}

// Confirm returns an error when the token or the session of p is no longer live, or a static token has other grants now.
// Principals of other kinds are confirmed.
func (a *Authenticator) Confirm(ctx context.Context, p *Principal) error {
	switch p.Kind {
	case KindToken:
		return a.confirmToken(ctx, p)
	case KindSession:
		return a.confirmSession(ctx, p.ID)
	case KindJWT, KindCertificate, KindLocal, KindDatabase:
	}
	return nil
}

func (a *Authenticator) confirmToken(ctx context.Context, p *Principal) error {
	for _, static := range *a.static.Load() {
		if static.ID == p.ID && slices.Equal(static.grants, p.grants) {
			return nil
		}
	}

	if digest, known := a.digestOf(KindToken, p.ID); known {
		_, err := a.findPrincipal(ctx, digest)
		return err
	}

	t, err := a.tokens.GetToken(ctx, p.ID)
	if queue.KindOf(err) == queue.KindNotFound || err == nil && !t.Live() {
		return refuse(endOfToken(t))
	}
	return err
}

// digestOf returns the digest of a credential that was read before.
func (a *Authenticator) digestOf(kind Kind, id string) (digest credentialDigest, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	digest, known = a.byID[credentialID{kind, id}]
	return digest, known
}

// endOfToken returns why a token has ended, with its id. The zero Token is unknown.
func endOfToken(t Token) error {
	switch {
	case t.ID == "":
		return errors.New("the token is unknown")
	case !t.RevokedAt.IsZero():
		return fmt.Errorf("token %s is revoked", t.ID)
	}
	return fmt.Errorf("token %s has expired", t.ID)
}

// findPrincipal returns the principal of the token with digest, from the cache or the store.
func (a *Authenticator) findPrincipal(ctx context.Context, digest credentialDigest) (*Principal, error) {
	c, err := a.find(ctx, digest, a.readToken)
	switch {
	case err != nil:
		return nil, err
	case c.principal == nil:
		return nil, refuse(c.ended)
	}
	return c.principal, nil
}

// readFunc reads the credential with digest into c. An error says that the store did not answer.
type readFunc func(ctx context.Context, digest credentialDigest, c *cachedCredential) error

// find returns the credential with digest, from the cache or by read.
func (a *Authenticator) find(ctx context.Context, digest credentialDigest, read readFunc) (*cachedCredential, error) {
	a.mu.Lock()
	c := a.cached[digest]
	if c != nil && c.isRead() && !time.Now().Before(c.until) {
		c = nil
	}
	reader := c == nil
	if reader {
		c = a.addEntry(digest)
	}
	a.mu.Unlock()

	if reader {
		a.readEntry(ctx, digest, c, read)
	}
	select {
	case <-c.read:
	case <-ctx.Done():
		return nil, queue.ContextError(ctx.Err())
	}

	switch {
	case c.err != nil && queue.KindOf(c.err) == queue.KindCanceled && ctx.Err() == nil && !reader:
		return a.find(ctx, digest, read) // the caller that read has left
	case c.err != nil:
		return nil, c.err
	}
	return c, nil
}

func (c *cachedCredential) isRead() bool {
	select {
	case <-c.read:
		return true
	default:
		return false
	}
}

// addEntry adds an entry that is being read. It empties a full cache: that costs each live token one query. a.mu is held.
func (a *Authenticator) addEntry(digest credentialDigest) *cachedCredential {
	var touched time.Time
	if former := a.cached[digest]; former != nil {
		touched = former.touched
	}
	if len(a.cached) >= maxCached {
		clear(a.cached)
		clear(a.byID)
	}

	c := &cachedCredential{read: make(chan struct{}), touched: touched}
	a.cached[digest] = c
	return c
}

// readEntry reads the credential into c.
func (a *Authenticator) readEntry(ctx context.Context, digest credentialDigest, c *cachedCredential, read readFunc) {
	defer close(c.read)
	select {
	case a.reads <- struct{}{}:
		defer func() { <-a.reads }()
	case <-ctx.Done():
		c.err = queue.ContextError(ctx.Err())
		return
	}

	// The time before the read: the answer may be older than its arrival.
	c.until = time.Now().Add(CacheTime)
	if err := read(ctx, digest, c); err != nil {
		c.err = err
		c.until = time.Time{} // not kept
		return
	}
	if c.principal != nil {
		a.mu.Lock()
		a.byID[credentialID{c.principal.Kind, c.principal.ID}] = digest
		a.mu.Unlock()
	}
}

// readToken reads the token with digest into c, and records its use once in [TouchInterval].
func (a *Authenticator) readToken(ctx context.Context, digest credentialDigest, c *cachedCredential) error {
	t, err := a.tokens.FindToken(ctx, digest)
	switch {
	case queue.KindOf(err) == queue.KindNotFound:
		c.ended = endOfToken(Token{})
		return nil
	case err != nil:
		return err
	case !t.Live():
		c.ended = endOfToken(t)
		return nil
	}

	c.principal = t.Principal()
	if time.Since(c.touched) > TouchInterval {
		c.touched = time.Now()
		// A use that is not recorded, as in a standby that is read-only, does not refuse the call.
		_ = a.tokens.TouchToken(ctx, t.ID)
	}
	return nil
}
