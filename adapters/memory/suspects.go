package memory

import (
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// A suspect is a task that has lost its lease and that no worker has released since. A worker holds at most one at a time. A
// search sets the others aside, so that those behind them still go.

// workerKey names a worker of a namespace.
type workerKey struct{ namespace, worker string }

// releaseSuspect forgets that a worker holds the suspect r, when r will not be retained in its next life. It runs before r has that life.
func (s *Store) releaseSuspect(r *record, next queue.Life) {
	key := workerKey{r.queue.namespace.name, r.task.Worker}
	if s.suspects[key] == r && next.Status != queue.StatusRetained {
		delete(s.suspects, key)
		s.wakeListeners(r.queue) // another suspect may go
	}
}

// takesSuspect reports whether a worker may hold r besides what it holds.
func (s *Store) takesSuspect(r *record, worker string) bool {
	return r.losses == 0 || s.suspects[workerKey{r.queue.namespace.name, worker}] == nil
}

// cutSuspects returns the first of the tasks that start together, up to one that the worker may not hold with them.
func (s *Store) cutSuspects(starts []*record, worker string) []*record {
	for i, r := range starts {
		if !s.takesSuspect(r, worker) || i > 0 && r.losses > 0 && slices.ContainsFunc(starts[:i], func(o *record) bool { return o.losses > 0 }) {
			return starts[:i]
		}
	}
	return starts
}

// setAside takes a ready task out of the sight of a search.
func (s *Store) setAside(qs *queueState, r *record, now time.Time) {
	qs.leaveFairShare(r)
	qs.ready.removeItem(r)
	qs.oldest.removeItem(r)
	qs.passedOver = append(qs.passedOver, r)
	if g := qs.groups[r.task.Group]; g != nil && !qs.settings.IsFIFO() { // in a FIFO queue the group waits for it
		g.offered--
		s.offerNext(g, now)
	}
}

// returnAside makes the tasks ready again that a search has set aside.
func (qs *queueState) returnAside() {
	for _, r := range qs.passedOver {
		qs.ready.pushItem(r)
		qs.oldest.pushItem(r)
		qs.joinFairShare(r)
		if g := qs.groups[r.task.Group]; g != nil && !qs.settings.IsFIFO() {
			g.offered++
		}
		qs.namespace.busy[qs] = struct{}{}
	}
	qs.passedOver = nil
}
