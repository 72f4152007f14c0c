package plan

import (
	"context"
	"time"
)

// Pause waits for d or until ctx ends. Load comes at fixed times, and between them no signal exists to wait for.
func Pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
