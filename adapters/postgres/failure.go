package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

var listFailures = statement("failure.list")

// ListFailures implements queue.Store.
func (s *Store) ListFailures(ctx context.Context, namespace, name string, q queue.FailureQuery) (*queue.Failures, error) {
	queues, err := s.findQueues(ctx, namespace, []string{name})
	if err != nil {
		return nil, err
	}

	before := maxID
	if !q.Before.IsZero() {
		// A task was created before it ended, so the end of the time bounds its id.
		if before, err = s.findEdge(ctx, "list failures", []int32{queues[0].id}, q.Before.Add(edgeSlack)); err != nil {
			return nil, err
		}
	}

	// One task above the limit shows whether there are more, and so does a row without an id: the end of a bounded walk.
	g := queue.NewFailureGrouper(namespace, name)
	err = s.db.Query(ctx, "list failures", listFailures, func(rows pgx.Rows) error {
		var f queue.Failure
		var kind, fingerprint *string
		err := rows.Scan(&f.Task, &f.At, &f.Error, &kind, &fingerprint)
		f.Kind, f.Fingerprint = textFromPointer(kind), textFromPointer(fingerprint)
		f.At = f.At.UTC()
		if f.Task == 0 {
			g.AddMore()
			return err
		}
		g.Add(f)
		return err
	}, arg("queue_id", queues[0].id), arg("before_id", before), arg("after", timePointer(q.After)), arg("before", timePointer(q.Before)),
		arg("row_limit", queue.MaxFailuresExamined), arg("limit", queue.MaxFailures+1))
	if err != nil {
		return nil, err
	}
	return g.Result(), nil
}
