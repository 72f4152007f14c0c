// Package retry has the pauses between repeated attempts: a sleep that ends with its context, jitter, and a backoff.
//
// It is a seam between pgqueue's own modules, outside semver. All its randomness spreads load and keeps no secret.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// DefaultSpread is the share by which [Jitter] moves a delay up or down.
const DefaultSpread = 0.1

// Sleep waits for d and reports true, or reports false as soon as ctx ends. A d of 0 or less does not wait.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}

	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Jitter moves d by up to ±10 %, so that processes that began together do not stay in step.
func Jitter(d time.Duration) time.Duration { return spread(d, DefaultSpread) }

func spread(d time.Duration, share float64) time.Duration {
	return time.Duration(float64(d) * (1 - share + 2*share*rand.Float64())) //nolint:gosec // spreads load, keeps no secret
}

// Backoff is a delay that doubles with each attempt, from Min up to Max. Its zero Spread means [DefaultSpread]. It is not
// safe for concurrent use.
type Backoff struct {
	Min, Max time.Duration
	// Spread is the share, between 0 and 1, by which a delay is moved up or down at random.
	Spread float64

	next time.Duration
}

// Next returns the delay before the next attempt.
func (b *Backoff) Next() time.Duration {
	delay := min(max(b.next, b.Min), b.Max)
	b.next = 2 * delay

	share := b.Spread
	if share == 0 {
		share = DefaultSpread
	}

	return spread(delay, share)
}

// Reset makes the next delay the first one again, as after a success.
func (b *Backoff) Reset() { b.next = 0 }
