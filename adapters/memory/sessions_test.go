package memory_test

import (
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestSessions(t *testing.T) { queuetest.TestSessions(t, openSessions) }

func TestSignIn(t *testing.T) { queuetest.TestSignIn(t, openSessions) }

func openSessions(*testing.T) queuetest.SessionStore {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := memory.NewTokens(func() time.Time { return now })
	return queuetest.SessionStore{SessionStore: s, Tokens: s, Advance: func(d time.Duration) { now = now.Add(d) }}
}
