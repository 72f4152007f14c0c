package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// hold is one task held under a lease, and the context that its handler gets. A plain cancelable context is inside;
// the values of Run's context are behind it. All of it is three allocations.
type heldTask struct {
	context.Context
	end context.CancelCauseFunc

	run     *run
	pool    *slotPool
	handler Handler
	// task is the handler's from its call on: it may clear or change it. What the runtime needs of it is in held, token
	// and granted.
	task  *queue.Task
	info  Held
	token int64
	// taken is when the retain answered.
	taken time.Time
	// release is what the handler's return stands for; set by whoever ends the hold.
	release  queue.Release
	progress atomic.Pointer[progressReport]

	// Guarded by run.mu.

	// pos is the place in run.held; -1 when not there.
	pos int
	// lapses is when the lease runs out by our own clock, beatDue when it is to be extended.
	expires, heartbeatDue time.Time
	// granted is the length of the lease, as the last answer told it.
	granted time.Duration
	// lost: the lease is gone.
	lost bool
	// over: the hold has been given to the releases, or needs none. Whatever the handler still does changes nothing.
	over bool
	// plain: the result was refused by the service and replaced.
	plain bool
}

// holdKey finds the hold in its context.
type heldTaskKey struct{}

// Value knows the hold itself; the rest is Run's context's.
func (h *heldTask) Value(key any) any {
	if key == (heldTaskKey{}) {
		return h
	}
	return h.Context.Value(key)
}

func heldTaskFrom(ctx context.Context) *heldTask {
	h, _ := ctx.Value(heldTaskKey{}).(*heldTask)
	return h
}

// newHeldTask makes the hold of task, answered to a retain at now. base is never cancelled.
func newHeldTask(base context.Context, h Handler, task *queue.Task, now time.Time) *heldTask {
	x := &heldTask{handler: h, task: task, info: describeTask(task), taken: now, pos: -1}
	if task.Lease != nil {
		x.token = task.Lease.Token
	}
	x.Context, x.end = context.WithCancelCause(base)
	if !task.DiesAt.IsZero() {
		x.endAtDeadline(now)
	}
	return x
}

// endAtDeadline ends the context at DiesAt. That is a time of the database's clock, which the lease tells: it was granted at
// ExpiresAt - Duration, not later than now.
func (h *heldTask) endAtDeadline(now time.Time) {
	left := time.Until(h.task.DiesAt)
	if l := h.task.Lease; l != nil && !l.ExpiresAt.IsZero() {
		left = h.task.DiesAt.Sub(l.ExpiresAt.Add(-l.Duration))
	}
	outer := h.end
	ctx, stop := context.WithDeadlineCause(h.Context, now.Add(left), ErrDeadline)
	h.Context, h.end = ctx, func(cause error) { outer(cause); stop() }
}

// recordLease notes that a call from from to now was answered with l: the lease may count from the call's beginning. Caller
// holds run.mu, or is the only one to know h.
func (h *heldTask) recordLease(from, now time.Time, l queue.Lease, longest time.Duration) {
	h.granted = l.Duration
	h.expires = from.Add(l.Duration)
	h.heartbeatDue = earlierTime(from.Add(l.Duration/3), now.Add(longest))
}

// endCause is why the context ended; nil while it has not.
func (h *heldTask) endCause() error {
	if h.Err() == nil {
		return nil
	}
	return context.Cause(h)
}

// runHandler calls the handler and tells how it ended. It does not return when the handler calls runtime.Goexit.
func (h *heldTask) runHandler(maxResult int, obs Observer) handlerOutcome {
	if obs == nil {
		v := h.callHandler(maxResult)
		h.end(errEnded)
		return v
	}
	start := time.Now()
	waited := start.Sub(h.taken)
	obs.TaskStarted(h.info, waited)
	v := h.callHandler(maxResult)
	h.end(errEnded)
	obs.TaskFinished(h.info, Finished{
		Outcome: v.release.Outcome, Waited: waited, Took: time.Since(start), Err: v.err, Cause: v.cause,
	})
	return v
}

// verdict is how a handler ended.
type handlerOutcome struct {
	// release that the handler's return stands for.
	release queue.Release
	// cancel: the task is to be cancelled before it.
	cancel bool
	err    error
	cause  error
}

// callHandler is the handler with everything of its that may panic: itself, its result's and its error's methods.
func (h *heldTask) callHandler(maxResult int) (v handlerOutcome) {
	defer func() {
		if p := recover(); p != nil {
			err := newPanicError(p)
			v = handlerOutcome{err: err, cause: h.endCause()}
			v.release = queue.Release{Outcome: queue.OutcomeFailure, Result: errorJSON(err, maxResult)}
		}
	}()
	out, err := h.handler.Work(h, h.task)
	v.err, v.cause = err, h.endCause()
	v.release, v.cancel = releaseFor(out, err, v.cause, maxResult)
	return v
}

// goexitJSON is the error of a handler that ended its goroutine.
var (
	errGoexit  = errors.New("the handler called runtime.Goexit")
	goexitJSON = queue.ErrorJSON(errGoexit.Error())
)

// Work runs handler on task as a worker would, and returns the release that it stands for: for tests of handlers, and
// for runtimes of other kinds. The handler's context is ctx with the task in it; ends as ctx does. A task without
// a lease gives a release without a token.
func Work(ctx context.Context, handler Handler, task *queue.Task) queue.Release {
	h := newHeldTask(ctx, handler, task, time.Now())
	rel := h.runHandler(queue.DefaultMaxPayloadBytes, nil).release
	rel.ID, rel.Token = h.info.ID, h.token
	return rel
}
