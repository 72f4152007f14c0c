package worker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

type kindedError string

func (e kindedError) Error() string     { return "an error" }
func (e kindedError) ErrorKind() string { return string(e) }

func TestErrorKinds(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind string
	}{
		{errors.New("plain"), ""},
		{fmt.Errorf("call: %w", kindedError("busy")), "busy"},
		{worker.Permanent(kindedError("gone")), "gone"},
		{worker.RetryIn(kindedError("busy"), time.Second), "busy"},
		{worker.Systemic(kindedError("down")), "down"},
		{worker.NotStarted(kindedError("none")), ""},
	} {
		h := worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) { return nil, c.err })
		if rel := worker.Work(t.Context(), h, &queue.Task{}); rel.ErrorKind != c.kind {
			t.Errorf("%v is released as %q, want %q", c.err, rel.ErrorKind, c.kind)
		}
	}
	h := worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) { panic(kindedError("torn")) })
	if rel := worker.Work(t.Context(), h, &queue.Task{}); rel.ErrorKind != "torn" || rel.Outcome != queue.OutcomeFailure {
		t.Errorf("a panic is released as %+v", rel)
	}
}

func TestRetryPolicy(t *testing.T) {
	policy := worker.RetryPolicy(func(err error, attempt int) (time.Duration, bool) {
		return time.Duration(attempt) * time.Minute, queue.ErrorKindOf(err) == "gone" || attempt == 9
	})
	ended, end := context.WithCancelCause(t.Context())
	end(worker.ErrDraining)
	for name, c := range map[string]struct {
		ctx     context.Context
		err     error
		attempt int
		outcome queue.Outcome
		delay   time.Duration
	}{
		"an error is retried after the delay":           {t.Context(), errors.New("late"), 2, queue.OutcomeFailure, 2 * time.Minute},
		"a delay of 0 keeps the backoff":                {t.Context(), errors.New("late"), 0, queue.OutcomeFailure, 0},
		"a permanent error fails for good":              {t.Context(), kindedError("gone"), 1, queue.OutcomePermanent, 0},
		"an attempt may be the last":                    {t.Context(), errors.New("late"), 9, queue.OutcomePermanent, 0},
		"a success stays as it is":                      {t.Context(), nil, 9, queue.OutcomeSuccess, 0},
		"an outcome of the handler stays as it is":      {t.Context(), worker.Snooze(time.Second), 9, queue.OutcomeSnooze, time.Second},
		"an attempt that the drain ended is not judged": {ended, errors.New("stopped"), 9, queue.OutcomeHandBack, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := worker.HandlerFunc(func(_ context.Context, task *queue.Task) (any, error) {
				task.Attempt = 9
				return nil, c.err
			})
			rel := worker.Work(c.ctx, policy.Middleware(h), &queue.Task{Attempt: c.attempt})
			if rel.Outcome != c.outcome || rel.Delay != c.delay {
				t.Errorf("got %s after %v, want %s after %v", rel.Outcome, rel.Delay, c.outcome, c.delay)
			}
		})
	}
}
