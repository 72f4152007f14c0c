package postgres

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ access.AuditLog = (*Store)(nil)

// auditRow is a row of the audit.
type auditRow struct {
	access.AuditEntry

	// Changes are those of the entry as JSON; nil for none.
	Changes []byte
}

// auditChange is a change of an entry in JSON.
type auditChange struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// makeAuditRow returns the row of e.
func makeAuditRow(e access.AuditEntry) (auditRow, error) {
	row := auditRow{AuditEntry: e}
	if len(e.Changes) == 0 {
		return row, nil
	}
	changes := make([]auditChange, len(e.Changes))
	for i, c := range e.Changes {
		changes[i] = auditChange(c)
	}
	var err error
	row.Changes, err = json.Marshal(changes)
	return row, err
}

// entry returns the entry of a row.
func (r *auditRow) entry() (access.AuditEntry, error) {
	e := r.AuditEntry
	e.At = e.At.UTC()
	if r.Changes == nil {
		return e, nil
	}
	var changes []auditChange
	err := json.Unmarshal(r.Changes, &changes)
	for _, c := range changes {
		e.Changes = append(e.Changes, access.AuditChange(c))
	}
	return e, err
}

// storedAuditColumns are all columns of the audit.
var storedAuditColumns = table.Of[auditRow]()

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
	const op = "record audit"
	row, err := makeAuditRow(e.Clean())
	if err != nil {
		return queue.WithOp(op, err)
	}
	return s.db.Run(ctx, op, func(_ context.Context, t *txn.Tx) error {
		t.Queue(insertAudit, auditColumns.Values(nil, &row)...)
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
	found := 0
	err = s.db.Query(ctx, op, listAudit, func(rows pgx.Rows) error {
		var row auditRow
		if err := rows.Scan(append(storedAuditColumns.Targets(nil, &row), &found)...); err != nil {
			return err
		}
		e, err := row.entry()
		page.Entries = append(page.Entries, e)
		return err
	},
		arg("since", timePointer(f.Since)), arg("until", timePointer(f.Until)), arg("before", timePointer(before)), arg("before_id", beforeID),
		arg("principal", f.Principal), arg("action", string(f.Action)), arg("namespace", f.Namespace), arg("queue", f.Queue),
		arg("outcome", f.Outcome), arg("limit", f.Limit+1), // one more shows that there is a next page
		arg("bytes", queue.MaxPageBytes))
	if err != nil {
		return access.AuditPage{}, err
	}

	page.Entries = page.Entries[:min(len(page.Entries), f.Limit)]
	if n := len(page.Entries); found > n {
		last := page.Entries[n-1]
		page.Next = access.AuditCursor(last.At, last.ID)
	}
	return page, nil
}
