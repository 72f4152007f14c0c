package memory

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Diagnose says what an operator should know: above all that nothing here is kept.
func (s *Store) Diagnose(ctx context.Context) ([]queue.Finding, error) {
	now, err := s.lockStore(ctx)
	if err != nil {
		return nil, err
	}

	defer s.mu.Unlock()

	return []queue.Finding{
		{
			Name: "durability", Level: queue.LevelWarn, Value: "in memory",
			Advice: "everything is lost when the process ends; use PostgreSQL for work that matters",
		},
		{Name: "tasks", Level: queue.LevelOK, Value: strconv.Itoa(len(s.tasks))},
		{Name: "listen", Level: queue.LevelOK, Value: fmt.Sprintf("%d listeners", len(s.listeners))},
		{Name: "clock", Level: queue.LevelOK, Value: now.Format("2006-01-02T15:04:05.000000Z07:00")},
	}, nil
}
