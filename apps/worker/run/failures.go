package run

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// failurePace is the shortest time between two log lines about failed tasks of one queue.
const failurePace = 10 * time.Second

// failures logs that tasks fail: the first one at once, and later ones at intervals, with their number. Each failure
// is also a line of level debug.
type failures struct {
	log *slog.Logger

	mu sync.Mutex
	of map[string]*lastReport
}

// lastReport records the last log line about a queue: its time, and the failures since.
type lastReport struct {
	at    time.Time
	since int
}

func (f *failures) middleware(next worker.Handler) worker.Handler {
	return worker.HandlerFunc(func(ctx context.Context, task *queue.Task) (any, error) {
		v, err := next.Work(ctx, task)
		// A task that the worker stopped has not failed, and the runtime logs a task that could not start.
		if o := worker.OutcomeOf(err); err != nil && o != queue.OutcomeSnooze && o != queue.OutcomeHandBack && !errors.Is(context.Cause(ctx), worker.ErrDraining) {
			f.recordFailure(ctx, task, err)
		}
		return v, err
	})
}

func (f *failures) recordFailure(ctx context.Context, task *queue.Task, err error) {
	n := f.addFailure(task.Queue, time.Now())
	if n == 0 {
		f.log.DebugContext(ctx, "a task failed", "queue", task.Queue, "task", task.ID, "attempt", task.Attempt, "retries", task.Retries, "err", err)
		return
	}
	f.log.WarnContext(ctx, "a task failed", "queue", task.Queue, "task", task.ID, "attempt", task.Attempt, "retries", task.Retries,
		"err", err, "failed", n)
}

// addFailure counts a failure. If a log line is due, it returns the number of failures since the last line, or else 0.
func (f *failures) addFailure(name string, now time.Time) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[string]*lastReport{}
	}

	t := f.of[name]
	if t == nil {
		t = &lastReport{}
		f.of[name] = t
	}

	// Thousands of tasks may fail in a second, when their target is down.
	t.since++
	if !t.at.IsZero() && now.Sub(t.at) < failurePace {
		return 0
	}

	n, t.at, t.since = t.since, now, 0
	return n
}
