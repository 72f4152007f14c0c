package manager

import (
	"context"
	"slices"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// eagerMost is the most tasks of a create that starts them itself. The commit of a large batch should not grow, and its
// creator does not wait for each task.
const eagerMost = 64

// party is those of a room who are served by a create.
type party struct {
	room    *room
	waiters []*waiter
	shares  []queue.RetainShare
}

// invite chooses who is served by batch: of the rooms for tasks that it makes ready the one where somebody has waited
// longest, and there those who have waited longest. They are in service until treat; nil when nobody waits.
func (rs *rooms) invite(create queue.Create) *party {
	if len(create.Tasks) > eagerMost {
		return nil
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var p *party
	var first *waiter
	left := 0
	for _, r := range rs.in[create.Namespace] {
		w := idle(r.waiters.Front())
		if w == nil || r.vain || r.key.request.id != "" || first != nil && first.turn < w.turn {
			continue
		}
		if n := r.count(create.Tasks); n > 0 {
			p, first, left = &party{room: r}, w, n
		}
	}
	for w := first; w != nil && left > 0; w = idle(w.place.Next()) {
		w.serving = true
		share := w.share
		share.Limit = min(share.Limit, left) // what else there may be is not for the creator to wait for
		left -= share.Limit
		p.waiters, p.shares = append(p.waiters, w), append(p.shares, share)
	}
	return p
}

// count is how many of tasks are for the room at once.
func (r *room) count(tasks []queue.NewTask) (n int) {
	for i := range tasks {
		if t := &tasks[i]; t.Delay == 0 && t.DelayedAt.IsZero() && r.hears(t.Queue) {
			n++
		}
	}
	return n
}

// treat gives the party what a create has retained for it. Who is left looks for himself: he may have missed a wake. vain
// says that there was something to be had and nobody got it, because the queue is paused, say, or at its limit: then the
// room is not invited again before it has got something.
func (rs *rooms) treat(p *party, outs [][]*queue.Task, vain bool) {
	err := error(nil)
	if outs == nil { // the create failed, which says nothing to those who wait
		outs, err = make([][]*queue.Task, len(p.waiters)), rs.failing(p.room)
	}
	served := rs.serve(p.room, p.waiters, outs, err)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	p.room.vain = vain
	if served < len(p.waiters) && p.room.waiters.Len() > 0 {
		p.room.ring()
	}
}

// createFor creates batch and retains for the party in the same commit: an idle system starts a task with one commit, and
// nobody is woken to look for it. It is carried out though the creator may go: others are to have what it retains. started
// are the tasks that somebody has.
func (c *core) createFor(ctx context.Context, p *party, create queue.Create) (made []queue.Created, started []int64, err error) {
	call, leave, err := c.enter(queue.WithoutWait(context.WithoutCancel(ctx)), c.cfg.callTimeout)
	if err != nil {
		c.rooms.treat(p, nil, false)
		return nil, nil, err
	}
	type answer struct {
		made    []queue.Created
		started []int64
		err     error
	}
	done := make(chan answer, 1)
	go func() {
		defer leave()
		var a answer
		var outs [][]*queue.Task
		defer func() {
			if v := recover(); v != nil {
				a.err = batch.Panicked(v)
			}
			c.rooms.treat(p, outs, len(a.started) == 0 && slices.ContainsFunc(a.made, isReady))
			done <- a
		}()
		a.made, outs, a.err = c.store.CreateAndRetain(call, create, queue.Retain{
			Namespace: create.Namespace, Queues: p.room.queues, Requests: p.shares,
		})
		for _, tasks := range outs {
			for _, t := range tasks {
				a.started = append(a.started, t.ID)
			}
		}
	}()
	select {
	case a := <-done:
		return a.made, a.started, a.err
	case <-ctx.Done():
		return nil, nil, batch.LeftDuringCall(ctx)
	}
}

// isReady says that a create made a task which can be retained at once.
func isReady(c queue.Created) bool { return isNew(c) && c.Task.DelayedAt.IsZero() }
