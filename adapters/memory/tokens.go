package memory

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Tokens is an access.Tokens and an access.SessionStore in maps. It is safe for concurrent use.
type Tokens struct {
	clock    func() time.Time
	watchers access.Watchers

	mu       sync.Mutex
	byID     map[string]*access.Token
	byDigest map[[sha256.Size]byte]*access.Token
	sessions map[[sha256.Size]byte]*session
}

var (
	_ access.Tokens       = (*Tokens)(nil)
	_ access.TokenWatcher = (*Tokens)(nil)
)

// WatchTokens calls changed after each change, before the call that made it returns.
func (s *Tokens) WatchTokens(changed func()) (stop func()) { return s.watchers.WatchTokens(changed) }

// NewTokens returns an empty store of tokens. clock is its time, time.Now for nil.
func NewTokens(clock func() time.Time) *Tokens {
	if clock == nil {
		clock = time.Now
	}
	return &Tokens{
		clock: clock, byID: map[string]*access.Token{}, byDigest: map[[sha256.Size]byte]*access.Token{},
		sessions: map[[sha256.Size]byte]*session{},
	}
}

// lockTokens refuses an ended context, locks the store and returns the time in the microseconds of PostgreSQL.
func (s *Tokens) lockTokens(ctx context.Context) (time.Time, error) {
	if err := contextError(ctx); err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	return s.clock().UTC().Truncate(time.Microsecond), nil
}

// CreateToken stores a token, and ends the one that it replaces.
func (s *Tokens) CreateToken(ctx context.Context, n access.NewToken) (access.Token, error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return access.Token{}, err
	}
	defer s.watchers.Report() // without the lock
	defer s.mu.Unlock()

	if s.byID[n.ID] != nil || s.byDigest[n.Digest] != nil {
		return access.Token{}, access.TokenExists(n.ID)
	}
	if len(s.byID) >= access.MaxTokens && s.countLive(now) >= access.MaxTokens {
		return access.Token{}, access.TooManyTokens()
	}

	if n.Replaces != "" {
		if err := s.endFormer(n, now); err != nil {
			return access.Token{}, err
		}
	}

	t := &access.Token{
		ID: n.ID, Name: n.Name, Grants: slices.Clone(n.Grants), CreatedBy: n.CreatedBy, CreatedAt: now, Replaces: n.Replaces,
	}
	if n.Life > 0 {
		t.ExpiresAt = now.Add(n.Life)
	}
	s.byID[n.ID] = t
	s.byDigest[n.Digest] = t
	return copyToken(t, now), nil
}

// LiveTokenDigests returns the digests of the live tokens.
func (s *Tokens) LiveTokenDigests(ctx context.Context) ([][sha256.Size]byte, error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var digests [][sha256.Size]byte
	for digest, t := range s.byDigest {
		if copyToken(t, now).Live() {
			digests = append(digests, digest)
		}
	}
	return digests, nil
}

// countLive returns the number of tokens that are live at now. s.mu is held.
func (s *Tokens) countLive(now time.Time) (live int) {
	for _, t := range s.byID {
		if copyToken(t, now).Live() {
			live++
		}
	}
	return live
}

// endFormer makes the token that n replaces expire after the overlap, or at its own end when that is sooner.
func (s *Tokens) endFormer(n access.NewToken, now time.Time) error {
	former := s.byID[n.Replaces]
	switch {
	case former == nil:
		return access.NoToken(n.Replaces)
	case !copyToken(former, now).Live():
		return access.TokenEnded(n.Replaces)
	}
	if end := now.Add(n.Overlap); former.ExpiresAt.IsZero() || end.Before(former.ExpiresAt) {
		former.ExpiresAt = end
	}
	return nil
}

// copyToken returns t as a read at now shows it.
func copyToken(t *access.Token, now time.Time) access.Token {
	c := *t
	c.Grants = slices.Clone(t.Grants)
	c.Now = now
	return c
}

// readToken returns the token that find finds, after change.
func (s *Tokens) readToken(ctx context.Context, find func() *access.Token, id string, change func(*access.Token, time.Time)) (access.Token, error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return access.Token{}, err
	}
	defer s.mu.Unlock()

	t := find()
	if t == nil {
		return access.Token{}, access.NoToken(id)
	}
	if change != nil {
		change(t, now)
	}
	return copyToken(t, now), nil
}

// FindToken returns the token with the digest.
func (s *Tokens) FindToken(ctx context.Context, digest [sha256.Size]byte) (access.Token, error) {
	return s.readToken(ctx, func() *access.Token { return s.byDigest[digest] }, "", nil)
}

// GetToken returns the token with the id.
func (s *Tokens) GetToken(ctx context.Context, id string) (access.Token, error) {
	return s.readToken(ctx, func() *access.Token { return s.byID[id] }, id, nil)
}

// RevokeToken ends a token at once.
func (s *Tokens) RevokeToken(ctx context.Context, id string) (access.Token, error) {
	defer s.watchers.Report()
	return s.readToken(ctx, func() *access.Token { return s.byID[id] }, id, func(t *access.Token, now time.Time) {
		if copyToken(t, now).Live() {
			t.RevokedAt = now
		}
	})
}

// TouchToken records a use.
func (s *Tokens) TouchToken(ctx context.Context, id string) error {
	_, err := s.readToken(ctx, func() *access.Token { return s.byID[id] }, id, func(t *access.Token, now time.Time) { t.UsedAt = now })
	// The token may be gone since it was read. A use of it is not worth an error.
	if queue.KindOf(err) == queue.KindNotFound {
		return nil
	}
	return err
}

// HasTokens reports whether a token is stored.
func (s *Tokens) HasTokens(ctx context.Context) (bool, error) {
	if _, err := s.lockTokens(ctx); err != nil {
		return false, err
	}
	defer s.mu.Unlock()

	return len(s.byID) > 0, nil
}

// ListTokens returns the live tokens and the newest of those that have ended, the newest first.
func (s *Tokens) ListTokens(ctx context.Context) ([]access.Token, error) {
	now, err := s.lockTokens(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()

	all := make([]access.Token, 0, len(s.byID))
	for _, t := range s.byID {
		all = append(all, copyToken(t, now))
	}
	slices.SortFunc(all, func(a, b access.Token) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})

	// The list is newest first, so the newest of the ended tokens stay in the answer.
	ended := 0
	all = slices.DeleteFunc(all, func(t access.Token) bool {
		if !t.Live() {
			ended++
		}
		return !t.Live() && ended > access.MaxEndedTokens
	})
	var room queue.ListRoom
	for _, t := range all {
		if err := room.Add(t.Bytes(), queue.RemedyTokens); err != nil {
			return nil, err
		}
	}
	return all, nil
}
