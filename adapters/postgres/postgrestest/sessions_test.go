package postgrestest_test

import (
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	queuetest.TestSessions(t, openSessions)
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	queuetest.TestSignIn(t, openSessions)
}

func openSessions(t *testing.T) queuetest.SessionStore {
	t.Helper()
	s := postgrestest.Open(t)
	return queuetest.SessionStore{SessionStore: s, Tokens: s, Advance: func(d time.Duration) { postgrestest.Advance(t, s, d) }}
}
