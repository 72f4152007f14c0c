package postgrestest_test

import (
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access/accesstest"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	accesstest.TestTokens(t, func(t *testing.T) accesstest.Store {
		s := postgrestest.Open(t)
		return accesstest.Store{
			Tokens:  s,
			Advance: func(d time.Duration) { postgrestest.Advance(t, s, d) },
		}
	})
}
