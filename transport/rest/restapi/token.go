package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
)

// Token is a token in an answer, without its secret.
type Token struct {
	ID        string    `json:"id" doc:"The public part of the token" example:"4fJd8sKq"`
	Name      string    `json:"name" doc:"For people" example:"mail workers"`
	Grants    []string  `json:"grants" doc:"Its rights: role@namespace or role@namespace/queue" example:"[\"worker@default\"]"`
	Live      bool      `json:"live" doc:"Neither revoked nor expired" example:"true"`
	CreatedBy string    `json:"created_by" doc:"The id of the principal that made it" example:"local"`
	CreatedAt time.Time `json:"created_at" doc:"When it was made" example:"2026-01-02T15:04:05Z"`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"When it expires; absent = never" example:"2026-04-02T15:04:05Z"`
	UsedAt    time.Time `json:"used_at,omitzero" doc:"About the last use, up to 5 minutes late; absent before the first" example:"2026-01-02T15:04:05Z"`
	RevokedAt time.Time `json:"revoked_at,omitzero" doc:"When it was revoked" example:"2026-01-02T15:04:05Z"`
	Replaces  string    `json:"replaces,omitempty" doc:"The id of the token that a rotation replaced by this one" example:"9dKx0LmN"`
	// Now is the time of the database, by which expiry is judged.
	Now time.Time `json:"now" doc:"The time of the database at the answer" example:"2026-01-02T15:04:05Z"`
}

// TokenOf converts t for the wire.
func TokenOf(t access.Token) Token {
	return Token{
		ID: t.ID, Name: t.Name, Grants: access.FormatGrants(t.Grants), Live: t.Live(), CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt,
		ExpiresAt: t.ExpiresAt, UsedAt: t.UsedAt, RevokedAt: t.RevokedAt, Replaces: t.Replaces, Now: t.Now,
	}
}

// Domain returns the token that t describes. A grant of a newer server that this program does not know is left out.
func (t Token) Domain() access.Token {
	return access.Token{
		ID: t.ID, Name: t.Name, Grants: access.ParseKnownGrants(t.Grants), CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt,
		ExpiresAt: t.ExpiresAt, UsedAt: t.UsedAt, RevokedAt: t.RevokedAt, Replaces: t.Replaces, Now: t.Now,
	}
}

// IssuedToken is a new token with its secret, which no other answer shows.
type IssuedToken struct {
	ID        string    `json:"id" doc:"The public part of the token" example:"4fJd8sKq"`
	Secret    string    `json:"token" doc:"The token itself, shown this once" example:"pgq_4fJd8sKq_9dK0aB"`
	Name      string    `json:"name" doc:"For people" example:"mail workers"`
	Grants    []string  `json:"grants" doc:"Its rights" example:"[\"worker@default\"]"`
	CreatedAt time.Time `json:"created_at" doc:"When it was made" example:"2026-01-02T15:04:05Z"`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"When it expires; absent = never" example:"2026-04-02T15:04:05Z"`
	Replaces  string    `json:"replaces,omitempty" doc:"The id of the token that a rotation replaced by this one" example:"9dKx0LmN"`
}

// IssuedTokenOf converts t for the wire.
func IssuedTokenOf(t access.IssuedToken) IssuedToken {
	return IssuedToken{
		ID: t.ID, Secret: t.Secret.Reveal(), Name: t.Name, Grants: access.FormatGrants(t.Grants), CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt,
		Replaces: t.Replaces,
	}
}

// Domain returns the issued token that t describes.
func (t IssuedToken) Domain() (access.IssuedToken, error) {
	secret, err := access.ParseSecret(t.Secret)
	return access.IssuedToken{Secret: secret, Token: access.Token{
		ID: t.ID, Name: t.Name, Grants: access.ParseKnownGrants(t.Grants), CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, Replaces: t.Replaces,
		Now: t.CreatedAt,
	}}, err
}

// TokenRequest describes a token to be made.
type TokenRequest struct {
	Name    string    `json:"name" doc:"For people, 1 to 100 bytes" example:"mail workers"`
	Grants  []string  `json:"grants" doc:"1 to 100 of role@namespace or role@namespace/queue" example:"[\"worker@default\"]"`
	Expires *Duration `json:"expires,omitempty" doc:"The time until it expires, 1m to 3650d; default 90d" example:"90d"`
	Never   bool      `json:"never_expires,omitempty" doc:"It does not expire; excludes expires" example:"false"`
}

// TokenRequestOf converts r for the wire.
func TokenRequestOf(r access.TokenRequest) TokenRequest {
	return TokenRequest{Name: r.Name, Grants: r.Grants, Expires: durationOrNil(r.Life), Never: r.Never}
}

// Domain returns the request that r describes.
func (r TokenRequest) Domain() (access.TokenRequest, error) {
	life, err := r.Expires.valueOrZero("expires")
	if err == nil && life == 0 && !r.Expires.isAbsent() {
		err = access.ErrNoLife
	}
	return access.TokenRequest{Name: r.Name, Grants: r.Grants, Never: r.Never, Life: life}, err
}

// Rotation describes the replacement of a token.
type Rotation struct {
	Overlap *Duration `json:"overlap,omitempty" doc:"How long the former token stays valid, 0 to 90d; default 24h" example:"24h"`
}

// Domain returns the rotation that r describes.
func (r Rotation) Domain() (access.Rotation, error) {
	overlap, err := r.Overlap.In("overlap")
	if overlap == nil || err != nil {
		return access.Rotation{Overlap: access.DefaultOverlap}, err
	}
	return access.Rotation{Overlap: *overlap}, nil
}

// Identity is the principal of the caller.
type Identity struct {
	ID     string   `json:"id" doc:"The public id of the credential; local on an open server" example:"4fJd8sKq"`
	Name   string   `json:"name" doc:"For people" example:"mail workers"`
	Kind   string   `json:"kind" doc:"The kind of credential: token, session, jwt, certificate, local" example:"token"`
	Grants []string `json:"grants" doc:"Its rights" example:"[\"worker@default\"]"`
}

// IdentityOf converts i for the wire.
func IdentityOf(i access.Identity) Identity {
	return Identity{ID: i.ID, Name: i.Name, Kind: string(i.Kind), Grants: access.FormatGrants(i.Grants)}
}

// Domain returns the identity that i describes.
func (i Identity) Domain() access.Identity {
	return access.Identity{ID: i.ID, Name: i.Name, Kind: access.Kind(i.Kind), Grants: access.ParseKnownGrants(i.Grants)}
}

// Decision answers whether the caller has a right.
type Decision struct {
	Allowed bool `json:"allowed" doc:"The caller has the right" example:"true"`
}
