package cmdutil

import (
	"context"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Steps runs a long operation: it repeats step, each a call with a deadline of its own, until there is no more. soFar
// describes the work that is done, for a terminal and after an interruption. When ctx ends, Steps waits for the step under
// way, so that its count is not lost.
func Steps(ctx context.Context, f *factory.Factory, soFar func() string, step func(ctx context.Context, within time.Duration) (more bool, err error)) error {
	// Half of the timeout is left for the answer of a step.
	within := min(queue.BulkStep, f.Settings.Timeout/2)
	drawn := false
	defer func() {
		if drawn {
			fmt.Fprint(f.IO.Err, f.IO.ClearLine())
		}
	}()

	for n := 0; ; n++ {
		call, cancel := f.Call(context.WithoutCancel(ctx))
		more, err := step(call, within)
		cancel()

		switch {
		case err == nil && !more:
			return nil
		case err == nil && ctx.Err() != nil:
			err = &queue.Error{Kind: queue.KindCanceled, Err: ctx.Err()}
		}

		if err != nil && n == 0 && ctx.Err() == nil {
			// No step was done.
			return err
		}

		if err != nil {
			if drawn {
				fmt.Fprint(f.IO.Err, f.IO.ClearLine())
				drawn = false
			}

			fmt.Fprintf(f.IO.Err, "pgqueue: stopped after %s; the same command does the rest\n", soFar())
			return err
		}

		if f.IO.ErrTTY {
			drawn = true
			fmt.Fprintf(f.IO.Err, "%s%s so far", f.IO.ClearLine(), soFar())
		}
	}
}
