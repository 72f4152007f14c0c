package manager

import (
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/waitlist"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The Store calls of batches, and the wake-ups that follow from them.

// createTasks is the Store call of a batch of creates.
func (p *parts) createTasks(ctx context.Context, key createKey, tasks []queue.NewTask) ([]queue.Created, error) {
	return p.createWithHandOff(ctx, queue.Create{Namespace: key.namespace, Tasks: tasks}, waitlist.OfManager)
}

// createWithHandOff hands the tasks that it creates to waiting callers, and wakes callers for the others.
func (p *parts) createWithHandOff(ctx context.Context, create queue.Create, memory waitlist.Memory) ([]queue.Created, error) {
	created, started, err := p.waitlists.Create(ctx, create, memory)
	if err != nil {
		return nil, err
	}

	w := wakeups{parts: p, namespace: create.Namespace}
	for i := range created {
		if id := created[i].Superseded; id != 0 {
			p.awaits.Search(w.namespace, id)
		}
		switch t := created[i].Task; {
		case !waitlist.IsNew(created[i]):
		case slices.Contains(started, t.ID):
			w.changed = true
		default:
			w.addWaitingTask(t)
		}
	}
	w.sendFeedWakeUp()

	return created, nil
}

// retainTasks is the Store call of a batch of retains.
func (p *parts) retainTasks(ctx context.Context, set waitlist.QueueSet, shares []queue.RetainShare) ([][]*queue.Task, error) {
	outs, err := p.store.RetainTasks(ctx, queue.Retain{
		Namespace: set.Namespace, Queues: set.Names(), Requests: shares,
		WakeIn: func(name string, in time.Duration) { p.waitlists.WakeIn(set.Namespace, name, in) },
	})
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(outs, func(tasks []*queue.Task) bool { return len(tasks) > 0 }) {
		p.feeds.Changed(set.Namespace)
	}

	// The store answers the first requests alone when their tasks are large.
	for len(outs) > 0 && len(outs) < len(shares) {
		outs = append(outs, waitlist.Unread)
	}

	return outs, nil
}

// releaseTasks is the Store call of a batch of releases.
func (p *parts) releaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	outs, err := p.store.ReleaseTasks(ctx, namespace, releases)
	if err != nil {
		return nil, err
	}

	w := wakeups{parts: p, namespace: namespace}
	for i := range outs {
		t := outs[i].Task
		if outs[i].Err != nil {
			continue
		}
		switch {
		case t == nil: // a quiet release: the answer has the queue and the status alone
			p.awaits.Search(namespace, releases[i].ID)
			w.addLeaseEnd(outs[i].Queue)
			continue
		case t.Status.Waiting():
			w.addWaitingTask(t)
		case releases[i].Quiet || t.Payload == nil: // the answer lacks the content of the task
			p.awaits.Search(namespace, t.ID)
		default:
			p.awaits.Finished(t)
		}
		w.addLeaseEnd(t.Queue)
	}
	w.sendFeedWakeUp()

	return outs, nil
}

// wakeups sends the wake-ups that follow from one Store call of a namespace, one for each queue.
type wakeups struct {
	*parts

	namespace string
	// ready and ended are the last queues that got a wake-up: in most batches all tasks are of one queue.
	ready, ended string
	changed      bool
}

// addWaitingTask wakes for a task that is new or waits for a retry.
func (w *wakeups) addWaitingTask(task *queue.Task) {
	w.changed = true
	if !task.DelayedAt.IsZero() {
		// A hint: only the clock of the database decides.
		if left := time.Until(task.DelayedAt); left > 0 {
			w.agents.WakeIn(queue.ChorePromote, left)
			w.waitlists.WakeIn(w.namespace, task.Queue, left)
			return
		}
	}

	if w.ready != task.Queue {
		w.ready = task.Queue
		w.waitlists.Wake(queue.Wake{Namespace: w.namespace, Queue: task.Queue})
	}
}

// addLeaseEnd wakes for the end of a lease: a queue that limits its concurrency may start another task.
func (w *wakeups) addLeaseEnd(name string) {
	w.changed = true
	if w.ended == name || w.ready == name {
		return
	}

	w.ended = name
	if w.waitlists.HasCallers(w.namespace, name) && w.concurrency.IsLimited(w.namespace, name) {
		w.waitlists.Wake(queue.Wake{Namespace: w.namespace, Queue: name})
	}
}

// sendFeedWakeUp wakes the feed once for the whole call.
func (w *wakeups) sendFeedWakeUp() {
	if w.changed {
		w.feeds.Changed(w.namespace)
	}
}

// wakeAfterStep wakes for the tasks that a step of an agent has made ready or ended.
func (p *parts) wakeAfterStep(chore queue.Chore, done queue.Maintained) {
	for _, wake := range done.Woken {
		p.waitlists.Wake(wake)
	}
	if done.Moved == 0 {
		return
	}

	switch chore {
	case queue.ChoreRescue, queue.ChoreExpire:
		p.feeds.Changed("")
		p.awaits.SearchAll("")
	case queue.ChoreTick:
		p.feeds.Changed("")
	case queue.ChorePromote, queue.ChorePrune, queue.ChoreFold: // no caller waits for their work
	}
}

// wakeFromStore wakes for a wake-up of another process.
func (p *parts) wakeFromStore(wake queue.Wake) {
	p.waitlists.Wake(wake)
	p.feeds.Changed(wake.Namespace)
}
