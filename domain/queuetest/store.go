package queuetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// StoreHarness describes a store to test.
type StoreHarness struct {
	// New returns a fresh, empty store. It registers the end of the store with t.Cleanup.
	New func(t testing.TB) queue.Store
	// Advance moves the clock of a store of New forward by d.
	Advance func(t testing.TB, s queue.Store, d time.Duration)
	// Peer returns the store of another process on the data of a store of New; nil = the store itself. A process need not
	// send itself the messages, such as hints to listeners, that it sends to others.
	Peer func(t testing.TB, s queue.Store) queue.Store
	// Shared returns a service that batches the calls of many callers on the store, in a namespace; nil = the model leaves
	// that out.
	Shared func(t testing.TB, s queue.Store, namespace string) queue.Service
	// Lock lets another transaction lock the rows of a held task until unlock. locked lists the tasks held in these rows.
	// nil = the store has no locks.
	Lock func(t testing.TB, s queue.Store, id int64) (locked []int64, unlock func())
	// LockKey lets another transaction create a task with a key; unlock rolls it back. nil as for Lock.
	LockKey func(t testing.TB, s queue.Store, namespace, name, key string) (unlock func())
	// LockReplaced lets another transaction create a task with a rule for its key that takes the place of another one; end ends that
	// transaction. nil as for Lock.
	LockReplaced func(t testing.TB, s queue.Store, namespace string, task queue.NewTask) (end func(commit bool))
	// LockQueue lets another transaction lock the row of a queue until unlock; nil as for Lock.
	LockQueue func(t testing.TB, s queue.Store, namespace, name string) (unlock func())
	// Audit searches for rows that contradict each other; nil = the store has no such rows.
	Audit func(ctx context.Context, s queue.Store) error
	// Features of the stores.
	Features Features
}

// Features declares the permitted differences between stores. Zero means that a store lacks the feature: the suite then
// checks that it does lack it.
type Features struct {
	// Listener: the store is a queue.Listener.
	Listener bool
	// StatsLister: the store is a queue.StatsLister.
	StatsLister bool
	// Diagnoser: the store is a queue.Diagnoser.
	Diagnoser bool
	// MaxEvents is the number of events that the feed keeps; 0 = the feed is bounded by age.
	MaxEvents int
	// EventsAge is the age at which ChorePrune removes events from the feed; 0 = the feed is bounded by number.
	EventsAge time.Duration
}

// TestStore checks the stores of h against the contract.
func TestStore(t *testing.T, h StoreHarness) {
	t.Helper()
	for _, topic := range []struct {
		name string
		test func(e *env)
	}{
		{"create", testCreate},
		{"json", testJSON},
		{"keys", testKeys},
		{"key rules", testKeyRules},
		{"debounce", testDebounce},
		{"retain", testRetain},
		{"bytes of a retain", testRetainBytes},
		{"requests", testRetainRequests},
		{"create and retain", testCreateAndRetain},
		{"concurrent retain", testConcurrentRetain},
		{"lease", testLease},
		{"named twice", testTwice},
		{"release", testRelease},
		{"lifecycle", testLifecycle},
		{"retry", testRetry},
		{"rescue", testRescue},
		{"expiry", testExpiry},
		{"cancel", testCancel},
		{"bulk", testBulk},
		{"list", testList},
		{"steps", testSteps},
		{"large tickers", testLargeTickers},
		{"concurrency", testConcurrency},
		{"pause", testPause},
		{"fair shares", testFair},
		{"rate", testRate},
		{"groups", testGroups},
		{"fifo", testFIFO},
		{"fifo batches", testFIFOBatches},
		{"max waiting", testMaxWaiting},
		{"flow, hunted", testHuntedFlow},
		{"queues", testQueues},
		{"delete queue", testDeleteQueue},
		{"stats", testStats},
		{"events", testEvents},
		{"bounded events", testBoundedEvents},
		{"workers", testWorkers},
		{"facts", testFacts},
		{"failures", testFailures},
		{"error kinds", testErrorKinds},
		{"non retryable", testNonRetryable},
		{"lease losses", testLeaseLosses},
		{"suspects", testSuspects},
		{"dead letters", testDeadLetters},
		{"history", testHistory},
		{"retention", testRetention},
		{"namespaces", testNamespaces},
		{"limits", testLimits},
		{"tickers", testTickers},
		{"ticks", testTicks},
		{"misfire", testMisfire},
		{"listeners' ticks", testListenerTicks},
		{"context", testContext},
		{"powers", testPowers},
		{"predecessor", testPredecessor},
	} {
		t.Run(topic.name, func(t *testing.T) {
			topic.test(&env{T: t, h: h, s: h.New(t), ns: queue.DefaultNamespace, spaces: new(0)})
		})
	}
}

// env is one store under test, seen from one namespace.
type env struct {
	*testing.T
	h      StoreHarness
	s      queue.Store
	ns     string
	spaces *int
}

// it runs a sub-test on the same store in a namespace of its own.
func (e *env) it(sentence string, f func(e *env)) {
	e.T.Run(sentence, func(t *testing.T) {
		*e.spaces++
		f(&env{T: t, h: e.h, s: e.s, ns: fmt.Sprintf("space-%d", *e.spaces), spaces: e.spaces})
	})
}

// fresh runs a sub-test on a store of its own.
func (e *env) fresh(sentence string, f func(e *env)) {
	e.T.Run(sentence, func(t *testing.T) {
		f(&env{T: t, h: e.h, s: e.h.New(t), ns: queue.DefaultNamespace, spaces: new(0)})
	})
}

// with returns e for a sub-test that shares store and namespace.
func (e *env) with(t *testing.T) *env {
	c := *e
	c.T = t
	return &c
}

// callTimeout bounds every call of a store under test.
const callTimeout = time.Minute

func (e *env) ctx() context.Context {
	ctx, cancel := context.WithTimeout(e.Context(), callTimeout)
	e.Cleanup(cancel)
	return ctx
}

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("unexpected error: %v", err)
	}
}

func (e *env) kind(err error, want queue.Kind) {
	e.Helper()
	checkKind(e.T, err, want)
}

// checkKind checks that err is an *Error of kind want, and that errors.Is matches the sentinel of that kind alone.
func checkKind(t testing.TB, err error, want queue.Kind) {
	t.Helper()
	if queue.KindOf(err) != want {
		t.Fatalf("error is of kind %q (%v), want %q", queue.KindOf(err), err, want)
	}
	for _, k := range queue.Kinds() {
		if errors.Is(err, k) != (k == want) {
			t.Fatalf("errors.Is(%v, %v) = %v", err, k, errors.Is(err, k))
		}
	}
}

func (e *env) equal(what string, got, want any) {
	e.Helper()
	if !reflect.DeepEqual(got, want) {
		e.Fatalf("%s is %v, want %v", what, got, want)
	}
}

// near checks that got is within slack of want. Slack allows for a slow machine, as the tests work in hours.
func (e *env) near(what string, got, want time.Time, slack time.Duration) {
	e.Helper()
	if d := got.Sub(want).Abs(); got.IsZero() || d > slack {
		e.Fatalf("%s is %v, want %v ± %v", what, got, want, slack)
	}
}

const aWhile = 2 * time.Minute // the slack of near

func (e *env) advance(d time.Duration) {
	e.Helper()
	e.h.Advance(e.T, e.s, d)
}

// chores does all steps of each kind of background work.
func (e *env) chores(chores ...queue.Chore) queue.Maintained {
	e.Helper()
	var sum queue.Maintained
	sum.Moves = map[queue.Status]int{}
	for _, c := range chores {
		for range 10_000 {
			m, err := e.s.Maintain(e.ctx(), c)
			e.ok(err)
			sum.Moved += m.Moved
			sum.Woken = append(sum.Woken, m.Woken...)
			sum.Tallies.Merge(m.Tallies)
			sum.Ticks = append(sum.Ticks, m.Ticks...)
			sum.Lag = max(sum.Lag, m.Lag)
			sum.Faults = append(sum.Faults, m.Faults...)
			sum.NextIn = m.NextIn
			for s, n := range m.Moves {
				sum.Moves[s] += n
			}
			if !m.More {
				break
			}
		}
	}
	return sum
}

// pass lets d pass and does the background work that is due at its end.
func (e *env) pass(d time.Duration) {
	e.Helper()
	e.advance(d)
	e.chores(queue.Chores()...)
}

// queue makes a queue.
func (e *env) queue(name string, meta queue.QueueMeta) *queue.Queue {
	e.Helper()
	meta.Name = name
	q, err := queue.NewQueue(e.ns, meta)
	e.ok(err)
	made, err := e.s.CreateQueue(e.ctx(), q)
	e.ok(err)
	return made
}

func (e *env) update(name string, meta queue.QueueMeta) *queue.Queue {
	e.Helper()
	q, err := e.s.UpdateQueue(e.ctx(), e.ns, name, meta)
	e.ok(err)
	return q
}

// newTask returns a normalised task.
func (e *env) newTask(name string, meta queue.TaskMeta) queue.NewTask {
	e.Helper()
	t, err := queue.NewTask{Queue: name, TaskMeta: meta}.Normalize(queue.DefaultMaxPayloadBytes)
	e.ok(err)
	return t
}

func (e *env) create(name string, meta queue.TaskMeta) *queue.Task {
	e.Helper()
	return e.createAll(e.newTask(name, meta))[0]
}

// createN creates n plain tasks and returns their ids in order.
func (e *env) createN(name string, n int) []int64 {
	e.Helper()
	tasks := make([]queue.NewTask, n)
	for i := range tasks {
		tasks[i] = e.newTask(name, queue.TaskMeta{})
	}
	return ids(e.createAll(tasks...))
}

func (e *env) createAll(tasks ...queue.NewTask) []*queue.Task {
	e.Helper()
	made, err := e.s.CreateTasks(e.ctx(), queue.Create{Namespace: e.ns, Tasks: tasks, Atomic: true})
	e.ok(err)
	if len(made) != len(tasks) {
		e.Fatalf("%d answers to %d creates", len(made), len(tasks))
	}
	out := make([]*queue.Task, len(made))
	for i, c := range made {
		e.ok(c.Err)
		out[i] = c.Task
	}
	return out
}

// retain makes due tasks ready and retains up to limit of them.
func (e *env) retain(worker string, limit int, queues ...string) []*queue.Task {
	e.Helper()
	e.chores(queue.ChorePromote)
	return e.retainFor(0, worker, limit, queues...)
}

func (e *env) retainFor(lease time.Duration, worker string, limit int, queues ...string) []*queue.Task {
	e.Helper()
	out, err := e.s.RetainTasks(e.ctx(), queue.Retain{
		Namespace: e.ns, Queues: queues, Requests: []queue.RetainShare{{Worker: worker, Limit: limit, Lease: lease}},
	})
	e.ok(err)
	if len(out) != 1 || len(out[0]) > limit {
		e.Fatalf("a retain of %d was answered by %v", limit, out)
	}
	return out[0]
}

// hold retains exactly one task from a queue.
func (e *env) hold(name string) *queue.Task {
	e.Helper()
	got := e.retain("w", 1, name)
	if len(got) != 1 {
		e.Fatalf("nothing to retain in queue %s", name)
	}
	return got[0]
}

func (e *env) nothing(queues ...string) {
	e.Helper()
	if got := e.retain("nobody", 10, queues...); len(got) != 0 {
		e.Fatalf("retained %v where nothing may be retained", ids(got))
	}
}

func (e *env) tryRelease(r queue.Release) (*queue.Task, error) {
	e.Helper()
	out, err := e.s.ReleaseTasks(e.ctx(), e.ns, []queue.Release{r})
	e.ok(err)
	if len(out) != 1 || (out[0].Task == nil) == (out[0].Err == nil) {
		e.Fatalf("a release was answered by %+v", out)
	}
	return out[0].Task, out[0].Err
}

// release ends the lease of t.
func (e *env) release(t *queue.Task, o queue.Outcome, result string) *queue.Task {
	e.Helper()
	r := queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: o}
	if result != "" {
		r.Result = []byte(result)
	}
	if o == queue.OutcomeSnooze {
		r.Delay = time.Hour
	}
	after, err := e.tryRelease(r)
	e.ok(err)
	return after
}

func (e *env) beat(h queue.Heartbeat) queue.Beat {
	e.Helper()
	out, err := e.s.HeartbeatTasks(e.ctx(), e.ns, []queue.Heartbeat{h})
	e.ok(err)
	if len(out) != 1 {
		e.Fatalf("a heartbeat was answered by %+v", out)
	}
	return out[0]
}

// find returns the task, or nil when it does not exist.
func (e *env) find(id int64) *queue.Task {
	e.Helper()
	got, err := e.s.GetTasks(e.ctx(), e.ns, []int64{id}, true)
	e.ok(err)
	switch len(got) {
	case 0:
		return nil
	case 1:
		return got[0]
	}
	e.Fatalf("%d tasks of one id", len(got))
	return nil
}

func (e *env) get(id int64) *queue.Task {
	e.Helper()
	t := e.find(id)
	if t == nil {
		e.Fatalf("task %d is gone", id)
	}
	return t
}

func (e *env) status(id int64, want queue.Status) *queue.Task {
	e.Helper()
	t := e.get(id)
	if t.Status != want {
		e.Fatalf("task %d is %s, want %s", id, t.Status, want)
	}
	if t.Status.Finished() != !t.FinishedAt.IsZero() {
		e.Fatalf("task %d is %s and finished at %v", id, t.Status, t.FinishedAt)
	}
	return t
}

// unchanged runs f and checks that the task is the same after it.
func (e *env) unchanged(id int64, f func()) {
	e.Helper()
	before := e.find(id)
	f()
	if after := e.find(id); !reflect.DeepEqual(before, after) {
		e.Fatalf("task %d was changed\nfrom %+v\nto   %+v", id, before, after)
	}
}

func (e *env) stats(name string) *queue.QueueStats {
	e.Helper()
	st, err := e.s.QueueStats(e.ctx(), e.ns, name)
	e.ok(err)
	if len(st) != 1 {
		e.Fatalf("%d stats of one queue", len(st))
	}
	return st[0]
}

// counts checks the stored counts of a queue by status; statuses without an entry are 0.
func (e *env) counts(name string, want map[queue.Status]int64) {
	e.Helper()
	got := e.stats(name).Counts
	for _, s := range queue.Statuses() {
		n, ok := got[s]
		if !ok {
			e.Fatalf("counts have no %s: %v", s, got)
		}
		if n != want[s] {
			e.Fatalf("counts are %v, want %v", got, want)
		}
	}
	if len(got) != len(queue.Statuses()) {
		e.Fatalf("counts have too much: %v", got)
	}
}

type bulkFunc = func(context.Context, string, queue.Selection) (queue.Bulk, error)

func (e *env) bulk(f bulkFunc, s queue.Selection) queue.Bulk {
	e.Helper()
	s, err := s.Normalize()
	e.ok(err)
	b, err := f(e.ctx(), e.ns, s)
	e.ok(err)
	return b
}

// one applies a bulk operation to one task and returns its error.
func (e *env) one(f bulkFunc, id int64) error {
	e.Helper()
	b := e.bulk(f, queue.Selection{IDs: []int64{id}})
	if err := b.Errs[id]; err != nil {
		e.equal("Moved", b.Moved, int64(0))
		return err
	}
	e.equal("Moved", b.Moved, int64(1))
	return nil
}

// events returns at least n events of the namespace after the cursor of f, as far as f matches them. A feed may show an
// event a moment after its commit, so it waits for missing events.
func (e *env) events(f queue.EventFilter, n int) []queue.Event {
	e.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var all []queue.Event
		page := f
		for {
			p, err := e.s.ListEvents(e.ctx(), e.ns, page, 100)
			e.ok(err)
			all = append(all, p.Events...)
			page.After = p.Next
			if !p.More {
				break
			}
		}
		if len(all) >= n {
			return all
		}
		if time.Now().After(deadline) {
			e.Fatalf("%d events, want %d: %v", len(all), n, all)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func ids(tasks []*queue.Task) []int64 {
	out := make([]int64, len(tasks))
	for i, t := range tasks {
		out[i] = t.ID
	}
	return out
}

func long(n int) string { return strings.Repeat("x", n) }
