package worker

import (
	"log/slog"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/retry"
)

// Bounds of the rests after trouble that is not the tasks'.
const (
	// StrikesToRest is how many systemic failures in a row, without another end between them, make a worker rest from a
	// queue. One NotStarted is enough.
	FailuresToPause = 5
	// minRest is the first rest, maxRest the longest.
	minPause = time.Second
	maxPause = time.Minute
	// probeFor is how long the task that is taken after a rest may run before the trouble counts as over.
	probeTimeout = 5 * time.Second
	// restLook is how often a lane whose queues all rest looks whether one of them may be asked for.
	pausedPoll = 200 * time.Millisecond
)

// rest keeps a queue from being asked for. Guarded by run.mu.
type queuePause struct {
	// err is the last trouble, at when it came, own says that it was the worker's.
	err error
	at  time.Time
	own bool
	// strikes are systemic failures in a row, pauses the rests so far; 0 = the queue is asked for as ever.
	strikes, pauses int
	backoff         retry.Backoff
	// until is the end of the rest; of a probe, when the trouble counts as over.
	until time.Time
	// probing: one task has been asked for, or runs.
	probing bool
}

// PausedQueue is a queue from which a worker retains no tasks for a while.
type PausedQueue struct {
	Queue string
	// Err is the trouble, Own says that it is the worker's own, as [NotStarted] tells it.
	Err error
	Own bool
}

// PausedQueues lists the queues that the worker pauses now, in the order of their names: for checks of health.
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
	slices.SortFunc(all, func(a, b PausedQueue) int {
		if a.Queue < b.Queue {
			return -1
		}
		return 1
	})
	return all
}

// isPaused says that tasks of a queue are not to be started. Caller holds run.mu.
func (l *slotPool) isPaused(name string) bool {
	x := l.pauses[name]
	return x != nil && x.pauses > 0 && !x.probing
}

// unpausedQueues are the queues that do not rest; or one whose rest is over, to be asked for alone. Caller holds run.mu.
func (l *slotPool) unpausedQueues(now time.Time) (names []string, probe string) {
	for _, name := range l.queues {
		x := l.pauses[name]
		switch {
		case x == nil || x.pauses == 0:
			names = append(names, name)
		case now.Before(x.until):
		case x.probing: // its task runs well
			l.endPause(name)
			names = append(names, name)
		default:
			x.probing, x.until = true, now.Add(probeTimeout)
			return nil, name
		}
	}
	return names, ""
}

// isProbe says that names is a queue asked for alone after its rest. Caller holds run.mu.
func (l *slotPool) isProbe(names []string) bool {
	return l.pauses != nil && len(names) == 1 && l.pauses[names[0]] != nil && l.pauses[names[0]].probing
}

// recordProbe takes note of how many tasks the answer for names has: a probe that got none is made again in a while. Caller
// holds run.mu.
func (l *slotPool) recordProbe(names []string, got int, now time.Time) {
	if got == 0 && l.isProbe(names) {
		x := l.pauses[names[0]]
		x.probing, x.until = false, now.Add(minPause)
	}
}

// endPause ends the rest of a queue. Caller holds run.mu.
func (l *slotPool) endPause(name string) {
	delete(l.pauses, name)
	if len(l.pauses) == 0 {
		l.pauses = nil
	}
}

// recordOutcome takes note of what the end v of a handler, begun at began, says of its queue. What it returns is to be told.
// Caller holds run.mu.
func (l *slotPool) recordOutcome(name string, v handlerOutcome, began, now time.Time) *pauseChange {
	t := troubleOf(v.err, v.cause)
	x := l.pauses[name]
	if t == troubleNone {
		if x == nil || v.cause != nil || began.Before(x.at) { // a handler that began before the trouble tells nothing
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
		if x.strikes++; x.strikes < FailuresToPause {
			return nil
		}
	}
	if x.pauses > 0 && !x.probing { // it was on its way when the rest began
		return nil
	}
	pause := x.backoff.Next()
	x.pauses++
	x.probing, x.until = false, now.Add(pause)
	l.handBackQueue(name)
	return &pauseChange{queue: name, err: v.err, own: x.own, pause: pause}
}

// handBackQueue hands back what waits for a slot in the lane and is of a queue that rests. Caller holds run.mu.
func (l *slotPool) handBackQueue(name string) {
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
}

// news is what is logged of a rest: its beginning, or its end when err is nil.
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
