package manager

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/batch"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// paces is how often each chore is looked after: at most this long after the last step, earlier when the step said when
// there will be more. idle counts when it said nothing; fold and prune, for which nothing waits, are idle only after a step
// that dealt with nothing.
var paces = map[queue.Chore]struct{ busy, idle time.Duration }{
	queue.ChorePromote: {250 * time.Millisecond, time.Second},
	queue.ChoreRescue:  {time.Second, time.Second},
	queue.ChoreExpire:  {time.Second, time.Second},
	queue.ChorePrune:   {10 * time.Second, 20 * time.Second},
	queue.ChoreFold:    {250 * time.Millisecond, 2 * time.Second},
	queue.ChoreTick:    {time.Second, time.Second},
}

// choreHeadway is how long after one another the chores begin, unless kicked. All at once would make a program that starts open a
// connection for each just when it wants its first tasks: those came after 26 ms then, after 6 ms like this.
const choreHeadway = 20 * time.Millisecond

// After an error a chore rests from least to most.
const (
	leastChoreRest = 250 * time.Millisecond
	mostChoreRest  = 10 * time.Second
)

// ChoreHealth is how a chore does in this process.
type ChoreHealth struct {
	Chore queue.Chore
	// Steps done well and what they dealt with, since the manager was made.
	Steps int64
	Moved int64
	// Moves counts, for rescue, by what became of the tasks.
	Moves map[queue.Status]int64
	// LastSuccess is when a step last ended well; zero before the first.
	LastSuccess time.Time
	// LastError of a step and when it was; kept after the chore has recovered.
	LastError   error
	LastErrorAt time.Time
	// Failing is how many steps have failed in a row; 0 = well.
	Failing int
	// Lag of the last step that dealt with something: by how much the oldest was late.
	Lag time.Duration
	// Faults are what its steps passed over in the last two minutes, at most 100: tickers, tasks, queues or partitions that
	// cannot be dealt with, while all others are.
	Faults []queue.Fault
}

// Bounds of what is kept and logged of the faults of one chore.
const (
	faultKept   = 2 * time.Minute
	mostFaults  = 100
	faultLines  = 10 // in faultWindow
	faultWindow = time.Minute
)

// faultLog keeps and logs the faults of one chore.
type faultLog struct {
	at     map[string]time.Time // when each was last told, by namespace and subject
	faults map[string]queue.Fault
	window time.Time // when the present window began
	lines  int       // logged in it
}

// note keeps faults, drops those that have not been told for long, and answers those to log.
func (l *faultLog) note(faults []queue.Fault, now time.Time) (tell []queue.Fault) {
	if l.at == nil {
		l.at, l.faults = map[string]time.Time{}, map[string]queue.Fault{}
	}
	for key, at := range l.at {
		if now.Sub(at) > faultKept {
			delete(l.at, key)
			delete(l.faults, key)
		}
	}
	if now.Sub(l.window) > faultWindow {
		l.window, l.lines = now, 0
	}
	for _, f := range faults {
		key := f.Namespace + " " + f.Subject
		if _, kept := l.at[key]; kept || len(l.at) < mostFaults {
			l.at[key], l.faults[key] = now, f
		}
		if !f.Known && l.lines < faultLines {
			l.lines++
			tell = append(tell, f)
		}
	}
	return tell
}

// list is what is kept, in the order of namespaces and subjects.
func (l *faultLog) list() []queue.Fault {
	var all []queue.Fault
	for _, key := range slices.Sorted(maps.Keys(l.faults)) {
		all = append(all, l.faults[key])
	}
	return all
}

// chores is the background work.
type chores struct {
	c       *core
	running atomic.Bool
	of      map[queue.Chore]*chore // never changed
}

type chore struct {
	*alarm
	mu     sync.Mutex
	health ChoreHealth
	faults faultLog
}

func newChores(c *core) *chores {
	cs := &chores{c: c, of: map[queue.Chore]*chore{}}
	for _, kind := range queue.Chores() {
		cs.of[kind] = &chore{alarm: newAlarm(), health: ChoreHealth{Chore: kind}}
	}
	return cs
}

// kickIn has a chore looked after in d at the latest, when this process does it.
func (cs *chores) kickIn(kind queue.Chore, d time.Duration) {
	if cs.running.Load() {
		cs.of[kind].ringIn(d)
	}
}

// Run does the background work, unless WithBackgroundWork(false), listens for hints of other processes, and runs the
// registered workers, until ctx ends or the manager is closed; then it drains the workers, waits for the steps in flight
// and returns nil. KindConflict when it runs already. Steps that fail are logged and repeated; [Manager.Health] tells. A
// worker that cannot run ends it with its error.
func (m *Manager) Run(ctx context.Context) error {
	_, err := runOperation(ctx, m, opRun, func(ctx context.Context) (struct{}, error) { return struct{}{}, m.runBackground(ctx) })
	return err
}

func (c *core) runBackground(ctx context.Context) error {
	if !c.chores.running.CompareAndSwap(false, true) {
		return &queue.Error{Kind: queue.KindConflict, Msg: "the manager runs already"}
	}
	defer c.chores.running.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	start := func(f func(context.Context)) bool {
		work.Add(1)
		ok := c.spawn(func() { defer work.Done(); f(ctx) })
		if !ok {
			work.Done()
		}
		return ok
	}
	ok := start(c.listen)
	if c.cfg.background {
		for i, kind := range queue.Chores() {
			ok = ok && start(func(ctx context.Context) {
				if c.chores.of[kind].wait(ctx.Done(), time.Duration(i)*choreHeadway) {
					c.chores.do(ctx, kind)
				}
			})
		}
	}
	var workers func() error
	if ok {
		workers = c.workers.start(ctx, cancel)
		select {
		case <-ctx.Done():
		case <-c.closing:
		}
	}
	cancel()
	work.Wait()
	if workers == nil {
		return nil
	}
	return workers()
}

// Health tells how each chore does in this process. It is a copy.
func (m *Manager) Health() []ChoreHealth {
	var all []ChoreHealth
	for _, kind := range queue.Chores() {
		ch := m.chores.of[kind]
		ch.mu.Lock()
		h := ch.health
		h.Moves = make(map[queue.Status]int64, len(ch.health.Moves))
		maps.Copy(h.Moves, ch.health.Moves)
		h.Faults = ch.faults.list()
		ch.mu.Unlock()
		all = append(all, h)
	}
	return all
}

// do looks after one chore until ctx ends.
func (cs *chores) do(ctx context.Context, kind queue.Chore) {
	ch := cs.of[kind]
	rest := pace{least: leastChoreRest, most: mostChoreRest}
	var others courtesy
	var due time.Time // what the last step told; zero = nothing
	for ctx.Err() == nil {
		onTime := !due.IsZero() && !time.Now().Before(due)
		done, err := cs.step(ctx, kind)
		if ctx.Err() != nil {
			return
		}
		if err == nil && (onTime || done.Moved > 0) {
			others.came(done.Moved > 0)
		}
		sleep, told := nextStep(kind, done)
		if due = (time.Time{}); told {
			sleep += others.delay()
			due = time.Now().Add(sleep)
		}
		switch failed := ch.note(done, err); {
		case err != nil:
			sleep = rest.next()
			if failed == 1 {
				cs.c.cfg.log.WarnContext(ctx, "background work fails; trying on", "chore", kind, "error", err)
			}
			pauseUntil(ctx.Done(), sleep) // a kick does not help
			continue
		case failed > 0:
			cs.c.cfg.log.InfoContext(ctx, "background work is well again", "chore", kind, "failed", failed)
		}
		rest.reset()
		cs.tellFaults(ctx, ch, kind, done.Faults)
		cs.tell(kind, done)
		if sleep > 0 && !ch.wait(ctx.Done(), sleep) {
			return
		}
	}
}

// step does one step; a panic in it is an error.
func (cs *chores) step(ctx context.Context, kind queue.Chore) (done queue.Maintained, err error) {
	ctx, cancel := context.WithTimeout(ctx, cs.c.cfg.callTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = batch.Panicked(p)
		}
	}()
	return cs.c.store.Maintain(ctx, kind)
}

// nextStep is how long to sleep after a step, and whether the step told it.
func nextStep(kind queue.Chore, done queue.Maintained) (sleep time.Duration, told bool) {
	p := paces[kind]
	switch {
	case done.More:
		return 0, false
	case done.Moved > 0 && (kind == queue.ChoreFold || kind == queue.ChorePrune): // there will be more
		return jittered(p.busy), false
	case done.NextIn <= 0:
		return jittered(p.idle), false
	case done.NextIn < p.busy:
		return max(done.NextIn, time.Millisecond), true
	}
	return jittered(p.busy), false
}

// note keeps the outcome of a step. It returns how many steps in a row have failed, this one included; after a good step
// how many had before it.
func (ch *chore) note(done queue.Maintained, err error) (failed int) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	h := &ch.health
	now := time.Now()
	if err != nil {
		h.LastError, h.LastErrorAt = fmt.Errorf("%s: %w", h.Chore, err), now
		h.Failing++
		return h.Failing
	}
	failed, h.Failing = h.Failing, 0
	h.LastSuccess = now
	h.Steps++
	h.Moved += int64(done.Moved)
	if done.Moved > 0 {
		h.Lag = done.Lag
	}
	for s, n := range done.Moves {
		if h.Moves == nil {
			h.Moves = map[queue.Status]int64{}
		}
		h.Moves[s] += int64(n)
	}
	return failed
}

// tellFaults keeps and logs what a step passed over.
func (cs *chores) tellFaults(ctx context.Context, ch *chore, kind queue.Chore, faults []queue.Fault) {
	ch.mu.Lock()
	tell := ch.faults.note(faults, time.Now())
	ch.mu.Unlock()
	for _, f := range tell {
		cs.c.cfg.log.WarnContext(ctx, "background work passes over what fails; the rest goes on", "chore", kind, "namespace", f.Namespace,
			"subject", f.Subject, "error", f.Err)
	}
}

// tell passes on what a step has made ready or ended.
func (cs *chores) tell(kind queue.Chore, done queue.Maintained) {
	for _, w := range done.Woken {
		cs.c.rooms.wake(w)
	}
	if done.Moved == 0 {
		return
	}
	switch kind {
	case queue.ChoreRescue, queue.ChoreExpire:
		cs.c.feeds.changed("")
		cs.c.awaits.suspectAll("")
	case queue.ChoreTick:
		cs.c.feeds.changed("")
	case queue.ChorePromote, queue.ChorePrune, queue.ChoreFold: // nothing that anybody waits for
	}
}

// listen hears of tasks that other processes made ready, where the store can tell.
func (c *core) listen(ctx context.Context) {
	l, ok := queue.StoreAs[queue.Listener](c.store)
	if !ok {
		return
	}
	rest := pace{least: leastChoreRest, most: mostChoreRest}
	for ctx.Err() == nil {
		began := time.Now()
		err := c.hear(ctx, l)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > mostChoreRest {
			rest.reset()
		}
		c.cfg.log.WarnContext(ctx, "cannot listen for wake-ups; polling meanwhile", "error", err)
		pauseUntil(ctx.Done(), rest.next())
		c.heard(queue.Wake{}) // what was said meanwhile
	}
}

func (c *core) hear(ctx context.Context, l queue.Listener) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = batch.Panicked(p)
		}
	}()
	return l.Listen(ctx, c.heard)
}

func (c *core) heard(w queue.Wake) {
	c.rooms.wake(w)
	c.feeds.changed(w.Namespace)
}
