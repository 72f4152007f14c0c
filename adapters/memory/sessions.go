package memory

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ access.SessionStore = (*Tokens)(nil)

// session is a stored session or code.
type session struct {
	access.Session
	isCode bool
	endsAt time.Time // the end of the credential of the opener; zero for none
}

// CreateSession stores a session or a code.
func (s *Tokens) CreateSession(ctx context.Context, n access.NewSession) (access.Session, error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return access.Session{}, err
	}
	defer s.mu.Unlock()

	live := 0
	for _, other := range s.sessions {
		if other.ID == n.ID {
			return access.Session{}, access.SessionExists(n.ID)
		}
		// The limit is for one principal, so a stolen credential cannot fill the store for others.
		if other.PrincipalID == n.PrincipalID && other.Kind == n.Kind && s.copySession(other, now).Live() {
			live++
		}
	}
	if live >= access.MaxSessions {
		return access.Session{}, access.TooManySessions()
	}

	made := &session{isCode: n.IsCode, Session: access.Session{
		ID: n.ID, Opener: n.Opener, CreatedAt: now, ExpiresAt: now.Add(n.Life), Idle: n.Idle, UsedAt: now,
	}}
	made.Grants, made.Basis = slices.Clone(n.Grants), slices.Clone(n.Basis)
	if n.Within > 0 {
		made.endsAt = now.Add(n.Within)
	}
	s.sessions[n.Digest] = made
	return s.copySession(made, now), nil
}

// copySession returns x as a read at now shows it: with the end of the token that opened it.
func (s *Tokens) copySession(x *session, now time.Time) access.Session {
	c := x.Session
	c.Grants, c.Basis = slices.Clone(x.Grants), slices.Clone(x.Basis)
	c.Now = now
	if !x.endsAt.IsZero() && x.endsAt.Before(c.ExpiresAt) {
		c.ExpiresAt = x.endsAt
	}

	token := s.byID[x.PrincipalID]
	// A token of a file is not in the store; the authenticator knows its end.
	if x.Kind != access.KindToken || token == nil {
		return c
	}
	c.TokenStored = true
	if !token.ExpiresAt.IsZero() && token.ExpiresAt.Before(c.ExpiresAt) {
		c.ExpiresAt = token.ExpiresAt
	}
	if c.EndedAt.IsZero() {
		c.EndedAt = token.RevokedAt
	}
	return c
}

// RedeemCode makes a code into a session.
func (s *Tokens) RedeemCode(ctx context.Context, r access.Redemption) (access.Session, error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return access.Session{}, err
	}
	defer s.mu.Unlock()

	code := s.sessions[r.Code]
	if code == nil || !code.isCode || !s.copySession(code, now).Live() {
		return access.Session{}, access.NoSession("")
	}
	made := *code
	made.isCode = false
	made.ID, made.CreatedAt, made.ExpiresAt, made.Idle, made.UsedAt = r.ID, now, now.Add(r.Life), r.Idle, now
	// A code works once: under the same lock, so that two redemptions cannot both succeed.
	delete(s.sessions, r.Code)
	s.sessions[r.Digest] = &made
	return s.copySession(&made, now), nil
}

// LiveSessionDigests returns the digests of the live sessions and codes.
func (s *Tokens) LiveSessionDigests(ctx context.Context) ([][sha256.Size]byte, error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var digests [][sha256.Size]byte
	for digest, x := range s.sessions {
		if s.copySession(x, now).Live() {
			digests = append(digests, digest)
		}
	}
	return digests, nil
}

// findOpen returns the session with the id; nil for a code.
func (s *Tokens) findOpen(id string) *session {
	for _, x := range s.sessions {
		if x.ID == id && !x.isCode {
			return x
		}
	}
	return nil
}

// readSession returns the session that find finds, after change.
func (s *Tokens) readSession(ctx context.Context, find func() *session, id string, change func(*session, time.Time)) (access.Session, error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return access.Session{}, err
	}
	defer s.mu.Unlock()

	x := find()
	if x == nil || x.isCode {
		return access.Session{}, access.NoSession(id)
	}
	if change != nil {
		change(x, now)
	}
	return s.copySession(x, now), nil
}

// FindSession returns the session with the digest.
func (s *Tokens) FindSession(ctx context.Context, digest [sha256.Size]byte) (access.Session, error) {
	return s.readSession(ctx, func() *session { return s.sessions[digest] }, "", nil)
}

// GetSession returns the session with the id.
func (s *Tokens) GetSession(ctx context.Context, id string) (access.Session, error) {
	return s.readSession(ctx, func() *session { return s.findOpen(id) }, id, nil)
}

// EndSession ends a session at once.
func (s *Tokens) EndSession(ctx context.Context, id string) (access.Session, error) {
	return s.readSession(ctx, func() *session { return s.findOpen(id) }, id, func(x *session, now time.Time) {
		if x.EndedAt.IsZero() {
			x.EndedAt = now
		}
	})
}

// TouchSession records a use of a live session.
func (s *Tokens) TouchSession(ctx context.Context, id string) error {
	_, err := s.readSession(ctx, func() *session { return s.findOpen(id) }, id, func(x *session, now time.Time) {
		if s.copySession(x, now).Live() {
			x.UsedAt = now
		}
	})
	// The session may have ended since it was read. A use of it is not worth an error.
	if queue.KindOf(err) == queue.KindNotFound {
		return nil
	}
	return err
}

// ListSessions returns the live sessions, the newest first.
func (s *Tokens) ListSessions(ctx context.Context) ([]access.Session, error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()

	live := []access.Session{}
	for _, x := range s.sessions {
		if c := s.copySession(x, now); c.Live() && !x.isCode {
			live = append(live, c)
		}
	}
	var room queue.ListRoom
	for _, c := range live {
		if err := room.Add(c.Bytes(), queue.RemedySessions); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(live, func(a, b access.Session) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return live, nil
}

// PruneSessions removes sessions that ended long ago.
func (s *Tokens) PruneSessions(ctx context.Context) (removed int, more bool, err error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return 0, false, err
	}
	defer s.mu.Unlock()

	for digest, x := range s.sessions {
		end := x.ExpiresAt
		if idle := x.UsedAt.Add(x.Idle); idle.Before(end) {
			end = idle
		}
		if !x.EndedAt.IsZero() && x.EndedAt.Before(end) {
			end = x.EndedAt
		}
		if !x.endsAt.IsZero() && x.endsAt.Before(end) {
			end = x.endsAt
		}
		if removed < access.SessionPruneStep && !now.Before(end.Add(access.SessionRetention)) {
			delete(s.sessions, digest)
			removed++
		}
	}
	return removed, removed == access.SessionPruneStep, nil
}
