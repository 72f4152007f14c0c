package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
)

// Session is a session of the dashboard, without its secret.
type Session struct {
	ID          string    `json:"id" doc:"The public part of the session" example:"4fJd8sKq"`
	Name        string    `json:"name" doc:"The name of the principal that signed in" example:"Ann"`
	Grants      []string  `json:"grants" doc:"Its rights: those at the sign-in" example:"[\"viewer@default\"]"`
	PrincipalID string    `json:"principal_id" doc:"The id of the principal that signed in" example:"9dKx0LmN"`
	Kind        string    `json:"kind" doc:"Its kind: token, jwt, certificate" example:"token"`
	Issuer      string    `json:"issuer,omitempty" doc:"The issuer that proved its identity" example:"https://id.example.com"`
	Subject     string    `json:"subject,omitempty" doc:"Its name at the issuer" example:"ann"`
	Live        bool      `json:"live" doc:"Neither ended nor expired nor idle for too long" example:"true"`
	CreatedAt   time.Time `json:"created_at" doc:"When it signed in" example:"2026-01-02T15:04:05Z"`
	ExpiresAt   time.Time `json:"expires_at" doc:"When it ends at the latest" example:"2026-01-03T03:04:05Z"`
	Idle        *Duration `json:"idle" doc:"How long it lives without a request" example:"3600000000000"`
	UsedAt      time.Time `json:"used_at" doc:"About the last request, up to a minute late" example:"2026-01-02T15:04:05Z"`
	EndedAt     time.Time `json:"ended_at,omitzero" doc:"When it was ended" example:"2026-01-02T16:04:05Z"`
	Now         time.Time `json:"now" doc:"The time of the database at the answer" example:"2026-01-02T15:04:05Z"`
}

// SessionOf converts s for the wire.
func SessionOf(s access.Session) Session {
	return Session{
		ID: s.ID, Name: s.Name, Grants: access.FormatGrants(s.Grants), PrincipalID: s.PrincipalID, Kind: string(s.Kind), Issuer: s.Issuer, Subject: s.Subject,
		Live: s.Live(), CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt, Idle: DurationOf(s.Idle), UsedAt: s.UsedAt, EndedAt: s.EndedAt, Now: s.Now,
	}
}

// Domain returns the session that s describes.
func (s Session) Domain() access.Session {
	session := access.Session{
		ID: s.ID, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt, UsedAt: s.UsedAt, EndedAt: s.EndedAt, Now: s.Now,
		Opener: access.Opener{
			PrincipalID: s.PrincipalID, Kind: access.Kind(s.Kind), Name: s.Name, Grants: access.ParseKnownGrants(s.Grants), Issuer: s.Issuer, Subject: s.Subject,
		},
	}
	if idle, err := s.Idle.In("idle"); idle != nil && err == nil {
		session.Idle = *idle
	}
	return session
}

// SignIn opens a session by a code or a token.
type SignIn struct {
	Code  string `json:"code,omitempty" doc:"A one-time code of pgqueue dashboard" example:"pgc_4fJd8sKq_9dK0aB"`
	Token string `json:"token,omitempty" doc:"A token, instead of a code" example:"pgq_4fJd8sKq_9dK0aB"`
}

// Domain returns the sign-in that s describes.
func (s SignIn) Domain() (access.SignIn, error) { return access.SignIn(s), nil }

// Code is a new one-time code.
type Code struct {
	Code      string    `json:"code" doc:"It opens one session of the caller" example:"pgc_4fJd8sKq_9dK0aB"`
	ExpiresAt time.Time `json:"expires_at" doc:"When it is worth nothing" example:"2026-01-02T15:05:05Z"`
}

// CodeOf converts c for the wire.
func CodeOf(c access.Code) Code { return Code{Code: c.Secret.Reveal(), ExpiresAt: c.ExpiresAt} }

// Domain returns the code that c describes.
func (c Code) Domain() (access.Code, error) {
	secret, err := access.ParseCode(c.Code)
	return access.Code{Secret: secret, ExpiresAt: c.ExpiresAt}, err
}
