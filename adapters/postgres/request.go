package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ queue.UndeliveredRequests = (*Store)(nil)

// retainRequest serves one share with a request id. It locks the row of the request first. A repeat therefore waits for
// the original call, in any process.
func (s *Store) retainRequest(ctx context.Context, namespace string, queues []*storedQueue, share queue.RetainShare) ([]*queue.Task, error) {
	requests := []queue.RetainShare{share}
	key := requestKey{namespace, share.Worker, share.RequestID}
	limits := s.limitTasks(queue.Retain{Requests: requests}, queues)
	out := make([][]*queue.Task, 1)
	reuse := false // the tasks of an earlier use of the id were handed back as far as possible
	var p *claim
	var surplus []*queue.Task
	for {
		err := s.repeatWhileSplitting(ctx, func(ctx context.Context, t *txn.Tx) (err error) {
			clear(out)
			p, surplus = nil, nil
			known, err := claimRequest(ctx, t, key, share.Arguments, reuse)
			if err != nil {
				return err
			}

			// A repeat of a request returns the tasks that it gave before.
			if known != nil {
				out[0], err = s.repeatRequest(ctx, t, key, known, queues)
				return err
			}

			if p, err = s.pickTasks(ctx, t, queues, limits); err != nil {
				return err
			}
			if len(p.out) == 0 {
				return p.finishEmpty(t)
			}
			p.setAnswered(1, 1)
			if err := s.leasePickedTasks(ctx, t, requests, p, out); err != nil {
				return err
			}
			if err := t.Flush(ctx); err != nil { // sends the leases, because keepRequest needs their tokens
				return err
			}
			// A repeat gets what this answer has: the surplus goes back.
			surplus, _ = cutSurplus(queue.Retain{Requests: requests}, out)
			keepRequest(t, key, share.Arguments, out[0])
			return nil
		})

		if err == nil && p != nil && len(p.out) > 0 {
			s.surplus.giveBack(ctx, storeReleaser{s, namespace}, surplus)
			out = s.finishRetain(ctx, queue.Retain{Namespace: namespace, Requests: requests}, p, out)
		}

		if !errors.Is(err, errUndelivered) {
			return out[0], txn.IgnoreNothing(err)
		}

		// A fault of rows is not an error here: the tasks come back when their leases lapse.
		if _, err := s.endRequestsOf(ctx, endRequestRow, key.appendKeyArgs()...); err != nil && !isFaultOfRows(ctx, err) {
			return nil, err
		}
		reuse = true
	}
}

// requestKey identifies a row of the request table.
type requestKey struct{ namespace, worker, requestID string }

var requestKeyColumns = table.Of[requestKey]()

// appendKeyArgs returns first and then the key as arguments.
func (k requestKey) appendKeyArgs(first ...sqltext.Arg) []sqltext.Arg {
	return requestKeyColumns.Values(first, &k)
}

// The statements on requests.
var (
	claimRequestRow    = statement("request.claim")
	readRequestEnds    = statement("request.ends")
	countDelivery      = statement("request.given")
	writeRequest       = statement("request.keep")
	countLostDelivery  = statement("request.lost")
	seeEndedRequests   = statement("request.any")
	endRequestRows     = statement("request.end")
	findEndedRequests  = statement("request.end.keys")
	endRequestRow      = statement("request.end.one")
	postponeRequestEnd = statement("request.putoff")
)

// storedRequest is a request that a caller may repeat.
type storedRequest struct {
	namespace string
	arguments string
	ids       []int64 // of the tasks
	tokens    []int64 // beside ids
	leases    []int64 // beside ids, in ns
}

var requestColumns = table.Of[storedRequest]()

// errUndelivered ends a claim of an id with an earlier use. Its tasks were not delivered and must go back first.
const errUndelivered = txn.StopError("the id has tasks that were not delivered")

// claimRequest locks the row of a request. It returns nil for a new request, and queue.RequestReused for other
// arguments. It returns errUndelivered if an earlier use of the id left undelivered tasks; with reuse set it ignores
// them.
func claimRequest(ctx context.Context, t *txn.Tx, key requestKey, arguments string, reuse bool) (*storedRequest, error) {
	var r storedRequest
	var fresh, undelivered bool
	err := t.Query(ctx, claimRequestRow, func(rows pgx.Rows) error {
		return rows.Scan(append(requestColumns.Targets(nil, &r), &fresh, &undelivered)...)
	}, key.appendKeyArgs()...)

	switch {
	case err != nil:
		return nil, err
	case !fresh && undelivered && !reuse:
		return nil, errUndelivered
	case !fresh:
		return nil, nil
	case r.arguments != arguments:
		return nil, queue.RequestReused()
	}

	return &r, nil
}

// repeatRequest returns the tasks of an earlier request that are still under the same lease.
func (s *Store) repeatRequest(ctx context.Context, t *txn.Tx, key requestKey, r *storedRequest, queues []*storedQueue) ([]*queue.Task, error) {
	now, err := readPresentTasks(ctx, t, key.namespace, r.ids)
	if err != nil {
		return nil, err
	}
	ends := map[int64]time.Time{}
	err = t.Query(ctx, readRequestEnds, func(rows pgx.Rows) error {
		var id int64
		var at time.Time
		err := rows.Scan(&id, &at)
		ends[id] = at.UTC()
		return err
	}, arg("id", r.ids), arg("token", r.tokens))
	if err != nil {
		return nil, err
	}

	// A task with another lease belongs to a later retain.
	var tasks []*queue.Task
	for i, id := range r.ids {
		n, end := now[id], ends[id]
		if n == nil || n.task.Status != queue.StatusRetained || n.token != tokenOfLeaseRow(r.tokens[i]) || end.IsZero() {
			continue
		}
		inOrder := slices.ContainsFunc(queues, func(q *storedQueue) bool { return q.id == n.queue && q.RunsBatches() })
		n.task.Lease = &queue.Lease{Token: r.tokens[i], ExpiresAt: end, Duration: time.Duration(r.leases[i]), InOrder: inOrder}
		tasks = append(tasks, n.task)
	}
	t.Queue(countDelivery, key.appendKeyArgs()...)
	return tasks, nil
}

// keepRequest queues the write of the tasks that a request returned. A caller may repeat the request during the
// shortest lease, at most queue.RequestTime.
func keepRequest(t *txn.Tx, key requestKey, arguments string, tasks []*queue.Task) {
	shortest := queue.RequestTime
	var ids, tokens, leases []int64
	for _, task := range tasks {
		ids = append(ids, task.ID)
		tokens = append(tokens, task.Lease.Token)
		leases = append(leases, int64(task.Lease.Duration))
		shortest = min(shortest, task.Lease.Duration)
	}
	t.Queue(writeRequest, key.appendKeyArgs(arg("arguments", arguments), arg("duration", int64(shortest)),
		arg("ids", ids), arg("tokens", tokens), arg("leases", leases))...)
}

// UndeliveredRequest implements queue.UndeliveredRequests. It records that the caller never received the tasks of a
// request.
func (s *Store) UndeliveredRequest(ctx context.Context, namespace, worker, requestID string) error {
	return s.db.Run(ctx, "note an undelivered retain", func(_ context.Context, t *txn.Tx) error {
		t.Queue(countLostDelivery, requestKey{namespace, worker, requestID}.appendKeyArgs()...)
		return nil
	})
}

const (
	requestStep = 50 // ended requests that one step removes
	// requestPutOff is the delay before the next try of a request that failed to end, as rescuePause.
	requestPutOff = 10 * time.Minute
	opEndRequests = "end requests"
)

// endRequests removes requests after their end and hands back the tasks of undelivered ones. When a row makes a step
// fail, it ends each request by itself; the faulty one is reported and postponed.
func (s *Store) endRequests(ctx context.Context, out *queue.Maintained) error {
	due := false
	err := s.db.Query(ctx, opEndRequests, seeEndedRequests, func(rows pgx.Rows) error { return rows.Scan(&due) })
	if err != nil || !due {
		return err
	}

	ended, err := s.endRequestsOf(ctx, endRequestRows, arg("limit", requestStep))
	out.Woken = append(out.Woken, ended.woken...)
	out.Moved += ended.back
	out.More = out.More || ended.requests == requestStep
	if !isFaultOfRows(ctx, err) {
		return err
	}
	return s.endEachRequest(ctx, out)
}

// endEachRequest ends the requests of a step one by one and postpones those that fail.
func (s *Store) endEachRequest(ctx context.Context, out *queue.Maintained) error {
	var keys []requestKey
	err := s.db.Query(ctx, opEndRequests, findEndedRequests, scanRows(requestKeyColumns, func(k requestKey) { keys = append(keys, k) }),
		arg("limit", requestStep))
	if err != nil {
		return err
	}

	for _, k := range keys {
		ended, err := s.endRequestsOf(ctx, endRequestRow, k.appendKeyArgs()...)
		out.Woken = append(out.Woken, ended.woken...)
		out.Moved += ended.back
		if err == nil {
			continue
		}
		if !isFaultOfRows(ctx, err) {
			return err
		}

		// The delay keeps the faulty request from blocking the next steps.
		out.Faults = append(out.Faults, queue.Fault{
			Namespace: k.namespace, Subject: "request " + strconv.Quote(k.requestID) + " of worker " + k.worker, Err: err,
		})
		err = s.db.Run(ctx, opEndRequests, func(_ context.Context, t *txn.Tx) error {
			t.Queue(postponeRequestEnd, k.appendKeyArgs(arg("delay", int64(requestPutOff)))...)
			return nil
		})
		if err != nil {
			return err
		}
	}
	out.More = out.More || len(keys) == requestStep
	return nil
}

// endedRequests is the result of one transaction.
type endedRequests struct {
	requests, back int
	woken          []queue.Wake
}

// endRequestsOf ends the requests that a statement deletes, in one transaction.
func (s *Store) endRequestsOf(ctx context.Context, end sqltext.Statement, args ...sqltext.Arg) (endedRequests, error) {
	var ended endedRequests
	err := s.db.Run(ctx, opEndRequests, func(ctx context.Context, t *txn.Tx) error {
		ended = endedRequests{}
		releases := map[string][]queue.Release{} // by namespace
		err := t.Query(ctx, end, func(rows pgx.Rows) error {
			var r storedRequest
			var undelivered bool
			if err := rows.Scan(append(requestColumns.Targets(nil, &r), &undelivered)...); err != nil {
				return err
			}

			ended.requests++
			for i := 0; undelivered && i < len(r.ids); i++ {
				releases[r.namespace] = append(releases[r.namespace], queue.Release{
					ID: r.ids[i], Token: r.tokens[i], Outcome: queue.OutcomeHandBack, Quiet: true,
				})
			}
			return nil
		}, args...)
		if err != nil {
			return err
		}

		for namespace, all := range releases {
			done := make([]queue.Released, len(all))
			// A lease row that another call has locked shows that its task was delivered.
			m, err := s.releaseTasksIn(ctx, t, namespace, all, done, true)
			if err != nil {
				return err
			}
			ended.woken = append(ended.woken, m.woken...)
			ended.back += len(all)
		}
		return nil
	})
	if err != nil {
		return endedRequests{}, err
	}

	s.notify.NotifyReady(ended.woken)
	return ended, nil
}

// hasRequestID reports whether the first or the last share of r has a request id.
func hasRequestID(r queue.Retain) bool {
	return len(r.Requests) > 0 && cmp.Or(r.Requests[0].RequestID, r.Requests[len(r.Requests)-1].RequestID) != ""
}
