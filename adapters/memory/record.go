package memory

import (
	"bytes"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// record is a task of the store. All functions on records and queues need s.mu.
type record struct {
	task   queue.Task // Lease, Errors and Replayed unset
	queue  *queueState
	errors []queue.AttemptError
	lease  queue.Lease // while retained
	losses int16       // lost leases in a row; queue.Task has no field for it
	// releasedToken is the token of the last accepted release; 0 after the next retain.
	releasedToken int64
	// readySeq orders tasks by when they became ready: the value of Store.ready at that time.
	readySeq int64
	readyAt  time.Time
	gone     bool
	// firstCreatedAt is the creation of the first task in a chain of replacements; zero when r replaced no task.
	firstCreatedAt time.Time

	heap *heap[*record] // of its status

	// Each index is that in a heap, + 1; 0 stands for a record outside of that heap.
	heapIndex   int // in heap
	expiryIndex int // in Store.expiring
	oldestIndex int // in queueState.oldest
	shareIndex  int // in the share of its group in a fair queue
}

// queueState is a queue and its tasks.
type queueState struct {
	settings  queue.Queue
	namespace *namespaceState
	roster    taskRoster
	keys      map[string]*record
	ready     heap[*record] // by priority, then readySeq
	oldest    heap[*record] // the tasks of ready, by readyAt alone
	overdue   heap[*record] // ready tasks past their ttl; the expirer ends them
	// passedOver are suspects that the present search may not take; empty between two searches.
	passedOver     []*record
	done           heap[*record] // finished tasks, by FinishedAt
	counts         map[queue.Status]int64
	lastServedTurn int64 // turn of Store at which a retain last took from the queue
	gone           bool

	groups       map[string]*groupState
	groupWaiting int64 // tasks that wait for a group
	rateState    int64 // of Rate.Admit
	shares       map[string]*fairShare
	virtual      float64 // the largest virtual time of a served group

	created, finished rate
	history           history
}

func newQueueState(q queue.Queue, sp *namespaceState) *queueState {
	heapIndex := func(r *record) *int { return &r.heapIndex }
	oldestIndex := func(r *record) *int { return &r.oldestIndex }
	expiresFirst := func(a, b *record) bool { return a.task.DiesAt.Before(b.task.DiesAt) }
	finishedFirst := func(a, b *record) bool { return a.task.FinishedAt.Before(b.task.FinishedAt) }
	readyFirst := func(a, b *record) bool { return a.readyAt.Before(b.readyAt) }

	qs := &queueState{
		settings: q, namespace: sp, keys: map[string]*record{}, counts: map[queue.Status]int64{},
		groups: map[string]*groupState{}, shares: map[string]*fairShare{},
		oldest:  newHeap(readyFirst, oldestIndex),
		overdue: newHeap(expiresFirst, heapIndex),
		done:    newHeap(finishedFirst, heapIndex),
	}
	qs.ready = newHeap(qs.isBefore, heapIndex)
	return qs
}

// isBefore orders ready tasks by priority, then by when they became ready.
func (qs *queueState) isBefore(a, b *record) bool {
	if a.task.Priority != b.task.Priority {
		return a.task.Priority < b.task.Priority
	}
	return a.readySeq < b.readySeq
}

// countRetained returns the number of retained tasks. It includes tasks with a lapsed lease that the rescuer has not taken back.
func (qs *queueState) countRetained() int64 { return qs.counts[queue.StatusRetained] }

// isWithinLimits reports whether pause, rate and concurrency of the queue let one more task start. The limits of groups are checked for
// each task, in chooseStarts.
func (qs *queueState) isWithinLimits(now time.Time) bool {
	if qs.settings.Paused || !qs.nextStart(now).IsZero() {
		return false
	}
	return qs.settings.Concurrency == 0 || qs.countRetained() < int64(qs.settings.Concurrency)
}

// nextStart returns when a timed pause or the rate limit lets the next task start; zero stands for now.
func (qs *queueState) nextStart(now time.Time) time.Time {
	if now.Before(qs.settings.PausedUntil) {
		return qs.settings.PausedUntil
	}
	_, _, next := qs.settings.Rate().Admit(qs.rateState, now, 1)
	return next
}

// isPastRetention reports whether r has finished and its retention is over. Callers cannot see such a task, also before the pruner
// deletes it.
func (qs *queueState) isPastRetention(r *record, now time.Time) bool {
	return r.task.Status.Finished() && !now.Before(r.task.FinishedAt.Add(qs.settings.FinishedStay()))
}

// findTask returns a task of the namespace, or KindNotFound: also for a task of a deleted queue, and for one past its retention.
func (s *Store) findTask(namespace string, id int64, now time.Time) (*record, error) {
	r := s.tasks[id]
	if r == nil || r.queue.gone || r.queue.namespace.name != namespace || r.queue.isPastRetention(r, now) {
		return nil, queue.NotFoundTask(id)
	}
	return r, nil
}

// insertTask adds a new task to qs.
func (s *Store) insertTask(qs *queueState, t queue.NewTask, now time.Time) *record {
	s.lastID++
	due := t.DelayedAt
	if t.Delay > 0 {
		due = now.Add(t.Delay)
	}
	if !due.IsZero() {
		due = due.UTC()
	}

	// A clone, because payload and headers belong to the caller.
	task := t.MakeTask(s.lastID, &qs.settings, now)
	r := &record{queue: qs, task: *task.Clone()}
	r.task.SetLife(qs.settings.Born(now, due))
	s.tasks[r.task.ID] = r
	qs.roster.appendRecord(r)
	qs.namespace.roster.appendRecord(r)
	if t.Key != "" {
		qs.keys[t.Key] = r
	}

	qs.created.addAt(now, 1)
	qs.history.current.Created++
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
	s.releaseSuspect(r, life)
	r.task.SetLife(life)
	r.losses = life.Losses
	s.placeTask(r, c.Now)
	// Last, because the end of a place may offer the next task of the group, and r may be that one.
	s.endPlace(r, c.Now)
	r.queue.history.addMove(m, life.Status)
	if life.Status.Finished() {
		r.queue.finished.addAt(c.Now, 1)
	}

	return nil
}

// placeTask counts r, puts it into the heap of its status, and offers it to callers that wait.
func (s *Store) placeTask(r *record, now time.Time) {
	qs := r.queue
	qs.counts[r.task.Status]++
	if r.task.Status.Waiting() && !r.task.DiesAt.IsZero() {
		s.expiring.pushItem(r)
	}

	switch {
	case r.task.Status == queue.StatusRetained:
		r.pushTo(&s.leased)
	case r.task.Status.Finished():
		r.pushTo(&qs.done)
	case r.task.DelayedAt.After(now):
		r.pushTo(&s.delayed)
	default:
		s.placeReady(r, now)
	}
}

// pushTo puts r into the heap of its status.
func (r *record) pushTo(h *heap[*record]) {
	r.heap = h
	h.pushItem(r)
}

// placeReady puts a task that became ready among the ready ones. In a FIFO queue it waits for its group, which offers its tasks in
// their order.
func (s *Store) placeReady(r *record, now time.Time) {
	qs := r.queue
	// The counter orders the tasks that became ready in one microsecond too.
	s.ready++
	r.readySeq, r.readyAt = s.ready, now

	if qs.settings.IsFIFO() {
		g := qs.ensureGroup(r.task.Group)
		r.pushTo(&g.waiting)
		qs.groupWaiting++
		s.offerNext(g, now)
		return
	}

	r.pushTo(&qs.ready)
	qs.oldest.pushItem(r)
	qs.joinFairShare(r)
	if g := qs.groups[r.task.Group]; g != nil {
		g.offered++
	}
	qs.namespace.busy[qs] = struct{}{}
	s.wakeListeners(qs)
}

// unplaceTask takes r out of the heaps of its status. It wakes waiting callers when that lets another task of the queue start.
func (s *Store) unplaceTask(r *record) {
	qs := r.queue
	qs.counts[r.task.Status]--
	r.heap.removeItem(r)
	if r.expiryIndex != 0 {
		s.expiring.removeItem(r)
	}

	if g := qs.groups[r.task.Group]; g != nil {
		switch r.heap {
		case &g.waiting:
			qs.groupWaiting--
		case &qs.ready:
			g.offered--
		}
	}

	if r.oldestIndex != 0 {
		qs.oldest.removeItem(r)
		qs.leaveFairShare(r)
	}

	// A retain without names looks at busy queues alone, so its cost does not grow with idle ones.
	if qs.ready.countItems() == 0 {
		delete(qs.namespace.busy, qs)
		return
	}
	// A retained task left a queue with a concurrency, so another may start. Limits of groups need no such call: offerNext makes the
	// next task of a group ready.
	if r.heap == &s.leased && qs.settings.Concurrency > 0 && !qs.gone {
		s.wakeListeners(qs)
	}
}

// removeTask deletes r for good.
func (s *Store) removeTask(r *record, now time.Time) {
	s.releaseSuspect(r, queue.Life{})
	s.unplaceTask(r)
	delete(s.tasks, r.task.ID)
	// A task that another one replaced has lost its key to it.
	if qs := r.queue; r.task.Key != "" && qs.keys[r.task.Key] == r {
		delete(qs.keys, r.task.Key)
	}
	r.gone = true
	r.queue.roster.dropRemoved()
	r.queue.namespace.roster.dropRemoved()
	if g := r.queue.groups[r.task.Group]; g != nil {
		g.state.Free(r.task.ID)
		s.offerNext(g, now)
	}
}

// writeDeadLetter creates the dead letter of a failed task. It does nothing when its queue names no dead letter queue, or one that is
// gone. kind is that of the last error.
func (s *Store) writeDeadLetter(r *record, kind string, now time.Time) {
	q := &r.queue.settings
	if r.task.Status != queue.StatusFailed || q.DeadLetter == "" {
		return
	}
	if to := r.queue.namespace.queues[q.DeadLetter]; to != nil {
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

// appendAttemptError keeps the error of r's present attempt, cut to MaxErrorBytes, and at most the last MaxErrors. failed has the error, its kind and its fingerprint.
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
	rows    []*record
	removed int // rows that are gone
}

func (o *taskRoster) appendRecord(r *record) { o.rows = append(o.rows, r) }

// dropRemoved counts one more removed row. It copies the others once more than half of the rows, and at least 64, are removed.
func (o *taskRoster) dropRemoved() {
	o.removed++
	// So a removal costs a constant time on average. 64 spares the short lists.
	if o.removed > 64 && o.removed > len(o.rows)/2 {
		living := make([]*record, 0, len(o.rows)) // a new slice, because an iteration may still read the old one
		for _, r := range o.rows {
			if !r.gone {
				living = append(living, r)
			}
		}
		o.rows, o.removed = living, 0
	}
}

// eachNewestFirst yields the living records, newest first. The roster may change meanwhile.
func (o *taskRoster) eachNewestFirst() iter.Seq[*record] {
	rows := o.rows
	return func(yield func(*record) bool) {
		for _, r := range slices.Backward(rows) {
			if !r.gone && !yield(r) {
				return
			}
		}
	}
}
