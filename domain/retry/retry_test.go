package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/retry"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, c := range []struct {
			sleep, took time.Duration
			whole       bool
		}{
			{time.Second, time.Second, true},
			{0, 0, true},
			{time.Hour, 59 * time.Second, false},
			{time.Hour, 0, false},
			{0, 0, false},
		} {
			began := time.Now()
			if whole := retry.Sleep(ctx, c.sleep); whole != c.whole || time.Since(began) != c.took {
				t.Errorf("a sleep of %v returned %v after %v", c.sleep, whole, time.Since(began))
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		name    string
		backoff retry.Backoff
		share   float64
	}{
		{"with the default spread", retry.Backoff{Min: time.Second, Max: 5 * time.Second}, retry.DefaultSpread},
		{"with a spread of its own", retry.Backoff{Min: time.Second, Max: 5 * time.Second, Spread: 0.5}, 0.5},
	} {
		t.Run("it doubles up to its maximum and starts again after a reset "+c.name, func(t *testing.T) {
			for range 2 {
				for _, seconds := range []float64{1, 2, 4, 5, 5} {
					want := time.Duration(seconds * float64(time.Second))
					delta := time.Duration(c.share * float64(want))
					if got := c.backoff.Next(); got < want-delta || got > want+delta {
						t.Errorf("a delay of %v, want %v ± %v", got, want, delta)
					}
				}
				c.backoff.Reset()
			}
		})
	}
}
