package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
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
	// maxCached bounds the entries of the cache that are live, and those that are not.
	maxCached = 10_000
)

// readClass is a class of reads of the store. Each has a limit of reads at one time, so a flood of made-up tokens waits for itself,
// and the connections to the database stay free for tasks.
type readClass int

// The classes of reads.
const (
	// classLive has the credentials that were live at their last read by this process.
	classLive readClass = iota
	// classNew has those that this process has not read yet.
	classNew
	// classDoubtful has the new ones of callers with many wrong ones.
	classDoubtful
)

// classReads are the limits of reads at one time. 10,000 live tokens cost 3,300 reads of about 1 ms in a second.
var classReads = [...]int{classLive: 4, classNew: lookupsAtOnce + 1, classDoubtful: 1}

// Authenticator proves the identity of callers by their tokens and sessions. It asks the store at most once in [CacheTime] for
// one, also for one that does not exist; a text of another form costs no query. Credentials that were live before never wait for
// others, and the other ones wait for those of their own address; see [Lookups]. Beyond their limit it lets those pass that the store
// has as live, so that no flood refuses a valid one. It is safe for concurrent use.
type Authenticator struct {
	tokens   Tokens
	sessions SessionStore // nil for none
	rules    *Mapping     // of the sessions of JWTs and certificates
	doubt    func(context.Context) bool
	reads    [len(classReads)]chan struct{} // one element for each read under way
	lookups  Lookups                        // those of credentials that this process has not read yet
	known    liveDigests                    // of the store
	static   atomic.Pointer[map[credentialDigest]*Principal]

	mu         sync.Mutex
	generation int // counts the calls of Forget
	// live has the credentials that were live at their last read, and others the rest, so that made-up ones push no live one out.
	live   map[credentialDigest]*cachedCredential
	others map[otherKey]*cachedCredential
	byID   map[credentialID]credentialDigest // of live
}

// otherKey names a credential that was not live at its last read. Callers share its read only with those of their own class and
// address: a read waits for its turn among the look-ups of both, and no caller waits there for the flood of another.
type otherKey struct {
	digest  credentialDigest
	class   readClass
	network netip.Prefix
}

// credentialDigest is the SHA-256 of a secret.
type credentialDigest = [sha256.Size]byte

// credentialID is the public part of a secret.
type credentialID struct {
	kind Kind
	id   string
}

// cachedCredential is an answer of the store. Callers that ask for a token while it is read wait for that read. The read belongs to
// none of them: it goes on as long as one of them waits.
type cachedCredential struct {
	generation int
	key        otherKey
	waiting    int                // callers; guarded by the lock of the authenticator
	cancel     context.CancelFunc // ends the read
	id         credentialID       // of one that is or was live
	read       chan struct{}      // closed at the end of the read
	until      time.Time          // on the monotonic clock of this process
	touched    time.Time
	principal  *Principal // nil when the credential gives no rights
	session    Session    // that of principal; zero for a token
	ended      error      // why it gives none
	err        error
}

// NewAuthenticator returns an authenticator of the tokens of a store.
func NewAuthenticator(tokens Tokens) *Authenticator {
	a := &Authenticator{
		tokens: tokens, doubt: func(context.Context) bool { return false },
		live: map[credentialDigest]*cachedCredential{}, others: map[otherKey]*cachedCredential{}, byID: map[credentialID]credentialDigest{},
	}
	a.known.read = a.readLive
	for class, limit := range classReads {
		a.reads[class] = make(chan struct{}, limit)
	}
	a.AcceptStatic()
	return a
}

// Doubt sets the function that reports callers with many wrong credentials, by the context of their calls. The new credentials of
// these callers wait for one another alone. Call it before the first request.
func (a *Authenticator) Doubt(doubt func(context.Context) bool) { a.doubt = doubt }

// AcceptStatic accepts these tokens of settings beside those of the store, in place of the ones of the call before.
func (a *Authenticator) AcceptStatic(tokens ...StaticToken) {
	static := make(map[credentialDigest]*Principal, len(tokens))
	for _, t := range tokens {
		digest := t.Secret.Digest()
		p := NewPrincipal(t.Secret.ID(), "token of a file", KindToken, t.Grants)
		p.basis = []string{"token " + digestText(string(digest[:]))}
		static[digest] = p
	}
	a.static.Store(&static)
}

// Forget ends the trust in what was read, reads under way included: after a change of tokens.
func (a *Authenticator) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.generation++
}

// ForgetSession ends the trust in what was read of the session with id, reads under way included: after its end.
func (a *Authenticator) ForgetSession(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.others) // the session may be among them while its first read is under way
	ended := credentialID{KindSession, id}
	if digest, known := a.byID[ended]; known {
		delete(a.live, digest)
		delete(a.byID, ended)
	}
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

// Confirm returns an error when the token or the session of p is no longer live, or a static token has another secret or other
// grants now.
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
		if static.ID == p.ID && slices.Equal(static.basis, p.basis) && slices.Equal(static.grants, p.grants) {
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

// find returns the credential with digest, from the cache or by read. It waits until its own ctx ends. The deadlines of
// other callers have no part in it.
func (a *Authenticator) find(ctx context.Context, digest credentialDigest, read readFunc) (*cachedCredential, error) {
	c := a.joinLive(digest)
	if c == nil {
		key := otherKey{digest: digest, class: classNew, network: NetworkOf(CallerFrom(ctx).Remote)}
		if a.doubt(ctx) {
			key.class = classDoubtful
		}
		c = a.joinRead(ctx, key, read)
	}

	select {
	case <-c.read:
		return c, c.err
	case <-ctx.Done():
		a.leaveRead(c)
		return nil, queue.ContextError(ctx.Err())
	}
}

// joinLive returns the entry of a live credential; nil when there is none, or when it is too old.
func (a *Authenticator) joinLive(digest credentialDigest) *cachedCredential {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.live[digest]
	if c == nil || !a.isUsable(c) {
		return nil
	}
	c.waiting++
	return c
}

// isUsable reports whether callers may use an entry or wait for it. a.mu is held. An entry that is still being read has no end yet,
// so only a change of the generation makes it useless.
func (a *Authenticator) isUsable(c *cachedCredential) bool {
	return c.generation == a.generation && (!c.isRead() || time.Now().Before(c.until))
}

// joinRead returns the entry of a credential. It starts to read the entry when there is none, or when it is too old. Other callers
// wait for that one read.
func (a *Authenticator) joinRead(ctx context.Context, key otherKey, read readFunc) *cachedCredential {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, wasLive := a.live[key.digest]
	if !wasLive {
		c = a.others[key]
	}
	if c != nil && a.isUsable(c) {
		c.waiting++
		return c
	}

	// Each class has a bound of its own, so that made-up credentials never delay live ones.
	class := key.class
	if wasLive {
		class = classLive
	}
	c = a.addEntry(key)
	// The values of the first caller, as its address, but not its end. The store bounds each of its calls.
	ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go a.readEntry(ctx, class, c, read)
	return c
}

// leaveRead counts out a caller of a read. Without callers the read ends, and no later caller joins it.
func (a *Authenticator) leaveRead(c *cachedCredential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.waiting--
	if c.waiting > 0 || c.isRead() {
		return
	}
	c.cancel()
	c.generation = -1 // that of no authenticator
}

func (c *cachedCredential) isRead() bool {
	select {
	case <-c.read:
		return true
	default:
		return false
	}
}

// addEntry adds an entry that is being read, in the place of a former one. a.mu is held.
func (a *Authenticator) addEntry(key otherKey) *cachedCredential {
	c := &cachedCredential{generation: a.generation, key: key, waiting: 1, read: make(chan struct{})}
	if former := a.live[key.digest]; former != nil {
		c.id = former.id
		if former.isRead() {
			c.touched = former.touched
		}
		a.live[key.digest] = c
		return c
	}
	if len(a.others) >= maxCached {
		clear(a.others)
	}
	a.others[key] = c
	return c
}

// keepEntry moves an entry that was read to those of its kind, unless another read has begun since. A full cache of live ones is
// emptied: that costs each of them one query.
func (a *Authenticator) keepEntry(c *cachedCredential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	digest := c.key.digest
	wasLive := a.live[digest] == c
	switch {
	case !wasLive && a.others[c.key] != c, wasLive == (c.principal != nil):
		return
	case wasLive:
		delete(a.live, digest)
		delete(a.byID, c.id)
		a.others[c.key] = c
		return
	}
	if len(a.live) >= maxCached {
		clear(a.live)
		clear(a.byID)
	}
	delete(a.others, c.key)
	a.live[digest] = c
	c.id = credentialID{c.principal.Kind, c.principal.ID}
	a.byID[c.id] = digest
}

// readEntry reads the credential of c.
func (a *Authenticator) readEntry(ctx context.Context, class readClass, c *cachedCredential, read readFunc) {
	defer close(c.read)
	defer c.cancel()
	defer func() {
		// The goroutine serves several callers, so a panic of the store must reach them and not end the process.
		if p := recover(); p != nil {
			c.until = time.Time{}
			c.err = &queue.Error{Kind: queue.KindInternal, Err: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()

	if class != classLive {
		leave, err := a.lookups.Enter(ctx)
		switch {
		case err == nil:
			defer leave()
		case errors.Is(err, ErrLookups) && a.known.has(ctx, c.key.digest):
			class = classLive // it is valid, and made-up ones cannot get here
		default:
			c.err = err
			return
		}
	}
	select {
	case a.reads[class] <- struct{}{}:
		defer func() { <-a.reads[class] }()
	case <-ctx.Done():
		c.err = queue.ContextError(ctx.Err())
		return
	}

	// The time before the read: the answer may be older than its arrival.
	c.until = time.Now().Add(CacheTime)
	if err := read(ctx, c.key.digest, c); err != nil {
		c.err = err
		c.until = time.Time{} // not kept
		return
	}
	a.keepEntry(c)
}

// readLive returns the digests of the live tokens and sessions.
func (a *Authenticator) readLive(ctx context.Context) ([]credentialDigest, error) {
	digests, err := a.tokens.LiveTokenDigests(ctx)
	if err != nil || a.sessions == nil {
		return digests, err
	}
	sessions, err := a.sessions.LiveSessionDigests(ctx)
	return append(digests, sessions...), err
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
