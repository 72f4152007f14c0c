package manager

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	// leastPoll is the shortest pause between two looks of whoever waits.
	leastPoll = 20 * time.Millisecond
	// firstPass is how many waiters the first Store call after a wake serves. When all of them got something the next
	// one serves twice as many, so that a wake for one task does not carry a thousand requests.
	firstPass = 64
)

// rooms are where retains wait: one room for each set of queues of a namespace, while somebody is in it. A room makes
// one Store call at a time, for those who have waited longest, when it is woken and at its poll interval.
type rooms struct {
	c  *core
	mu sync.Mutex
	in map[string]map[lot]*room // by namespace
	// turns counts those who came to wait.
	turns uint64
}

type room struct {
	*alarm
	key     lot
	queues  []string
	users   int // callers inside, waiting or about to
	waiters list.List
	wakes   int // how often it was woken
	running bool
	pace    pace
	err     error // why the last pass failed
	vain    bool  // a create had nothing for those who wait; see treat
}

// waiter is a parked retain; guarded by the lock of rooms until done is closed.
type waiter struct {
	share   queue.RetainShare
	place   *list.Element
	turn    uint64 // in which it came, over all rooms
	serving bool   // in a Store call
	last    bool   // its time is over: the present call is its last
	gone    bool   // its caller has gone: what the present call gives it is handed back
	done    chan struct{}
	tasks   []*queue.Task
	err     error
}

func newRooms(c *core) *rooms { return &rooms{c: c, in: map[string]map[lot]*room{}} }

// retain takes tasks, and waits for them when there are none.
func (rs *rooms) retain(ctx context.Context, key lot, share queue.RetainShare, wait time.Duration) ([]*queue.Task, error) {
	stand, err := rs.c.sit()
	if err != nil {
		return nil, err
	}
	defer stand()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	r, wakes, others := rs.enter(key)
	defer rs.leave(r)
	if !others { // nobody to queue up behind
		tasks, err := rs.c.retainNow(ctx, key, share)
		if err != nil || len(tasks) > 0 {
			return tasks, err
		}
	}
	w := &waiter{share: share, done: make(chan struct{})}
	if !rs.park(r, w, others, wakes) {
		return nil, batch.Closed("manager")
	}
	over := timer.C
	for {
		select {
		case <-w.done:
			return w.tasks, w.err
		case <-ctx.Done():
			if rs.quit(r, w, false) {
				return nil, queue.ContextError(ctx.Err())
			}
		case <-rs.c.closing:
			if rs.quit(r, w, false) {
				return nil, batch.Closed("manager")
			}
		case <-over:
			if rs.quit(r, w, true) {
				return nil, rs.failing(r)
			}
			over = nil
		}
	}
}

// enter gives the room of key, how often it was woken so far, and whether others wait there.
func (rs *rooms) enter(key lot) (r *room, wakes int, others bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r = rs.in[key.namespace][key]
	if r == nil {
		r = &room{
			alarm: newAlarm(), key: key, queues: key.names(),
			pace: pace{least: min(leastPoll, rs.c.cfg.poll), most: rs.c.cfg.poll},
		}
		if rs.in[key.namespace] == nil {
			rs.in[key.namespace] = map[lot]*room{}
		}
		rs.in[key.namespace][key] = r
	}
	r.users++
	return r, r.wakes, r.waiters.Len() > 0
}

func (rs *rooms) leave(r *room) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.users--; r.users > 0 {
		return
	}
	delete(rs.in[r.key.namespace], r.key)
	if len(rs.in[r.key.namespace]) == 0 {
		delete(rs.in, r.key.namespace)
	}
}

// park puts w at the end of the room. One who has not looked yet, or was woken since, has the room look at once.
func (rs *rooms) park(r *room, w *waiter, look bool, wakes int) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if !r.running {
		if !rs.c.spawn(func() { rs.run(r) }) {
			return false
		}
		r.running = true
	}
	rs.turns++
	w.place, w.turn = r.waiters.PushBack(w), rs.turns
	if look || r.wakes != wakes {
		r.ring()
	}
	return true
}

// quit takes w out. It reports false when w is answered by done: it has its answer already, or, when its time is over
// during a Store call, that call's answer is still worth having.
func (rs *rooms) quit(r *room, w *waiter, patient bool) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	switch {
	case w.place == nil:
		return false
	case w.serving && patient:
		w.last = true
		return false
	}
	w.gone = w.serving
	r.remove(w)
	return true
}

func (r *room) remove(w *waiter) {
	r.waiters.Remove(w.place)
	w.place = nil
	if r.waiters.Len() == 0 {
		r.ring() // the loop ends
	}
}

// answer ends the waiting of w.
func (r *room) answer(w *waiter, tasks []*queue.Task, err error) {
	w.tasks, w.err = tasks, err
	r.remove(w)
	close(w.done)
}

func (rs *rooms) failing(r *room) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return r.err
}

// run looks for tasks while somebody waits.
func (rs *rooms) run(r *room) {
	for {
		rs.mu.Lock()
		if r.waiters.Len() == 0 {
			r.running = false
			r.clear()
			r.pace.reset()
			rs.mu.Unlock()
			return
		}
		sleep := r.pace.next()
		rs.mu.Unlock()
		if !r.wait(rs.c.closing, sleep) {
			return // the manager is closed for good: every waiter sees that itself
		}
		rs.pass(r)
	}
}

// pass serves waiters, the longest waiting first, until one gets nothing: then no other would.
func (rs *rooms) pass(r *room) {
	for n := firstPass; ; n *= 2 {
		waiters, shares := rs.front(r, min(n, rs.c.cfg.gather.MaxBatch))
		if len(waiters) == 0 {
			return
		}
		outs, err := rs.c.retains.Do(rs.c.base, r.key, shares...)
		if rs.serve(r, waiters, outs, err) < len(waiters) {
			return
		}
	}
}

// front is the first n waiters who are not served already, fewer when they ask for more tasks than a batch has.
func (rs *rooms) front(r *room, n int) (waiters []*waiter, shares []queue.RetainShare) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	tasks := 0
	for w := idle(r.waiters.Front()); w != nil && len(waiters) < n; w = idle(w.place.Next()) {
		if tasks += w.share.Limit; tasks > queue.MaxBatch && len(waiters) > 0 {
			break
		}
		w.serving = true
		waiters, shares = append(waiters, w), append(shares, w.share)
	}
	return waiters, shares
}

// idle is the first from e on who is not in a Store call.
func idle(e *list.Element) *waiter {
	for ; e != nil; e = e.Next() {
		if w := e.Value.(*waiter); !w.serving { // the list holds nothing else
			return w
		}
	}
	return nil
}

// serve gives waiters what a Store call gave, and returns how many got something.
func (rs *rooms) serve(r *room, waiters []*waiter, outs [][]*queue.Task, err error) (served int) {
	var back []*queue.Task
	rs.mu.Lock()
	r.err = err
	for i, w := range waiters {
		w.serving = false
		var tasks []*queue.Task
		if err == nil {
			tasks = outs[i]
		}
		if len(tasks) > 0 {
			served++
		}
		switch {
		case w.gone:
			back = append(back, tasks...)
		case len(tasks) > 0:
			r.answer(w, tasks, nil)
		case err != nil && (w.last || !passing(err)):
			r.answer(w, nil, err)
		case w.last:
			r.answer(w, nil, nil)
		}
	}
	if served > 0 {
		r.pace.reset()
		r.vain = false
	}
	rs.mu.Unlock()
	rs.c.giveBack(r.key, back)
	return served
}

// passing says that waiting may help against err.
func passing(err error) bool {
	return slices.Contains([]queue.Kind{
		queue.KindUnavailable, queue.KindIndeterminate, queue.KindDeadline, queue.KindCanceled,
	}, queue.KindOf(err))
}

// wake has the rooms look in which tasks of w may be waited for.
func (rs *rooms) wake(w queue.Wake) {
	rs.each(w, func(r *room) {
		r.wakes++
		if r.waiters.Len() > 0 {
			r.ring()
		}
	})
}

// wakeIn is wake in d: when a delayed task of the queue is due.
func (rs *rooms) wakeIn(namespace, name string, d time.Duration) {
	rs.each(queue.Wake{Namespace: namespace, Queue: name}, func(r *room) {
		if r.waiters.Len() > 0 {
			r.ringIn(d)
		}
	})
}

// wanted reports whether somebody waits for tasks of a queue.
func (rs *rooms) wanted(namespace, name string) (yes bool) {
	rs.each(queue.Wake{Namespace: namespace, Queue: name}, func(r *room) { yes = yes || r.waiters.Len() > 0 })
	return yes
}

// each calls f, under the lock, with the rooms that w is for.
func (rs *rooms) each(w queue.Wake, f func(*room)) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if w.Namespace == "" {
		for _, in := range rs.in {
			for _, r := range in {
				f(r)
			}
		}
		return
	}
	for _, r := range rs.in[w.Namespace] {
		if w.Queue == "" || r.hears(w.Queue) {
			f(r)
		}
	}
}

// hears says that those in the room wait for tasks of a queue.
func (r *room) hears(name string) bool {
	_, named := slices.BinarySearch(r.queues, name)
	return named || len(r.queues) == 0
}
