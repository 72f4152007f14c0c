package memory

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// record is a task with the state that only the store needs.
type record struct {
	task   queue.Task // Lease, Errors and Replayed unset
	queue  *queueState
	errors []queue.AttemptError
	lease  queue.Lease // while retained
	losses int16       // of queue.Life
	// settled is the token of the last accepted release, until the task is retained again.
	settled int64
	order   int64 // by which it became ready
	readyAt time.Time
	gone    bool
	since   time.Time // creation of the first of the tasks that replaced one another up to this; zero without one

	in    *heap[*record] // the heap of its status
	place int            // in that heap
	death int            // in Store.dying
	age   int            // in queue.oldest
	share int            // in the share of its group in a fair queue
}

// queueState is a queue and its tasks.
type queueState struct {
	settings queue.Queue
	space    *namespaceState
	roster   taskRoster
	keys     map[string]*record
	ready    heap[*record] // by priority, then by when they became ready
	oldest   heap[*record] // the same tasks by when they became ready alone
	late     heap[*record] // were ready when their ttl ran out
	aside    []*record     // ready tasks that the present search may not take
	done     heap[*record] // by when they finished
	counts   map[queue.Status]int64
	served   int64 // when it was last served, in turns
	gone     bool

	groups       map[string]*groupState
	groupWaiting int64 // tasks that wait for a group
	rateState    int64
	shares       map[string]*fairShare
	virtual      float64 // the largest virtual time of a served group

	created, finished rate
	history           history
}

func newQueueState(q queue.Queue, sp *namespaceState) *queueState {
	place := func(r *record) *int { return &r.place }
	qs := &queueState{
		settings: q, space: sp, keys: map[string]*record{}, counts: map[queue.Status]int64{},
		groups: map[string]*groupState{}, shares: map[string]*fairShare{},
		oldest: newHeap(func(a, b *record) bool { return a.readyAt.Before(b.readyAt) }, func(r *record) *int { return &r.age }),
		late:   newHeap(func(a, b *record) bool { return a.task.DiesAt.Before(b.task.DiesAt) }, place),
		done:   newHeap(func(a, b *record) bool { return a.task.FinishedAt.Before(b.task.FinishedAt) }, place),
	}
	qs.ready = newHeap(qs.isBefore, place)
	return qs
}

// isBefore orders ready tasks by priority, then by when they became ready.
func (qs *queueState) isBefore(a, b *record) bool {
	if a.task.Priority != b.task.Priority {
		return a.task.Priority < b.task.Priority
	}
	return a.order < b.order
}

// countRetained is how many tasks of the queue are retained, those of expired leases too until they are rescued.
func (qs *queueState) countRetained() int64 { return qs.counts[queue.StatusRetained] }

// isRetainable says that a task may be retained now.
func (qs *queueState) isRetainable(now time.Time) bool {
	return qs.nextStart(now).IsZero() && !qs.settings.Paused && (qs.settings.Concurrency == 0 || qs.countRetained() < int64(qs.settings.Concurrency))
}

// nextStart is when a limit of time lets the next task start; zero = now.
func (qs *queueState) nextStart(now time.Time) time.Time {
	if now.Before(qs.settings.PausedUntil) {
		return qs.settings.PausedUntil
	}
	_, _, next := qs.settings.Rate().Admit(qs.rateState, now, 1)
	return next
}

// isPastRetention says that r is past its retention.
func (qs *queueState) isPastRetention(r *record, now time.Time) bool {
	return r.task.Status.Finished() && !now.Before(r.task.FinishedAt.Add(qs.settings.FinishedStay()))
}

// findTask returns the task if the namespace has it and it may be seen.
func (s *Store) findTask(namespace string, id int64, now time.Time) (*record, error) {
	r := s.tasks[id]
	if r == nil || r.queue.gone || r.queue.space.name != namespace || r.queue.isPastRetention(r, now) {
		return nil, queue.NotFoundTask(id)
	}
	return r, nil
}

// insertTask adds a new task to l.
func (s *Store) insertTask(qs *queueState, t queue.NewTask, now time.Time) *record {
	s.lastID++
	due := t.DelayedAt
	if t.Delay > 0 {
		due = now.Add(t.Delay)
	}

	if !due.IsZero() {
		due = due.UTC()
	}

	task := t.MakeTask(s.lastID, &qs.settings, now)
	r := &record{queue: qs, task: *task.Clone()}
	r.task.SetLife(qs.settings.Born(now, due))
	s.tasks[r.task.ID] = r
	qs.roster.appendRecord(r)
	qs.space.roster.appendRecord(r)
	if t.Key != "" {
		qs.keys[t.Key] = r
	}

	qs.created.countAt(now, 1)
	qs.history.now.Created++
	s.placeTask(r, now)
	s.recordEvent(r, queue.EventCreated, "", now)
	return r
}

// moveTask makes one move of r's life, or changes nothing.
func (s *Store) moveTask(r *record, m queue.Move, c queue.Circumstances) error {
	before := r.task.Life()
	before.Losses = r.losses
	life, err := r.queue.settings.Moved(before, m, c)
	if err != nil {
		e := &queue.Error{}
		if errors.As(err, &e) {
			e.Subject = taskSubject(r.task.ID)
		}
		return err
	}

	s.unplaceTask(r)
	s.holdSuspect(r, life)
	r.task.SetLife(life)
	r.losses = life.Losses
	s.placeTask(r, c.Now)
	// Last, because the end of a place may offer the next task of the group, and r may be that one.
	s.endPlace(r, c.Now)
	r.queue.history.countMove(m, life.Status)
	if life.Status.Finished() {
		r.queue.finished.countAt(c.Now, 1)
	}

	return nil
}

// placeTask puts r where its status belongs and counts it.
func (s *Store) placeTask(r *record, now time.Time) {
	qs := r.queue
	qs.counts[r.task.Status]++
	switch {
	case r.task.Status == queue.StatusRetained:
		r.in = &s.leased
	case r.task.Status.Finished():
		r.in = &qs.done
	case r.task.DelayedAt.After(now):
		r.in = &s.delayed
	default:
		// The counter orders the tasks that became ready in one microsecond too.
		s.ready++
		r.order, r.readyAt = s.ready, now
		// The group holds it until it is its turn; joinFIFOGroup has set the heap.
		if s.joinFIFOGroup(r) {
			break
		}
		r.in = &qs.ready
		qs.oldest.pushItem(r)
		qs.joinFairShare(r)
		if g := qs.groups[r.task.Group]; g != nil {
			g.offered++
		}
		qs.space.busy[qs] = struct{}{}
		s.wakeListeners(qs)
	}

	r.in.pushItem(r)
	if g := qs.groups[r.task.Group]; g != nil && r.in == &g.waiting {
		qs.groupWaiting++
		s.offerNext(g, now)
	}
	if r.task.Status.Waiting() && !r.task.DiesAt.IsZero() {
		s.dying.pushItem(r)
	}
}

// unplaceTask takes r out of where its status put it.
func (s *Store) unplaceTask(r *record) {
	qs := r.queue
	qs.counts[r.task.Status]--
	r.in.removeItem(r)
	if r.death != 0 {
		s.dying.removeItem(r)
	}

	if g := qs.groups[r.task.Group]; g != nil {
		switch r.in {
		case &g.waiting:
			qs.groupWaiting--
		case &qs.ready:
			g.offered--
		}
	}

	if r.age != 0 {
		qs.oldest.removeItem(r)
		qs.leaveFairShare(r)
	}

	switch {
	// A retain without names looks at busy queues alone, so its cost does not grow with idle ones.
	case qs.ready.countItems() == 0:
		delete(qs.space.busy, qs)
	case r.in == &s.leased && qs.settings.Concurrency > 0 && !qs.gone: // of the queue; groups offer their next task
		s.wakeListeners(qs) // there is room again
	}
}

// removeTask deletes r for good.
func (s *Store) removeTask(r *record) {
	s.holdSuspect(r, queue.Life{})
	s.unplaceTask(r)
	delete(s.tasks, r.task.ID)
	// A task that another one replaced has lost its key to it.
	if qs := r.queue; r.task.Key != "" && qs.keys[r.task.Key] == r {
		delete(qs.keys, r.task.Key)
	}
	r.gone = true
	r.queue.roster.countRemoved()
	r.queue.space.roster.countRemoved()
	if g := r.queue.groups[r.task.Group]; g != nil {
		g.state.Free(r.task.ID)
		s.offerNext(g, s.clock().UTC())
	}
}

// writeDeadLetter creates the dead letter of r, if r has failed for good in a queue with a queue for them.
func (s *Store) writeDeadLetter(r *record, kind string, now time.Time) {
	q := &r.queue.settings
	if r.task.Status != queue.StatusFailed || q.DeadLetter == "" {
		return
	}
	if to := r.queue.space.queues[q.DeadLetter]; to != nil {
		s.insertTask(to, q.MakeDeadLetter(&r.task, kind), now)
	}
}

// copyTask is the task as a caller gets it.
func (r *record) copyTask() *queue.Task { return r.task.Clone() }

// copyTaskWithErrors is copyTask with the errors of the attempts.
func (r *record) copyTaskWithErrors() *queue.Task {
	t := r.task
	t.Errors = r.errors
	return t.Clone()
}

// appendAttemptError keeps the error of r's present attempt, bounded. failed has the error, its kind and its fingerprint.
func (r *record) appendAttemptError(failed queue.AttemptError, now time.Time) {
	failed.Attempt, failed.At, failed.Worker = r.task.Attempt, now, r.task.Worker
	failed.Error = bytes.Clone(queue.CleanJSON(failed.Error, queue.MaxErrorBytes))
	r.errors = append(r.errors, failed)
	if extra := len(r.errors) - queue.MaxErrors; extra > 0 {
		r.errors = slices.Delete(r.errors, 0, extra)
	}
}

// taskRoster lists records in the order of their ids. Removed records stay in it until half of the rows are removed.
type taskRoster struct {
	rows []*record
	dead int
}

func (o *taskRoster) appendRecord(r *record) { o.rows = append(o.rows, r) }

// countRemoved counts one more removed row.
func (o *taskRoster) countRemoved() {
	o.dead++
	// A copy for each doubling costs a constant time for each removal. 64 spares the short lists.
	if o.dead > 64 && o.dead > len(o.rows)/2 {
		living := make([]*record, 0, len(o.rows)) // a new slice, because an iteration may still read the old one
		for _, r := range o.rows {
			if !r.gone {
				living = append(living, r)
			}
		}
		o.rows, o.dead = living, 0
	}
}

// eachNewestFirst yields the living records, newest first. The roster may change meanwhile.
func (o *taskRoster) eachNewestFirst() func(yield func(*record) bool) {
	rows := o.rows
	return func(yield func(*record) bool) {
		for _, row := range slices.Backward(rows) {
			if r := row; !r.gone && !yield(r) {
				return
			}
		}
	}
}
