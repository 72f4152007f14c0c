package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

var readFacts = statement("why.facts")

// holdRow is a hold as a statement reads it: without values where there is none.
type holdRow struct {
	task      *int64
	worker    *string
	since     *time.Time
	expiresAt *time.Time
}

// hold returns the hold, or nil.
func (h holdRow) hold() *queue.Hold {
	if h.task == nil {
		return nil
	}
	return &queue.Hold{Task: *h.task, Worker: textFromPointer(h.worker), Since: timeFromPointer(h.since), ExpiresAt: timeFromPointer(h.expiresAt)}
}

// ReadFacts implements queue.Store.
func (s *Store) ReadFacts(ctx context.Context, namespace, name string, t *queue.Task) (queue.StoreFacts, error) {
	const op = "read facts"
	var f queue.StoreFacts
	queues, err := s.findQueues(ctx, namespace, []string{name})
	if err != nil {
		return f, err
	}

	var id int64
	var dueAt time.Time
	if t != nil {
		id = t.ID
		dueAt = t.DelayedAt
	}

	var oldest, present holdRow
	var firstDue, firstExpired *time.Time
	var rateState *int64
	err = s.db.Query(ctx, op, readFacts, func(rows pgx.Rows) error {
		return rows.Scan(&f.Now, &rateState,
			&oldest.task, &oldest.worker, &oldest.since, &oldest.expiresAt,
			&present.task, &present.worker, &present.since, &present.expiresAt,
			&firstDue, &firstExpired, &f.Unpromoted)
	}, arg("queue_id", queues[0].id), arg("id", id), arg("due_at", timePointer(dueAt)), arg("examined", queue.MaxExamined))

	f.Now = f.Now.UTC()
	f.Oldest = oldest.hold()
	f.Present = present.hold()
	f.DueAt = timeFromPointer(firstDue)
	f.ExpiredAt = timeFromPointer(firstExpired)
	if err != nil {
		return f, err
	}

	f.NextStart = queues[0].findNextStart(f.Now, rateState)
	if t != nil && queues[0].limitsGroups() && (t.Group != "" || queues[0].IsFIFO()) {
		f.Group, err = s.getGroup(ctx, namespace, name, t.Group)
	}
	return f, err
}

// findNextStart returns when a limit of time lets the next task of the queue start; zero = now.
func (q *storedQueue) findNextStart(now time.Time, rateState *int64) time.Time {
	if now.Before(q.PausedUntil) {
		return q.PausedUntil
	}
	state := int64(0)
	if rateState != nil {
		state = *rateState
	}
	_, _, next := q.Rate().Admit(state, now, 1)
	return next
}
