package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// auditPruneInterval is the time between two searches for old entries of the audit, which has few rows.
const auditPruneInterval = 10 * time.Minute

// PruneAudit implements access.AuditLog. A function of the owner of the tables deletes the rows, and holds every caller to
// the least retention: a server has no right to delete them itself.
func (s *Store) PruneAudit(ctx context.Context, age time.Duration) (removed int, more bool, err error) {
	err = s.db.Run(ctx, "prune audit", func(ctx context.Context, t *txn.Tx) error {
		return t.Query(ctx, pruneAudit, func(rows pgx.Rows) error { return rows.Scan(&removed) },
			arg("age", int64(max(age, 0))), arg("limit", access.AuditPruneStep))
	})
	return removed, removed == access.AuditPruneStep, err
}

// pruneAuditStep removes entries beyond the retention, at most once in auditPruneInterval. The time now is the database's.
func (s *Store) pruneAuditStep(ctx context.Context, now time.Time) (queue.Maintained, error) {
	s.watermarks.mu.Lock()
	due := s.opt.auditRetention > 0 && now.Sub(s.auditPruned).Abs() >= auditPruneInterval
	s.watermarks.mu.Unlock()
	if !due {
		return queue.Maintained{}, nil
	}

	removed, more, err := s.PruneAudit(ctx, s.opt.auditRetention)
	if err == nil && !more { // only a finished round starts the interval to the next one
		s.watermarks.mu.Lock()
		s.auditPruned = now
		s.watermarks.mu.Unlock()
	}
	return queue.Maintained{Moved: removed, More: more}, err
}
