package manager

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/waitlist"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// maxHandBackTries bounds the releases of tasks for a caller that left. After the last their leases end by themselves.
const maxHandBackTries = 5

// handBackTasks returns tasks that were retained for a caller that left, in a goroutine of its own. Tasks of a request with an
// id stay for the repeat of the request.
func (p *parts) handBackTasks(set waitlist.QueueSet, tasks []*queue.Task) {
	if len(tasks) == 0 {
		return
	}

	u, ok := queue.StoreAs[queue.UndeliveredRequests](p.store)
	if set.Request.ID == "" || !ok {
		p.owner.GoOn(func() { p.releaseUnclaimed(set.Namespace, tasks) })
		return
	}

	p.owner.GoOn(func() {
		ctx, cancel := p.owner.NewCall()
		defer cancel()
		err := queue.RecordUndelivered(ctx, func(ctx context.Context) error {
			return u.UndeliveredRequest(ctx, set.Namespace, set.Request.Worker, set.Request.ID)
		})
		if err != nil {
			p.cfg.log.Warn("recording an undelivered retain failed; its leases end by themselves",
				"namespace", set.Namespace, "worker", set.Request.Worker, "tasks", len(tasks), "error", err)
		}
	})
}

// releaseUnclaimed releases tasks at no cost of an attempt, and repeats the releases that fail or meet a lock.
func (p *parts) releaseUnclaimed(namespace string, tasks []*queue.Task) {
	var releases []queue.Release
	for _, t := range tasks {
		if t.Lease != nil {
			releases = append(releases, queue.Release{
				ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeHandBack, Quiet: true,
			})
		}
	}

	backoff := retry.Backoff{Min: 100 * time.Millisecond, Max: p.cfg.poll}
	for range maxHandBackTries {
		ctx, cancel := p.owner.NewCall()
		outs, err := p.releaseTasks(ctx, namespace, releases)
		cancel()
		if err == nil {
			releases = selectLocked(releases, outs)
			if len(releases) == 0 {
				return
			}
			err = queue.Locked(releases[0].ID)
		}

		p.cfg.log.Warn("handing back tasks of a caller that left failed; their leases end by themselves",
			"namespace", namespace, "tasks", len(releases), "error", err)
		retry.Sleep(p.owner.Context(), backoff.Next())
	}
}

// selectLocked returns the releases that meet the lock of another transaction.
func selectLocked(releases []queue.Release, outs []queue.Released) (locked []queue.Release) {
	for i := range outs {
		if queue.IsLocked(outs[i].Err) {
			locked = append(locked, releases[i])
		}
	}

	return locked
}
