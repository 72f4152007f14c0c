// Package background runs the background agents of a manager: promoter, rescuer, expirer, pruner, stats folder and tick
// firer. Each calls queue.Maintainer in small steps, at a pace of its own. There is no leader: every process runs them.
package background

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// pace says how often an agent steps: after busy at the latest while there is work, or as soon as the last step says. It
// steps after idle when the last step had nothing to say. The stats folder and the pruner, for which no caller waits, are
// idle only after a step without work.
type pace struct{ busy, idle time.Duration }

var paces = map[queue.Chore]pace{
	queue.ChorePromote: {250 * time.Millisecond, time.Second},
	queue.ChoreRescue:  {time.Second, time.Second},
	queue.ChoreExpire:  {time.Second, time.Second},
	queue.ChorePrune:   {10 * time.Second, 20 * time.Second},
	queue.ChoreFold:    {250 * time.Millisecond, 2 * time.Second},
	queue.ChoreTick:    {time.Second, time.Second},
}

// StartInterval is the time between the starts of two agents. All at once would make a program open a connection for each
// when it wants its first tasks: those came after 26 ms then, and after 6 ms with this interval.
const StartInterval = 20 * time.Millisecond

// IdlePause returns the time between two steps of an agent without work.
func IdlePause(chore queue.Chore) time.Duration { return paces[chore].idle }

// Bounds of the pause after a step that failed.
const (
	minFailurePause = 250 * time.Millisecond
	maxFailurePause = 10 * time.Second
)

// Health is the state of an agent in this process.
type Health struct {
	Chore queue.Chore
	// Steps that succeeded and the rows that they moved, since the manager was made.
	Steps int64
	Moved int64
	// Moves counts, for the rescuer, by the new status of the tasks.
	Moves map[queue.Status]int64
	// LastSuccess is the time at which a step last succeeded; zero before the first.
	LastSuccess time.Time
	// LastError is the error of the last step that failed, and LastErrorAt its time. They stay after the recovery.
	LastError   error
	LastErrorAt time.Time
	// Failing is the number of steps in a row that failed; 0 = healthy.
	Failing int
	// Lag is by how much the oldest row of the last step with work was late.
	Lag time.Duration
	// Faults are the tickers, tasks, queues or partitions that its steps passed over in the last two minutes, at most 100.
	// All others were dealt with.
	Faults []queue.Fault
}

// Agents are the background agents of a manager. It is safe for concurrent use.
type Agents struct {
	owner   *owner.Owner
	store   queue.Maintainer
	onStep  func(queue.Chore, queue.Maintained)
	running atomic.Bool
	byChore map[queue.Chore]*agent // never changed
}

type agent struct {
	*owner.WakeTimer

	mu     sync.Mutex
	health Health
	faults faultLog
}

// New returns agents that do not run. onStep takes the result of each step that succeeded.
func New(o *owner.Owner, store queue.Maintainer, onStep func(queue.Chore, queue.Maintained)) *Agents {
	as := &Agents{owner: o, store: store, onStep: onStep, byChore: map[queue.Chore]*agent{}}
	for _, chore := range queue.Chores() {
		as.byChore[chore] = &agent{WakeTimer: owner.NewWakeTimer(), health: Health{Chore: chore}}
	}

	return as
}

// Begin marks the agents as running; false when they run already. End undoes it.
func (as *Agents) Begin() bool { return as.running.CompareAndSwap(false, true) }

// End marks the agents as not running.
func (as *Agents) End() { as.running.Store(false) }

// Running reports whether the agents run.
func (as *Agents) Running() bool { return as.running.Load() }

// Start runs each agent with start, which runs a function in a goroutine; false when that refuses one.
func (as *Agents) Start(start func(func(context.Context)) bool) bool {
	for i, chore := range queue.Chores() {
		ok := start(func(ctx context.Context) {
			if as.byChore[chore].Sleep(ctx.Done(), time.Duration(i)*StartInterval) {
				as.runAgentLoop(ctx, chore)
			}
		})
		if !ok {
			return false
		}
	}

	return true
}

// WakeIn has an agent step in d at the latest, when the agents run in this process.
func (as *Agents) WakeIn(chore queue.Chore, d time.Duration) {
	if as.Running() {
		as.byChore[chore].FireIn(d)
	}
}

// Health returns a copy of the state of each agent.
func (as *Agents) Health() []Health {
	var all []Health
	for _, chore := range queue.Chores() {
		a := as.byChore[chore]
		a.mu.Lock()
		h := a.health
		h.Moves = maps.Clone(a.health.Moves)
		h.Faults = a.faults.listFaults()
		a.mu.Unlock()
		all = append(all, h)
	}

	return all
}

// runAgentLoop steps until ctx ends.
func (as *Agents) runAgentLoop(ctx context.Context, chore queue.Chore) {
	a := as.byChore[chore]
	backoff := retry.Backoff{Min: minFailurePause, Max: maxFailurePause}
	var stagger owner.Stagger
	var due time.Time // of the next work, by the last step; zero = not known
	for ctx.Err() == nil {
		onTime := !due.IsZero() && !time.Now().Before(due)
		done, err := as.runAgentStep(ctx, chore)
		if ctx.Err() != nil {
			return
		}

		// A step that the end of ctx has cut has not failed, so the check above comes first.
		failing := a.recordStepResult(done, err)
		if err != nil {
			// One line for a series of failures: an outage of an hour would else fill the log.
			if failing == 1 {
				as.owner.Log.WarnContext(ctx, "background work failed; repeating", "chore", chore, "error", err)
			}
			due = time.Time{}
			retry.Sleep(ctx, backoff.Next()) // a wake-up does not shorten it
			continue
		}
		if failing > 0 {
			as.owner.Log.InfoContext(ctx, "background work has recovered", "chore", chore, "failed", failing)
		}
		backoff.Reset()

		// Of all processes one comes on time; the others come a little later.
		if onTime || done.Moved > 0 {
			stagger.Record(done.Moved > 0)
		}
		sleep, isKnown := timeToNextStep(chore, done)
		due = time.Time{}
		if isKnown {
			sleep += stagger.Delay()
			due = time.Now().Add(sleep)
		}

		as.recordFaults(ctx, a, chore, done.Faults)
		as.onStep(chore, done)
		if sleep > 0 && !a.Sleep(ctx.Done(), sleep) {
			return
		}
	}
}

// runAgentStep is one Store call. A panic of the Store is an error of the step.
func (as *Agents) runAgentStep(ctx context.Context, chore queue.Chore) (done queue.Maintained, err error) {
	ctx, cancel := context.WithTimeout(ctx, as.owner.CallTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = batch.Panicked(p)
		}
	}()

	return as.store.Maintain(ctx, chore)
}

// timeToNextStep returns the sleep after a step, and whether the step has said when there will be work.
func timeToNextStep(chore queue.Chore, done queue.Maintained) (sleep time.Duration, isKnown bool) {
	p := paces[chore]
	switch {
	case done.More:
		return 0, false
	case done.Moved > 0 && (chore == queue.ChoreFold || chore == queue.ChorePrune): // there will be more
		return retry.Jitter(p.busy), false
	case done.NextIn <= 0:
		return retry.Jitter(p.idle), false
	case done.NextIn < p.busy:
		return max(done.NextIn, time.Millisecond), true
	}

	return retry.Jitter(p.busy), false
}

// recordStepResult keeps the result of a step. It returns the number of steps in a row that have failed, with this one; after a
// success the number before it.
func (a *agent) recordStepResult(done queue.Maintained, err error) (failing int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := &a.health
	now := time.Now()
	if err != nil {
		h.LastError = fmt.Errorf("%s: %w", h.Chore, err)
		h.LastErrorAt = now
		h.Failing++
		return h.Failing
	}

	failing, h.Failing = h.Failing, 0
	h.LastSuccess = now
	h.Steps++
	h.Moved += int64(done.Moved)
	// A step without work was not late, and must not hide the lag of the last one with work.
	if done.Moved > 0 {
		h.Lag = done.Lag
	}
	for status, n := range done.Moves {
		if h.Moves == nil {
			h.Moves = map[queue.Status]int64{}
		}
		h.Moves[status] += int64(n)
	}

	return failing
}

// recordFaults keeps and logs the things that a step passed over.
func (as *Agents) recordFaults(ctx context.Context, a *agent, chore queue.Chore, faults []queue.Fault) {
	a.mu.Lock()
	logged := a.faults.recordFaults(faults, time.Now())
	a.mu.Unlock()
	for _, f := range logged {
		as.owner.Log.WarnContext(ctx, "background work passed over a failing row; the others were dealt with",
			"chore", chore, "namespace", f.Namespace, "subject", f.Subject, "error", f.Err)
	}
}
