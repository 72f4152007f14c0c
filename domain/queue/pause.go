package queue

import "context"

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
