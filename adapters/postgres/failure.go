package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

var listFailures = statement("failure.list")

// ListFailures implements queue.Store.
func (s *Store) ListFailures(ctx context.Context, namespace, name string) (*queue.Failures, error) {
	queues, err := s.findQueues(ctx, namespace, []string{name})
	if err != nil {
		return nil, err
	}

	// One task above the limit shows whether there are more.
	g := queue.NewFailureGrouper(namespace, name)
	err = s.db.Query(ctx, "list failures", listFailures, func(rows pgx.Rows) error {
		var f queue.Failure
		var kind, fingerprint *string
		err := rows.Scan(&f.Task, &f.At, &f.Error, &kind, &fingerprint)
		f.Kind, f.Fingerprint = textFromPointer(kind), textFromPointer(fingerprint)
		f.At = f.At.UTC()
		g.Add(f)
		return err
	}, arg("queue_id", queues[0].id), arg("limit", queue.MaxFailures+1))
	if err != nil {
		return nil, err
	}
	return g.Result(), nil
}
