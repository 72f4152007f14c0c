package postgres

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ queue.UndeliveredRequests = (*Store)(nil)

const opRequest = "retain tasks"

// retainRequest serves one share with a request id: the row of the request is locked first, so a repeat waits for what it
// repeats, in whatever process that runs.
func (s *Store) retainRequest(ctx context.Context, namespace string, queues []*storedQueue, share queue.RetainShare) ([]*queue.Task, error) {
	requests := []queue.RetainShare{share}
	total := s.mostTasks(requests, queues)
	out := make([][]*queue.Task, 1)
	var p *picking
	for try := 1; ; try++ {
		err := s.inTx(ctx, opRequest, func(ctx context.Context, t *tx) (err error) {
			clear(out)
			p = nil
			known, err := s.claimRequest(ctx, t, namespace, share)
			if err != nil {
				return err
			}
			if known != nil {
				out[0], err = s.repeatRequest(ctx, t, namespace, share, known)
				return err
			}
			if p, err = s.pick(ctx, t, queues, total); err != nil {
				return err
			}
			if len(p.out) == 0 {
				return errNothing
			}
			if err := s.hold(ctx, t, requests, p, out); err != nil {
				return err
			}
			if err := t.flush(ctx); err != nil { // the tokens
				return err
			}
			keepRequest(t, namespace, share, out[0])
			return nil
		})
		if err == nil && p != nil {
			s.held(ctx, queue.Retain{Namespace: namespace, Requests: requests}, p, out)
		}
		if !errors.Is(err, errSplitting) {
			return out[0], quietly(err)
		}
		if try == splitTries || !pause(ctx, splitPause) {
			return nil, nil
		}
	}
}

// storedRequest is a request that can be repeated.
type storedRequest struct {
	arguments          string
	ids, tokens, lease []int64
}

// claimRequest locks the row of a request; nil when it is none that can be repeated.
func (s *Store) claimRequest(ctx context.Context, t *tx, namespace string, share queue.RetainShare) (*storedRequest, error) {
	var r storedRequest
	var fresh bool
	err := t.read(ctx, "request.claim", func(rows pgx.Rows) error {
		return rows.Scan(&r.arguments, &fresh, &r.ids, &r.tokens, &r.lease)
	}, namespace, share.Worker, share.RequestID)
	switch {
	case err != nil:
		return nil, err
	case !fresh:
		return nil, nil
	case r.arguments != share.Arguments:
		return nil, queue.RequestReused()
	}
	return &r, nil
}

// repeatRequest gives what is still held of what a request gave.
func (s *Store) repeatRequest(ctx context.Context, t *tx, namespace string, share queue.RetainShare, r *storedRequest) ([]*queue.Task, error) {
	now, err := s.nowIn(ctx, t, namespace, r.ids)
	if err != nil {
		return nil, err
	}
	ends := map[int64]time.Time{}
	err = t.read(ctx, "request.ends", func(rows pgx.Rows) error {
		var id int64
		var at time.Time
		err := rows.Scan(&id, &at)
		ends[id] = at.UTC()
		return err
	}, r.ids, r.tokens)
	if err != nil {
		return nil, err
	}

	var tasks []*queue.Task
	for i, id := range r.ids {
		n, end := now[id], ends[id]
		if n == nil || n.task.Status != queue.StatusRetained || n.token != leaseToken(r.tokens[i]) || end.IsZero() {
			continue
		}
		n.task.Lease = &queue.Lease{Token: r.tokens[i], ExpiresAt: end, Duration: time.Duration(r.lease[i])}
		tasks = append(tasks, n.task)
	}
	t.queue("request.given", namespace, share.Worker, share.RequestID)
	return tasks, nil
}

// keepRequest queues the writing of what a request gave.
func keepRequest(t *tx, namespace string, share queue.RetainShare, tasks []*queue.Task) {
	shortest := queue.RequestTime
	var ids, tokens, leases []int64
	for _, task := range tasks {
		ids, tokens = append(ids, task.ID), append(tokens, task.Lease.Token)
		leases = append(leases, int64(task.Lease.Duration))
		shortest = min(shortest, task.Lease.Duration)
	}
	t.queue("request.keep", namespace, share.Worker, share.RequestID, share.Arguments, int64(shortest), ids, tokens, leases)
}

// UndeliveredRequest implements queue.UndeliveredRequests.
func (s *Store) UndeliveredRequest(ctx context.Context, namespace, worker, requestID string) error {
	return s.inTx(ctx, "note an undelivered retain", func(_ context.Context, t *tx) error {
		t.queue("request.lost", namespace, worker, requestID)
		return nil
	})
}

// requestStep is how many requests whose time is over one step deals with.
const requestStep = 50

// endRequests forgets requests whose time is over, and hands back the tasks of those that were never delivered.
func (s *Store) endRequests(ctx context.Context, out *queue.Maintained) error {
	const op = "end requests"
	due := false
	err := s.query(ctx, op, "request.any", func(rows pgx.Rows) error { return rows.Scan(&due) })
	if err != nil || !due {
		return err
	}

	var woken []queue.Wake
	ended, back := 0, 0
	err = s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
		woken, ended, back = nil, 0, 0
		releases := map[string][]queue.Release{} // by namespace
		err := t.read(ctx, "request.end", func(rows pgx.Rows) error {
			var namespace string
			var lost bool
			var ids, tokens []int64
			if err := rows.Scan(&namespace, &lost, &ids, &tokens); err != nil {
				return err
			}
			ended++
			for i := 0; lost && i < len(ids); i++ {
				releases[namespace] = append(releases[namespace], queue.Release{
					ID: ids[i], Token: tokens[i], Outcome: queue.OutcomeHandBack, Quiet: true,
				})
			}
			return nil
		}, requestStep)
		if err != nil {
			return err
		}
		for namespace, all := range releases {
			done := make([]queue.Released, len(all))
			m, err := s.release(ctx, t, namespace, all, done, true) // a hold that is being ended was delivered
			if err != nil {
				return err
			}
			woken = append(woken, m.woken...)
			back += len(all)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.notify.ready(woken)
	out.Woken = append(out.Woken, woken...)
	out.Moved += back
	out.More = out.More || ended == requestStep
	return nil
}

// requestOf is the share of r that has a request id, if it is one.
func requestOf(r queue.Retain) bool {
	return len(r.Requests) > 0 && cmp.Or(r.Requests[0].RequestID, r.Requests[len(r.Requests)-1].RequestID) != ""
}
