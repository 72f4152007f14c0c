package queuetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Fault is what a Faulty store does to calls of one operation.
type Fault struct {
	// Err is answered instead of (or, with After, behind) the operation; nil = none.
	Err error
	// After does the operation first and then answers Err: a commit whose answer was lost.
	After bool
	// Delay holds the call back before all else; it ends early with the call's context, whose error is answered then.
	Delay time.Duration
	// Hang holds the call until its context ends.
	Hang bool
	// Times is how many calls it hits; 0 = all until it is taken away.
	Times int
}

// Faulty is a Store that fails on demand. Operations go by the names of the Store's methods ("CreateTasks"); Maintain's
// are "Maintain" and, for one chore, "Maintain:promote" and so on. "" stands for every operation. It is safe for
// concurrent use, and hides no optional power of its store: find them with queue.StoreAs.
type Faulty struct {
	store queue.Store

	mu     sync.Mutex
	faults map[string]*Fault
	calls  map[string]int
}

var (
	_ queue.Store     = (*Faulty)(nil)
	_ queue.Unwrapper = (*Faulty)(nil)
)

// NewFaulty is store, without faults until Set.
func NewFaulty(store queue.Store) *Faulty {
	return &Faulty{store: store, faults: map[string]*Fault{}, calls: map[string]int{}}
}

// Set has f hit the next calls of op; it replaces what was set for op before.
func (s *Faulty) Set(op string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[op] = &f
}

// Clear takes all faults away.
func (s *Faulty) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

// Calls is how often op was called, hit or not; "" counts all operations.
func (s *Faulty) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Unwrap gives the store behind.
func (s *Faulty) Unwrap() queue.Store { return s.store }

// hit counts a call by its names, the most exact first, and returns the fault that hits it.
func (s *Faulty) hit(names ...string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names = append(names, "")
	for _, n := range names {
		s.calls[n]++
	}
	for _, n := range names {
		f := s.faults[n]
		if f == nil {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				delete(s.faults, n)
			}
		}
		return *f, true
	}
	return Fault{}, false
}

// call does an operation under the fault that hits it.
func call[T any](ctx context.Context, s *Faulty, do func() (T, error), names ...string) (T, error) {
	var none T
	f, hit := s.hit(names...)
	if !hit {
		return do()
	}
	if f.Hang || f.Delay > 0 {
		var over <-chan time.Time
		if !f.Hang {
			timer := time.NewTimer(f.Delay)
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-over:
		case <-ctx.Done():
			return none, contextError(ctx)
		}
	}
	if f.Err != nil && !f.After {
		return none, f.Err
	}
	out, err := do()
	if f.Err != nil {
		return none, f.Err
	}
	return out, err
}

func contextError(ctx context.Context) error {
	kind := queue.KindCanceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = queue.KindDeadline
	}
	return &queue.Error{Kind: kind, Err: ctx.Err()}
}
