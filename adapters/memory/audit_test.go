package memory_test

import (
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestAudit(t *testing.T) {
	queuetest.TestAudit(t, func(*testing.T) queuetest.AuditStore {
		var mu sync.Mutex
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		return queuetest.AuditStore{
			AuditLog: memory.NewAudit(func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return now
			}),
			Advance: func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				now = now.Add(d)
			},
		}
	})
}
