package access_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
)

func TestExpiring(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	token := func(id string, age, left time.Duration) access.Token {
		return access.Token{ID: id, CreatedAt: now.Add(-age), ExpiresAt: now.Add(left), Now: now}
	}
	const long, warned = 60 * 24 * time.Hour, access.ExpiryWarning
	never, revoked, next := token("never", long, 0), token("revoked", long, time.Hour), token("next", long, warned+1)
	never.ExpiresAt = time.Time{}
	revoked.RevokedAt = now
	next.Replaces = "rotated"
	var ids []string
	for _, e := range access.Expiring([]access.Token{
		token("later", long, warned), token("too late", long, warned+1), token("sooner", long, 1), token("expired", long, 0),
		token("short", 0, warned), token("shortened", 1, warned), never, revoked, token("rotated", long, time.Hour), next,
	}) {
		ids = append(ids, e.ID)
	}
	if !slices.Equal(ids, []string{"sooner", "later", "shortened"}) {
		t.Errorf("got %q", ids)
	}
}
