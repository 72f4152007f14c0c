package manager

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxTickRest is the longest rest of a listener whose handler fails again and again.
const maxTickRest = 10 * time.Second

// RunTickerLoop calls handle with each tick of the namespace's tickers that have no queue, one call at a time, until ctx
// ends; then it returns ctx's error. The process asks the store once for all its loops and gives them ticks in turn, each
// to one loop. handle's context ends with ctx and after the tick hold. When handle returns an error the tick goes to the
// next loop, and this one rests a little before it takes another.
func (m *Manager) RunTickerLoop(ctx context.Context, handle func(context.Context, queue.Tick) error) error {
	_, err := runOperation(ctx, m, opTickerLoop, func(ctx context.Context) (struct{}, error) {
		stand, err := m.sit()
		if err != nil {
			return struct{}{}, err
		}
		defer stand()
		l, err := m.ticks.join(m.namespace)
		if err != nil {
			return struct{}{}, err
		}
		defer l.leave()
		rest := pace{least: 100 * time.Millisecond, most: maxTickRest}
		for {
			t, err := l.next(ctx)
			if err != nil {
				return struct{}{}, err
			}
			if err := m.handleTick(ctx, t, handle); err == nil {
				rest.reset()
				continue
			}
			select {
			case <-ctx.Done():
			case <-m.closing:
			case <-time.After(rest.next()):
			}
		}
	})
	return err
}

// handleTick runs handle and settles the tick by how it ended, a panic included.
func (m *Manager) handleTick(ctx context.Context, t queue.Tick, handle func(context.Context, queue.Tick) error) (err error) {
	delivered := false
	defer func() { _ = m.settle(t, delivered) }() // logged; the tick comes again when its hold is over
	ctx, cancel := context.WithTimeout(ctx, m.cfg.tickHold)
	defer cancel()
	err = handle(ctx, t)
	delivered = err == nil
	return err
}

// NextTicker blocks until a ticker of the namespace that has no queue ticks, and takes the tick: it is delivered when
// NextTicker returns it.
func (m *Manager) NextTicker(ctx context.Context) (*queue.Tick, error) {
	return runOperation(ctx, m, opNextTicker, func(ctx context.Context) (*queue.Tick, error) {
		stand, err := m.sit()
		if err != nil {
			return nil, err
		}
		defer stand()
		l, err := m.ticks.join(m.namespace)
		if err != nil {
			return nil, err
		}
		defer l.leave()
		t, err := l.next(ctx)
		if err != nil {
			return nil, err
		}
		if err := m.settle(t, true); err != nil {
			return nil, err
		}
		return &t, nil
	})
}

// settle ends the hold of ticks, whatever has become of who listened.
func (c *core) settle(t queue.Tick, delivered bool) error {
	ctx, cancel := c.call()
	defer cancel()
	err := c.store.SettleTicks(ctx, t.Namespace, []int64{t.ID}, delivered)
	if err != nil {
		c.cfg.log.Warn("cannot settle a tick; it is handed out again when its hold is over",
			"namespace", t.Namespace, "ticker", t.Ticker, "delivered", delivered, "error", err)
	} else if !delivered {
		c.ticks.ring(t.Namespace)
	}
	return err
}

// tickHubs take ticks for the listeners of this process, one hub for each namespace that has any.
type tickHubs struct {
	c  *core
	mu sync.Mutex
	of map[string]*tickHub
}

type tickHub struct {
	*alarm
	hubs      *tickHubs
	namespace string
	// What follows is guarded by hubs.mu.
	listeners int
	idle      []*tickListener // in turn
	starved   bool            // there may be ticks that nobody was free for
}

// tickListener gets ticks one at a time.
type tickListener struct {
	hub  *tickHub
	tick chan queue.Tick // room for one
}

func newTickHubs(c *core) *tickHubs { return &tickHubs{c: c, of: map[string]*tickHub{}} }

func (hs *tickHubs) join(namespace string) (*tickListener, error) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.of[namespace]
	if h == nil {
		h = &tickHub{alarm: newAlarm(), hubs: hs, namespace: namespace, starved: true}
		if !hs.c.spawn(h.run) {
			return nil, batch.Closed("manager")
		}
		hs.of[namespace] = h
	}
	h.listeners++
	return &tickListener{hub: h, tick: make(chan queue.Tick, 1)}, nil
}

func (l *tickListener) leave() {
	hs := l.hub.hubs
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if l.hub.listeners--; l.hub.listeners == 0 {
		delete(hs.of, l.hub.namespace)
		l.hub.ring() // the hub ends
	}
}

// next waits for a tick. One that comes when the listener is going is given back.
func (l *tickListener) next(ctx context.Context) (queue.Tick, error) {
	h, c := l.hub, l.hub.hubs.c
	h.hubs.mu.Lock()
	h.idle = append(h.idle, l)
	if h.starved {
		h.ring()
	}
	h.hubs.mu.Unlock()

	var err error
	select {
	case t := <-l.tick:
		return t, nil
	case <-ctx.Done():
		err = queue.ContextError(ctx.Err())
	case <-c.closing:
		err = batch.Closed("manager")
	}
	h.hubs.mu.Lock()
	i := slices.Index(h.idle, l)
	if i >= 0 {
		h.idle = slices.Delete(h.idle, i, i+1)
	}
	h.hubs.mu.Unlock()
	if i < 0 {
		_ = c.settle(<-l.tick, false) // logged
	}
	return queue.Tick{}, err
}

// ring has the hub of namespace look for ticks.
func (hs *tickHubs) ring(namespace string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h := hs.of[namespace]; h != nil {
		h.ring()
	}
}

// run takes as many ticks as listeners are free, and sleeps until the next is due.
func (h *tickHub) run() {
	c := h.hubs.c
	trouble := pace{least: leastPoll, most: max(c.cfg.poll, leastPoll)}
	failing := false
	var others courtesy
	var due time.Time // what the last look told; zero = nothing
	for sleep := time.Duration(0); ; {
		if sleep > 0 && !h.wait(c.closing, sleep) || c.isClosed() {
			return
		}
		onTime := !due.IsZero() && !time.Now().Before(due)
		due = time.Time{}
		free, ok := h.free()
		if !ok {
			return
		}
		if sleep = jittered(c.cfg.poll); free == 0 {
			continue
		}
		ctx, cancel := c.call()
		free = min(free, queue.MaxTakenTicks)
		ticks, next, err := c.store.TakeTicks(ctx, h.namespace, free, c.cfg.tickHold+c.cfg.callTimeout)
		cancel()
		if err != nil {
			if !failing {
				c.cfg.log.Warn("cannot take ticks; trying on", "namespace", h.namespace, "error", err)
			}
			failing, sleep = true, trouble.next()
			continue
		}
		failing = false
		trouble.reset()
		told := next > 0
		if onTime || len(ticks) > 0 {
			others.came(len(ticks) > 0)
		}
		if next = max(next, time.Millisecond) + others.delay(); told && next < sleep {
			sleep, due = next, time.Now().Add(next)
		}
		if h.deal(ticks, len(ticks) >= free) {
			sleep = 0
		}
	}
}

// free is how many listeners are; ok is false when none is left at all.
func (h *tickHub) free() (n int, ok bool) {
	h.hubs.mu.Lock()
	defer h.hubs.mu.Unlock()
	h.starved = len(h.idle) == 0
	return len(h.idle), h.listeners > 0
}

// deal gives each tick to the listener that has been free the longest, and those back for which none is left. It
// reports whether there may be more ticks for listeners that are free.
func (h *tickHub) deal(ticks []queue.Tick, more bool) bool {
	h.hubs.mu.Lock()
	n := min(len(ticks), len(h.idle))
	for i, l := range h.idle[:n] {
		l.tick <- ticks[i]
	}
	h.idle = slices.Delete(h.idle, 0, n)
	h.starved = more
	again := more && len(h.idle) > 0
	h.hubs.mu.Unlock()
	for _, t := range ticks[n:] {
		_ = h.hubs.c.settle(t, false) // logged
	}
	return again
}
