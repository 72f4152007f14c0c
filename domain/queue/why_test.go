package queue_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestExplain has a row for each state in which a task or a queue may not proceed.
func TestExplain(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	at := now.Add
	hold := &queue.Hold{Task: 7, Worker: "secret-worker", Since: at(-41 * time.Minute), ExpiresAt: at(2 * time.Minute)}
	lapsed := &queue.Hold{Task: 1, Worker: "secret-worker", Since: at(-time.Hour), ExpiresAt: at(-3 * time.Second)}
	waiting := func(l queue.Life) *queue.Task {
		task := &queue.Task{ID: 1}
		task.SetLife(l)
		return task
	}
	fresh := waiting(queue.Life{Status: queue.StatusNew})
	lostBy := func(status queue.Status, kind string) *queue.Task {
		task := waiting(queue.Life{Status: status, Attempt: 3})
		task.Errors = []queue.AttemptError{{Kind: "other"}, {Kind: kind}}
		return task
	}

	for name, c := range map[string]struct {
		queue   queue.Queue
		stats   queue.QueueStats
		held    int64
		task    *queue.Task
		store   queue.StoreFacts
		want    []queue.ReasonCode
		until   time.Time // of the first reason
		contain string    // in the first text
	}{
		"a delayed task": {
			task: waiting(queue.Life{Status: queue.StatusNew, DelayedAt: at(time.Hour)}),
			want: []queue.ReasonCode{queue.ReasonDelayed}, until: at(time.Hour), contain: "2026-01-02T16:00:00Z",
		},
		"a delayed task of a paused queue": {
			queue: queue.Queue{Paused: true}, task: waiting(queue.Life{Status: queue.StatusNew, DelayedAt: at(time.Hour)}),
			want: []queue.ReasonCode{queue.ReasonDelayed, queue.ReasonPaused}, until: at(time.Hour),
		},
		"a failed attempt before": {
			task: waiting(queue.Life{Status: queue.StatusRetry, Attempt: 3, DelayedAt: at(time.Minute)}),
			want: []queue.ReasonCode{queue.ReasonBackoff}, until: at(time.Minute), contain: "Attempt 3",
		},
		"a backoff beyond the ttl": {
			task: waiting(queue.Life{Status: queue.StatusRetry, Attempt: 1, DelayedAt: at(time.Hour), DiesAt: at(30 * time.Minute)}),
			want: []queue.ReasonCode{queue.ReasonBackoff, queue.ReasonExpires}, until: at(time.Hour),
		},
		"a due task that is not ready": {
			task: waiting(queue.Life{Status: queue.StatusNew, DelayedAt: at(-10 * time.Second)}), store: queue.StoreFacts{Unpromoted: true},
			want: []queue.ReasonCode{queue.ReasonPromoteLate},
		},
		"a due task without background work": {
			task: waiting(queue.Life{Status: queue.StatusNew, DelayedAt: at(-3 * time.Minute)}), store: queue.StoreFacts{Unpromoted: true},
			want: []queue.ReasonCode{queue.ReasonPromoteLate, queue.ReasonNoBackground},
		},
		"a task that has lost its lease": {
			queue: queue.Queue{FailurePolicy: queue.FailurePolicy{MaxLeaseLosses: 3}}, held: 1, task: lostBy(queue.StatusRetry, queue.ErrorKindLeaseLost),
			store: queue.StoreFacts{Oldest: hold}, want: []queue.ReasonCode{queue.ReasonSuspect, queue.ReasonReady},
		},
		"a task that has lost its lease in a queue that does not care": {
			held: 1, task: lostBy(queue.StatusRetry, queue.ErrorKindLeaseLost), store: queue.StoreFacts{Oldest: hold}, want: []queue.ReasonCode{queue.ReasonReady},
		},
		"a quarantined task": {
			queue: queue.Queue{FailurePolicy: queue.FailurePolicy{MaxLeaseLosses: 3}}, task: lostBy(queue.StatusFailed, queue.ErrorKindQuarantined),
			want: []queue.ReasonCode{queue.ReasonQuarantined}, contain: "its last 3 leases", until: time.Time{}.Add(queue.DefaultRetention),
		},
		"a paused queue": {queue: queue.Queue{Paused: true}, task: fresh, want: []queue.ReasonCode{queue.ReasonPaused}},
		"a full queue": {
			queue: queue.Queue{Concurrency: 20}, held: 20, task: fresh, store: queue.StoreFacts{Oldest: hold},
			want: []queue.ReasonCode{queue.ReasonConcurrency}, contain: "concurrency of the queue is 20. The oldest hold began at 2026-01-02T14:19:00Z",
		},
		"a full queue below its limit after an update": {
			queue: queue.Queue{Concurrency: 5}, held: 20, task: fresh, store: queue.StoreFacts{Oldest: hold},
			want: []queue.ReasonCode{queue.ReasonConcurrency},
		},
		"a paused and full queue with a lost lease": {
			queue: queue.Queue{Paused: true, Concurrency: 1}, held: 1, task: fresh, store: queue.StoreFacts{Oldest: lapsed, ExpiredAt: at(-3 * time.Second)},
			want: []queue.ReasonCode{queue.ReasonPaused, queue.ReasonConcurrency, queue.ReasonRescueLate},
		},
		"one place left": {queue: queue.Queue{Concurrency: 20}, held: 19, stats: queue.QueueStats{Ready: 3}, task: fresh, store: queue.StoreFacts{Oldest: hold}, want: []queue.ReasonCode{queue.ReasonReady}},
		"no worker":      {stats: queue.QueueStats{Ready: 4, OldestReadyAge: 4 * time.Minute}, task: fresh, want: []queue.ReasonCode{queue.ReasonNoHolder}, contain: "4 tasks are ready, the oldest for 4m0s"},
		"its turn":       {held: 3, stats: queue.QueueStats{Ready: 9}, task: fresh, store: queue.StoreFacts{Oldest: hold}, want: []queue.ReasonCode{queue.ReasonReady}, contain: "Workers hold 3 tasks"},
		"the ttl is nearly over": {
			held: 1, task: waiting(queue.Life{Status: queue.StatusNew, DiesAt: at(time.Minute)}), store: queue.StoreFacts{Oldest: hold},
			want: []queue.ReasonCode{queue.ReasonExpires, queue.ReasonReady}, until: at(time.Minute),
		},
		"the ttl is far": {
			held: 1, task: waiting(queue.Life{Status: queue.StatusNew, DiesAt: at(time.Hour)}), store: queue.StoreFacts{Oldest: hold},
			want: []queue.ReasonCode{queue.ReasonReady},
		},
		"the ttl is over": {
			task: waiting(queue.Life{Status: queue.StatusRetry, DiesAt: now}), want: []queue.ReasonCode{queue.ReasonExpireLate},
		},
		"the ttl is over since long": {
			task: waiting(queue.Life{Status: queue.StatusNew, DiesAt: at(-time.Minute)}), want: []queue.ReasonCode{queue.ReasonExpireLate, queue.ReasonNoBackground},
		},
		"a held task": {
			task: waiting(queue.Life{Status: queue.StatusRetained}), store: queue.StoreFacts{Present: hold},
			want: []queue.ReasonCode{queue.ReasonRetained}, until: hold.ExpiresAt,
		},
		"a held task that ended meanwhile": {
			task: waiting(queue.Life{Status: queue.StatusRetained}), want: []queue.ReasonCode{queue.ReasonRetained}, contain: "a moment ago",
		},
		"a cancel was requested": {
			task: waiting(queue.Life{Status: queue.StatusRetained, CancelRequested: true}), store: queue.StoreFacts{Present: hold},
			want: []queue.ReasonCode{queue.ReasonCancelRequested}, until: hold.ExpiresAt,
		},
		"a lost lease": {
			task: waiting(queue.Life{Status: queue.StatusRetained}), store: queue.StoreFacts{Present: lapsed}, want: []queue.ReasonCode{queue.ReasonRescueLate},
		},
		"a failed task": {
			queue: queue.Queue{Retention: time.Hour}, task: waiting(queue.Life{Status: queue.StatusFailed, FinishedAt: at(-time.Minute)}),
			want: []queue.ReasonCode{queue.ReasonFinished}, until: at(59 * time.Minute), contain: "failed",
		},
		"a released task":  {task: waiting(queue.Life{Status: queue.StatusReleased, FinishedAt: now}), want: []queue.ReasonCode{queue.ReasonFinished}, until: at(queue.DefaultRetention)},
		"an expired task":  {task: waiting(queue.Life{Status: queue.StatusExpired, FinishedAt: now}), want: []queue.ReasonCode{queue.ReasonFinished}, until: at(queue.DefaultRetention)},
		"a cancelled task": {task: waiting(queue.Life{Status: queue.StatusCancelled, FinishedAt: now}), want: []queue.ReasonCode{queue.ReasonFinished}, until: at(queue.DefaultRetention)},

		"an empty queue":                {want: []queue.ReasonCode{queue.ReasonEmpty}},
		"a paused empty queue":          {queue: queue.Queue{Paused: true}, want: []queue.ReasonCode{queue.ReasonPaused, queue.ReasonEmpty}},
		"a queue without workers":       {stats: queue.QueueStats{Ready: 2}, want: []queue.ReasonCode{queue.ReasonNoHolder}},
		"a busy queue":                  {held: 2, stats: queue.QueueStats{Ready: 2}, store: queue.StoreFacts{Oldest: hold}, want: []queue.ReasonCode{queue.ReasonReady}},
		"a paused queue with a backlog": {queue: queue.Queue{Paused: true}, stats: queue.QueueStats{Ready: 2}, want: []queue.ReasonCode{queue.ReasonPaused}},
		"a full queue as such": {
			queue: queue.Queue{Concurrency: 1}, held: 1, stats: queue.QueueStats{Ready: 2}, store: queue.StoreFacts{Oldest: hold},
			want: []queue.ReasonCode{queue.ReasonConcurrency},
		},
		"a queue of delayed tasks": {
			stats: queue.QueueStats{Delayed: 2}, store: queue.StoreFacts{DueAt: at(time.Minute)},
			want: []queue.ReasonCode{queue.ReasonDelayed}, until: at(time.Minute),
		},
		"a queue of tasks delayed for long": {stats: queue.QueueStats{Delayed: 2}, want: []queue.ReasonCode{queue.ReasonDelayed}},
		"a queue without background work": {
			held: 1, stats: queue.QueueStats{Delayed: 2}, store: queue.StoreFacts{DueAt: at(-2 * time.Minute), ExpiredAt: at(-2 * time.Second)},
			want: []queue.ReasonCode{queue.ReasonRescueLate, queue.ReasonPromoteLate, queue.ReasonNoBackground},
		},
	} {
		c.queue.Name = "mail"
		c.stats.Counts = map[queue.Status]int64{queue.StatusRetained: c.held}
		c.store.Now = now
		e := queue.Explain(queue.Facts{Queue: &c.queue, Stats: &c.stats, Task: c.task, StoreFacts: c.store})

		var codes []queue.ReasonCode
		for _, r := range e.Reasons {
			codes = append(codes, r.Code)
			if !strings.HasSuffix(r.Text, ".") || strings.Contains(r.Text+r.Advice, "secret-worker") {
				t.Errorf("%s: text %q, advice %q", name, r.Text, r.Advice)
			}
		}
		if !slices.Equal(codes, c.want) {
			t.Errorf("%s: reasons are %v, want %v", name, codes, c.want)
			continue
		}
		if !e.Reasons[0].Until.Equal(c.until) || !strings.Contains(e.Reasons[0].Text, c.contain) {
			t.Errorf("%s: got %q until %v, want %q until %v", name, e.Reasons[0].Text, e.Reasons[0].Until, c.contain, c.until)
		}
		if e.Queue != "mail" || e.At != now || c.task != nil && (e.Task != c.task.ID || e.Status != c.task.Status) {
			t.Errorf("%s: got %+v", name, e)
		}
		for _, r := range e.WithoutHolds().Reasons {
			if r.Hold != nil {
				t.Errorf("%s: WithoutHolds leaves %+v", name, r.Hold)
			}
		}
	}
}
