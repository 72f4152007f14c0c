package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ access.AuditLog = (*Store)(nil)

// storedAuditColumns are all columns of the audit.
var storedAuditColumns = table.Of[access.AuditEntry]()

// auditColumns are those that a record sets.
var auditColumns = storedAuditColumns.Without("id", "at")

// The statements on the audit.
var (
	insertAudit = statement("audit.insert")
	listAudit   = statement("audit.list")
	pruneAudit  = statement("audit.prune")
)

// RecordAudit implements access.AuditLog.
func (s *Store) RecordAudit(ctx context.Context, e access.AuditEntry) error {
	e = e.Clean()
	return s.db.Run(ctx, "record audit", func(_ context.Context, t *txn.Tx) error {
		t.Queue(insertAudit, auditColumns.Values(nil, &e)...)
		return nil
	})
}

// ListAudit implements access.AuditLog.
func (s *Store) ListAudit(ctx context.Context, f access.AuditFilter) (access.AuditPage, error) {
	const op = "list audit"
	f, err := f.Normalize()
	if err != nil {
		return access.AuditPage{}, queue.WithOp(op, err)
	}
	before, beforeID, _ := access.ReadAuditCursor(f.Cursor) // checked above

	page := access.AuditPage{Entries: []access.AuditEntry{}}
	err = s.db.Query(ctx, op, listAudit, func(rows pgx.Rows) error {
		var e access.AuditEntry
		err := rows.Scan(storedAuditColumns.Targets(nil, &e)...)
		e.At = e.At.UTC()
		page.Entries = append(page.Entries, e)
		return err
	},
		arg("since", timePointer(f.Since)), arg("until", timePointer(f.Until)), arg("before", timePointer(before)), arg("before_id", beforeID),
		arg("principal", f.Principal), arg("action", string(f.Action)), arg("namespace", f.Namespace), arg("outcome", f.Outcome),
		arg("limit", f.Limit+1)) // one more shows that there is a next page
	if err != nil {
		return access.AuditPage{}, err
	}

	if len(page.Entries) > f.Limit {
		page.Entries = page.Entries[:f.Limit]
		last := page.Entries[f.Limit-1]
		page.Next = access.AuditCursor(last.At, last.ID)
	}
	return page, nil
}
