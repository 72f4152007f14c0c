package manager

import (
	"math/rand/v2"
	"sync"
	"time"
)

// alarm wakes one sleeper at the earliest of the times it was set to. A ring while nobody sleeps is kept.
type alarm struct {
	mu      sync.Mutex
	at      time.Time // zero = not set
	changed chan struct{}
}

func newAlarm() *alarm { return &alarm{changed: make(chan struct{}, 1)} }

// ring wakes the sleeper now.
func (a *alarm) ring() { a.ringIn(0) }

// ringIn wakes the sleeper in d, or earlier when it is set to an earlier time.
func (a *alarm) ringIn(d time.Duration) {
	at := time.Now().Add(d)
	a.mu.Lock()
	earlier := a.at.IsZero() || at.Before(a.at)
	if earlier {
		a.at = at
	}
	a.mu.Unlock()
	if earlier {
		select {
		case a.changed <- struct{}{}:
		default:
		}
	}
}

// clear forgets what it was set to.
func (a *alarm) clear() {
	a.mu.Lock()
	a.at = time.Time{}
	a.mu.Unlock()
}

// wait sleeps for d or until the alarm rings; false means done was closed.
func (a *alarm) wait(done <-chan struct{}, d time.Duration) bool {
	deadline := time.Now().Add(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		left := a.left(deadline)
		if left <= 0 {
			select {
			case <-done:
				return false
			default:
				return true
			}
		}
		timer.Reset(left)
		select {
		case <-done:
			return false
		case <-timer.C:
		case <-a.changed:
		}
	}
}

// left is the time until deadline or the set time, whichever is earlier; a set time that has come is taken off.
func (a *alarm) left(deadline time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if !a.at.IsZero() && !a.at.After(now) {
		a.at = time.Time{}
		return 0
	}
	if !a.at.IsZero() && a.at.Before(deadline) {
		return a.at.Sub(now)
	}
	return deadline.Sub(now)
}

// pace is a delay that grows while nothing happens and starts again when something does.
type pace struct {
	least, most time.Duration
	now         time.Duration
}

// next is the present delay, moved by up to ±10 % so that processes do not march in step; the one after it is longer.
func (p *pace) next() time.Duration {
	p.now = min(max(p.now, p.least), p.most)
	d := p.now
	p.now *= 2
	return jittered(d)
}

func (p *pace) reset() { p.now = p.least }

// Bounds of a courtesy's delay. The most is what comes on top when the process that was always first is gone.
const (
	leastLate = 5 * time.Millisecond
	mostLate  = 50 * time.Millisecond
)

// courtesy keeps processes from coming for the same work at the same instant, all but one of them for nothing: one that
// came on time and found it done comes a little later the next time, one that did it comes on time. So one process does the
// work without being appointed, and when it is gone the next one finds it undone.
type courtesy struct{ late time.Duration }

// came notes a visit on time: whether there was still something to do.
func (c *courtesy) came(found bool) {
	if found {
		c.late = 0
		return
	}
	c.late = min(max(2*c.late, leastLate), mostLate)
}

// delay is by how much to come late.
func (c *courtesy) delay() time.Duration { return jittered(c.late) }

// pauseUntil sleeps for d or until done is closed.
func pauseUntil(done <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // spreads load, keeps no secret
}
