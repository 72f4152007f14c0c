package queuetest

import (
	"context"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Fault describes how a Faulty store fails the calls of one operation.
type Fault struct {
	// Err answers the call instead of the operation; nil = the operation answers.
	Err error
	// After does the operation first and answers Err then, as for a commit with a lost answer.
	After bool
	// Delay holds the call back first. It ends early with the call's context; then the error of the context is the answer.
	Delay time.Duration
	// Hang holds the call until its context ends.
	Hang bool
	// Times is the number of calls that fail; 0 = all calls until Clear.
	Times int
}

// Faulty is a Store that fails on demand. Operations have the names of the Store's methods ("CreateTasks"). Maintain
// also has one name for each kind of background work ("Maintain:promote"). The name "" stands for every operation.
// Faulty is safe for concurrent use, and queue.StoreAs finds the optional interfaces of the store behind it.
type Faulty struct {
	queue.Store

	behind   queue.Store
	injector *faultInjector
}

var _ queue.Unwrapper = (*Faulty)(nil)

// NewFaulty returns store without faults; Set adds them.
func NewFaulty(store queue.Store) *Faulty {
	injector := &faultInjector{faults: map[string]*Fault{}, calls: map[string]int{}}
	return &Faulty{Store: queue.ObserveStore(store, injector), behind: store, injector: injector}
}

// Set makes f fail the next calls of op. It replaces an earlier fault of op.
func (s *Faulty) Set(op string, f Fault) {
	s.injector.mu.Lock()
	defer s.injector.mu.Unlock()
	s.injector.faults[op] = &f
}

// Clear removes all faults.
func (s *Faulty) Clear() {
	s.injector.mu.Lock()
	defer s.injector.mu.Unlock()
	clear(s.injector.faults)
}

// Calls returns the number of calls of op, failed ones included; "" counts all operations.
func (s *Faulty) Calls(op string) int {
	s.injector.mu.Lock()
	defer s.injector.mu.Unlock()
	return s.injector.calls[op]
}

// Unwrap returns the store behind.
func (s *Faulty) Unwrap() queue.Store { return s.behind }

// faultInjector is the observer that counts calls and fails them.
type faultInjector struct {
	mu     sync.Mutex
	faults map[string]*Fault
	calls  map[string]int
}

// Start waits and fails as the fault of the call says. Its state is the error that answers the call after the
// operation.
func (i *faultInjector) Start(ctx context.Context, call queue.Call) (context.Context, error, error) {
	f := i.takeFault(call)

	if f.Hang || f.Delay > 0 {
		var delayOver <-chan time.Time
		if !f.Hang {
			timer := time.NewTimer(f.Delay)
			defer timer.Stop()
			delayOver = timer.C
		}
		select {
		case <-delayOver:
		case <-ctx.Done():
			return ctx, nil, queue.ContextError(ctx.Err())
		}
	}

	if f.After {
		return ctx, f.Err, nil
	}
	return ctx, nil, f.Err
}

func (i *faultInjector) End(_ context.Context, _ queue.Call, fault, _ error) error { return fault }

// takeFault counts a call under each of its names and returns the fault of the most exact one.
func (i *faultInjector) takeFault(call queue.Call) Fault {
	names := []string{call.Op.Operation().Method, ""}
	if call.Op == queue.OpMaintain {
		names = []string{"Maintain:" + call.Name, "Maintain", ""}
	}

	i.mu.Lock()
	defer i.mu.Unlock()
	for _, name := range names {
		i.calls[name]++
	}

	for _, name := range names {
		f := i.faults[name]
		if f == nil {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				delete(i.faults, name)
			}
		}
		return *f
	}
	return Fault{}
}
