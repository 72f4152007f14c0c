package queue

import (
	"math"
	"testing"
	"time"
)

func TestDelay(t *testing.T) {
	for _, c := range []struct {
		b           Backoff
		base, limit time.Duration
		n           int
		want        time.Duration
	}{
		{BackoffExponential, time.Minute, 0, 1, time.Minute},
		{BackoffExponential, time.Minute, 0, 2, 2 * time.Minute},
		{BackoffExponential, time.Minute, 0, 5, 16 * time.Minute},
		{BackoffExponential, time.Minute, 10 * time.Minute, 5, 10 * time.Minute},
		{BackoffExponential, time.Minute, 0, 1000, MaxDuration},
		{BackoffExponential, 0, 0, 1_000_000, 0},
		{BackoffExponential, MaxDuration, 0, 1, MaxDuration},
		{BackoffLinear, time.Minute, 0, 5, 5 * time.Minute},
		{BackoffLinear, time.Minute, 3 * time.Minute, 5, 3 * time.Minute},
		{BackoffConstant, time.Minute, 0, 5, time.Minute},
		{BackoffConstant, time.Minute, 30 * time.Second, 1, 30 * time.Second},
		{BackoffLinear, time.Minute, 0, 0, time.Minute},
		{BackoffLinear, time.Minute, 0, math.MinInt, time.Minute},
	} {
		if got := c.b.Delay(c.base, c.limit, c.n, 0.5); got != c.want {
			t.Errorf("%s of %v, at most %v, after attempt %d is %v, want %v", c.b, c.base, c.limit, c.n, got, c.want)
		}
	}
}

func TestDelayJitter(t *testing.T) {
	for jitter, want := range map[float64]time.Duration{0: 54 * time.Minute, 0.5: time.Hour, 0.75: 63 * time.Minute} {
		if got := BackoffConstant.Delay(time.Hour, 0, 1, jitter); (got - want).Abs() > time.Microsecond {
			t.Errorf("jitter %v gives %v, want %v", jitter, got, want)
		}
	}
}

// FuzzDelay: a delay is never negative, never over MaxDuration, within 10 % of its cap, and does not shrink with n.
func FuzzDelay(f *testing.F) {
	f.Add(int64(time.Minute), int64(0), 3, 0.5)
	f.Add(int64(MaxDuration), int64(MaxDuration), 1000, 0.999)
	f.Add(int64(1), int64(1), 64, 0.0)
	f.Fuzz(func(t *testing.T, base, limit int64, n int, jitter float64) {
		if base < 0 || base > int64(MaxDuration) || limit < 0 || limit > int64(MaxDuration) || !(jitter >= 0 && jitter < 1) || n > 1<<40 {
			t.Skip()
		}
		for _, b := range []Backoff{BackoffExponential, BackoffLinear, BackoffConstant} {
			d := b.Delay(time.Duration(base), time.Duration(limit), n, jitter)
			if d < 0 || d > MaxDuration {
				t.Fatalf("%s: %v", b, d)
			}
			if limit > 0 && float64(d) > float64(limit)*(1+BackoffJitter)+1 {
				t.Fatalf("%s: %v is over the cap of %v", b, d, time.Duration(limit))
			}
			if next := b.Delay(time.Duration(base), time.Duration(limit), n+1, jitter); next < d {
				t.Fatalf("%s: %v after attempt %d, %v after the next", b, d, n, next)
			}
		}
	})
}
