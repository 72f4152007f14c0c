package memory

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// record is a task and what the store knows beside it.
type record struct {
	task   queue.Task // Lease, Errors and Replayed unset
	lane   *lane
	errors []queue.AttemptError
	lease  queue.Lease // while retained
	// settled is the token of the last accepted release, until the task is retained again.
	settled int64
	order   int64 // by which it became ready
	readyAt time.Time
	gone    bool

	in    *heap[*record] // the heap of its status
	place int            // in that heap
	death int            // in Store.dying
	age   int            // in lane.oldest
}

// lane is a queue and its tasks.
type lane struct {
	queue  queue.Queue
	space  *space
	roster roster
	keys   map[string]*record
	ready  heap[*record] // by priority, then by when they became ready
	oldest heap[*record] // the same tasks by when they became ready alone
	late   heap[*record] // were ready when their ttl ran out
	done   heap[*record] // by when they finished
	counts map[queue.Status]int64
	served int64 // when it was last served, in turns
	gone   bool

	created, finished rate
}

func newLane(q queue.Queue, sp *space) *lane {
	place := func(r *record) *int { return &r.place }
	return &lane{
		queue: q, space: sp, keys: map[string]*record{}, counts: map[queue.Status]int64{},
		ready: newHeap(func(a, b *record) bool {
			if a.task.Priority != b.task.Priority {
				return a.task.Priority < b.task.Priority
			}
			return a.order < b.order
		}, place),
		oldest: newHeap(func(a, b *record) bool { return a.readyAt.Before(b.readyAt) }, func(r *record) *int { return &r.age }),
		late:   newHeap(func(a, b *record) bool { return a.task.DiesAt.Before(b.task.DiesAt) }, place),
		done:   newHeap(func(a, b *record) bool { return a.task.FinishedAt.Before(b.task.FinishedAt) }, place),
	}
}

// held is how many tasks of the queue are retained, those of expired leases too until they are rescued.
func (l *lane) held() int64 { return l.counts[queue.StatusRetained] }

// open says that a task may be retained now.
func (l *lane) open() bool {
	return !l.queue.Paused && (l.queue.Concurrency == 0 || l.held() < int64(l.queue.Concurrency))
}

// past says that r is past its retention.
func (l *lane) past(r *record, now time.Time) bool {
	return r.task.Status.Finished() && !now.Before(r.task.FinishedAt.Add(l.queue.FinishedStay()))
}

// get returns the task if the namespace has it and it may be seen.
func (s *Store) get(namespace string, id int64, now time.Time) (*record, error) {
	r := s.tasks[id]
	if r == nil || r.lane.gone || r.lane.space.name != namespace || r.lane.past(r, now) {
		return nil, noTask(id)
	}
	return r, nil
}

// insert adds a new task to l.
func (s *Store) insert(l *lane, t queue.NewTask, now time.Time) *record {
	s.lastID++
	due := t.DelayedAt
	if t.Delay > 0 {
		due = now.Add(t.Delay)
	}
	if !due.IsZero() {
		due = due.UTC()
	}
	r := &record{lane: l, task: queue.Task{
		ID: s.lastID, Namespace: l.queue.Namespace, Queue: l.queue.Name, Payload: bytes.Clone(t.Payload),
		Priority: t.Priority, CreatedAt: now, Key: t.Key, Headers: maps.Clone(t.Headers),
	}}
	r.task.SetLife(l.queue.Born(now, due))
	s.tasks[r.task.ID] = r
	l.roster.add(r)
	l.space.roster.add(r)
	if t.Key != "" {
		l.keys[t.Key] = r
	}
	l.created.add(now, 1)
	s.settle(r, now)
	s.note(r, queue.EventCreated, "", now)
	return r
}

// move makes one move of r's life, or changes nothing.
func (s *Store) move(r *record, m queue.Move, c queue.Circumstances) error {
	life, err := r.lane.queue.Moved(r.task.Life(), m, c)
	if err != nil {
		e := &queue.Error{}
		if errors.As(err, &e) {
			e.Subject = subject(r.task.ID)
		}
		return err
	}
	s.unsettle(r)
	r.task.SetLife(life)
	s.settle(r, c.Now)
	if life.Status.Finished() {
		r.lane.finished.add(c.Now, 1)
	}
	return nil
}

// settle puts r where its status belongs and counts it.
func (s *Store) settle(r *record, now time.Time) {
	l := r.lane
	l.counts[r.task.Status]++
	switch {
	case r.task.Status == queue.StatusRetained:
		r.in = &s.leased
	case r.task.Status.Finished():
		r.in = &l.done
	case r.task.DelayedAt.After(now):
		r.in = &s.delayed
	default:
		s.ready++
		r.order, r.readyAt = s.ready, now
		r.in = &l.ready
		l.oldest.push(r)
		l.space.busy[l] = struct{}{}
		s.wake(l)
	}
	r.in.push(r)
	if r.task.Status.Waiting() && !r.task.DiesAt.IsZero() {
		s.dying.push(r)
	}
}

// unsettle takes r out of where its status put it.
func (s *Store) unsettle(r *record) {
	l := r.lane
	l.counts[r.task.Status]--
	r.in.remove(r)
	if r.death != 0 {
		s.dying.remove(r)
	}
	if r.age != 0 {
		l.oldest.remove(r)
	}
	switch {
	case l.ready.len() == 0:
		delete(l.space.busy, l)
	case r.in == &s.leased && l.queue.Concurrency > 0 && !l.gone:
		s.wake(l) // there is room again
	}
}

// remove deletes r for good.
func (s *Store) remove(r *record) {
	s.unsettle(r)
	delete(s.tasks, r.task.ID)
	if l := r.lane; r.task.Key != "" && l.keys[r.task.Key] == r {
		delete(l.keys, r.task.Key)
	}
	r.gone = true
	r.lane.roster.lost()
	r.lane.space.roster.lost()
}

// view is the task as a caller gets it.
func (r *record) view() *queue.Task {
	t := r.task
	t.Payload = bytes.Clone(t.Payload)
	t.Result = bytes.Clone(t.Result)
	t.Progress = bytes.Clone(t.Progress)
	t.Headers = maps.Clone(t.Headers)
	return &t
}

// full is view with the errors of the attempts.
func (r *record) full() *queue.Task {
	t := r.view()
	t.Errors = slices.Clone(r.errors)
	for i := range t.Errors {
		t.Errors[i].Error = bytes.Clone(t.Errors[i].Error)
	}
	return t
}

// failed keeps the error of r's present attempt, bounded.
func (r *record) failed(result []byte, now time.Time) {
	r.errors = append(r.errors, queue.AttemptError{
		Attempt: r.task.Attempt, At: now, Worker: r.task.Worker,
		Error: bytes.Clone(queue.CleanJSON(result, queue.MaxErrorBytes)),
	})
	if extra := len(r.errors) - queue.MaxErrors; extra > 0 {
		r.errors = slices.Delete(r.errors, 0, extra)
	}
}

// roster lists records in the order of their ids. Records that are gone stay in it until they are many.
type roster struct {
	rows []*record
	dead int
}

func (o *roster) add(r *record) { o.rows = append(o.rows, r) }

// lost says that one more of the rows is gone.
func (o *roster) lost() {
	o.dead++
	if o.dead > 64 && o.dead > len(o.rows)/2 {
		living := make([]*record, 0, len(o.rows)) // a new one: somebody may be walking the old one
		for _, r := range o.rows {
			if !r.gone {
				living = append(living, r)
			}
		}
		o.rows, o.dead = living, 0
	}
}

// all yields the living records, newest first. The roster may change meanwhile.
func (o *roster) all() func(yield func(*record) bool) {
	rows := o.rows
	return func(yield func(*record) bool) {
		for _, row := range slices.Backward(rows) {
			if r := row; !r.gone && !yield(r) {
				return
			}
		}
	}
}
