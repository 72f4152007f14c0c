package run

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

func TestFailuresInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := &failures{log: slog.New(slog.NewTextHandler(&log, nil))}
		var outcome error
		h := f.middleware(worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) { return nil, outcome }))
		work := func(ctx context.Context, name string, err error) string {
			log.Reset()
			outcome = err
			if _, got := h.Work(ctx, &queue.Task{ID: 7, Queue: name, Attempt: 2, Retries: 1}); !errors.Is(got, err) {
				t.Errorf("the handler's error became %v", got)
			}
			return log.String()
		}
		boom := errors.New("boom")
		if got := work(t.Context(), "mail", boom); !strings.Contains(got, `level=WARN msg="a task failed" queue=mail task=7 attempt=2 retries=1 err=boom failed=1`) {
			t.Errorf("the first failure: %q", got)
		}
		for range 3 {
			if got := work(t.Context(), "mail", worker.Permanent(boom)); got != "" {
				t.Errorf("soon after: %q", got)
			}
		}
		if got := work(t.Context(), "sms", boom); !strings.Contains(got, "queue=sms") {
			t.Errorf("another queue: %q", got)
		}
		time.Sleep(failurePace)
		if got := work(t.Context(), "mail", nil) + work(t.Context(), "mail", worker.Snooze(time.Hour)); got != "" {
			t.Errorf("a task that has not failed: %q", got)
		}
		draining, cancel := context.WithCancelCause(t.Context())
		cancel(worker.ErrDraining)
		if got := work(draining, "mail", boom); got != "" {
			t.Errorf("a task that was stopped to be handed back: %q", got)
		}
		if got := work(t.Context(), "mail", boom); !strings.Contains(got, "failed=4") {
			t.Errorf("later: %q", got)
		}
	})
}
