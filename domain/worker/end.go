package worker

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// finishSelf makes the run stop as at the end of Run's context. The caller holds mu.
func (r *run) finishSelf() {
	if !r.finished {
		r.finished = true
		close(r.ended)
	}
}

// countAllowed returns the number of tasks that WithMaxTasks still allows to ask for. The caller holds mu.
func (r *run) countAllowed() int {
	if r.cfg.maxTasks == 0 {
		return maxRetain
	}
	n := r.cfg.maxTasks - r.accepted
	for _, l := range r.pools {
		// Tasks that were asked for may all come, so they count before they are accepted.
		n -= l.asked
	}
	return n
}

// recordChange records that a handler or a release has ended. It may have made a task ready, so each pool has to look again
// before it is empty. The caller holds mu.
func (r *run) recordChange() {
	if !r.cfg.untilEmpty {
		return
	}
	r.changed = time.Now()
	for _, l := range r.pools {
		l.emptySince = time.Time{}
	}
}

// recordEmpty records whether a retain of names, which began at from, found the queues of the pool empty. A queue that is
// not there is empty; one that the worker itself has paused is not. While the service fails, nothing is known. The caller
// holds run.mu.
func (l *slotPool) recordEmpty(names []string, found int, err error, from time.Time) {
	unknown := queue.KindOf(err) == queue.KindNotFound
	switch {
	case err == nil || unknown:
		l.failure, l.failingSince = nil, time.Time{}
	case l.failingSince.IsZero():
		l.failure, l.failingSince = err, from
	default:
		l.failure = err
	}

	switch {
	case found > 0, err != nil && !unknown:
		l.emptySince = time.Time{}
	// The retain says nothing about a queue that it left out, or about tasks that became ready since.
	case l.pauses != nil && len(names) < len(l.queues), from.Before(l.run.changed):
	case l.emptySince.IsZero():
		l.emptySince = from
	}
}

// emptyWait bounds the wait of a retain at the service with WithUntilEmpty. A stop has to wait for that retain.
const emptyWait = 500 * time.Millisecond

// failPatience is the time for which a service may fail before it ends a run with WithUntilEmpty.
const failPatience = time.Minute

// hasFailed reports whether the service refuses the pool's retains, or has failed for failPatience. The caller holds run.mu.
func (l *slotPool) hasFailed(now time.Time) bool {
	switch queue.KindOf(l.failure) {
	case "":
		return false
	case queue.KindUnauthenticated, queue.KindDenied, queue.KindInvalid:
		return true
	}
	return now.Sub(l.failingSince) >= failPatience
}

// boundWait bounds the wait of a retain so that the pool learns in time that its queues stayed empty. The caller holds
// run.mu.
func (l *slotPool) boundWait(wait time.Duration, now time.Time) time.Duration {
	r := l.run
	if !r.cfg.untilEmpty {
		return wait
	}

	// While work is under way the queues are not known to be empty, and a shorter wait would only cost calls.
	wait = min(wait, emptyWait)
	if r.running > 0 || r.unreleased > 0 {
		return wait
	}

	left := r.cfg.idle
	if !l.emptySince.IsZero() {
		left -= now.Sub(l.emptySince)
		if left <= 0 { // other pools are still at work
			return wait
		}
	}
	return min(wait, left)
}

// isEmptyFor reports whether the queues of the pool have been empty for so long. A pool with failed retains counts as empty; err is
// their failure. The caller holds run.mu.
func (l *slotPool) isEmptyFor(idle time.Duration, now time.Time) (isEmpty bool, err error) {
	if l.hasFailed(now) {
		return true, l.failure
	}
	return !l.emptySince.IsZero() && now.Sub(l.emptySince) >= idle, nil
}

// endWhenDone ends the run when it has accepted all the tasks it may, or when each queue has been empty for long enough or its
// retains have failed. Nothing is under way then. The caller holds mu.
func (r *run) endWhenDone() {
	if r.cfg.maxTasks == 0 && !r.cfg.untilEmpty || r.running > 0 {
		return
	}

	var failure error
	empty, asked := r.cfg.untilEmpty && r.unreleased == 0, 0
	for _, l := range r.pools {
		// A pool with accepted tasks is at work, so no other condition counts.
		if l.countReady() > 0 || l.starting > 0 {
			return
		}
		asked += l.asked
		isEmpty, err := l.isEmptyFor(r.cfg.idle, time.Now())
		empty = empty && isEmpty
		if err != nil {
			failure = err
		}
	}

	if empty {
		r.failure = failure
	}
	if empty || r.cfg.maxTasks > 0 && asked == 0 && r.accepted >= r.cfg.maxTasks {
		r.finishSelf()
	}
}
