package access

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The limits of sessions.
const (
	// DefaultSessionLife is the longest time from a sign-in to the end of its session.
	DefaultSessionLife = 12 * time.Hour
	// DefaultSessionIdle is the time without a request after which a session ends.
	DefaultSessionIdle = time.Hour
	// MinSessionTime is the least life and the least idle time of a session.
	MinSessionTime = 5 * time.Minute
	// MaxSessionLife is the longest life of a session that can be configured.
	MaxSessionLife = 30 * 24 * time.Hour
	// CodeLife is the time in which a one-time code opens a session.
	CodeLife = time.Minute
	// MaxSessions is the largest number of live sessions and codes of one principal.
	MaxSessions = 100
	// MaxLiveDigests is the number of live sessions and codes of which a store returns the digests at once.
	MaxLiveDigests = 20_000
	// SessionRetention is how long an ended session stays stored, so that the log can name the reason of a refusal.
	SessionRetention = 24 * time.Hour
	// SessionPruneStep is the largest number of sessions that one PruneSessions removes.
	SessionPruneStep = 5_000
)

// sessionTouchInterval is the shortest time between two writes of the last use of a session by one process.
const sessionTouchInterval = time.Minute

// Session is a stored session of the dashboard, or a one-time code, without its secret. A session has the grants that its
// opener had at the sign-in. It lives no longer than the credential of its opener, and than the basis of its grants.
type Session struct {
	// ID is the public part of the secret.
	ID string
	Opener
	CreatedAt time.Time
	// ExpiresAt is the end at the latest: the end of its life, or that of the credential of its opener when that is sooner.
	ExpiresAt time.Time
	// Idle is the time without a request after which it ends.
	Idle time.Duration
	// UsedAt is about the last request, at most a minute late.
	UsedAt time.Time
	// EndedAt is the time of the sign-out, or of the revocation of the token that opened it; zero before both.
	EndedAt time.Time
	// TokenStored reports whether the store has the token that opened it. A token of a file is not there.
	TokenStored bool
	// Now is the time of the store at the read.
	Now time.Time
}

// Bytes is about how many bytes s takes in an answer.
func (s Session) Bytes() int {
	return rowFrame + queue.TextBytes(s.Name) + queue.TextBytes(s.Issuer) + queue.TextBytes(s.Subject) + grantBytes(s.Grants)
}

// Opener is the principal that signed in.
type Opener struct {
	PrincipalID string
	Kind        Kind
	Name        string
	Grants      []Grant
	// Issuer and Subject identify the owner of a JWT; "" for other kinds.
	Issuer  string
	Subject string
	// Basis has a digest for each rule that gave a grant, and one for the authority of a certificate or a JWT; or one for a
	// token of a file. While a server has not all of them, it refuses the session. It is empty for a token of the store.
	Basis []string
}

// openerOf returns p as the opener of a session.
func openerOf(p *Principal) Opener {
	return Opener{
		PrincipalID: p.ID, Kind: p.Kind, Name: p.Name, Grants: p.Grants(), Issuer: p.Issuer, Subject: p.Subject, Basis: slices.Clone(p.basis),
	}
}

// principal returns the principal that signed in, for the audit.
func (o Opener) principal() *Principal { return o.principalAs(o.PrincipalID, o.Kind) }

func (o Opener) principalAs(id string, kind Kind) *Principal {
	p := NewPrincipal(id, o.Name, kind, o.Grants)
	p.Issuer, p.Subject, p.basis = o.Issuer, o.Subject, o.Basis
	return p
}

// Live reports whether the session is neither ended nor expired nor idle for too long at s.Now.
func (s Session) Live() bool {
	return s.EndedAt.IsZero() && s.Now.Before(s.ExpiresAt) && s.Now.Before(s.UsedAt.Add(s.Idle))
}

// NewSession is a session or a code to be stored. The store sets its times by the database's clock.
type NewSession struct {
	ID     string
	Digest [sha256.Size]byte
	// IsCode marks a code, which proves nothing but the sign-in that it was made for.
	IsCode bool
	Opener
	// Life is the time until it expires.
	Life time.Duration
	Idle time.Duration
	// Within is the time until the credential of the opener ends; 0 for one without an end.
	Within time.Duration
}

// Redemption makes a code into a session.
type Redemption struct {
	// Code is the digest of the code.
	Code [sha256.Size]byte
	// ID and Digest are those of the session.
	ID     string
	Digest [sha256.Size]byte
	Life   time.Duration
	Idle   time.Duration
}

// SessionStore is the driven port of stored sessions. All methods are safe for concurrent use, honour ctx, and fail with
// *queue.Error. Every read shows the end of the token that opened the session, so a revocation needs no write here.
type SessionStore interface {
	// CreateSession stores a session or a code. KindAlreadyExists for an id that exists, KindConflict beyond [MaxSessions]
	// live sessions and codes of one principal.
	CreateSession(ctx context.Context, n NewSession) (Session, error)
	// RedeemCode makes a live code into a session of the same principal. Of several calls at once one succeeds; the others
	// are KindNotFound, as is an unknown or expired code.
	RedeemCode(ctx context.Context, r Redemption) (Session, error)
	// FindSession returns the session with the digest, live or not, or KindNotFound. Codes are not found.
	FindSession(ctx context.Context, digest [sha256.Size]byte) (Session, error)
	// LiveSessionDigests returns the digests of the live sessions and codes, in any order: at least of the
	// newest [MaxLiveDigests].
	LiveSessionDigests(ctx context.Context) ([][sha256.Size]byte, error)
	// GetSession returns the session with the id, live or not, or KindNotFound. Codes are not found.
	GetSession(ctx context.Context, id string) (Session, error)
	// ListSessions returns the live sessions without codes, the newest first, and those of one time in the order of ids.
	// KindTooLarge above queue.MaxListBytes.
	ListSessions(ctx context.Context) ([]Session, error)
	// EndSession ends a session at once and returns it. KindNotFound for an unknown id.
	EndSession(ctx context.Context, id string) (Session, error)
	// TouchSession records a use. It changes nothing of a session that has ended, or of an unknown id.
	TouchSession(ctx context.Context, id string) error
	// PruneSessions removes at most [SessionPruneStep] sessions and codes that ended [SessionRetention] ago or earlier. It
	// returns their number, and whether there may be more.
	PruneSessions(ctx context.Context) (removed int, more bool, err error)
}

// CheckSessionTimes refuses a life or an idle time of sessions outside of the limits.
func CheckSessionTimes(life, idle time.Duration) error {
	if life < MinSessionTime || life > MaxSessionLife {
		return queue.Invalid("session_ttl", fmt.Sprintf("must be %v to %dd, got %v; choose another", MinSessionTime, int(MaxSessionLife.Hours()/24), life))
	}
	if idle < MinSessionTime || idle > life {
		return queue.Invalid("session_idle", fmt.Sprintf("must be %v to the life of a session, %v, got %v; choose another", MinSessionTime, life, idle))
	}
	return nil
}

// The errors of stores of sessions.

// NoSession is the error for an unknown session.
func NoSession(id string) *queue.Error {
	return &queue.Error{Kind: queue.KindNotFound, Subject: sessionSubject(id), Msg: "must be a stored session, got an unknown one; list the sessions"}
}

// SessionExists is the error for a second session with an id.
func SessionExists(id string) *queue.Error {
	return &queue.Error{Kind: queue.KindAlreadyExists, Subject: sessionSubject(id), Msg: "must have a new id, got one that exists; repeat the call"}
}

// TooManySessions is the error for one session more than [MaxSessions].
func TooManySessions() *queue.Error {
	return &queue.Error{
		Kind: queue.KindConflict, Subject: "sessions",
		Msg: fmt.Sprintf("must be at most %d live ones of one principal, got one more; sign out elsewhere, or end some", MaxSessions),
	}
}

func sessionSubject(id string) string {
	if id == "" {
		return "session"
	}
	return "session " + id
}
