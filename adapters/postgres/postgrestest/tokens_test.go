package postgrestest_test

import (
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	queuetest.TestTokens(t, func(t *testing.T) queuetest.TokenStore {
		s := postgrestest.Open(t)
		return queuetest.TokenStore{
			Tokens:  s,
			Advance: func(d time.Duration) { postgrestest.Advance(t, s, d) },
		}
	})
}
