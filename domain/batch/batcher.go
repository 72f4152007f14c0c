package batch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// Batcher gathers items into batches, one stream of batches for each key. It is safe for concurrent use.
type Batcher[K comparable, In, Out any] struct {
	options    Options[K, In, Out]
	goroutines sync.WaitGroup // those that Options.Go does not start
	closing    chan struct{}

	mu       sync.Mutex
	streams  map[K]*stream[K, In, Out]
	ready    []*stream[K, In, Out] // streams that may send, in turn
	locked   map[K]*lockedItems[In, Out]
	running  int // goroutines that send
	waiting  int // callers of Do, and items of Add that were not sent
	lastSent time.Time
	closed   bool
}

// stream has the batches of one key, in order.
type stream[K comparable, In, Out any] struct {
	key      K
	batches  []*itemBatch[In, Out]
	isReady  bool // in Batcher.ready
	inFlight int
	lastSize int // items of the last batch
	pause    retry.Backoff
}

type itemBatch[In, Out any] struct {
	items  []In
	calls  []*call[Out]
	bytes  int
	weight int
	done   chan struct{}
	// copying is locked from the time at which the batch is taken until it reads no memory of its callers any more.
	copying sync.Mutex
}

// call is the range of a batch that one Do, or one or several Adds, have put there. The lock of the Batcher guards its
// state until the batch is done.
type call[Out any] struct {
	from, to int
	added    bool // by Add: no caller waits
	state    callState
	outs     []Out
	err      error
	answered chan struct{} // closed with the answer, where that comes later than the end of the batch
}

type callState uint8

const (
	callWaiting callState = iota
	callSent
	callLocked // waits for another transaction; no item of it is in flight or done
	callAnswered
	callLeft
)

// New returns a Batcher. It starts no goroutine before it has an item to send.
func New[K comparable, In, Out any](options Options[K, In, Out]) *Batcher[K, In, Out] {
	options.setDefaults()

	return &Batcher[K, In, Out]{
		options: options,
		closing: make(chan struct{}),
		streams: map[K]*stream[K, In, Out]{},
	}
}

// Do sends items with the next batch of key and returns their answers in order. When ctx ends before the batch was sent,
// nothing of it happens. When ctx ends later, Do returns at once with an error of Options.Unanswered or of ctx, and the
// commit goes on.
func (b *Batcher[K, In, Out]) Do(ctx context.Context, key K, items ...In) ([]Out, error) {
	bytes, weight := b.measureItems(items)

	b.mu.Lock()
	if err := b.checkCapacity(1); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	b.waiting++
	s := b.openStream(key)
	batch := s.openBatch(len(items), bytes, &b.options)
	c := batch.appendItems(items, bytes, weight)
	b.sendReady(s)
	b.mu.Unlock()

	select {
	case <-batch.done:
		// Set before done is closed, and only for calls with locked items: those are answered later.
		if c.answered == nil {
			return b.returnAnswers(c, items)
		}
		select {
		case <-c.answered:
			return b.returnAnswers(c, items)
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}

	return b.leave(ctx, batch, c, items)
}

// Add sends items with the next batches of key and does not wait. Their answers go to Options.Unclaimed. It reports false
// when it has not taken the items: after Close, and when more than MaxWaiting wait.
func (b *Batcher[K, In, Out]) Add(key K, items ...In) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.checkCapacity(len(items)) != nil {
		return false
	}

	b.waiting += len(items)
	s := b.openStream(key)
	for i := range items {
		bytes, weight := b.measureItems(items[i : i+1])
		// Each item may open a batch of its own, as no caller needs them in one commit.
		s.openBatch(1, bytes, &b.options).addItem(items[i], bytes, weight)
		b.sendReady(s)
	}

	return true
}

// Close refuses new items. It answers the calls of Do that were not sent with KindUnavailable. Batches in
// flight end by themselves, and items of Add are still sent.
func (b *Batcher[K, In, Out]) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}

	for _, s := range b.streams {
		unsent := s.batches
		s.batches = nil
		for _, batch := range unsent {
			// Items of Add are promises already made, as outcomes of tasks, so they still go.
			if rest := b.refuseCalls(batch); len(rest.calls) > 0 {
				s.batches = append(s.batches, rest)
			}
		}
		b.dropIdleStream(s)
	}
}

// Wait returns when no goroutine of the Batcher runs; those that Options.Go started are not counted. Call it after Close.
func (b *Batcher[K, In, Out]) Wait() { b.goroutines.Wait() }

// refuseCalls answers the callers of a batch that will not be sent, and returns a batch with its items of Add.
func (b *Batcher[K, In, Out]) refuseCalls(batch *itemBatch[In, Out]) *itemBatch[In, Out] {
	rest := newBatch[In, Out](0)
	for _, c := range batch.calls {
		switch {
		case c.added:
			for _, item := range batch.items[c.from:c.to] {
				bytes, weight := b.measureItems([]In{item})
				rest.addItem(item, bytes, weight)
			}
		case c.state == callWaiting:
			c.state, c.err = callAnswered, b.closedError()
			b.waiting--
		}
	}
	close(batch.done)

	return rest
}

func (b *Batcher[K, In, Out]) measureItems(items []In) (bytes, weight int) {
	if b.options.Bytes != nil {
		for i := range items {
			bytes += b.options.Bytes(items[i])
		}
	}

	if b.options.Weight == nil {
		return bytes, len(items)
	}
	for i := range items {
		weight += b.options.Weight(items[i])
	}

	return bytes, weight
}

// checkCapacity returns the error for n more waiting items or callers; nil when the Batcher takes them.
func (b *Batcher[K, In, Out]) checkCapacity(n int) error {
	switch {
	case b.closed:
		return b.closedError()
	case b.waiting+n > b.options.MaxWaiting:
		return TooManyWaiting(b.options.MaxWaiting)
	}

	return nil
}

// openStream returns the stream of key. The caller holds mu.
func (b *Batcher[K, In, Out]) openStream(key K) *stream[K, In, Out] {
	s := b.streams[key]
	if s == nil {
		s = &stream[K, In, Out]{key: key, pause: b.options.FailurePause}
		b.streams[key] = s
	}

	return s
}

// openBatch returns the batch that n more items of so many bytes join: the last one, or a new one when that is full.
func (s *stream[K, In, Out]) openBatch(n, bytes int, options *Options[K, In, Out]) *itemBatch[In, Out] {
	if k := len(s.batches); k > 0 {
		last := s.batches[k-1]
		if len(last.items)+n <= options.MaxItems && last.bytes+bytes <= options.MaxBytes {
			return last
		}
	}

	// Under a steady load the next batch is about as large as the last one.
	batch := newBatch[In, Out](max(n, min(s.lastSize, options.MaxItems)))
	s.batches = append(s.batches, batch)

	return batch
}

func newBatch[In, Out any](size int) *itemBatch[In, Out] {
	return &itemBatch[In, Out]{
		items: make([]In, 0, size),
		calls: make([]*call[Out], 0, size),
		done:  make(chan struct{}),
	}
}

// appendItems puts the items of one caller into the batch.
func (batch *itemBatch[In, Out]) appendItems(items []In, bytes, weight int) *call[Out] {
	c := &call[Out]{from: len(batch.items), to: len(batch.items) + len(items)}
	batch.items = append(batch.items, items...)
	batch.calls = append(batch.calls, c)
	batch.bytes += bytes
	batch.weight += weight

	return c
}

// addItem puts an item of Add into the batch. Neighbours share one call, so an item costs no allocation.
func (batch *itemBatch[In, Out]) addItem(item In, bytes, weight int) {
	if k := len(batch.calls); k == 0 || !batch.calls[k-1].added {
		batch.calls = append(batch.calls, &call[Out]{from: len(batch.items), added: true})
	}
	batch.items = append(batch.items, item)
	batch.calls[len(batch.calls)-1].to = len(batch.items)
	batch.bytes += bytes
	batch.weight += weight
}

// returnAnswers ends a Do with its answers.
func (b *Batcher[K, In, Out]) returnAnswers(c *call[Out], items []In) ([]Out, error) {
	if b.options.Restore != nil && c.err == nil {
		for i := range c.outs {
			// The answer points at the batch's pooled memory until here.
			b.options.Restore(&c.outs[i], items[i])
		}
	}

	return c.outs, c.err
}

// leave ends a Do after the end of its context. It returns when the Batcher reads none of the caller's memory any more: at
// once, or when a batch that is about to be sent has been copied. It does not wait for a commit.
func (b *Batcher[K, In, Out]) leave(ctx context.Context, batch *itemBatch[In, Out], c *call[Out], items []In) ([]Out, error) {
	b.mu.Lock()
	state := c.state
	if state == callAnswered {
		b.mu.Unlock()
		return b.returnAnswers(c, items)
	}
	c.state = callLeft
	b.waiting--
	b.mu.Unlock()

	// The sender holds it while it copies. The caller may change its memory once this returns.
	batch.copying.Lock()
	defer batch.copying.Unlock()
	if state == callSent && b.options.Unanswered == queue.KindIndeterminate {
		return nil, LeftDuringCall(ctx)
	}

	return nil, queue.ContextError(ctx.Err())
}

func (b *Batcher[K, In, Out]) closedError() error { return Closed(b.options.Owner) }

// Closed is the error of calls that owner, as "manager", refuses because it is closed.
func Closed(owner string) *queue.Error {
	return &queue.Error{Kind: queue.KindUnavailable, Msg: "the " + owner + " is closed; use an open one"}
}

// TooManyWaiting is the error of a call beyond the limit of waiting callers.
func TooManyWaiting(limit int) *queue.Error {
	return &queue.Error{Kind: queue.KindUnavailable, Msg: fmt.Sprintf("too many waiting calls (limit %d); retry later", limit)}
}

// LeftDuringCall is the error of a caller that left, at the end of its context, during a call that goes on and may change
// something.
func LeftDuringCall(ctx context.Context) *queue.Error {
	return &queue.Error{
		Kind: queue.KindIndeterminate, Msg: "the context ended during the call, which continues; read the result before a repeat", Err: ctx.Err(),
	}
}

// Panicked is the error of a call in which the callee panicked with value.
func Panicked(value any) *queue.Error {
	return &queue.Error{Kind: queue.KindInternal, Msg: fmt.Sprintf("panic: %v", value)}
}
