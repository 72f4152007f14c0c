package telemetry_test

import (
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
)

func TestTokensThatExpireAreCounted(t *testing.T) {
	s := newStack(t)
	now := time.Now()
	tokens := memory.NewTokens(func() time.Time { return now })
	admin, ctx := access.NewAdmin(tokens, access.AdminOptions{}), access.With(t.Context(), access.Owner())
	if _, err := admin.CreateToken(ctx, access.TokenRequest{Name: "a", Grants: []string{"viewer@default"}}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(access.DefaultTokenLife - access.ExpiryWarning)
	if err := s.tel.WatchTokens(tokens); err != nil {
		t.Fatal(err)
	}
	if got := s.value("pgqueue_tokens_expiring"); got != 1 {
		t.Errorf("%v tokens expire, want 1", got)
	}
}
