package run

import (
	"context"
	"errors"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func (s *Server) openPostgres(context.Context) (queue.Store, error) {
	return nil, errors.New("not yet")
}
