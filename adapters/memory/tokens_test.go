package memory_test

import (
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestTokens(t *testing.T) {
	queuetest.TestTokens(t, func(*testing.T) queuetest.TokenStore {
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		return queuetest.TokenStore{
			Tokens:  memory.NewTokens(func() time.Time { return now }),
			Advance: func(d time.Duration) { now = now.Add(d) },
		}
	})
}
