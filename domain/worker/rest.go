package worker

import (
	"log/slog"
	"slices"
	"time"
)

// Bounds of the rests after trouble that is not the tasks'.
const (
	// StrikesToRest is how many systemic failures in a row, without another end between them, make a worker rest from a
	// queue. One NotStarted is enough.
	StrikesToRest = 5
	// minRest is the first rest, maxRest the longest.
	minRest = time.Second
	maxRest = time.Minute
	// probeFor is how long the task that is taken after a rest may run before the trouble counts as over.
	probeFor = 5 * time.Second
	// restLook is how often a lane whose queues all rest looks whether one of them may be asked for.
	restLook = 200 * time.Millisecond
)

// rest keeps a queue from being asked for. Guarded by run.mu.
type rest struct {
	// err is the last trouble, at when it came, own says that it was the worker's.
	err error
	at  time.Time
	own bool
	// strikes are systemic failures in a row, pauses the rests so far; 0 = the queue is asked for as ever.
	strikes, pauses int
	// until is the end of the rest; of a probe, when the trouble counts as over.
	until time.Time
	// probing: one task has been asked for, or runs.
	probing bool
}

// Resting is a queue that a worker rests from.
type Resting struct {
	Queue string
	// Err is the trouble, Own says that it is the worker's own, as [NotStarted] tells it.
	Err error
	Own bool
}

// Resting lists the queues that the worker rests from now, in the order of their names: for checks of health.
func (w *Worker) Resting() []Resting {
	w.mu.Lock()
	r := w.running
	w.mu.Unlock()
	if r == nil {
		return nil
	}

	var all []Resting
	r.mu.Lock()
	for _, l := range r.lanes {
		for name, x := range l.rests {
			if x.pauses > 0 {
				all = append(all, Resting{Queue: name, Err: x.err, Own: x.own})
			}
		}
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b Resting) int {
		if a.Queue < b.Queue {
			return -1
		}
		return 1
	})
	return all
}

// resting says that tasks of a queue are not to be started. Caller holds run.mu.
func (l *lane) resting(name string) bool {
	x := l.rests[name]
	return x != nil && x.pauses > 0 && !x.probing
}

// awake are the queues that do not rest; or one whose rest is over, to be asked for alone. Caller holds run.mu.
func (l *lane) awake(now time.Time) (names []string, probe string) {
	for _, name := range l.queues {
		x := l.rests[name]
		switch {
		case x == nil || x.pauses == 0:
			names = append(names, name)
		case now.Before(x.until):
		case x.probing: // its task runs well
			l.forget(name)
			names = append(names, name)
		default:
			x.probing, x.until = true, now.Add(probeFor)
			return nil, name
		}
	}
	return names, ""
}

// probes says that names is a queue asked for alone after its rest. Caller holds run.mu.
func (l *lane) probes(names []string) bool {
	return l.rests != nil && len(names) == 1 && l.rests[names[0]] != nil && l.rests[names[0]].probing
}

// probed takes note of how many tasks the answer for names has: a probe that got none is made again in a while. Caller
// holds run.mu.
func (l *lane) probed(names []string, got int, now time.Time) {
	if got == 0 && l.probes(names) {
		x := l.rests[names[0]]
		x.probing, x.until = false, now.Add(minRest)
	}
}

// forget ends the rest of a queue. Caller holds run.mu.
func (l *lane) forget(name string) {
	delete(l.rests, name)
	if len(l.rests) == 0 {
		l.rests = nil
	}
}

// judge takes note of what the end v of a handler, begun at began, says of its queue. What it returns is to be told.
// Caller holds run.mu.
func (l *lane) judge(name string, v verdict, began, now time.Time) *news {
	t := troubleOf(v.err, v.cause)
	x := l.rests[name]
	if t == troubleNone {
		if x == nil || v.cause != nil || began.Before(x.at) { // a handler that began before the trouble tells nothing
			return nil
		}
		l.forget(name)
		if x.pauses == 0 {
			return nil
		}
		return &news{queue: name}
	}

	if x == nil {
		x = &rest{}
		if l.rests == nil {
			l.rests = map[string]*rest{}
		}
		l.rests[name] = x
	}
	x.err, x.at, x.own = v.err, now, t == troubleOwn
	if t == troubleSystemic && x.pauses == 0 {
		if x.strikes++; x.strikes < StrikesToRest {
			return nil
		}
	}
	if x.pauses > 0 && !x.probing { // it was on its way when the rest began
		return nil
	}
	pause := backoff(x.pauses, minRest, maxRest)
	x.pauses++
	x.probing, x.until = false, now.Add(pause)
	l.handBackResting(name)
	return &news{queue: name, err: v.err, own: x.own, pause: pause}
}

// handBackResting hands back what waits for a slot in the lane and is of a queue that rests. Caller holds run.mu.
func (l *lane) handBackResting(name string) {
	kept := l.ready[:l.head]
	for _, h := range l.ready[l.head:] {
		switch {
		case h.held.Queue != name:
			kept = append(kept, h)
		case !h.lost:
			l.run.giveBack(h)
		}
	}
	clear(l.ready[len(kept):])
	l.ready = kept
	l.run.flush()
}

// news is what is logged of a rest: its beginning, or its end when err is nil.
type news struct {
	queue string
	err   error
	own   bool
	pause time.Duration
}

func (n *news) tell(log *slog.Logger) {
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
