package queue

import (
	"math"
	"time"
)

// Backoff is how the delay grows from one retry to the next.
type Backoff string

// The shapes of backoff, with base = the queue's retry_delay and n = the number of the failed attempt.
const (
	BackoffExponential Backoff = "exponential" // base·2ⁿ⁻¹
	BackoffLinear      Backoff = "linear"      // base·n
	BackoffConstant    Backoff = "constant"    // base
)

// Valid says that b is one of the three.
func (b Backoff) Valid() bool {
	return b == BackoffExponential || b == BackoffLinear || b == BackoffConstant
}

// BackoffJitter is the share by which a delay may be shorter or longer.
const BackoffJitter = 0.10

// Delay is how long the task waits after its nth failed attempt (n from 1): base shaped by b, at most limit (no limit
// when 0), then moved by up to ±10 %. jitter is a random number in [0, 1); 0.5 leaves the delay as it is. The result
// is never negative and saturates at MaxDuration; it passes limit by jitter only.
func (b Backoff) Delay(base, limit time.Duration, n int, jitter float64) time.Duration {
	if base <= 0 { // 0·∞ would be no number
		return 0
	}

	n = max(n, 1)
	f := float64(base)
	switch b {
	case BackoffExponential:
		f *= math.Pow(2, float64(n-1))
	case BackoffLinear:
		f *= float64(n)
	case BackoffConstant:
	}

	if limit > 0 {
		f = min(f, float64(limit))
	}

	f = min(f, float64(MaxDuration)) // also what Pow made infinite
	f *= 1 + BackoffJitter*(2*jitter-1)
	return time.Duration(min(max(f, 0), float64(MaxDuration)))
}
