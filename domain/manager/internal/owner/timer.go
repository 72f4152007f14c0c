package owner

import (
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/retry"
)

// WakeTimer wakes one sleeping goroutine at the earliest of the times that it was set to. It keeps a wake-up that arrives
// while no goroutine sleeps.
type WakeTimer struct {
	mu      sync.Mutex
	at      time.Time // zero = not set
	changed chan struct{}
}

// NewWakeTimer returns a timer that is not set.
func NewWakeTimer() *WakeTimer { return &WakeTimer{changed: make(chan struct{}, 1)} }

// Fire wakes the goroutine now.
func (t *WakeTimer) Fire() { t.FireIn(0) }

// FireIn wakes the goroutine in d, or earlier when the timer is set to an earlier time.
func (t *WakeTimer) FireIn(d time.Duration) {
	at := time.Now().Add(d)
	t.mu.Lock()
	isEarlier := t.at.IsZero() || at.Before(t.at)
	if isEarlier {
		t.at = at
	}
	t.mu.Unlock()

	if isEarlier {
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
}

// Clear unsets the timer.
func (t *WakeTimer) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = time.Time{}
}

// Sleep sleeps for d or until the timer fires; false means that done was closed.
func (t *WakeTimer) Sleep(done <-chan struct{}, d time.Duration) bool {
	deadline := time.Now().Add(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		left := t.timeUntilFire(deadline)
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
		case <-t.changed:
		}
	}
}

// timeUntilFire returns the time until the deadline or the set time, the earlier one. A set time that has come is cleared.
func (t *WakeTimer) timeUntilFire(deadline time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case t.at.IsZero():
	case !t.at.After(now):
		t.at = time.Time{}
		return 0
	case t.at.Before(deadline):
		return t.at.Sub(now)
	}

	return deadline.Sub(now)
}

// Bounds of a stagger delay. The maximum is the extra delay of the work when the process that was always first has ended.
const (
	MinStagger = 5 * time.Millisecond
	MaxStagger = 50 * time.Millisecond
)

// Stagger keeps processes from searching for the same work at the same time, where only one of them finds it. A process that
// came on time and found no work comes a little later the next time; one that found work comes on time. So one process
// does the work without being elected, and after its end the next one finds the work undone.
type Stagger struct{ delay time.Duration }

// Record notes whether a search that came on time found work.
func (s *Stagger) Record(found bool) {
	if found {
		s.delay = 0
		return
	}
	s.delay = min(max(2*s.delay, MinStagger), MaxStagger)
}

// Delay is the delay of the next search.
func (s *Stagger) Delay() time.Duration { return retry.Jitter(s.delay) }
