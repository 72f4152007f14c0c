package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateAndRetain implements queue.Store: the transaction of a create also retains, for waiting callers. Its second
// round trip writes the tasks and searches, its third writes the leases and commits. This costs one commit, and one
// round trip more than a create, instead of two transactions with a wake-up between them. See
// docs/adr/0005-eager-start.md.
func (s *Store) CreateAndRetain(ctx context.Context, c queue.Create, r queue.Retain) ([]queue.Created, [][]*queue.Task, error) {
	outs := make([][]*queue.Task, len(r.Requests))
	// Before the transaction: a call that holds a connection must not wait for another one.
	queues, err := s.findQueues(ctx, r.Namespace, r.Queues)
	if err != nil || len(queues) == 0 || len(c.Tasks) == 0 {
		return s.createWithoutRetain(ctx, c, outs)
	}
	if err := s.learnParts(ctx); err != nil {
		return nil, nil, err
	}

	var b *insertBatch
	var p *claim
	retaining := false // separates faults of the retain from faults of the create
	err = s.repeatWithPartition(ctx, "create tasks", func(ctx context.Context, t *txn.Tx) (err error) {
		clear(outs)
		p, retaining = nil, false
		if b, err = s.createTasksIn(ctx, t, c, keysTry); err != nil || len(b.woken) == 0 {
			return err
		}
		retaining = true
		p, err = s.pickNewTasks(ctx, t, b, queues, r, outs)
		return err
	}, func() int64 { return b.maxID })
	if err != nil {
		// A failed retain must not prevent the create: create without it. A fault of the create comes again there.
		if (retaining || errors.Is(err, errKeyTaken)) && ctx.Err() == nil && queue.KindOf(err) != queue.KindIndeterminate {
			return s.createWithoutRetain(ctx, c, outs)
		}
		return nil, nil, err
	}

	s.lanes.confirmLanes(b.lanes, b.generation)
	var picked []pickedTask
	if p != nil {
		outs = s.finishRetain(ctx, r, p, outs)
		picked = p.out
	}

	// Other processes learn only of the tasks that nothing has retained.
	s.notify.NotifyReady(b.listOtherWakes(picked))
	s.extendSoon(b.maxID)
	return b.out, outs, nil
}

// createWithoutRetain calls CreateTasks. The requests of outs get no tasks.
func (s *Store) createWithoutRetain(ctx context.Context, c queue.Create, outs [][]*queue.Task) ([]queue.Created, [][]*queue.Task, error) {
	clear(outs)
	made, err := s.CreateTasks(ctx, c)
	return made, outs, err
}

// pickNewTasks retains within the transaction t that has created b. It returns nil when it found no task.
func (s *Store) pickNewTasks(ctx context.Context, t *txn.Tx, b *insertBatch, queues []*storedQueue, r queue.Retain, outs [][]*queue.Task) (*claim, error) {
	limits := s.limitTasks(r, queues)
	p, err := s.pickTasks(ctx, t, queues, limits)
	if err != nil {
		return nil, err
	}
	if len(p.out) == 0 {
		p.queueGroups(t)
		return nil, nil
	}
	p.setAnswered(limits.served, len(r.Requests))
	requests := r.Requests[:limits.served]

	// Tasks that may exceed the byte limits of the requests are read before their leases are written.
	others := b.fillFromBatch(p.out)
	if !s.fitsForSure(requests, p.out) {
		err = s.measurePicked(ctx, t, requests, p)
	} else if p.shareOutTasks(requests); len(others) > 0 {
		queueTaskReading(t, others, sumKeptBytes(requests))
	}
	if err != nil {
		return nil, err
	}

	p.rememberRemainders()
	p.queueGroups(t)
	queueLeases(t, requests, p.out, p.now, outs)
	return p, nil
}

// fillFromBatch fills in the picked tasks that b has created, so that they need no read. It returns the other ones.
func (b *insertBatch) fillFromBatch(picked []pickedTask) (others []pickedTask) {
	for _, k := range picked {
		i, born := slices.BinarySearchFunc(b.rows, k.task.ID, func(r newTask, id int64) int { return cmp.Compare(r.task.ID, id) })
		if !born {
			others = append(others, k)
			continue
		}

		// A clone, because the caller of the create has the original.
		life := k.task.Life()
		*k.task = *b.rows[i].task.Clone()
		k.task.Status = life.Status
		k.task.Attempt = life.Attempt
		k.task.DelayedAt = truncateToMicros(k.task.DelayedAt)
		k.task.DiesAt = truncateToMicros(k.task.DiesAt)
	}
	return others
}

// listOtherWakes returns the queues with ready tasks of b that are not among picked. Other processes must learn of
// them.
func (b *insertBatch) listOtherWakes(picked []pickedTask) (wakes []queue.Wake) {
	gone := make(map[int64]bool, len(picked))
	for _, k := range picked {
		gone[k.task.ID] = true
	}

	for i := range b.rows {
		r := &b.rows[i]
		w := queue.Wake{Namespace: r.q.Namespace, Queue: r.q.Name}
		if !gone[r.task.ID] && !r.life.DelayedAt.After(b.now) && !slices.Contains(wakes, w) {
			wakes = append(wakes, w)
		}
	}
	return wakes
}
