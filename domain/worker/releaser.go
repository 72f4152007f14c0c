package worker

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Bounds of the releases.
const (
	// maxRelease is the most releases of one call, maxReleaseBytes the most bytes of results.
	maxRelease      = 1_000
	maxReleaseBytes = 4 << 20
	// maxFlushers is how many calls are under way at once.
	maxFlushers = 3
	// maxSearches is how many calls in a row may fail by a fault of the service's own (KindInternal) and still be halved to find
	// the release at fault: with twice log2(maxRelease) refused and none accepted, it is not of one release.
	maxSearches = 22
)

// flush sees to it that pending releases are sent: at once when none is on its way, else when the call under way is
// answered, or when there is a batch for another call. What gathers in between goes together. Caller holds mu.
func (r *run) flush() {
	if len(r.pending) == 0 || r.easing {
		return
	}
	if r.flushers == 0 || len(r.pending) >= maxRelease && r.flushers < maxFlushers {
		r.flushers++
		r.flushing.Go(r.flushAll)
	}
}

// flushAll sends releases until none is pending. What cannot be sent is tried again, with backoff, until its lease is
// over.
func (r *run) flushAll() {
	for failures := 0; ; {
		runtime.Gosched() // let handlers that are about to end join the batch; costs nothing when there are none
		r.mu.Lock()
		batch := r.batch()
		if len(batch) == 0 {
			r.flushers--
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		again := r.release(batch)
		if len(again) == 0 {
			failures = 0
			continue
		}
		r.mu.Lock()
		r.pending = append(again, r.pending...)
		r.easing = true
		r.mu.Unlock()
		sleep(r.calls, backoff(failures, 20*time.Millisecond, 2*time.Second))
		failures++
		r.mu.Lock()
		r.easing = false
		r.mu.Unlock()
	}
}

// batch takes the next batch off the pending releases. Caller holds mu.
func (r *run) batch() []*hold {
	n, size := 0, 0
	for n < len(r.pending) && n < maxRelease && size < maxReleaseBytes {
		size += len(r.pending[n].release.Result)
		n++
	}
	batch := r.pending[:n:n]
	if r.pending = r.pending[n:]; len(r.pending) == 0 {
		r.pending = make([]*hold, 0, n)
	}
	return batch
}

// release sends a batch. It returns what is to be tried again.
func (r *run) release(batch []*hold) (again []*hold) {
	if r.calls.Err() != nil {
		r.cfg.log.Error("stopped before outcomes could be recorded; their leases will run out", "tasks", len(batch))
		r.answered(batch)
		return nil
	}
	r.beatNotes(batch)
	releases := make([]queue.Release, len(batch))
	for i, h := range batch {
		releases[i] = h.release
		releases[i].Quiet = true // nobody here looks at the task again
	}
	ctx, cancel := context.WithTimeout(r.calls, callTimeout)
	start := time.Now()
	answers, err := r.svc.ReleaseTasks(ctx, releases)
	cancel()
	if len(answers) == len(batch) {
		err = nil // each release has its own answer
	} else if err == nil {
		err = &queue.Error{Kind: queue.KindInternal, Msg: fmt.Sprintf("%d releases, %d answers", len(batch), len(answers))}
	}
	if r.cfg.observer != nil {
		r.cfg.observer.Released(len(batch), time.Since(start), err)
	}
	if err != nil {
		return r.refused(batch, err)
	}
	r.releaseLog.note(nil)
	r.searches.Store(0)
	done := batch[:0]
	var later []*hold
	for i, h := range batch {
		switch err := answers[i].Err; {
		case err == nil:
			done = append(done, h)
		case unfit(err) && !h.plain:
			again = append(again, r.plain(h, err))
		case queue.KindOf(err) == queue.KindUnavailable: // another transaction has locked it, say
			later = append(later, h)
		default:
			if queue.KindOf(err) == queue.KindLeaseLost {
				r.reportLost(h, "release refused")
			} else {
				r.cfg.log.Warn("release refused", "task", h.held.ID, "queue", h.held.Queue, "err", err)
			}
			done = append(done, h)
		}
	}
	r.answered(done)
	r.releaseLater(later)
	return again
}

// lockedPause is when releases are tried again whose tasks could not be had alone: the others go on meanwhile.
const lockedPause = 250 * time.Millisecond

// releaseLater puts releases back among the pending ones after a while, as long as their leases last.
func (r *run) releaseLater(later []*hold) {
	if len(later) == 0 {
		return
	}
	r.flushing.Go(func() { // counted by the flusher that calls this, so nobody is done waiting yet
		sleep(r.calls, lockedPause)
		now := time.Now()
		var over []*hold
		r.mu.Lock()
		for _, h := range later {
			if now.Before(h.lapses) {
				r.pending = append(r.pending, h)
			} else {
				over = append(over, h)
			}
		}
		r.flush()
		r.mu.Unlock()
		for _, h := range over {
			r.cfg.log.Error("an outcome could not be recorded: its task was locked until its lease ran out", "task", h.held.ID, "queue", h.held.Queue)
		}
		r.answered(over)
	})
}

// refused deals with a batch that failed as a whole: what the service cannot take is looked for by halves and made
// plain; after any other error all is tried again as long as its lease lasts.
func (r *run) refused(batch []*hold, err error) (again []*hold) {
	if unfit(err) || queue.KindOf(err) == queue.KindInternal && r.searches.Add(1) < maxSearches {
		if n := len(batch) / 2; n > 0 {
			return append(r.release(batch[:n:n]), r.release(batch[n:])...)
		}
	}
	r.searches.Store(0)
	if unfit(err) {
		if h := batch[0]; !h.plain {
			return append(again, r.plain(h, err))
		}
	}
	r.releaseLog.note(err)
	now := time.Now()
	var over []*hold
	r.mu.Lock()
	for _, h := range batch {
		if !unfit(err) && now.Before(h.lapses) {
			again = append(again, h)
		} else {
			over = append(over, h)
		}
	}
	r.mu.Unlock()
	for _, h := range over {
		r.cfg.log.Error("an outcome could not be recorded", "task", h.held.ID, "queue", h.held.Queue, "err", err)
	}
	r.answered(over)
	return again
}

// unfit says that repeating the call unchanged is no use.
func unfit(err error) bool {
	k := queue.KindOf(err)
	return k == queue.KindInvalid || k == queue.KindTooLarge
}

// plain replaces a result that the service refused by the reason, so that the task ends all the same.
func (r *run) plain(h *hold, err error) *hold {
	r.cfg.log.Warn("a result was refused and replaced", "task", h.held.ID, "queue", h.held.Queue, "err", err)
	h.plain = true
	if h.release.Result != nil {
		h.release.Result = queue.ErrorJSON("the result was refused: " + err.Error())
	}
	return h
}

// answered ends the holds of releases that are through.
func (r *run) answered(done []*hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range done {
		r.drop(h)
	}
	full := r.unreleased > r.maxUnreleased
	r.unreleased -= len(done)
	if full {
		for _, l := range r.lanes {
			l.refill()
		}
	}
}
