package batch

import (
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/retry"
)

// Items that another transaction has locked leave the batches of other callers. They are tried again apart, all those of
// a key in one commit, until they are done or their caller leaves.
const (
	minLockedPause = 5 * time.Millisecond
	maxLockedPause = 200 * time.Millisecond
	// maxLockedTries bounds the tries of a call with several items: a third of a second in all. Then the call is answered,
	// the locked items with their errors, so that its other items do not wait.
	maxLockedTries = 6
)

// lockedItems are the calls of a key that have locked items.
type lockedItems[In, Out any] struct {
	calls []*lockedCall[In, Out]
	pause time.Duration // before the next try
}

// lockedCall is a call, its locked items, and their positions in its answers.
type lockedCall[In, Out any] struct {
	*call[Out]

	items     []In
	positions []int
	until     time.Time
	tries     int
}

// retryLocked takes over the locked items of c; false when it cannot. The caller holds mu.
func (b *Batcher[K, In, Out]) retryLocked(key K, batch *itemBatch[In, Out], c *call[Out]) bool {
	locked := b.locked[key]
	if locked == nil {
		// One goroutine for each key: many waiting calls of a key share its commits.
		if b.closed || !b.startGoroutine(func() { b.retryLockedItems(key) }) {
			return false
		}
		locked = &lockedItems[In, Out]{}
		if b.locked == nil {
			b.locked = map[K]*lockedItems[In, Out]{}
		}
		b.locked[key] = locked
	}

	l := &lockedCall[In, Out]{call: c, until: time.Now().Add(b.options.Timeout)}
	for i := range c.outs {
		if !b.options.Locked(c.outs[i]) {
			continue
		}
		item := batch.items[c.from+i]
		if b.options.Copy != nil { // the memory of the batch goes back to the pool
			b.options.Copy(nil, &item)
		}
		l.items = append(l.items, item)
		l.positions = append(l.positions, i)
	}

	c.answered = make(chan struct{})
	c.state = l.stateBetweenTries()
	locked.calls = append(locked.calls, l)
	// A new call may wait for another transaction than the ones before it, so the pause starts again.
	locked.pause = minLockedPause

	return true
}

// stateBetweenTries is the state of a call of which no item is in flight. A call with some of its items done counts as
// sent, because it is not undone as a whole.
func (l *lockedCall[In, Out]) stateBetweenTries() callState {
	if len(l.items) < len(l.outs) {
		return callSent
	}

	return callLocked
}

// retryLockedItems tries the locked items of a key until there are none.
func (b *Batcher[K, In, Out]) retryLockedItems(key K) {
	for {
		b.mu.Lock()
		locked := b.locked[key]
		locked.calls = slices.DeleteFunc(locked.calls, func(l *lockedCall[In, Out]) bool { return l.state == callLeft })
		if b.closed {
			for _, l := range locked.calls {
				b.answerLockedCall(l)
			}
			locked.calls = nil
		}
		if len(locked.calls) == 0 {
			delete(b.locked, key)
			b.mu.Unlock()
			return
		}
		pause := locked.pause
		locked.pause = min(2*pause, maxLockedPause)
		b.mu.Unlock()

		retry.Sleep(b.options.Context, pause)
		b.commitLockedItems(key, locked)
	}
}

// commitLockedItems commits the locked items of a key, as many as one batch takes.
func (b *Batcher[K, In, Out]) commitLockedItems(key K, locked *lockedItems[In, Out]) {
	b.mu.Lock()
	var tried []*lockedCall[In, Out]
	batch := newBatch[In, Out](0)
	for _, l := range locked.calls {
		if l.state == callLeft || b.closed {
			continue
		}
		// The first call always goes, also one that alone exceeds a batch.
		if len(tried) > 0 && len(batch.items)+len(l.items) > b.options.MaxItems {
			break
		}
		l.state = callSent
		tried = append(tried, l)
		batch.appendItems(l.items, 0, 0)
	}
	b.mu.Unlock()
	if len(tried) == 0 {
		return
	}

	b.commitBatch(key, batch)

	b.mu.Lock()
	defer b.mu.Unlock()
	var remaining []*lockedCall[In, Out]
	for i, l := range tried {
		if l.state == callLeft {
			continue
		}
		l.takeAnswers(batch.calls[i], b.options.Locked)
		// A single item waits until its timeout: its caller has nothing else to lose.
		expired := l.tries >= maxLockedTries && len(l.outs) > 1 || time.Now().After(l.until)
		if len(l.items) == 0 || expired {
			b.answerLockedCall(l)
			continue
		}
		l.state = l.stateBetweenTries()
		remaining = append(remaining, l)
	}

	// Those that this batch had no room for come first in the next one.
	isTried := func(l *lockedCall[In, Out]) bool { return slices.Contains(tried, l) }
	locked.calls = append(slices.DeleteFunc(locked.calls, isTried), remaining...)
}

// takeAnswers fills in the answers of a try. Items that are still locked stay.
func (l *lockedCall[In, Out]) takeAnswers(try *call[Out], isLocked func(Out) bool) {
	l.tries++
	if try.err != nil {
		// A call with other items keeps their answers, and those of the locked ones say that they are locked.
		if len(l.outs) == len(l.items) {
			l.err = try.err
		}
		l.items, l.positions = nil, nil
		return
	}

	items, positions := l.items[:0], l.positions[:0]
	for i, out := range try.outs {
		l.outs[l.positions[i]] = out
		if isLocked(out) {
			items = append(items, l.items[i])
			positions = append(positions, l.positions[i])
		}
	}
	l.items, l.positions = items, positions
}

// answerLockedCall answers a call with the answers that there are. The caller holds mu.
func (b *Batcher[K, In, Out]) answerLockedCall(l *lockedCall[In, Out]) {
	l.state = callAnswered
	b.waiting--
	close(l.answered)
}
