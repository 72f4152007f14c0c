package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// SessionAdmin has the operations on sessions that programs use. The principal of a call comes from its context; clients of
// a server send their credential instead. All methods are safe for concurrent use and fail with *queue.Error.
type SessionAdmin interface {
	// CreateCode makes a code that opens one session of the caller within [CodeLife]. KindDenied for a caller that is a
	// session itself, KindConflict on an open server, which needs no sign-in.
	CreateCode(ctx context.Context) (Code, error)
	// ListSessions lists the live sessions, the newest first.
	ListSessions(ctx context.Context) ([]Session, error)
	// EndSession ends a session. Every server refuses it within 10 s, and ends its open streams and waiting calls.
	EndSession(ctx context.Context, id string) (Session, error)
}

// Sessions has the operations on sessions of a server.
type Sessions interface {
	SessionAdmin
	// OpenSession opens a session by a code or a bearer token. KindUnauthenticated for one that is not valid, KindDenied for a
	// JWT to which no rule gives a grant.
	OpenSession(ctx context.Context, r SignIn) (OpenedSession, error)
	// SignOut ends the session that is the caller. KindInvalid for a caller with another credential.
	SignOut(ctx context.Context) error
}

// Code is a new one-time code.
type Code struct {
	Secret    Secret
	ExpiresAt time.Time
}

// SignIn has the text of a code or of a token, and not both.
type SignIn struct {
	Code  string
	Token string
}

// OpenedSession is a new session with its secret.
type OpenedSession struct {
	Session
	Secret Secret
}

// SessionSettings configures [SessionKeeper]. Store and Authenticate are required.
type SessionSettings struct {
	Store SessionStore
	// Authenticate returns the principal of a bearer token: of pgqueue, see [Authenticator.Authenticate], or a JWT.
	Authenticate func(ctx context.Context, token string) (*Principal, error)
	// Life and Idle are those of new sessions; 0 = the defaults.
	Life time.Duration
	Idle time.Duration
	// Ended is called with the id of a session after its end, so that caches forget it; nil = no call.
	Ended func(id string)
	// Audit records each sign-in, sign-out and refusal; nil = none.
	Audit *AuditRecorder
}

// SessionKeeper is the [Sessions] over a store. It is safe for concurrent use.
type SessionKeeper struct {
	SessionSettings

	lookups Lookups       // of codes
	known   liveDigests   // of codes and sessions
	redeems chan struct{} // one element for each read of a code under way
}

// maxRedeems bounds the reads of codes at one time, so that a flood of made-up ones leaves the connections to the database free.
const maxRedeems = lookupsAtOnce + 1

var _ Sessions = (*SessionKeeper)(nil)

// NewSessionKeeper returns the operations on the sessions of a store.
func NewSessionKeeper(s SessionSettings) *SessionKeeper {
	if s.Life == 0 {
		s.Life = DefaultSessionLife
	}
	if s.Idle == 0 {
		s.Idle = min(DefaultSessionIdle, s.Life)
	}
	k := &SessionKeeper{SessionSettings: s, redeems: make(chan struct{}, maxRedeems)}
	k.known.read = func(ctx context.Context) ([]credentialDigest, error) { return s.Store.LiveSessionDigests(ctx) }
	return k
}

// CreateCode makes a code, and records it.
func (k *SessionKeeper) CreateCode(ctx context.Context) (Code, error) {
	code, err := k.createCode(ctx)
	k.record(ctx, queue.OpCreateCode, code.Secret.ID(), err)
	return code, err
}

func (k *SessionKeeper) createCode(ctx context.Context) (Code, error) {
	p := From(ctx)
	if err := checkOpener(p); err != nil {
		return Code{}, err
	}

	// Only its digest goes to the store; the text exists in the answer alone.
	secret := newSecret(codePrefix)
	n := k.newSession(p, secret)
	n.IsCode, n.Life = true, CodeLife
	s, err := k.Store.CreateSession(ctx, n)
	if err != nil {
		return Code{}, err
	}
	return Code{secret, s.ExpiresAt}, nil
}

// checkOpener refuses a principal that cannot open a session, and one without a right: the rules of the server do not name it.
func checkOpener(p *Principal) error {
	switch {
	case p == nil:
		return errNoPrincipal
	case p.Kind == KindLocal:
		// Such a session would keep every right after the first token has closed the server.
		return &queue.Error{Kind: queue.KindConflict, Msg: "must be a caller with a credential, got one of an open server; open the dashboard without a sign-in"}
	case p.Kind == KindSession:
		// Sessions that open sessions would never end.
		return &queue.Error{Kind: queue.KindDenied, Msg: "must be a caller with a credential of its own, got a session; sign in with the token"}
	case len(p.grants) == 0:
		return &queue.Error{
			Kind: queue.KindDenied, Msg: fmt.Sprintf("must match a rule of the access file, got %.200q without one; ask for a rule", p.ID),
		}
	}
	return nil
}

// newSession returns a session of p with the secret.
func (k *SessionKeeper) newSession(p *Principal, secret Secret) NewSession {
	n := NewSession{ID: secret.ID(), Digest: secret.Digest(), Opener: openerOf(p), Life: k.Life, Idle: k.Idle}
	if !p.expires.IsZero() {
		// 0 would mean that the credential never ends; one that has just ended gives a session that ends at once.
		n.Within = max(time.Until(p.expires), time.Nanosecond)
	}
	return n
}

// OpenSession opens a session by a code or a token, and records it with the principal that signs in.
func (k *SessionKeeper) OpenSession(ctx context.Context, r SignIn) (OpenedSession, error) {
	opened, err := k.openSession(ctx, r)
	k.recordSignIn(ctx, r.Code+r.Token, opened, err)
	return opened, err
}

func (k *SessionKeeper) openSession(ctx context.Context, r SignIn) (OpenedSession, error) {
	switch {
	case (r.Code == "") == (r.Token == ""):
		return OpenedSession{}, queue.Invalid("code", "must be a code or a token, got both or none; give one of them")
	case r.Code != "":
		return k.redeemCode(ctx, r.Code)
	}

	p, err := k.Authenticate(ctx, r.Token)
	if err != nil {
		return OpenedSession{}, err
	}
	return k.openFor(ctx, p)
}

// OpenFor opens a session of a principal that an identity provider has proved, and records it. The session does not end with
// the short life of that proof.
func (k *SessionKeeper) OpenFor(ctx context.Context, p *Principal) (OpenedSession, error) {
	lasting := openerOf(p).principal()
	opened, err := k.openFor(ctx, lasting)
	k.recordSignIn(With(ctx, lasting), "", opened, err)
	return opened, err
}

func (k *SessionKeeper) openFor(ctx context.Context, p *Principal) (OpenedSession, error) {
	if err := checkOpener(p); err != nil {
		return OpenedSession{}, err
	}

	secret := newSecret(sessionPrefix)
	s, err := k.Store.CreateSession(ctx, k.newSession(p, secret))
	return OpenedSession{s, secret}, err
}

// badCode answers each code that opens no session.
var badCode = &queue.Error{
	Kind: queue.KindUnauthenticated, Field: "code",
	Msg: fmt.Sprintf("must be a code that is unused and at most %v old, got another; run pgqueue dashboard again", CodeLife),
}

func (k *SessionKeeper) redeemCode(ctx context.Context, text string) (OpenedSession, error) {
	code, err := ParseCode(text)
	if err != nil {
		return OpenedSession{}, badCode
	}

	leave, err := k.lookups.Enter(ctx)
	switch {
	case err == nil:
		defer leave()
	case errors.Is(err, ErrLookups) && k.known.has(ctx, code.Digest()): // a valid code waits at worst
	default:
		return OpenedSession{}, err
	}
	select {
	case k.redeems <- struct{}{}:
		defer func() { <-k.redeems }()
	case <-ctx.Done():
		return OpenedSession{}, queue.ContextError(ctx.Err())
	}
	secret := newSecret(sessionPrefix)
	s, err := k.Store.RedeemCode(ctx, Redemption{Code: code.Digest(), ID: secret.ID(), Digest: secret.Digest(), Life: k.Life, Idle: k.Idle})
	switch {
	case queue.KindOf(err) == queue.KindNotFound, err == nil && !s.Live(): // its token has ended since
		return OpenedSession{}, badCode
	case err != nil:
		return OpenedSession{}, err
	}
	return OpenedSession{s, secret}, nil
}

// RecordRefused records a sign-in at an identity provider that proved nothing.
func (k *SessionKeeper) RecordRefused(ctx context.Context, err error) {
	k.recordSignIn(ctx, "", OpenedSession{}, err)
}

// recordSignIn records a sign-in. A refused one has what its credential claims to be.
func (k *SessionKeeper) recordSignIn(ctx context.Context, credential string, opened OpenedSession, err error) {
	if err == nil {
		k.record(With(ctx, opened.Opener.principal()), queue.OpOpenSession, opened.ID, nil)
		return
	}
	e := ClaimOf(credential, err)
	e.Action, e.Operation = actionOf[queue.OpOpenSession], queue.OpOpenSession.Label()
	k.Audit.Record(ctx, e, err)
}

// record records an operation on the session with id.
func (k *SessionKeeper) record(ctx context.Context, op queue.Op, id string, err error) {
	e := entryOf(op, "", "")
	e.Token = id
	k.Audit.Record(ctx, e, err)
}

// ListSessions lists the live sessions. It records a refusal alone.
func (k *SessionKeeper) ListSessions(ctx context.Context) ([]Session, error) {
	if _, err := requireManage(ctx); err != nil {
		k.record(ctx, queue.OpListSessions, "", err)
		return nil, err
	}
	return k.Store.ListSessions(ctx)
}

// EndSession ends a session, and records it.
func (k *SessionKeeper) EndSession(ctx context.Context, id string) (Session, error) {
	s, err := k.endSession(ctx, id)
	k.record(ctx, queue.OpEndSession, auditedTokenID(id), err)
	return s, err
}

func (k *SessionKeeper) endSession(ctx context.Context, id string) (Session, error) {
	caller, err := requireManage(ctx)
	if err != nil {
		return Session{}, err
	}
	if err := checkSessionID(id); err != nil {
		return Session{}, err
	}
	if caller.Kind == KindLocal {
		return Session{}, errLocalChange // a session proves that there is a credential
	}
	return k.end(ctx, id)
}

// checkSessionID refuses a text that cannot be the id of a session.
func checkSessionID(id string) error {
	if len(id) != idLetters || strings.Trim(id, base62) != "" {
		return queue.Invalid("id", fmt.Sprintf("must be the %d letters and digits of the id of a session, got %.8q; list the sessions", idLetters, id))
	}
	return nil
}

func (k *SessionKeeper) end(ctx context.Context, id string) (Session, error) {
	s, err := k.Store.EndSession(ctx, id)
	if err == nil && k.Ended != nil {
		k.Ended(id)
	}
	return s, err
}

// SignOut ends the session of the caller, and records it.
func (k *SessionKeeper) SignOut(ctx context.Context) error {
	p := From(ctx)
	if p == nil || p.Kind != KindSession {
		return queue.Invalid("session", "must be the credential of the caller, got another one or none; end a session by its id")
	}
	_, err := k.end(ctx, p.ID)
	k.record(ctx, queue.OpSignOut, p.ID, err)
	return err
}

// errNoSessions is the cause of a refusal by a server without sessions.
var errNoSessions = errors.New("this server keeps no sessions")

// AcceptSessions accepts the sessions of a store beside the tokens. Those of JWTs and certificates need the rules that gave them
// their grants. Call it before the first request.
func (a *Authenticator) AcceptSessions(store SessionStore, rules *Mapping) {
	a.sessions, a.rules = store, rules
}

// AuthenticateSession returns the principal of a session by its secret, and records the use. KindUnauthenticated for a text
// that is not the secret of a live session, KindUnavailable and the like when the store does not answer.
func (a *Authenticator) AuthenticateSession(ctx context.Context, text string) (*Principal, error) {
	secret, err := parseSecret(sessionPrefix, text)
	if err != nil {
		return nil, refuseSession(err)
	}

	c, err := a.findSession(ctx, secret.Digest())
	if err != nil {
		return nil, err
	}
	if a.isTouchDue(c) {
		// A use that is not recorded, as in a standby that is read-only, does not refuse the call.
		_ = a.sessions.TouchSession(ctx, c.principal.ID)
	}
	return c.principal, nil
}

// isTouchDue reports whether the use of a session is to be recorded now, and takes that upon the caller.
func (a *Authenticator) isTouchDue(c *cachedCredential) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	// Check and set under one lock: of many calls of a session one writes.
	if !c.touched.IsZero() && time.Since(c.touched) < sessionTouchInterval {
		return false
	}
	c.touched = time.Now()
	return true
}

// ParseCode reads a one-time code, as [ParseSecret] reads a token.
func ParseCode(text string) (Secret, error) { return parseSecret(codePrefix, text) }

// SessionID returns the public part of the secret of a session; "" for another text.
func SessionID(text string) string {
	if !hasSecretForm(sessionPrefix, text) {
		return ""
	}
	return Secret{text}.ID()
}

// refuseSession answers each credential that is not a live session.
func refuseSession(cause error) *queue.Error {
	return &queue.Error{Kind: queue.KindUnauthenticated, Err: cause, Msg: "must be a live session, got one that is unknown or has ended; sign in again"}
}

// findSession returns the live session with the digest.
func (a *Authenticator) findSession(ctx context.Context, digest credentialDigest) (*cachedCredential, error) {
	if a.sessions == nil {
		return nil, refuseSession(errNoSessions)
	}
	c, err := a.find(ctx, digest, a.readSession)
	switch {
	case err != nil:
		return nil, err
	case c.principal == nil:
		return nil, refuseSession(c.ended)
	}
	return c, a.checkBasis(c.session)
}

// readSession reads the session with the digest into c.
func (a *Authenticator) readSession(ctx context.Context, digest credentialDigest, c *cachedCredential) error {
	s, err := a.sessions.FindSession(ctx, digest)
	switch {
	case queue.KindOf(err) == queue.KindNotFound:
		c.ended = errors.New("the session is unknown")
	case err != nil:
		return err
	case !s.Live():
		c.ended = endOfSession(s)
	default:
		c.principal, c.session = s.Opener.principalAs(s.ID, KindSession), s
	}
	return nil
}

// endOfSession returns why a session has ended, with its id.
func endOfSession(s Session) error {
	switch {
	case !s.EndedAt.IsZero():
		return fmt.Errorf("session %s was ended", s.ID)
	case !s.Now.Before(s.ExpiresAt):
		return fmt.Errorf("session %s has expired", s.ID)
	}
	return fmt.Errorf("session %s was idle for too long", s.ID)
}

// ErrBasis is in the chain of causes of a refused session that rests on settings which this server does not have. Such a session
// is not at its end: another server may have read the settings already, and they may come back.
var ErrBasis = errors.New("the settings of this server do not have what the session rests on")

// checkBasis refuses a session with rights from settings that this server does not have: from rules and authorities, or from a
// token of a file.
func (a *Authenticator) checkBasis(s Session) error {
	switch {
	case (s.Kind == KindJWT || s.Kind == KindCertificate) && !a.rules.has(s.Basis):
		return refuseSession(fmt.Errorf("session %s has rights of a rule or an authority that has changed or is gone: %w", s.ID, ErrBasis))
	case s.Kind != KindToken || s.TokenStored:
		return nil
	}
	for _, p := range *a.static.Load() {
		if p.ID != s.PrincipalID || !slices.Equal(p.basis, s.Basis) {
			continue
		}
		// A token that has lost a right since must not keep it through an older session.
		if _, exceeds := p.Exceeds(s.Grants); !exceeds {
			return nil
		}
	}
	return refuseSession(fmt.Errorf("session %s was opened by a token that no file has with these rights: %w", s.ID, ErrBasis))
}

// confirmSession returns an error when the session with id is no longer live. It does not count as a use.
func (a *Authenticator) confirmSession(ctx context.Context, id string) error {
	// A cached session saves a read: open streams ask again and again.
	if digest, known := a.digestOf(KindSession, id); known {
		_, err := a.findSession(ctx, digest)
		return err
	}
	if a.sessions == nil {
		return refuseSession(errNoSessions)
	}

	s, err := a.sessions.GetSession(ctx, id)
	switch {
	case queue.KindOf(err) == queue.KindNotFound:
		return refuseSession(errors.New("the session is unknown"))
	case err != nil:
		return err
	case !s.Live():
		return refuseSession(endOfSession(s))
	}
	return a.checkBasis(s)
}
