package postgrestest_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestTokensInAnotherTimeZone: the life of a token and of a session is exact where the database has another time zone, with a change
// of the clock in it, and another form of dates.
func TestTokensInAnotherTimeZone(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.URL(t)
	conn := connect(t, dsn)
	name := value[string](t, conn, "select quote_ident(current_database())")
	sql(t, conn, "alter database "+name+" set timezone = 'Pacific/Apia'", "alter database "+name+" set datestyle = 'SQL, DMY'", "alter database "+name+" set intervalstyle = 'sql_standard'")
	s := open(t, dsn)
	ctx := access.With(t.Context(), access.Owner())
	for _, life := range []time.Duration{time.Hour, 365 * 24 * time.Hour} {
		issued, err := access.NewAdmin(s, access.AdminOptions{}).CreateToken(ctx, access.TokenRequest{Name: "a", Grants: []string{"viewer@default"}, Life: life})
		if err != nil {
			t.Fatal(err)
		}
		if !issued.Live() || issued.ExpiresAt.Sub(issued.CreatedAt) != life || time.Since(issued.CreatedAt).Abs() > time.Minute || issued.ExpiresAt.Location() != time.UTC {
			t.Errorf("a token for %v is %+v", life, issued.Token)
		}
	}
	made, err := s.CreateSession(ctx, access.NewSession{
		ID: "abcdefgh", Digest: sha256.Sum256([]byte("a")), Opener: access.Opener{PrincipalID: "a", Kind: access.KindJWT}, Life: 12 * time.Hour, Idle: time.Hour,
	})
	if err != nil || !made.Live() || made.ExpiresAt.Sub(made.CreatedAt) != 12*time.Hour {
		t.Errorf("a session is %+v, %v", made, err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	queuetest.TestTokens(t, func(t *testing.T) queuetest.TokenStore {
		dsn := postgrestest.URL(t)
		s := postgrestest.OpenURL(t, dsn)
		return queuetest.TokenStore{
			Tokens:  s,
			Advance: func(d time.Duration) { postgrestest.Advance(t, s, d) },
			Fill: func(t *testing.T, n int) {
				sql(t, connect(t, dsn), fmt.Sprintf(`insert into pgqueue.access_token (id, digest, name, grants, created_by, created_at, replaces)
					select lpad(i::text, 8, 'x'), sha256(i::text::bytea), 'live', '{viewer@billing}', 'database', pgqueue.clock(), '' from generate_series(1, %d) i`, n))
			},
		}
	})
}
