package access

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The limits of tokens.
const (
	// minTokenLife is the shortest life of a token.
	minTokenLife = time.Minute
	// DefaultTokenLife is the life of a token when its creator names none.
	DefaultTokenLife = 90 * 24 * time.Hour
	// MaxTokenLife is the longest life of a token that expires.
	MaxTokenLife = 10 * 365 * 24 * time.Hour
	// MaxTokenName is the largest number of bytes of the name of a token.
	MaxTokenName = 100
	// MaxTokens is the largest number of live tokens of an installation.
	MaxTokens = 10_000
	// MaxEndedTokens is the largest number of revoked and expired tokens in a list. Others are found by their ids.
	MaxEndedTokens = 1_000
)

// Token is a stored token without its secret.
type Token struct {
	// ID is the public part of the secret.
	ID   string
	Name string
	// Grants have at least one element.
	Grants []Grant
	// CreatedBy is the id of the principal that created the token; [Owner] has "database".
	CreatedBy string
	CreatedAt time.Time
	// ExpiresAt is zero for a token that does not expire.
	ExpiresAt time.Time
	// UsedAt is about the last use, at most [TouchInterval] late; zero before the first.
	UsedAt time.Time
	// RevokedAt is zero for a live token.
	RevokedAt time.Time
	// Replaces is the id of the token that a rotation replaced by this one; "" for none.
	Replaces string
	// Now is the time of the store at the read. Expiry is judged by it, because the clocks of servers may be wrong.
	Now time.Time
}

// Bytes is about how many bytes t takes in an answer.
func (t Token) Bytes() int { return rowFrame + queue.TextBytes(t.Name) + grantBytes(t.Grants) }

// rowFrame is about how many bytes a token or a session takes without its texts and grants.
const rowFrame = 512

// grantBytes is about how many bytes grants take in an answer.
func grantBytes(grants []Grant) (n int) {
	for _, g := range grants {
		n += len(g.Role) + len(g.Namespace) + len(g.Queue) + 6
	}
	return n
}

// TouchInterval is the shortest time between two writes of UsedAt by one process.
const TouchInterval = 5 * time.Minute

// Live reports whether the token is neither revoked nor expired at t.Now.
func (t Token) Live() bool {
	return t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || t.Now.Before(t.ExpiresAt))
}

// ExpiryWarning is the time before the end of a token in which operators are warned.
const ExpiryWarning = 14 * 24 * time.Hour

// Expiring returns the live tokens among all that expire within [ExpiryWarning], the next one first. It leaves out a token that
// another one replaces, and one with a whole life of at most that time: both end on purpose.
func Expiring(all []Token) []Token {
	replaced := map[string]bool{}
	for _, t := range all {
		replaced[t.Replaces] = true
	}

	var expiring []Token
	for _, t := range all {
		intended := t.ExpiresAt.Sub(t.CreatedAt) <= ExpiryWarning || replaced[t.ID]
		if !t.ExpiresAt.IsZero() && t.Live() && !intended && t.ExpiresAt.Sub(t.Now) <= ExpiryWarning {
			expiring = append(expiring, t)
		}
	}
	slices.SortFunc(expiring, func(a, b Token) int { return a.ExpiresAt.Compare(b.ExpiresAt) })
	return expiring
}

// Principal returns the principal that the token proves.
func (t Token) Principal() *Principal { return NewPrincipal(t.ID, t.Name, KindToken, t.Grants) }

// NewToken is a token to be stored. The store sets its times by the database's clock.
type NewToken struct {
	ID        string
	Digest    [sha256.Size]byte
	Name      string
	Grants    []Grant
	CreatedBy string
	// Life is the time until the token expires; 0 for never.
	Life time.Duration
	// Replaces is the id of a token that ends Overlap after now, or at its own end when that is sooner; "" for none.
	Replaces string
	Overlap  time.Duration
}

// Tokens is the driven port of stored tokens. All methods are safe for concurrent use, honour ctx, and fail with
// *queue.Error.
type Tokens interface {
	// CreateToken stores a token. In the same transaction it ends the one that the new token replaces: KindNotFound when
	// that one does not exist, KindConflict when it is not live. KindAlreadyExists for an id that exists, KindConflict
	// beyond [MaxTokens] live tokens.
	CreateToken(ctx context.Context, t NewToken) (Token, error)
	// FindToken returns the token with the digest, live or not, or KindNotFound.
	FindToken(ctx context.Context, digest [sha256.Size]byte) (Token, error)
	// LiveTokenDigests returns the digests of the live tokens, in any order.
	LiveTokenDigests(ctx context.Context) ([][sha256.Size]byte, error)
	// GetToken returns the token with the id, live or not, or KindNotFound.
	GetToken(ctx context.Context, id string) (Token, error)
	// ListTokens returns the live tokens and the newest [MaxEndedTokens] of those that have ended, the newest first, and of those
	// of one time in the order of ids. KindTooLarge above queue.MaxListBytes.
	ListTokens(ctx context.Context) ([]Token, error)
	// RevokeToken ends a token at once and returns it. A token that has ended stays as it is. KindNotFound for an unknown
	// id.
	RevokeToken(ctx context.Context, id string) (Token, error)
	// HasTokens reports whether a token is stored. Expired and revoked ones count: a server that a token has closed opens
	// neither by the passing of time nor by the revocation of a stolen token.
	HasTokens(ctx context.Context) (bool, error)
	// TouchToken records a use of a token. An unknown id changes nothing.
	TouchToken(ctx context.Context, id string) error
}

// Issue checks the parts of a new token by the rights of its creator and returns it with its secret.
func Issue(creator *Principal, name string, grants []Grant, life time.Duration) (NewToken, Secret, error) {
	switch {
	case strings.TrimSpace(name) == "" || len(name) > MaxTokenName || !utf8.ValidString(name) || strings.ContainsFunc(name, isControl):
		return NewToken{}, Secret{}, queue.Invalid("name", fmt.Sprintf("must be 1 to %d bytes of text without control characters, got %.64q; choose another name", MaxTokenName, name))
	case len(grants) == 0 || len(grants) > MaxGrants:
		return NewToken{}, Secret{}, queue.Invalid("grants", fmt.Sprintf("must be 1 to %d grants, got %d; name at least one role", MaxGrants, len(grants)))
	case life < 0 || life > MaxTokenLife || life > 0 && life < minTokenLife:
		return NewToken{}, Secret{}, badLife(life)
	}

	if !creator.May(queue.ActionAccessManage, "", "") {
		return NewToken{}, Secret{}, deny(queue.ActionAccessManage, "", "")
	}
	if g, exceeds := creator.Exceeds(grants); exceeds {
		return NewToken{}, Secret{}, &queue.Error{
			Kind: queue.KindDenied, Field: "grants",
			Msg: fmt.Sprintf("must be rights of the creator, got %.200q; ask an administrator with that grant", g.String()),
		}
	}

	s := NewSecret()
	return NewToken{
		ID: s.ID(), Digest: s.Digest(), Name: strings.TrimSpace(name), Grants: slices.Clone(grants), CreatedBy: creator.ID, Life: life,
	}, s, nil
}

// ErrNoLife is the error for a stated life of 0: for transports, where an absent one is the default.
var ErrNoLife = queue.Invalid("expires", "must be 1m to 3650d, got 0; leave it out for 90d, or set never_expires")

// ErrNoAdmin is the error of a transport without an [Admin].
var ErrNoAdmin = &queue.Error{Kind: queue.KindNotFound, Msg: "this server keeps no tokens; use one of pgqueue run"}

func badLife(life time.Duration) *queue.Error {
	return queue.Invalid("expires", fmt.Sprintf("must be 1m to %dd, or never, got %v; choose another", int(MaxTokenLife.Hours()/24), life))
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// The errors of stores of tokens.

// NoToken is the error for an unknown token.
func NoToken(id string) *queue.Error {
	return &queue.Error{Kind: queue.KindNotFound, Subject: subjectOf(id), Msg: "must be a stored token, got an unknown one; list the tokens"}
}

// TokenExists is the error for a second token with an id.
func TokenExists(id string) *queue.Error {
	return &queue.Error{Kind: queue.KindAlreadyExists, Subject: subjectOf(id), Msg: "must have a new id, got one that exists; repeat the call"}
}

// TokenEnded is the error for a rotation of a token that is revoked or expired.
func TokenEnded(id string) *queue.Error {
	return &queue.Error{Kind: queue.KindConflict, Subject: subjectOf(id), Msg: "must be live, got a token that is revoked or expired; create a new one"}
}

// TooManyTokens is the error for one token more than [MaxTokens].
func TooManyTokens() *queue.Error {
	return &queue.Error{
		Kind: queue.KindConflict, Subject: "tokens",
		Msg: fmt.Sprintf("must be at most %d live tokens, got one more; revoke those without use", MaxTokens),
	}
}

func subjectOf(id string) string {
	if id == "" {
		return "token"
	}
	return "token " + id
}
