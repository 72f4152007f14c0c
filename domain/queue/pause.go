package queue

import (
	"context"
	"time"
)

type pausesUntil struct{}

// WithPausesUntil returns a context for calls that are given up while they pause: a client does not wait for another
// attempt once stop has ended. An attempt under way goes on. A stopping worker takes its retains back with it.
func WithPausesUntil(ctx, stop context.Context) context.Context {
	return context.WithValue(ctx, pausesUntil{}, stop.Done())
}

// PausesDone is closed when calls under ctx must not pause any more; nil = they may until ctx ends.
func PausesDone(ctx context.Context) <-chan struct{} {
	done, _ := ctx.Value(pausesUntil{}).(<-chan struct{})
	return done
}

// WaitToRepeat waits for d before a call is repeated. It reports false as soon as ctx ends, or calls under it must not
// pause any more.
func WaitToRepeat(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-PausesDone(ctx):
		return false
	case <-ctx.Done():
		return false
	}
}
