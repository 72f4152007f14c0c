package manager

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/manager/internal/waitlist"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// handBackTasks returns tasks that were retained for a caller that left, in a goroutine of its own. Tasks of a request with an
// id stay for the repeat of the request.
func (p *parts) handBackTasks(set waitlist.QueueSet, tasks []*queue.Task) {
	if len(tasks) == 0 {
		return
	}

	u, ok := queue.StoreAs[queue.UndeliveredRequests](p.store)
	if set.Request.ID == "" || !ok {
		// GoOn, not Go: tasks that arrive while the manager closes must go back too.
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

// releaseUnclaimed hands tasks back, within queue.HandBackTimeout and until the manager cuts its calls.
func (p *parts) releaseUnclaimed(namespace string, tasks []*queue.Task) {
	err := queue.HandBack(p.owner.Context(), unclaimedReleases{parts: p, namespace: namespace}, tasks)
	if err != nil {
		p.cfg.log.Warn("handing back tasks of a caller that left failed; their leases end by themselves",
			"namespace", namespace, "tasks", len(tasks), "error", err)
	}
}

// unclaimedReleases is the consumer of queue.HandBack, which only releases.
type unclaimedReleases struct {
	queue.Consumer
	*parts

	namespace string
}

// ReleaseTasks is one Store call. Its context also ends when the manager cuts its calls.
func (u unclaimedReleases) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	if err := u.owner.Context().Err(); err != nil {
		return nil, queue.ContextError(err)
	}

	call, cancel := context.WithTimeout(ctx, u.cfg.callTimeout)
	defer cancel()
	unhook := context.AfterFunc(u.owner.Context(), cancel)
	defer unhook()
	outs, err := u.releaseTasks(call, u.namespace, releases)
	if err != nil {
		return nil, domainError(u.owner.Context(), queue.OpReleaseTasks.Unanswered(), err)
	}

	return outs, nil
}
