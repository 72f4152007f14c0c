package manager

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// gatherer turns the calls of many goroutines into few Store calls, the way a log's group commit does: an idle lane
// sends a call at once; what arrives while its Store calls are in flight leaves together with the next. Each caller is
// answered when its batch has committed. A lane is what can share a Store call: a namespace, a set of queues.
//
// Goroutines run only while there is something to send. A Store call has its own deadline, never a caller's.
type gatherer[K comparable, In, Out any] struct {
	limits  Gather
	timeout time.Duration
	base    context.Context //nolint:containedctx // the owner's: it bounds the Store calls, not a request
	spawn   func(func()) bool
	// commit is the Store call: it answers in in order.
	commit func(ctx context.Context, key K, in []In) ([]Out, error)
	// size is what an item weighs in bytes; nil = nothing.
	size func(In) int
	// tasks is how many tasks an item stands for; nil = one.
	tasks func(In) int
	// lost is given the answers of a caller that has gone; nil = nothing to do.
	lost func(key K, outs []Out)
	// own repoints an item at copies of what its caller may change once its call has returned, appended to dst; nil = there is
	// nothing such. put points an answer at the caller's own again.
	own func(dst []byte, in *In) []byte
	put func(out *Out, in In)
	// number notes at an item which call of the Store call it came with, from 1 on; nil = the Store does not ask.
	number func(in *In, call int)
	// locked tells answers of items that another transaction has locked, which are tried again apart; nil = there are none.
	locked func(Out) bool
	// unsure is the kind of error for a caller that goes, or a deadline that passes, during the Store call.
	unsure queue.Kind

	mu      sync.Mutex
	lanes   map[K]*lane[K, In, Out]
	apart   map[K]*apart[In, Out] // calls with locked items
	ready   []*lane[K, In, Out]   // lanes that may send, in turn
	running int                   // goroutines
	waiting int                   // callers
	closed  bool
}

type lane[K comparable, In, Out any] struct {
	key     K
	queue   []*batch[In, Out]
	queued  bool // in ready
	running int  // Store calls in flight
	hint    int  // size of the last batch
}

type batch[In, Out any] struct {
	in    []In
	calls []*call[Out]
	bytes int
	tasks int
	done  chan struct{}
	// copying is held from when the batch is taken until it reads nothing of its callers' any more.
	copying sync.Mutex
}

// call is one caller's share of a batch. Its state is guarded by the gatherer's lock until the batch is done.
type call[Out any] struct {
	from, to int
	state    callState
	out      []Out
	err      error
	later    chan struct{} // closed when the call is answered, where that is later than its batch
}

type callState uint8

const (
	callWaiting callState = iota
	callSent
	callLocked // waits for another transaction; nothing of it is in flight
	callAnswered
	callGone
)

// do sends in with the next Store call of key's lane and returns its answers. When ctx ends before the batch left,
// nothing happens; when it ends later, the call may happen all the same.
func (g *gatherer[K, In, Out]) do(ctx context.Context, key K, in ...In) ([]Out, error) {
	bytes, tasks := 0, len(in)
	if g.size != nil {
		for i := range in {
			bytes += g.size(in[i])
		}
	}
	if g.tasks != nil {
		tasks = 0
		for i := range in {
			tasks += g.tasks(in[i])
		}
	}
	g.mu.Lock()
	switch {
	case g.closed:
		g.mu.Unlock()
		return nil, errClosed()
	case g.waiting >= g.limits.MaxWaiting:
		g.mu.Unlock()
		return nil, crowded(g.limits.MaxWaiting)
	}
	g.waiting++
	l := g.lanes[key]
	if l == nil {
		l = &lane[K, In, Out]{key: key}
		g.lanes[key] = l
	}
	b := l.open(len(in), bytes, g.limits.MaxBatch)
	c := &call[Out]{from: len(b.in), to: len(b.in) + len(in)}
	b.in = append(b.in, in...)
	b.calls = append(b.calls, c)
	b.bytes += bytes
	b.tasks += tasks
	if g.offer(l) {
		g.start()
	}
	g.mu.Unlock()

	select {
	case <-b.done:
		if c.later == nil {
			return g.answer(c, in)
		}
		select {
		case <-c.later:
			return g.answer(c, in)
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	return g.leave(ctx, b, c, in)
}

// answer is what the caller of c gets.
func (g *gatherer[K, In, Out]) answer(c *call[Out], in []In) ([]Out, error) {
	if g.put != nil && c.err == nil {
		for i := range c.out {
			g.put(&c.out[i], in[i])
		}
	}
	return c.out, c.err
}

// leave is the end of a call whose caller goes. It returns when nothing of the caller's is read any more: at once, or when a
// batch that is about to be sent has been copied. It does not wait for a Store call.
func (g *gatherer[K, In, Out]) leave(ctx context.Context, b *batch[In, Out], c *call[Out], in []In) ([]Out, error) {
	g.mu.Lock()
	state := c.state
	if state == callAnswered {
		g.mu.Unlock()
		return g.answer(c, in)
	}
	c.state = callGone
	g.waiting--
	g.mu.Unlock()

	b.copying.Lock()
	defer b.copying.Unlock()
	if state == callSent && g.unsure == queue.KindIndeterminate {
		return nil, gaveUp(ctx)
	}
	return nil, queue.ContextError(ctx.Err())
}

// open is the batch that n more items of so many bytes join.
func (l *lane[K, In, Out]) open(n, bytes, most int) *batch[In, Out] {
	if k := len(l.queue); k > 0 {
		b := l.queue[k-1]
		if len(b.in)+n <= most && b.bytes+bytes <= maxGatherBytes {
			return b
		}
	}
	size := max(n, min(l.hint, most))
	b := &batch[In, Out]{in: make([]In, 0, size), calls: make([]*call[Out], 0, size), done: make(chan struct{})}
	l.queue = append(l.queue, b)
	return b
}

// offer puts l in turn when it has something to send and may send it, and reports whether it did.
func (g *gatherer[K, In, Out]) offer(l *lane[K, In, Out]) bool {
	if l.queued || len(l.queue) == 0 {
		return false
	}
	most := g.limits.MaxCalls
	if l.queue[0].tasks >= g.limits.MaxBatch {
		most = max(most, fullCalls)
	}
	if l.running >= most {
		return false
	}
	l.queued = true
	g.ready = append(g.ready, l)
	return true
}

// start runs another sender unless enough run; those that run come to the new lane in turn.
func (g *gatherer[K, In, Out]) start() {
	if g.running < max(g.limits.MaxCalls, fullCalls)*gatherSpread && g.spawn(g.send) {
		g.running++
	}
}

// send sends batch after batch until there is none.
func (g *gatherer[K, In, Out]) send() {
	for {
		if g.limits.MaxDelay > 0 {
			pauseUntil(g.base.Done(), g.limits.MaxDelay)
		}
		// Callers that are about to join may do so first: an idle system does not notice, under load batches are ten
		// times as large and a create costs half the processor (2.0 instead of 3.8 µs with 256 goroutines).
		runtime.Gosched()
		g.mu.Lock()
		l, b := g.take()
		if b == nil {
			g.running--
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()

		memory := g.copy(b)
		b.copying.Unlock()
		g.work(l.key, b.in, b.calls)

		g.mu.Lock()
		l.running--
		gone := g.settle(l.key, b)
		if len(l.queue) == 0 && l.running == 0 {
			delete(g.lanes, l.key)
		}
		g.offer(l)
		g.mu.Unlock()
		close(b.done)
		giveBack(memory)
		if g.lost != nil {
			for _, c := range gone {
				if c.err == nil {
					g.lost(l.key, c.out)
				}
			}
		}
	}
}

// take is the next batch of the next lane, without the calls whose callers have gone; nil when there is none.
func (g *gatherer[K, In, Out]) take() (*lane[K, In, Out], *batch[In, Out]) {
	for len(g.ready) > 0 {
		l := g.ready[0]
		g.ready = g.ready[1:]
		l.queued = false
		b := l.queue[0]
		l.queue = l.queue[1:]
		b.drop()
		if len(b.calls) == 0 {
			if len(l.queue) == 0 && l.running == 0 {
				delete(g.lanes, l.key)
			}
			g.offer(l)
			continue
		}
		for _, c := range b.calls {
			c.state = callSent
		}
		b.copying.Lock()
		l.running++
		l.hint = len(b.in)
		if g.offer(l) {
			g.start()
		}
		return l, b
	}
	return nil, nil
}

// drop takes the calls out whose callers have gone.
func (b *batch[In, Out]) drop() {
	calls, in := b.calls[:0], b.in[:0]
	for _, c := range b.calls {
		if c.state == callGone {
			continue
		}
		from := len(in)
		in = append(in, b.in[c.from:c.to]...)
		c.from, c.to = from, len(in)
		calls = append(calls, c)
	}
	clear(b.calls[len(calls):])
	clear(b.in[len(in):])
	b.calls, b.in = calls, in
}

// settle marks what is answered and returns the calls whose callers have gone. Calls with locked items are answered later.
func (g *gatherer[K, In, Out]) settle(key K, b *batch[In, Out]) (gone []*call[Out]) {
	for _, c := range b.calls {
		if c.state == callGone {
			gone = append(gone, c)
			continue
		}
		if g.locked != nil && c.err == nil && slices.ContainsFunc(c.out, g.locked) && g.putApart(key, b, c) {
			continue
		}
		c.state = callAnswered
		g.waiting--
	}
	return gone
}

// work sends calls in one Store call and fills in their answers. When the Store refuses the input as a whole, nothing
// has changed: then it tries the halves, so that one bad item harms its own caller only.
func (g *gatherer[K, In, Out]) work(key K, in []In, calls []*call[Out]) {
	for i, c := range calls {
		for at := c.from; g.number != nil && at < c.to; at++ {
			g.number(&in[at], i+1)
		}
	}

	g.halve(key, in, calls, &search{calls: len(calls)})
}

func (g *gatherer[K, In, Out]) halve(key K, in []In, calls []*call[Out], s *search) {
	first, last := calls[0].from, calls[len(calls)-1].to
	outs, refused, err := g.try(key, in[first:last])
	if s.tried(err); len(calls) > 1 && refused && s.goesOn(err) {
		g.halve(key, in, calls[:len(calls)/2], s)
		g.halve(key, in, calls[len(calls)/2:], s)
		return
	}
	for _, c := range calls {
		if c.err = err; err == nil {
			c.out = outs[c.from-first : c.to-first : c.to-first]
		}
	}
}

// try is one Store call. refused says that the Store answered with an error, so that nothing has changed.
func (g *gatherer[K, In, Out]) try(key K, in []In) (outs []Out, refused bool, err error) {
	ctx, cancel := context.WithTimeout(g.base, g.timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil { // before or behind the commit: not to be repeated
			outs, refused, err = nil, false, panicked(p)
		}
	}()
	outs, err = g.commit(ctx, key, in)
	if err != nil {
		return nil, true, late(ctx, g.unsure, err)
	}
	if len(outs) != len(in) {
		return nil, false, &queue.Error{Kind: queue.KindInternal, Msg: fmt.Sprintf("the store answered %d of %d items", len(outs), len(in))}
	}
	return outs, false, nil
}

// close answers whoever waits for a call that was not sent. What is in flight ends by itself.
func (g *gatherer[K, In, Out]) close() {
	g.mu.Lock()
	var unsent []*batch[In, Out]
	g.closed = true
	for key, l := range g.lanes {
		unsent = append(unsent, l.queue...)
		l.queue, l.queued = nil, false
		if l.running == 0 {
			delete(g.lanes, key)
		}
	}
	g.ready = nil
	for _, b := range unsent {
		b.drop()
		for _, c := range b.calls {
			c.err = errClosed()
		}
		for _, c := range b.calls {
			c.state = callAnswered
			g.waiting--
		}
	}
	g.mu.Unlock()
	for _, b := range unsent {
		close(b.done)
	}
}

// late turns the end of a Store call's own deadline into what it means to a caller.
func late(ctx context.Context, unsure queue.Kind, err error) error {
	if ctx.Err() == nil {
		return err
	}
	k := queue.KindOf(err)
	ended := k == queue.KindDeadline || k == queue.KindCanceled ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if !ended {
		return err
	}
	return &queue.Error{Kind: unsure, Msg: "the store did not answer in time", Err: err}
}
