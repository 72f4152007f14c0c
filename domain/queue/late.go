package queue

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// lateRetain is how long a retain may take once its caller has gone.
	lateRetain = 10 * time.Second
	// lateClose is how long LateRetains.Close leaves such retains to end by themselves.
	lateClose = 2 * time.Second
)

// LateRetains keeps the retains of callers that left before the answer: it hands back tasks that arrive
// for them, so that no task stays leased without a worker. The zero value is ready; safe for concurrent use.
type LateRetains struct {
	mu    sync.Mutex
	open  int
	ends  map[*context.CancelFunc]struct{} // of retains without a caller
	empty chan struct{}                    // closed when open becomes 0; nil while nothing waits for that
}

// Do runs retain in a context that outlives ctx. When ctx ends first, Do returns ctx's error at once. A retain that does not
// wait at the server, or no longer than the deadline of ctx, goes on and what it takes is handed back. One that would wait
// longer is cut: then a task that was on its way in that moment comes back when its lease runs out.
func (l *LateRetains) Do(
	ctx context.Context, consumer Consumer, r RetainRequest, retain func(ctx context.Context, wait time.Duration) ([]*Task, error),
) ([]*Task, error) {
	wait := r.Wait
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}

	if ctx.Done() == nil || r.RequestID != "" { // the repeat of a request gets what this one leaves
		return retain(ctx, wait)
	}

	if end, ok := ctx.Deadline(); ok && wait > 0 && wait <= MaxWait { // the server ends the wait: nothing is cut then
		wait = max(min(wait, time.Until(end)), time.Millisecond)
	}

	// The channel is unbuffered, so exactly one side has the tasks: the caller, or the goroutine that hands them
	// back.
	type answer struct {
		tasks []*Task
		err   error
	}

	// The retain may have taken tasks when its caller leaves, so its context has an end of its own.
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	answered, gone := make(chan answer), make(chan struct{})
	l.addDetached(1)
	go func() {
		defer l.addDetached(-1)
		defer cancel()
		tasks, err := retain(call, wait)
		select {
		case answered <- answer{tasks, err}:
		case <-gone:
			_ = HandBack(ctx, consumer, tasks) // where it fails their leases run out
		}
	}()

	select {
	case a := <-answered:
		return a.tasks, a.err
	case <-ctx.Done():
	}

	// A wait without a deadline could last for 10 minutes, so it is cut. Others end soon by themselves.
	if wait > 0 && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		cancel()
	} else {
		l.detachCall(call, &cancel)
	}

	close(gone)
	return nil, ctx.Err()
}

// detachCall lets call go on for a while after its caller has gone.
func (l *LateRetains) detachCall(call context.Context, cancel *context.CancelFunc) {
	// The server may never answer; the goroutine must not live as long as the process then.
	timer := time.AfterFunc(lateRetain, *cancel)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends == nil {
		l.ends = map[*context.CancelFunc]struct{}{}
	}

	l.ends[cancel] = struct{}{}
	context.AfterFunc(call, func() {
		timer.Stop()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.ends, cancel)
	})
}

func (l *LateRetains) addDetached(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open += n; l.open == 0 && l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
}

// Close waits for retains without a caller, and cancels them after 2 seconds. Others go on.
func (l *LateRetains) Close() {
	l.mu.Lock()
	// Retains with a caller end with their own contexts.
	if l.open == 0 || len(l.ends) == 0 {
		l.mu.Unlock()
		return
	}

	if l.empty == nil {
		l.empty = make(chan struct{})
	}

	empty := l.empty
	l.mu.Unlock()

	timer := time.AfterFunc(lateClose, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for cancel := range l.ends {
			(*cancel)()
		}
	})

	defer timer.Stop()
	// A retain that is cut may still hand back, which has a bound of its own.
	limit := time.NewTimer(lateClose + HandBackTimeout)
	defer limit.Stop()
	select {
	case <-empty:
	case <-limit.C:
	}
}
