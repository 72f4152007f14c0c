package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// heldTask is one task under a lease, and the context of its handler. It wraps a plain cancelable context, which has
// the values of Run's context. It costs three allocations.
type heldTask struct {
	context.Context
	end context.CancelCauseFunc

	run     *run
	pool    *slotPool
	handler Handler
	// task belongs to the handler from its call on: the handler may clear or change it. The runtime reads info, token and
	// granted instead.
	task  *queue.Task
	info  Held
	token int64
	// taken is the time at which the retain answered.
	taken time.Time
	// release is the release that follows from the handler's return, set together with over.
	release  queue.Release
	progress atomic.Pointer[progressReport]

	// Guarded by run.mu.

	// pos is the index in run.held; -1 when the task is not in it.
	pos int
	// expires is the end of the lease by the worker's clock, heartbeatDue the time of its next heartbeat.
	expires, heartbeatDue time.Time
	// granted is the length of the lease in the last answer.
	granted time.Duration
	// lost: the lease is lost.
	lost bool
	// over: the task is with the releases, or needs no release. Later acts of the handler change nothing.
	over bool
	// plain: the service refused the result, and the worker replaced it.
	plain bool
	// next is the task that begins when this one has ended with success; see chain.go.
	next *heldTask
	// chained: it waits for the task before it.
	chained bool
}

// heldTaskKey is the key of the held task in its context.
type heldTaskKey struct{}

// Value returns the held task for its own key, and for other keys the value of Run's context.
func (h *heldTask) Value(key any) any {
	if key == (heldTaskKey{}) {
		return h
	}
	return h.Context.Value(key)
}

// heldTaskFrom returns the held task of ctx, or nil when ctx does not belong to one.
func heldTaskFrom(ctx context.Context) *heldTask {
	h, _ := ctx.Value(heldTaskKey{}).(*heldTask)
	return h
}

// newHeldTask wraps task, answered to a retain at now. base never ends.
func newHeldTask(base context.Context, h Handler, task *queue.Task, now time.Time) *heldTask {
	x := &heldTask{handler: h, task: task, info: describeTask(task), taken: now, pos: -1}
	if task.Lease != nil {
		x.token = task.Lease.Token
	}
	// A plain cancel costs no timer. Only a task with a ttl pays for one.
	x.Context, x.end = context.WithCancelCause(base)
	if !task.DiesAt.IsZero() {
		x.endAtDeadline(now)
	}
	return x
}

// endAtDeadline ends the context at DiesAt, which is a time of the database's clock. The lease relates the clocks: the
// database granted it at ExpiresAt - Duration, not later than now.
func (h *heldTask) endAtDeadline(now time.Time) {
	left := time.Until(h.task.DiesAt)
	if l := h.task.Lease; l != nil && !l.ExpiresAt.IsZero() {
		left = h.task.DiesAt.Sub(l.ExpiresAt.Add(-l.Duration))
	}
	// Both contexts end together: the deadline stops its timer when the handler returns first.
	outer := h.end
	ctx, stop := context.WithDeadlineCause(h.Context, now.Add(left), ErrDeadline)
	h.Context, h.end = ctx, func(cause error) { outer(cause); stop() }
}

// recordLease records the answer l to a call that lasted from from to now. The lease may count from the beginning of
// the call. longest bounds the time to the next heartbeat. The caller holds run.mu, or owns h alone.
func (h *heldTask) recordLease(from, now time.Time, l queue.Lease, longest time.Duration) {
	h.granted = l.Duration
	h.expires = from.Add(l.Duration)
	h.heartbeatDue = earlierTime(from.Add(l.Duration/3), now.Add(longest))
}

// endCause returns the reason for the end of the context; nil before the end.
func (h *heldTask) endCause() error {
	if h.Err() == nil {
		return nil
	}
	return context.Cause(h)
}

// runHandler calls the handler and returns its outcome. It does not return when the handler calls runtime.Goexit.
func (h *heldTask) runHandler(maxResult int, obs Observer) handlerOutcome {
	start := time.Now()
	waited := start.Sub(h.taken)
	obs.TaskStarted(h.info, waited)

	v := h.callHandler(maxResult)
	// Contexts that the handler left to goroutines end with it.
	h.end(errEnded)
	obs.TaskFinished(h.info, Finished{
		Outcome: v.release.Outcome, Waited: waited, Took: time.Since(start), Err: v.err, Cause: v.cause,
	})
	return v
}

// handlerOutcome is the outcome of a handler.
type handlerOutcome struct {
	// release follows from the handler's return.
	release queue.Release
	// cancel: the worker cancels the task before it releases it.
	cancel bool
	err    error
	cause  error
}

// callHandler calls the handler and encodes its result. Both may panic, in methods of the result or the error too.
func (h *heldTask) callHandler(maxResult int) (v handlerOutcome) {
	defer func() {
		if p := recover(); p != nil {
			err := newPanicError(p)
			v = handlerOutcome{err: err, cause: h.endCause()}
			v.release = queue.Release{Outcome: queue.OutcomeFailure, Result: errorJSON(err, maxResult), ErrorKind: queue.ErrorKindOf(err)}
		}
	}()

	out, err := h.handler.Work(h, h.task)
	v.err, v.cause = err, h.endCause()
	v.release, v.cancel = releaseFor(out, err, v.cause, maxResult)
	return v
}

// goexitJSON is the stored error of a handler that ended its goroutine.
var (
	errGoexit  = errors.New("the handler called runtime.Goexit")
	goexitJSON = queue.ErrorJSON(errGoexit.Error())
)

// Work runs handler on task as a worker would, and returns the resulting release. It serves tests of handlers and other
// runtimes. The handler's context is ctx with the task in it, and ends as ctx does. A task without a lease gives a
// release without a token.
func Work(ctx context.Context, handler Handler, task *queue.Task) queue.Release {
	h := newHeldTask(ctx, handler, task, time.Now())
	rel := h.runHandler(queue.DefaultMaxPayloadBytes, NoObserver{}).release
	rel.ID, rel.Token = h.info.ID, h.token
	return rel
}
