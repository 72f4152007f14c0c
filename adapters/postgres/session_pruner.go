package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// sessionPruneInterval is the time between two searches for sessions and codes that ended long ago.
const sessionPruneInterval = 10 * time.Minute

// PruneSessions implements access.SessionStore.
func (s *Store) PruneSessions(ctx context.Context) (removed int, more bool, err error) {
	err = s.db.Run(ctx, "prune sessions", func(ctx context.Context, t *txn.Tx) error {
		removed = 0
		return t.Query(ctx, pruneSessions, func(pgx.Rows) error { removed++; return nil },
			arg("age", int64(access.SessionRetention)), arg("limit", access.SessionPruneStep))
	})
	return removed, removed == access.SessionPruneStep, err
}

// pruneSessionsStep removes ended sessions at most once in sessionPruneInterval. The time now is the database's.
func (s *Store) pruneSessionsStep(ctx context.Context, now time.Time) (queue.Maintained, error) {
	s.watermarks.mu.Lock()
	due := now.Sub(s.sessionsPruned).Abs() >= sessionPruneInterval
	s.watermarks.mu.Unlock()
	if !due {
		return queue.Maintained{}, nil
	}

	removed, more, err := s.PruneSessions(ctx)
	if err == nil && !more { // only a finished round starts the interval to the next one
		s.watermarks.mu.Lock()
		s.sessionsPruned = now
		s.watermarks.mu.Unlock()
	}
	return queue.Maintained{Moved: removed, More: more}, err
}
