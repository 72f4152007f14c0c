package manager

import (
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Items that another transaction has locked leave the Store calls that others share: they are tried again apart, all those of a
// lane in one call, until they are through or their caller goes.
const (
	firstLook = 5 * time.Millisecond
	mostLook  = 200 * time.Millisecond
	// manyLooks is how often the locked items of a call with several are tried again, a third of a second in all. Then the call
	// is answered, so that its other items do not wait: the locked ones with queue.Locked.
	manyLooks = 6
)

// apart are the calls of a lane that have locked items.
type apart[In, Out any] struct {
	calls []*lockedCall[In, Out]
	look  time.Duration // the pause before the next look
}

// lockedCall is a call and its locked items, with their places in its answers.
type lockedCall[In, Out any] struct {
	*call[Out]
	in    []In
	at    []int
	until time.Time
	looks int
}

// putApart has the locked items of c tried again. Caller holds mu.
func (g *gatherer[K, In, Out]) putApart(key K, b *batch[In, Out], c *call[Out]) bool {
	a := g.apart[key]
	if a == nil {
		if g.closed || !g.spawn(func() { g.tryApart(key) }) {
			return false
		}
		a = &apart[In, Out]{}
		if g.apart == nil {
			g.apart = map[K]*apart[In, Out]{}
		}
		g.apart[key] = a
	}

	l := &lockedCall[In, Out]{call: c, until: time.Now().Add(g.timeout)}
	for i := range c.out {
		if !g.locked(c.out[i]) {
			continue
		}
		in := b.in[c.from+i]
		if g.own != nil { // the memory of the batch is given back
			g.own(nil, &in)
		}
		l.in, l.at = append(l.in, in), append(l.at, i)
	}
	c.later, c.state = make(chan struct{}), l.idle()
	a.calls, a.look = append(a.calls, l), firstLook
	return true
}

// idle is the state of a call of which nothing is in flight: when some of its items are done, the whole is not undone.
func (l *lockedCall[In, Out]) idle() callState {
	if len(l.in) < len(l.out) {
		return callSent
	}
	return callLocked
}

// tryApart looks again and again at the locked items of a lane, until there are none.
func (g *gatherer[K, In, Out]) tryApart(key K) {
	for {
		g.mu.Lock()
		a := g.apart[key]
		a.calls = slices.DeleteFunc(a.calls, func(l *lockedCall[In, Out]) bool { return l.state == callGone })
		if g.closed {
			for _, l := range a.calls {
				g.answerLate(l)
			}
			a.calls = nil
		}
		if len(a.calls) == 0 {
			delete(g.apart, key)
			g.mu.Unlock()
			return
		}
		look := a.look
		a.look = min(2*look, mostLook)
		g.mu.Unlock()

		pauseUntil(g.base.Done(), look)
		g.tryOnce(key)
	}
}

// tryOnce sends the locked items of a lane, as many as one Store call takes.
func (g *gatherer[K, In, Out]) tryOnce(key K) {
	g.mu.Lock()
	var calls []*lockedCall[In, Out]
	var in []In
	var sent []*call[Out]
	a := g.apart[key]
	for _, l := range a.calls {
		if l.state == callGone || g.closed {
			continue
		}
		if len(in) > 0 && len(in)+len(l.in) > g.limits.MaxBatch {
			break
		}
		l.state = callSent
		calls = append(calls, l)
		sent = append(sent, &call[Out]{from: len(in), to: len(in) + len(l.in)})
		in = append(in, l.in...)
	}
	g.mu.Unlock()
	if len(calls) == 0 {
		return
	}

	g.work(key, in, sent)

	g.mu.Lock()
	defer g.mu.Unlock()
	var left []*lockedCall[In, Out]
	for i, l := range calls {
		if l.state == callGone {
			continue
		}
		l.take(sent[i], g.locked)
		over := l.looks >= manyLooks && len(l.out) > 1 || time.Now().After(l.until)
		if len(l.in) == 0 || over {
			g.answerLate(l)
			continue
		}
		l.state = l.idle()
		left = append(left, l)
	}
	// Those that were not sent come first the next time.
	a.calls = append(slices.DeleteFunc(a.calls, func(l *lockedCall[In, Out]) bool { return slices.Contains(calls, l) }), left...)
}

// take fills in what became of the locked items; those that are locked still stay.
func (l *lockedCall[In, Out]) take(sent *call[Out], locked func(Out) bool) {
	l.looks++
	if sent.err != nil {
		if len(l.out) == len(l.in) {
			l.err = sent.err
		}
		l.in, l.at = nil, nil // of a call with other items: these keep their answers, the locked ones say so
		return
	}
	in, at := l.in[:0], l.at[:0]
	for i, out := range sent.out {
		l.out[l.at[i]] = out
		if locked(out) {
			in, at = append(in, l.in[i]), append(at, l.at[i])
		}
	}
	l.in, l.at = in, at
}

// answerLate answers a call with what there is. Caller holds mu.
func (g *gatherer[K, In, Out]) answerLate(l *lockedCall[In, Out]) {
	l.state = callAnswered
	g.waiting--
	close(l.later)
}

// lockedErr makes a gatherer's locked of where an answer keeps its error.
func lockedErr[Out any](errOf func(Out) error) func(Out) bool {
	return func(o Out) bool { return queue.IsLocked(errOf(o)) }
}
