package plan

import (
	"context"
	"time"
)

// Pause lets d pass, or what is left of ctx. Load comes at times, and between them there is nothing to wait for.
func Pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
