package run

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// openStore opens the configured store. Stop closes it.
func (s *Server) openStore(ctx context.Context) (queue.Store, error) {
	if s.cfg.Store != nil {
		store, end, err := s.cfg.Store(ctx)
		if err != nil {
			return nil, err
		}
		s.prependStep("close the store", end)
		return store, nil
	}
	return s.openPostgres(ctx)
}
