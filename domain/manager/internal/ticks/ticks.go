// Package ticks takes the ticks of tickers without a queue from the Store, and deals them to the listeners of a process.
package ticks

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// Store is the part of queue.Store that hands out ticks.
type Store interface {
	TakeTicks(ctx context.Context, namespace string, limit int, lease time.Duration) ([]queue.Tick, time.Duration, error)
	SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error
}

// Dealers take ticks for the listeners of this process, one dealer for each namespace that has any. It is safe for
// concurrent use.
type Dealers struct {
	owner *owner.Owner
	store Store
	lease time.Duration

	mu      sync.Mutex
	dealers map[string]*dealer
}

type dealer struct {
	*owner.WakeTimer

	namespace string
	// The lock of Dealers guards these fields.
	listeners int
	idle      []*Listener // the longest idle first
	isStarved bool        // there may be ticks for which no listener was idle
}

// Listener gets ticks one at a time.
type Listener struct {
	dealers *Dealers
	dealer  *dealer
	tick    chan queue.Tick // holds one tick
}

// NewDealers returns Dealers without listeners. A listener has a tick for lease; then the tick goes to the next one.
func NewDealers(o *owner.Owner, store Store, lease time.Duration) *Dealers {
	return &Dealers{owner: o, store: store, lease: lease, dealers: map[string]*dealer{}}
}

// Join returns a new listener of a namespace. It must Leave.
func (ds *Dealers) Join(namespace string) (*Listener, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d := ds.dealers[namespace]
	if d == nil {
		d = &dealer{WakeTimer: owner.NewWakeTimer(), namespace: namespace, isStarved: true}
		if !ds.owner.Go(func() { ds.dealUntilUnused(d) }) {
			return nil, owner.ClosedError()
		}
		ds.dealers[namespace] = d
	}
	d.listeners++

	return &Listener{dealers: ds, dealer: d, tick: make(chan queue.Tick, 1)}, nil
}

// Leave ends a listener. A dealer without listeners ends.
func (l *Listener) Leave() {
	l.dealers.mu.Lock()
	defer l.dealers.mu.Unlock()
	l.dealer.listeners--
	if l.dealer.listeners == 0 {
		// A later Join makes another dealer; this one sees its 0 listeners when it wakes.
		delete(l.dealers.dealers, l.dealer.namespace)
		l.dealer.Fire()
	}
}

// Next waits for a tick. A tick that arrives when ctx ends goes to the next listener.
func (l *Listener) Next(ctx context.Context) (queue.Tick, error) {
	ds, d := l.dealers, l.dealer
	ds.mu.Lock()
	d.idle = append(d.idle, l)
	// Without this the dealer would sleep until its next poll, though ticks may be due.
	if d.isStarved {
		d.Fire()
	}
	ds.mu.Unlock()

	var err error
	select {
	case t := <-l.tick:
		return t, nil
	case <-ctx.Done():
		err = queue.ContextError(ctx.Err())
	case <-ds.owner.Closing():
		err = owner.ClosedError()
	}

	ds.mu.Lock()
	i := slices.Index(d.idle, l)
	if i >= 0 {
		d.idle = slices.Delete(d.idle, i, i+1)
	}
	ds.mu.Unlock()
	// The dealer has taken l from the idle ones and has put a tick in its channel under the lock.
	if i < 0 {
		_ = ds.Settle(<-l.tick, false) // logged
	}

	return queue.Tick{}, err
}

// Settle ends the lease of a tick: delivered for good, or for the next listener.
func (ds *Dealers) Settle(t queue.Tick, delivered bool) error {
	ctx, cancel := ds.owner.NewCall()
	defer cancel()
	err := ds.store.SettleTicks(ctx, t.Namespace, []int64{t.ID}, delivered)
	if err != nil {
		ds.owner.Log.Warn("settling a tick failed; it is handed out again after its lease",
			"namespace", t.Namespace, "ticker", t.Ticker, "delivered", delivered, "error", err)
	} else if !delivered {
		ds.Wake(t.Namespace)
	}

	return err
}

// Wake has the dealer of a namespace take ticks.
func (ds *Dealers) Wake(namespace string) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d := ds.dealers[namespace]; d != nil {
		d.Fire()
	}
}

// Len returns the number of dealers.
func (ds *Dealers) Len() int {
	ds.mu.Lock()
	defer ds.mu.Unlock()

	return len(ds.dealers)
}

// dealUntilUnused takes as many ticks as listeners are idle, and sleeps until the next tick is due.
func (ds *Dealers) dealUntilUnused(d *dealer) {
	poll := ds.owner.PollInterval
	backoff := retry.Backoff{Min: owner.MinPoll, Max: max(poll, owner.MinPoll)}
	isFailing := false
	var stagger owner.Stagger
	var due time.Time // of the next tick, by the last Store call; zero = not known
	for sleep := time.Duration(0); ; {
		if sleep > 0 && !d.Sleep(ds.owner.Closing(), sleep) || ds.owner.Closed() {
			return
		}

		onTime := !due.IsZero() && !time.Now().Before(due)
		due = time.Time{}
		idle, ok := ds.countIdleListeners(d)
		if !ok {
			return
		}
		sleep = retry.Jitter(poll)
		if idle == 0 {
			continue
		}

		limit := min(idle, queue.MaxTakenTicks)
		ticks, next, err := ds.takeDueTicks(d.namespace, limit)
		if err != nil {
			if !isFailing {
				ds.owner.Log.Warn("taking ticks failed; repeating", "namespace", d.namespace, "error", err)
			}
			// Only the first failure of a row is logged, or a Store that is down would fill the log.
			isFailing = true
			sleep = backoff.Next()
			continue
		}
		isFailing = false
		backoff.Reset()

		// Of all processes one comes on time; the others come a little later.
		if onTime || len(ticks) > 0 {
			stagger.Record(len(ticks) > 0)
		}
		isKnown := next > 0
		next = max(next, time.Millisecond) + stagger.Delay()
		if isKnown && next < sleep {
			sleep = next
			due = time.Now().Add(next)
		}
		// A full answer means that the Store may have more.
		if ds.dealTicks(d, ticks, len(ticks) >= limit) {
			sleep = 0
		}
	}
}

func (ds *Dealers) takeDueTicks(namespace string, limit int) ([]queue.Tick, time.Duration, error) {
	ctx, cancel := ds.owner.NewCall()
	defer cancel()

	// The lease begins in the Store, maybe at the start of the call: the listener shall have all of it after the
	// slowest answer.
	return ds.store.TakeTicks(ctx, namespace, limit, ds.lease+ds.owner.CallTimeout)
}

// countIdleListeners returns the number of idle listeners; ok is false when no listener is left.
func (ds *Dealers) countIdleListeners(d *dealer) (n int, ok bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d.isStarved = len(d.idle) == 0

	return len(d.idle), d.listeners > 0
}

// dealTicks gives each tick to the listener that has been idle the longest, and returns the others to the Store. It reports
// whether there may be more ticks for idle listeners.
func (ds *Dealers) dealTicks(d *dealer, ticks []queue.Tick, mayBeMore bool) bool {
	ds.mu.Lock()
	n := min(len(ticks), len(d.idle))
	for i, l := range d.idle[:n] {
		// This cannot block under the lock: the channel holds one tick, and an idle listener has none.
		l.tick <- ticks[i]
	}
	d.idle = slices.Delete(d.idle, 0, n)
	d.isStarved = mayBeMore
	again := mayBeMore && len(d.idle) > 0
	ds.mu.Unlock()

	for _, t := range ticks[n:] {
		_ = ds.Settle(t, false) // logged
	}

	return again
}
