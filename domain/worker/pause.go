package worker

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/retry"
)

// Bounds of the pauses of a queue after faults that the tasks did not cause.
const (
	// FailuresToPause is the number of systemic failures in a row, without another outcome between them, that make a
	// worker pause a queue. One NotStarted is enough.
	FailuresToPause = 5
	// minPause is the first pause, maxPause the longest.
	minPause = time.Second
	maxPause = time.Minute
	// probeTimeout is the time that the first task after a pause has to run before the fault counts as over.
	probeTimeout = 5 * time.Second
	// pausedPoll is the interval at which a slot pool with only paused queues checks for the end of a pause.
	pausedPoll = 200 * time.Millisecond
)

// queuePause keeps a worker from retaining tasks of a queue. Guarded by run.mu.
type queuePause struct {
	// err is the last fault, at its time; own means that the worker caused it.
	err error
	at  time.Time
	own bool
	// strikes counts systemic failures in a row, pauses the pauses so far. With 0 pauses the queue is retained as usual.
	strikes, pauses int
	backoff         retry.Backoff
	// until is the end of the pause. During a probe it is the time at which the fault counts as over.
	until time.Time
	// probing means that one task has been requested, or runs.
	probing bool
}

// PausedQueue is a queue from which a worker retains no tasks for a while.
type PausedQueue struct {
	Queue string
	// Err is the fault. Own means that the worker itself caused it, as [NotStarted] reports.
	Err error
	Own bool
}

// PausedQueues lists the queues that the worker pauses now, ordered by name. It serves health checks.
func (w *Worker) PausedQueues() []PausedQueue {
	w.mu.Lock()
	r := w.running
	w.mu.Unlock()
	if r == nil {
		return nil
	}

	var all []PausedQueue
	r.mu.Lock()
	for _, l := range r.pools {
		for name, x := range l.pauses {
			if x.pauses > 0 {
				all = append(all, PausedQueue{Queue: name, Err: x.err, Own: x.own})
			}
		}
	}
	r.mu.Unlock()

	slices.SortFunc(all, func(a, b PausedQueue) int { return strings.Compare(a.Queue, b.Queue) })
	return all
}

// isPaused reports whether tasks of a queue must not start. The caller holds run.mu.
func (l *slotPool) isPaused(name string) bool {
	x := l.pauses[name]
	return x != nil && x.pauses > 0 && !x.probing
}

// unpausedQueues returns the queues without a pause, or one queue to probe alone after its pause. The caller holds
// run.mu.
func (l *slotPool) unpausedQueues(now time.Time) (names []string, probe string) {
	for _, name := range l.queues {
		x := l.pauses[name]
		switch {
		case x == nil || x.pauses == 0:
			names = append(names, name)
		case now.Before(x.until):
		case x.probing: // its task has run for probeTimeout
			l.endPause(name)
			names = append(names, name)
		default:
			// One queue alone: a retain of several could bring the probe tasks of another queue too.
			x.probing, x.until = true, now.Add(probeTimeout)
			return nil, name
		}
	}
	return names, ""
}

// isProbe reports whether names is one queue that is probed after its pause. The caller holds run.mu.
func (l *slotPool) isProbe(names []string) bool {
	return l.pauses != nil && len(names) == 1 && l.pauses[names[0]] != nil && l.pauses[names[0]].probing
}

// recordProbe records the number of tasks in the answer for names. A probe without a task runs again after minPause.
// The caller holds run.mu.
func (l *slotPool) recordProbe(names []string, got int, now time.Time) {
	if got == 0 && l.isProbe(names) {
		x := l.pauses[names[0]]
		x.probing, x.until = false, now.Add(minPause)
	}
}

// endPause ends the pause of a queue. The caller holds run.mu.
func (l *slotPool) endPause(name string) {
	delete(l.pauses, name)
	if len(l.pauses) == 0 {
		l.pauses = nil
	}
}

// recordOutcome applies the outcome v of a handler, begun at began, to the pause of its queue. It returns a change for
// the log, or nil. The caller holds run.mu.
func (l *slotPool) recordOutcome(name string, v handlerOutcome, began, now time.Time) *pauseChange {
	t := troubleOf(v.err, v.cause)
	x := l.pauses[name]
	if t == troubleNone {
		if x == nil || v.cause != nil || began.Before(x.at) { // a handler begun before the fault says nothing about it
			return nil
		}
		l.endPause(name)
		if x.pauses == 0 {
			return nil
		}
		return &pauseChange{queue: name}
	}

	if x == nil {
		x = &queuePause{backoff: retry.Backoff{Min: minPause, Max: maxPause}}
		if l.pauses == nil {
			l.pauses = map[string]*queuePause{}
		}
		l.pauses[name] = x
	}

	x.err, x.at, x.own = v.err, now, t == troubleOwn
	if t == troubleSystemic && x.pauses == 0 {
		// A single task may be wrong about the other side. Five in a row are hardly.
		if x.strikes++; x.strikes < FailuresToPause {
			return nil
		}
	}
	if x.pauses > 0 && !x.probing { // the task was under way when the pause began
		return nil
	}

	// The pause doubles after each probe that failed, from minPause to maxPause.
	pause := x.backoff.Next()
	x.pauses++
	x.probing, x.until = false, now.Add(pause)
	l.handBackQueue(name)
	return &pauseChange{queue: name, err: v.err, own: x.own, pause: pause}
}

// handBackQueue hands back the tasks of a paused queue that wait for a slot. The caller holds run.mu.
func (l *slotPool) handBackQueue(name string) {
	// The slice is filtered in place; the places before head are free and stay so.
	kept := l.ready[:l.head]
	for _, h := range l.ready[l.head:] {
		switch {
		case h.info.Queue != name:
			kept = append(kept, h)
		case !h.lost:
			l.run.handBackTask(h)
		}
	}
	clear(l.ready[len(kept):])
	l.ready = kept
	l.handBackChained(name)
}

// pauseChange describes the beginning of a pause for the log, or its end when err is nil.
type pauseChange struct {
	queue string
	err   error
	own   bool
	pause time.Duration
}

func (n *pauseChange) writeLog(log *slog.Logger) {
	switch {
	case n.err == nil:
		log.Info("tasks of the queue are worked again", "queue", n.queue)
	case n.own:
		log.Error("tasks cannot be started here; they go back at no cost of an attempt, and the worker rests from the queue",
			"queue", n.queue, "for", n.pause, "err", n.err)
	default:
		log.Warn("tasks of the queue fail one after the other for a reason that is not theirs; the worker rests from the queue",
			"queue", n.queue, "for", n.pause, "err", n.err)
	}
}
