// Package waitlist has the waiting callers of RetainTasks, and hands the tasks of a create to them.
//
// There is one waitlist for each queue set of a namespace while a caller waits there. A waitlist makes one Store call at a
// time for the callers that have waited longest: when a wake-up arrives, and at its poll interval.
package waitlist

import (
	"container/list"
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

const (
	// firstBatch is the number of callers in the first search after a wake-up. When all of them got tasks the next search
	// has twice as many, so that a wake-up for one task does not carry a thousand requests.
	firstBatch = 64
	// maxSearches bounds the Store calls in flight of all waitlists.
	maxSearches = 12
)

// QueueSet names the queues of a retain. Callers of the same set share Store calls.
type QueueSet struct {
	Namespace string
	// Queues are sorted and joined by commas; "" = any queue of the namespace.
	Queues string
	// Request is set for retains with a request id: these share Store calls with their repeats alone.
	Request Request
	// Alone is a number of its own for a retain that shares no Store call; 0 = it may.
	Alone uint64
}

// Unread is the answer of a request that the Store call has left to the next one; see queue.TaskStore.
var Unread = []*queue.Task{nil}

// IsUnread reports whether tasks is Unread.
func IsUnread(tasks []*queue.Task) bool { return len(tasks) == 1 && tasks[0] == nil }

// Request identifies a retain with a request id.
type Request struct{ Worker, ID, Arguments string }

// Names returns the queues of the set; none = any.
func (s QueueSet) Names() []string {
	if s.Queues == "" {
		return nil
	}

	return strings.Split(s.Queues, ",")
}

// Options configures the waitlists of a manager.
type Options struct {
	Owner *owner.Owner
	Store Store
	// MaxBatch bounds the callers of one search.
	MaxBatch int
	// RetainTasks is the Store call of a search.
	RetainTasks func(ctx context.Context, set QueueSet, shares []queue.RetainShare) ([][]*queue.Task, error)
	// HandBack returns the tasks of callers that left. It does not block.
	HandBack func(set QueueSet, tasks []*queue.Task)
}

// Store is the part of queue.Store that creates tasks.
type Store interface {
	CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error)
	CreateAndRetain(ctx context.Context, c queue.Create, r queue.Retain) ([]queue.Created, [][]*queue.Task, error)
}

// Waitlists are all waitlists of a manager. It is safe for concurrent use.
type Waitlists struct {
	Options

	searches chan struct{} // has an element for each Store call in flight

	mu    sync.Mutex
	lists map[string]map[QueueSet]*waitlist // by namespace
	// arrivals counts the callers that came to wait.
	arrivals uint64
}

// New returns waitlists without callers.
func New(options Options) *Waitlists {
	return &Waitlists{
		Options:  options,
		searches: make(chan struct{}, maxSearches),
		lists:    map[string]map[QueueSet]*waitlist{},
	}
}

type waitlist struct {
	*owner.WakeTimer

	set       QueueSet
	queues    []string
	callers   list.List // of *caller
	isRunning bool
	backoff   retry.Backoff
	err       error // of the last search
	// gotNothing: a create with ready tasks had none for these callers; see Handoff.deliverTasks.
	gotNothing bool
}

// caller is a waiting retain. The lock of Waitlists guards it until done is closed.
type caller struct {
	share   queue.RetainShare
	element *list.Element
	arrival uint64 // its number over all waitlists
	served  bool   // it is in a Store call
	expired bool   // its wait is over, and the Store call in flight is its last
	left    bool   // the tasks of the Store call in flight are handed back
	done    chan struct{}
	tasks   []*queue.Task
	err     error
}

// Retain takes tasks of set, and waits for them up to wait when there are none. Callers of a set are served in the order
// in which they came.
func (w *Waitlists) Retain(ctx context.Context, set QueueSet, share queue.RetainShare, wait time.Duration) ([]*queue.Task, error) {
	end, err := w.Owner.Wait()
	if err != nil {
		return nil, err
	}
	defer end()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	c := &caller{share: share, done: make(chan struct{})}
	l := w.joinWaitlist(set, c)
	if l == nil {
		return nil, owner.ClosedError()
	}

	expired := timer.C
	for {
		select {
		case <-c.done:
			return c.tasks, c.err
		case <-ctx.Done():
			if w.leaveWaitlist(l, c) {
				return nil, queue.ContextError(ctx.Err())
			}
		case <-w.Owner.Closing():
			if w.leaveWaitlist(l, c) {
				return nil, owner.ClosedError()
			}
		case <-expired:
			if w.expireCaller(l, c) {
				return nil, c.err
			}
			expired = nil
		}
	}
}

// joinWaitlist puts c at the end of the waitlist of set, which then searches at once; nil when the manager is closed.
func (w *Waitlists) joinWaitlist(set QueueSet, c *caller) *waitlist {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.lists[set.Namespace][set]
	if l == nil {
		l = &waitlist{WakeTimer: owner.NewWakeTimer(), set: set, queues: set.Names(), backoff: w.Owner.PollBackoff()}
	}
	if !l.isRunning {
		if !w.Owner.Go(func() { w.searchWhileWaited(l) }) {
			return nil
		}
		l.isRunning = true
		if w.lists[set.Namespace] == nil {
			w.lists[set.Namespace] = map[QueueSet]*waitlist{}
		}
		w.lists[set.Namespace][set] = l
	}

	w.arrivals++
	c.element, c.arrival = l.callers.PushBack(c), w.arrivals
	l.Fire()

	return l
}

// leaveWaitlist takes c out; false when its answer is there already.
func (w *Waitlists) leaveWaitlist(l *waitlist, c *caller) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.element == nil {
		return false
	}
	// The Store call may take tasks for it, which go back then.
	c.left = c.served
	l.removeCaller(c)

	return true
}

// expireCaller takes c out at the end of its wait. It returns false when c gets an answer: it is there already, or a Store call
// in flight may still bring tasks.
func (w *Waitlists) expireCaller(l *waitlist, c *caller) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.element == nil {
		return false
	}
	if c.served {
		c.expired = true
		return false
	}
	c.err = l.err
	l.removeCaller(c)

	return true
}

// removeCaller takes c out. The goroutine of a waitlist without callers ends.
func (l *waitlist) removeCaller(c *caller) {
	l.callers.Remove(c.element)
	c.element = nil
	if l.callers.Len() == 0 {
		l.Fire()
	}
}

// answerCaller ends the wait of c.
func (l *waitlist) answerCaller(c *caller, tasks []*queue.Task, err error) {
	c.tasks, c.err = tasks, err
	l.removeCaller(c)
	close(c.done)
}

// searchWhileWaited searches for tasks while the waitlist has callers.
func (w *Waitlists) searchWhileWaited(l *waitlist) {
	for {
		w.mu.Lock()
		if l.callers.Len() == 0 {
			w.forgetWaitlist(l)
			w.mu.Unlock()
			return
		}
		pause := l.backoff.Next()
		w.mu.Unlock()

		// After the end of the manager every caller leaves by itself.
		if !l.Sleep(w.Owner.Closing(), pause) {
			w.mu.Lock()
			w.forgetWaitlist(l)
			w.mu.Unlock()
			return
		}
		w.searchForCallers(l)
	}
}

// forgetWaitlist forgets a waitlist that has no goroutine. The caller holds mu.
func (w *Waitlists) forgetWaitlist(l *waitlist) {
	l.isRunning = false
	delete(w.lists[l.set.Namespace], l.set)
	if len(w.lists[l.set.Namespace]) == 0 {
		delete(w.lists, l.set.Namespace)
	}
}

// searchForCallers serves callers, the longest waiting first, until one gets nothing: then no other one would.
func (w *Waitlists) searchForCallers(l *waitlist) {
	for n := firstBatch; ; n *= 2 {
		// Callers that are about to join share the Store call, as in package batch.
		runtime.Gosched()
		callers, shares := w.takeFirstCallers(l, min(n, w.MaxBatch))
		if len(callers) == 0 {
			return
		}

		outs, err := w.searchOnce(l, shares)
		answered := len(callers)
		if i := slices.IndexFunc(outs, IsUnread); i >= 0 {
			outs = outs[:i]
			answered = i
		}
		if w.serveCallers(l, callers, outs, err) < answered {
			return
		}
	}
}

// searchOnce is one Store call, with a deadline of its own.
func (w *Waitlists) searchOnce(l *waitlist, shares []queue.RetainShare) ([][]*queue.Task, error) {
	w.searches <- struct{}{}
	defer func() { <-w.searches }()
	outs, _, err := batch.CallStore(w.Owner.Context(), w.Owner.CallTimeout, queue.KindUnavailable, shares,
		func(ctx context.Context, shares []queue.RetainShare) ([][]*queue.Task, error) {
			return w.RetainTasks(ctx, l.set, shares)
		})

	return outs, err
}

// takeFirstCallers returns the first n callers that no Store call serves; fewer when they ask for more tasks than a batch has.
func (w *Waitlists) takeFirstCallers(l *waitlist, n int) (callers []*caller, shares []queue.RetainShare) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tasks := 0
	for c := firstUnserved(l.callers.Front()); c != nil && len(callers) < n; c = firstUnserved(c.element.Next()) {
		// The sum bounds the tasks of one transaction, as MaxBatch bounds those of one call.
		tasks += c.share.Limit
		if tasks > queue.MaxBatch && len(callers) > 0 {
			break
		}
		c.served = true
		callers = append(callers, c)
		shares = append(shares, c.share)
	}

	return callers, shares
}

// firstUnserved returns the first caller from e on that no Store call serves.
func firstUnserved(e *list.Element) *caller {
	for ; e != nil; e = e.Next() {
		if c := e.Value.(*caller); !c.served {
			return c
		}
	}

	return nil
}

// serveCallers gives callers the answers of a Store call, and returns how many of them got tasks. Callers behind the
// answers go on waiting, also when their wait is over: the next search has them.
func (w *Waitlists) serveCallers(l *waitlist, callers []*caller, outs [][]*queue.Task, err error) (served int) {
	var unclaimed []*queue.Task
	w.mu.Lock()
	l.err = err
	for i, c := range callers {
		c.served = false
		// The Store call reached its bound on bytes before this request.
		if err == nil && i >= len(outs) {
			continue
		}

		var tasks []*queue.Task
		if err == nil {
			tasks = outs[i]
		}
		if len(tasks) > 0 {
			served++
		}

		switch {
		case c.left:
			unclaimed = append(unclaimed, tasks...)
		case len(tasks) > 0:
			l.answerCaller(c, tasks, nil)
		case err != nil && (c.expired || !owner.MayPass(err)):
			l.answerCaller(c, nil, err)
		case c.expired:
			l.answerCaller(c, nil, nil)
		}
	}
	if served > 0 {
		l.backoff.Reset()
		l.gotNothing = false
	}
	w.mu.Unlock()
	// Without the lock: it starts a goroutine, and must not hold up callers that join.
	w.HandBack(l.set, unclaimed)

	return served
}

// Wake has the waitlists search that may wait for tasks of wake.
func (w *Waitlists) Wake(wake queue.Wake) {
	w.forEachWaitlist(wake, func(l *waitlist) { l.Fire() })
}

// WakeIn is Wake in d: when a delayed task of the queue is due.
func (w *Waitlists) WakeIn(namespace, name string, d time.Duration) {
	w.forEachWaitlist(queue.Wake{Namespace: namespace, Queue: name}, func(l *waitlist) { l.FireIn(d) })
}

// HasCallers reports whether a caller waits for tasks of a queue.
func (w *Waitlists) HasCallers(namespace, name string) (has bool) {
	w.forEachWaitlist(queue.Wake{Namespace: namespace, Queue: name}, func(l *waitlist) { has = has || l.callers.Len() > 0 })
	return has
}

// Len returns the number of waitlists.
func (w *Waitlists) Len() (n int) {
	w.forEachWaitlist(queue.Wake{}, func(*waitlist) { n++ })
	return n
}

// forEachWaitlist calls f, under the lock, with the waitlists that wake is for.
func (w *Waitlists) forEachWaitlist(wake queue.Wake, f func(*waitlist)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wake.Namespace == "" {
		for _, lists := range w.lists {
			for _, l := range lists {
				f(l)
			}
		}
		return
	}

	for _, l := range w.lists[wake.Namespace] {
		if wake.Queue == "" || l.includesQueue(wake.Queue) {
			f(l)
		}
	}
}

// includesQueue reports whether the callers wait for tasks of a queue.
func (l *waitlist) includesQueue(name string) bool {
	_, named := slices.BinarySearch(l.queues, name)
	return named || len(l.queues) == 0
}
