package memory

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxAudit bounds the entries in memory. One more removes the oldest.
const maxAudit = 100_000

// Audit is an access.AuditLog in a slice. It is safe for concurrent use.
type Audit struct {
	clock func() time.Time

	mu      sync.Mutex
	lastID  int64
	entries []access.AuditEntry // ordered by time and id
}

var _ access.AuditLog = (*Audit)(nil)

// NewAudit returns an empty audit. clock is its time, time.Now for nil.
func NewAudit(clock func() time.Time) *Audit {
	if clock == nil {
		clock = time.Now
	}
	return &Audit{clock: clock}
}

// RecordAudit appends an entry.
func (a *Audit) RecordAudit(ctx context.Context, e access.AuditEntry) error {
	if err := contextError(ctx); err != nil {
		return err
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastID++
	e = e.Clean()
	e.ID = a.lastID
	// Microseconds are what a cursor keeps, as in PostgreSQL.
	e.At = a.clock().UTC().Truncate(time.Microsecond)

	// A clock that went back puts an entry between others.
	place, _ := slices.BinarySearchFunc(a.entries, e, func(other, e access.AuditEntry) int {
		return cmp.Or(other.At.Compare(e.At), cmp.Compare(other.ID, e.ID))
	})
	a.entries = slices.Insert(a.entries, place, e)
	a.entries = a.entries[max(0, len(a.entries)-maxAudit):]
	return nil
}

// ListAudit returns a page of entries, the newest first.
func (a *Audit) ListAudit(ctx context.Context, f access.AuditFilter) (access.AuditPage, error) {
	f, err := f.Normalize()
	if err != nil {
		return access.AuditPage{}, err
	}
	if err := contextError(ctx); err != nil {
		return access.AuditPage{}, err
	}
	at, id, _ := access.ReadAuditCursor(f.Cursor) // checked above

	a.mu.Lock()
	defer a.mu.Unlock()
	page := access.AuditPage{Entries: []access.AuditEntry{}}
	size := 0
	for _, e := range slices.Backward(a.entries) {
		behind := f.Cursor == "" || e.At.Before(at) || e.At.Equal(at) && e.ID < id
		if !behind || !selectsEntry(f, e) {
			continue
		}

		entry, err := json.Marshal(e) // it counts each field, also a new one
		if err != nil {
			return access.AuditPage{}, err
		}
		size += len(entry)
		// A page has at least one entry, also where that one exceeds the bound on bytes.
		if n := len(page.Entries); n == f.Limit || n > 0 && size > queue.MaxPageBytes {
			last := page.Entries[n-1]
			page.Next = access.AuditCursor(last.At, last.ID)
			break
		}
		page.Entries = append(page.Entries, e)
	}
	return page, nil
}

// selectsEntry reports whether f selects e.
func selectsEntry(f access.AuditFilter, e access.AuditEntry) bool {
	return (f.Since.IsZero() || !e.At.Before(f.Since)) && (f.Until.IsZero() || e.At.Before(f.Until)) &&
		(f.Principal == "" || f.Principal == e.PrincipalID) && (f.Action == "" || f.Action == e.Action) &&
		(f.Namespace == "" || f.Namespace == e.Namespace) &&
		(f.Queue == "" || f.Queue == e.Queue) && (f.Outcome == "" || f.Outcome == e.Outcome)
}

// PruneAudit removes entries that are older than age.
func (a *Audit) PruneAudit(ctx context.Context, age time.Duration) (removed int, more bool, err error) {
	if err := contextError(ctx); err != nil {
		return 0, false, err
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	end := a.clock().Add(-max(age, access.MinAuditRetention))
	for removed < min(len(a.entries), access.AuditPruneStep) && a.entries[removed].At.Before(end) {
		removed++
	}
	a.entries = a.entries[removed:]
	return removed, removed == access.AuditPruneStep, nil
}
