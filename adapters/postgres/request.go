package postgres

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ queue.UndeliveredRequests = (*Store)(nil)

const opRequest = "retain tasks"

// retainRequest serves one share with a request id: the row of the request is locked first, so a repeat waits for what it
// repeats, in whatever process that runs.
func (s *Store) retainRequest(ctx context.Context, namespace string, queues []*storedQueue, share queue.RetainShare) ([]*queue.Task, error) {
	requests := []queue.RetainShare{share}
	key := requestKey{namespace, share.Worker, share.RequestID}
	total := s.limitTasks(requests, queues)
	out := make([][]*queue.Task, 1)
	reuse := false // what its id gave before has gone back as far as it can
	var p *claim
	for try := 1; ; try++ {
		err := s.runInTx(ctx, opRequest, func(ctx context.Context, t *tx) (err error) {
			clear(out)
			p = nil
			known, err := claimRequest(ctx, t, key, share.Arguments, reuse)
			if err != nil {
				return err
			}

			if known != nil {
				out[0], err = s.repeatRequest(ctx, t, key, known)
				return err
			}

			if p, err = s.pickTasks(ctx, t, queues, total); err != nil {
				return err
			}
			if len(p.out) == 0 {
				return errNothing
			}
			if err := s.leasePickedTasks(ctx, t, requests, p, out); err != nil {
				return err
			}
			if err := t.flushBatch(ctx); err != nil { // the tokens
				return err
			}
			keepRequest(t, key, share.Arguments, out[0])
			return nil
		})

		if err == nil && p != nil {
			s.finishRetain(ctx, queue.Retain{Namespace: namespace, Requests: requests}, p, out)
		}

		switch {
		case errors.Is(err, errUndelivered):
			// Where this fails for the sake of its rows, the tasks come back when their leases run out.
			if _, err := s.endRequestsOf(ctx, endRequestRow, key.appendKeyArgs()...); err != nil && !isFaultOfRows(ctx, err) {
				return nil, err
			}
			reuse = true
		case !errors.Is(err, errSplitting):
			return out[0], ignoreNothingToDo(err)
		case try == splitTries || !sleepFor(ctx, splitPause):
			return nil, nil
		}
	}
}

// requestKey names a row of the request table.
type requestKey struct{ namespace, worker, id string }

// appendKeyArgs returns the key as arguments, after first.
func (k requestKey) appendKeyArgs(first ...sqltext.Arg) []sqltext.Arg {
	return append(first, arg("namespace", k.namespace), arg("worker", k.worker), arg("request_id", k.id))
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

// storedRequest is a request that can be repeated.
type storedRequest struct {
	arguments          string
	ids, tokens, lease []int64
}

// errUndelivered ends a claim of an id that was used before: what it gave then was not delivered and goes back first.
var errUndelivered = errors.New("the id has tasks that were not delivered")

// claimRequest locks the row of a request; nil when it is none that can be repeated. With reuse it leaves what the id gave
// before where it is.
func claimRequest(ctx context.Context, t *tx, key requestKey, arguments string, reuse bool) (*storedRequest, error) {
	var r storedRequest
	var fresh, undelivered bool
	err := t.queryRows(ctx, claimRequestRow, func(rows pgx.Rows) error {
		return rows.Scan(&r.arguments, &fresh, &undelivered, &r.ids, &r.tokens, &r.lease)
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

// repeatRequest gives what is still held of what a request gave.
func (s *Store) repeatRequest(ctx context.Context, t *tx, key requestKey, r *storedRequest) ([]*queue.Task, error) {
	now, err := s.readPresentTasks(ctx, t, key.namespace, r.ids)
	if err != nil {
		return nil, err
	}
	ends := map[int64]time.Time{}
	err = t.queryRows(ctx, readRequestEnds, func(rows pgx.Rows) error {
		var id int64
		var at time.Time
		err := rows.Scan(&id, &at)
		ends[id] = at.UTC()
		return err
	}, arg("id", r.ids), arg("token", r.tokens))
	if err != nil {
		return nil, err
	}

	var tasks []*queue.Task
	for i, id := range r.ids {
		n, end := now[id], ends[id]
		if n == nil || n.task.Status != queue.StatusRetained || n.token != tokenOfLeaseRow(r.tokens[i]) || end.IsZero() {
			continue
		}
		n.task.Lease = &queue.Lease{Token: r.tokens[i], ExpiresAt: end, Duration: time.Duration(r.lease[i])}
		tasks = append(tasks, n.task)
	}
	t.queueStatement(countDelivery, key.appendKeyArgs()...)
	return tasks, nil
}

// keepRequest queues the writing of what a request gave.
func keepRequest(t *tx, key requestKey, arguments string, tasks []*queue.Task) {
	shortest := queue.RequestTime
	var ids, tokens, leases []int64
	for _, task := range tasks {
		ids = append(ids, task.ID)
		tokens = append(tokens, task.Lease.Token)
		leases = append(leases, int64(task.Lease.Duration))
		shortest = min(shortest, task.Lease.Duration)
	}
	t.queueStatement(writeRequest, key.appendKeyArgs(arg("arguments", arguments), arg("duration", int64(shortest)),
		arg("ids", ids), arg("tokens", tokens), arg("leases", leases))...)
}

// UndeliveredRequest implements queue.UndeliveredRequests.
func (s *Store) UndeliveredRequest(ctx context.Context, namespace, worker, requestID string) error {
	return s.runInTx(ctx, "note an undelivered retain", func(_ context.Context, t *tx) error {
		t.queueStatement(countLostDelivery, requestKey{namespace, worker, requestID}.appendKeyArgs()...)
		return nil
	})
}

const (
	requestStep = 50 // requests whose time is over that one step ends
	// requestPutOff is when a request that could not be ended is tried again, as rescuePutOff.
	requestPutOff = 10 * time.Minute
	opEndRequests = "end requests"
)

// endRequests forgets requests whose time is over, and hands back the tasks of those that were never delivered. Where a step
// fails because of a row, each request is ended by itself, and the one at fault is named and put off.
func (s *Store) endRequests(ctx context.Context, out *queue.Maintained) error {
	due := false
	err := s.queryRows(ctx, opEndRequests, seeEndedRequests, func(rows pgx.Rows) error { return rows.Scan(&due) })
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

// endEachRequest ends the requests of a step one by one and puts off those that fail.
func (s *Store) endEachRequest(ctx context.Context, out *queue.Maintained) error {
	var keys []requestKey
	err := s.queryRows(ctx, opEndRequests, findEndedRequests, func(rows pgx.Rows) error {
		var k requestKey
		err := rows.Scan(&k.namespace, &k.worker, &k.id)
		keys = append(keys, k)
		return err
	}, arg("limit", requestStep))
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

		out.Faults = append(out.Faults, queue.Fault{
			Namespace: k.namespace, Subject: "request " + strconv.Quote(k.id) + " of worker " + k.worker, Err: err,
		})
		err = s.runInTx(ctx, opEndRequests, func(_ context.Context, t *tx) error {
			t.queueStatement(postponeRequestEnd, k.appendKeyArgs(arg("delay", int64(requestPutOff)))...)
			return nil
		})
		if err != nil {
			return err
		}
	}
	out.More = out.More || len(keys) == requestStep
	return nil
}

// endedRequests counts the result of one transaction.
type endedRequests struct {
	requests, back int
	woken          []queue.Wake
}

// endRequestsOf ends the requests that a statement deletes, in one transaction.
func (s *Store) endRequestsOf(ctx context.Context, end sqltext.Statement, args ...sqltext.Arg) (endedRequests, error) {
	var ended endedRequests
	err := s.runInTx(ctx, opEndRequests, func(ctx context.Context, t *tx) error {
		ended = endedRequests{}
		releases := map[string][]queue.Release{} // by namespace
		err := t.queryRows(ctx, end, func(rows pgx.Rows) error {
			var namespace string
			var undelivered bool
			var ids, tokens []int64
			if err := rows.Scan(&namespace, &undelivered, &ids, &tokens); err != nil {
				return err
			}

			ended.requests++
			for i := 0; undelivered && i < len(ids); i++ {
				releases[namespace] = append(releases[namespace], queue.Release{
					ID: ids[i], Token: tokens[i], Outcome: queue.OutcomeHandBack, Quiet: true,
				})
			}
			return nil
		}, args...)
		if err != nil {
			return err
		}

		for namespace, all := range releases {
			done := make([]queue.Released, len(all))
			m, err := s.releaseTasksIn(ctx, t, namespace, all, done, true) // a hold that is being ended was delivered
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

	s.notify.notifyReady(ended.woken)
	return ended, nil
}

// hasRequestID is the share of r that has a request id, if it is one.
func hasRequestID(r queue.Retain) bool {
	return len(r.Requests) > 0 && cmp.Or(r.Requests[0].RequestID, r.Requests[len(r.Requests)-1].RequestID) != ""
}
