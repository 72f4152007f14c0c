package worker

import (
	"context"
	"math"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// Bounds of the releases.
const (
	// maxRelease bounds the releases of one call, maxReleaseBytes their results.
	maxRelease      = 1_000
	maxReleaseBytes = 4 << 20
	// maxFullReleases bounds the full calls in flight.
	maxFullReleases = 3
	// minReleasePause and maxReleasePause bound the pause after a call that failed.
	minReleasePause = 20 * time.Millisecond
	maxReleasePause = 2 * time.Second
	// lockedPause is the pause before a single failed release is sent again, as for the lock of another transaction. Other
	// releases go on meanwhile.
	lockedPause = 250 * time.Millisecond
)

// releaser gathers the releases of a run into calls. No caller waits for its answers: finishReleases receives them.
type releaser = batch.Batcher[struct{}, *heldTask, queue.Released]

// newReleaser returns the batcher of the releases of r.
func newReleaser(r *run) *releaser {
	return batch.New(batch.Options[struct{}, *heldTask, queue.Released]{
		Commit: r.sendReleases, Unclaimed: r.finishReleases, Context: r.calls, FaultOf: faultOfRelease,
		Go:       func(f func()) bool { r.releasing.Go(f); return true },
		MaxItems: maxRelease, MaxBytes: maxReleaseBytes, MaxFullInFlight: maxFullReleases, MaxWaiting: math.MaxInt,
		Bytes:        func(h *heldTask) int { return len(h.release.Result) },
		FailurePause: retry.Backoff{Min: minReleasePause, Max: maxReleasePause},
	})
}

// faultOfRelease classifies err: may one release be its cause, or is it a fault of the service?
func faultOfRelease(err error) batch.Fault {
	switch {
	case isRejected(err):
		return batch.FaultItem
	case queue.KindOf(err) == queue.KindInternal:
		return batch.FaultUnknown
	}

	return batch.FaultService
}

// sendReleases sends the unsent progress of the tasks, then their releases in one call.
func (r *run) sendReleases(_ context.Context, _ struct{}, tasks []*heldTask) ([]queue.Released, error) {
	if r.calls.Err() != nil {
		return nil, r.calls.Err()
	}
	r.sendProgress(tasks)

	releases := make([]queue.Release, len(tasks))
	for i, h := range tasks {
		releases[i] = h.release
		releases[i].Quiet = true // the worker does not read the task again
	}

	ctx, cancel := context.WithTimeout(r.calls, callTimeout)
	defer cancel()
	start := time.Now()
	answers, err := r.svc.ReleaseTasks(ctx, releases)
	if len(answers) == len(tasks) { // then each release has its own error
		err = nil
	}
	r.cfg.observer.Released(len(tasks), time.Since(start), err)
	return answers, err
}

// finishReleases ends the tasks with an accepted release, and sends the others again as long as their leases last.
func (r *run) finishReleases(_ struct{}, tasks []*heldTask, answers []queue.Released, err error) {
	if err != nil {
		r.retryReleases(tasks, err)
		return
	}

	r.releaseLog.recordError(nil)
	// In place: a task is written to done behind the point that the loop has read.
	done := tasks[:0]
	var locked []*heldTask
	for i, h := range tasks {
		switch err := answers[i].Err; {
		case err == nil:
			done = append(done, h)
		case isRejected(err) && !h.plain:
			r.releases.Add(struct{}{}, r.replaceResult(h, err))
		case queue.KindOf(err) == queue.KindUnavailable: // as for the lock of another transaction
			locked = append(locked, h)
		case queue.KindOf(err) == queue.KindLeaseLost:
			// Another worker may hold the task, so those behind it must not run here.
			r.reportLostLease(h, "release refused")
			r.endOrder(h)
			done = append(done, h)
		default:
			r.cfg.log.Warn("release refused", "task", h.info.ID, "queue", h.info.Queue, "err", err)
			r.endOrder(h)
			done = append(done, h)
		}
	}

	r.endTasks(done)
	r.releaseLater(locked, queue.ErrUnavailable)
}

// retryReleases handles a call of releases that failed as a whole.
func (r *run) retryReleases(tasks []*heldTask, err error) {
	isAlone := len(tasks) == 1
	// A release that fails alone may be the cause of the error; in a batch the cause is unknown.
	switch {
	case r.calls.Err() != nil:
		r.cfg.log.Error("the worker stopped before it recorded outcomes; their leases will end", "tasks", len(tasks))
		r.endTasks(tasks)
	case isRejected(err) && isAlone && !tasks[0].plain:
		r.releases.Add(struct{}{}, r.replaceResult(tasks[0], err))
	case isRejected(err) && isAlone:
		r.logUnrecorded(tasks[0], err)
		r.endTasks(tasks)
	case queue.KindOf(err) == queue.KindInternal && isAlone:
		r.releaseLog.recordError(err)
		r.releaseLater(tasks, err)
	default:
		r.releaseLog.recordError(err)
		r.releaseAgain(tasks, err)
	}
}

// releaseLater sends releases again after lockedPause.
func (r *run) releaseLater(tasks []*heldTask, err error) {
	if len(tasks) == 0 {
		return
	}

	r.releasing.Go(func() { // safe: the calling goroutine is counted too, so Wait cannot have returned
		retry.Sleep(r.calls, lockedPause)
		r.releaseAgain(tasks, err)
	})
}

// releaseAgain sends the releases again that still have a lease. The others have failed with err for good.
func (r *run) releaseAgain(tasks []*heldTask, err error) {
	// A release after the end of its lease could end the lease of another worker's attempt.
	now := time.Now()
	var expired []*heldTask
	r.mu.Lock()
	for _, h := range tasks {
		if now.Before(h.expires) {
			r.releases.Add(struct{}{}, h)
		} else {
			expired = append(expired, h)
		}
	}
	r.mu.Unlock()

	for _, h := range expired {
		r.logUnrecorded(h, err)
	}
	r.endTasks(expired)
}

// logUnrecorded logs that the outcome of h is lost. The task comes again, so those behind it go back.
func (r *run) logUnrecorded(h *heldTask, err error) {
	r.endOrder(h)
	r.cfg.log.Error("an outcome could not be recorded", "task", h.info.ID, "queue", h.info.Queue, "err", err)
}

// isRejected reports whether the service would refuse the same call again.
func isRejected(err error) bool {
	k := queue.KindOf(err)
	return k == queue.KindInvalid || k == queue.KindTooLarge
}

// replaceResult replaces a result that the service refused by the reason, so that the task still ends.
func (r *run) replaceResult(h *heldTask, err error) *heldTask {
	r.cfg.log.Warn("a result was refused and replaced", "task", h.info.ID, "queue", h.info.Queue, "err", err)
	h.plain = true
	if h.release.Result != nil {
		h.release.Result = queue.ErrorJSON("the result was refused: " + err.Error())
	}

	return h
}

// endTasks removes tasks after their releases.
func (r *run) endTasks(done []*heldTask) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range done {
		r.removeHeldTask(h)
	}

	// Retains pause while too many releases wait.
	wasFull := r.unreleased > r.maxUnreleased
	r.unreleased -= len(done)
	r.recordChange()
	if wasFull {
		for _, l := range r.pools {
			l.startRetains()
		}
	}
}
