package postgrestest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	queuetest.TestAudit(t, func(t *testing.T) queuetest.AuditStore {
		s := postgrestest.Open(t)
		return queuetest.AuditStore{
			AuditLog: s,
			Advance:  func(d time.Duration) { postgrestest.Advance(t, s, d) },
		}
	})
}

// TestAuditPruner holds the pruner to the retention of the audit.
func TestAuditPruner(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		retention time.Duration
		left      int
	}{
		"the pruner removes entries beyond the retention": {40 * 24 * time.Hour, 0},
		"without a retention all entries stay":            {0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := postgrestest.Open(t, postgres.WithAuditRetention(c.retention))
			if err := s.RecordAudit(t.Context(), access.AuditEntry{Operation: "old"}); err != nil {
				t.Fatal(err)
			}
			postgrestest.Advance(t, s, 30*24*time.Hour)
			pruneAll(t, s)
			if page, err := s.ListAudit(t.Context(), access.AuditFilter{}); err != nil || len(page.Entries) != 1 {
				t.Fatalf("within the retention: %v, %v", page, err)
			}

			postgrestest.Advance(t, s, 11*24*time.Hour)
			pruneAll(t, s)
			if page, err := s.ListAudit(t.Context(), access.AuditFilter{}); err != nil || len(page.Entries) != c.left {
				t.Errorf("beyond the retention: %v, %v", page, err)
			}
		})
	}
}

// TestAuditRetentionRefused: a retention below the least ends the start.
func TestAuditRetentionRefused(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.URL(t)
	for _, d := range []time.Duration{-time.Hour, time.Hour, access.MinAuditRetention - 1} {
		s, err := postgres.Open(t.Context(), dsn, postgres.WithAuditRetention(d))
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, queue.ErrInvalid) {
			t.Errorf("%v: %v", d, err)
		}
	}
}

// pruneAll runs the pruner until it has no more to do.
func pruneAll(t *testing.T, s *postgres.Store) {
	t.Helper()
	for more := true; more; {
		m, err := s.Maintain(t.Context(), queue.ChorePrune)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range m.Faults {
			t.Error(fault.Subject, fault.Err)
		}
		more = m.More
	}
}
