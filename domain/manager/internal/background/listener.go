package background

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// Listen passes on the wake-ups of other processes until ctx ends, and repeats a Store that fails.
func Listen(ctx context.Context, o *owner.Owner, store queue.Listener, wake func(queue.Wake)) {
	backoff := retry.Backoff{Min: minFailurePause, Max: maxFailurePause}
	for ctx.Err() == nil {
		began := time.Now()
		err := listenUntilFault(ctx, store, wake)
		if ctx.Err() != nil {
			return
		}

		// A connection that held for a while was sound, so the next failure is a new one.
		if time.Since(began) > maxFailurePause {
			backoff.Reset()
		}
		o.Log.WarnContext(ctx, "listening for wake-ups failed; polling meanwhile", "error", err)
		retry.Sleep(ctx, backoff.Next())
		wake(queue.Wake{}) // wake-ups may have been missed
	}
}

func listenUntilFault(ctx context.Context, store queue.Listener, wake func(queue.Wake)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = batch.Panicked(p)
		}
	}()

	return store.Listen(ctx, wake)
}
