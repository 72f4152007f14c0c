package manager

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// fake is the smallest Store that shows the behaviour of the manager. Its missing methods panic.
type fake struct {
	queue.Store

	mu     sync.Mutex
	calls  map[string]int
	sizes  []int // items of each create
	ids    int64
	tokens int64
	tasks  map[int64]*queue.Task
	ready  []int64
	events []queue.Event
	ticks  []queue.Tick // due
	taken  map[int64]queue.Tick
	done   []int64 // ticks delivered

	// hold, when set, blocks every call of that name until the channel closes or ctx ends.
	hold map[string]chan struct{}
	// before, when set, may refuse a call.
	before func(ctx context.Context, call string, arg any) error
	// maintain answers the steps of background work.
	maintain func(context.Context, queue.Chore) (queue.Maintained, error)
	// concurrency of every queue.
	concurrency int
	// perCall, when set, bounds the requests that one retain answers, as large tasks do.
	perCall int
	// locked holds the tasks that another transaction has locked.
	locked map[int64]bool
	wakes  chan queue.Wake
}

func newFake() *fake {
	return &fake{
		calls: map[string]int{}, tasks: map[int64]*queue.Task{}, taken: map[int64]queue.Tick{}, locked: map[int64]bool{},
		hold: map[string]chan struct{}{}, wakes: make(chan queue.Wake, 16),
	}
}

// enter counts a call, blocks it as hold says, and asks before. Without an error mu is locked when it returns.
func (f *fake) enter(ctx context.Context, call string, arg any) error {
	f.mu.Lock()
	f.calls[call]++
	hold, before := f.hold[call], f.before
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if before != nil {
		if err := before(ctx, call, arg); err != nil {
			return err
		}
	}
	f.mu.Lock()
	return nil
}

func (f *fake) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

// block blocks the calls of that name until the caller calls the returned function.
func (f *fake) block(call string) (release func()) {
	c := make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold[call] = c
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.hold, call)
		close(c)
	}
}

func (f *fake) lock(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.locked[id] = true
}

func (f *fake) unlock(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.locked, id)
}

func (f *fake) refuse(before func(ctx context.Context, call string, arg any) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *fake) event(kind queue.EventKind, t *queue.Task) {
	f.events = append(f.events, queue.Event{
		Cursor: strconv.Itoa(len(f.events) + 1), Kind: kind, Namespace: t.Namespace, Queue: t.Queue, TaskID: t.ID,
	})
}

// put makes tasks ready without the manager, as another process does.
func (f *fake) put(namespace, name string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.add(namespace, queue.NewTask{Queue: name})
	}
}

func (f *fake) add(namespace string, n queue.NewTask) *queue.Task {
	f.ids++
	t := &queue.Task{ID: f.ids, Namespace: namespace, Queue: n.Queue, Payload: slices.Clone(n.Payload), Status: queue.StatusNew, Key: n.Key}
	if n.Delay > 0 {
		t.DelayedAt = time.Now().Add(n.Delay)
	}
	f.tasks[t.ID] = t
	f.ready = append(f.ready, t.ID)
	f.event(queue.EventCreated, t)
	return t
}

func (f *fake) CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error) {
	if err := f.enter(ctx, "create", c); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	return f.created(c), nil
}

func (f *fake) created(c queue.Create) []queue.Created {
	f.sizes = append(f.sizes, len(c.Tasks))
	out := make([]queue.Created, len(c.Tasks))
	for i, n := range c.Tasks {
		if n.Queue == "unknown" {
			out[i].Err = &queue.Error{Kind: queue.KindNotFound, Subject: "queue unknown", Msg: "no such queue"}
			continue
		}
		out[i].Task = cloneWholeTask(f.add(c.Namespace, n))
	}
	return out
}

func (f *fake) CreateAndRetain(ctx context.Context, c queue.Create, r queue.Retain) ([]queue.Created, [][]*queue.Task, error) {
	if err := f.enter(ctx, "eager", c); err != nil {
		return nil, nil, err
	}
	defer f.mu.Unlock()
	return f.created(c), f.retained(r), nil
}

func (f *fake) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	if err := f.enter(ctx, "retain", r); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	return f.retained(r), nil
}

func (f *fake) retained(r queue.Retain) [][]*queue.Task {
	out := make([][]*queue.Task, len(r.Requests))
	for i, q := range r.Requests {
		if f.perCall > 0 && i >= f.perCall && len(out[i-1]) > 0 {
			return out[:i]
		}
		for range q.Limit {
			at := slices.IndexFunc(f.ready, func(id int64) bool {
				t := f.tasks[id]
				return t.Namespace == r.Namespace && (len(r.Queues) == 0 || slices.Contains(r.Queues, t.Queue)) &&
					!time.Now().Before(t.DelayedAt)
			})
			if at < 0 {
				break
			}
			t := f.tasks[f.ready[at]]
			f.ready = slices.Delete(f.ready, at, at+1)
			f.tokens++
			t.Status, t.Worker, t.Lease = queue.StatusRetained, q.Worker, &queue.Lease{Token: f.tokens}
			f.event(queue.EventRetained, t)
			out[i] = append(out[i], cloneWholeTask(t))
		}
	}
	return out
}

func (f *fake) HeartbeatTasks(ctx context.Context, _ string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	if err := f.enter(ctx, "heartbeat", beats); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	return make([]queue.Beat, len(beats)), nil
}

func (f *fake) ReleaseTasks(ctx context.Context, namespace string, rs []queue.Release) ([]queue.Released, error) {
	if err := f.enter(ctx, "release", rs); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	out := make([]queue.Released, len(rs))
	for i, r := range rs {
		t := f.tasks[r.ID]
		switch {
		case f.locked[r.ID]:
			out[i].Err = queue.Locked(r.ID)
			continue
		case t == nil || t.Namespace != namespace:
			out[i].Err = queue.ErrNotFound
			continue
		case t.Lease == nil || r.Token != 0 && r.Token != t.Lease.Token:
			out[i].Err = &queue.Error{Kind: queue.KindLeaseLost}
			continue
		}
		t.Lease, t.Result = nil, slices.Clone(r.Result)
		switch r.Outcome {
		case queue.OutcomeSuccess:
			t.Status = queue.StatusReleased
			f.event(queue.EventReleased, t)
		case queue.OutcomeFailure, queue.OutcomePermanent:
			t.Status = queue.StatusFailed
			f.event(queue.EventFailed, t)
		case queue.OutcomeHandBack, queue.OutcomeSnooze:
			t.Status = queue.StatusNew
			f.ready = append([]int64{t.ID}, f.ready...)
			f.event(queue.EventReturned, t)
		}
		out[i].Queue, out[i].Status = t.Queue, t.Status
		if r.Quiet && r.Outcome == queue.OutcomeSuccess { // as the store does
			continue
		}
		out[i].Task = cloneWholeTask(t)
	}
	return out, nil
}

func (f *fake) GetTasks(ctx context.Context, namespace string, ids []int64, _ bool) ([]*queue.Task, error) {
	if err := f.enter(ctx, "get", ids); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	var out []*queue.Task
	for _, id := range ids {
		if t := f.tasks[id]; t != nil && t.Namespace == namespace {
			out = append(out, cloneWholeTask(t))
		}
	}
	return out, nil
}

func (f *fake) EndedTasks(ctx context.Context, namespace string, ids []int64) ([]int64, error) {
	if err := f.enter(ctx, "ended", ids); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	var ended []int64
	for _, id := range ids {
		if t := f.tasks[id]; t == nil || t.Namespace != namespace || t.Status.Finished() {
			ended = append(ended, id)
		}
	}
	return ended, nil
}

// finish ends a task without the manager.
func (f *fake) finish(id int64, s queue.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tasks[id].Status = s
	f.event(queue.EventKind(s), f.tasks[id])
}

func (f *fake) held() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tasks {
		if t.Status == queue.StatusRetained {
			n++
		}
	}
	return n
}

func (f *fake) ListEvents(ctx context.Context, namespace string, filter queue.EventFilter, limit int) (queue.EventPage, error) {
	if err := f.enter(ctx, "events", filter); err != nil {
		return queue.EventPage{}, err
	}
	defer f.mu.Unlock()
	at, _ := strconv.Atoi(filter.After)
	p := queue.EventPage{Next: filter.After}
	for _, e := range f.events[at:] {
		if len(p.Events) == limit {
			p.More = true
			break
		}
		p.Next = e.Cursor
		if e.Namespace == namespace && filter.Matches(e) {
			p.Events = append(p.Events, e)
		}
	}
	return p, nil
}

func (f *fake) LastEvent(ctx context.Context, _ string) (string, error) {
	if err := f.enter(ctx, "last", nil); err != nil {
		return "", err
	}
	defer f.mu.Unlock()
	return strconv.Itoa(len(f.events)), nil
}

// tick makes ticks due.
func (f *fake) tick(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.ids++
		f.ticks = append(f.ticks, queue.Tick{ID: f.ids, Namespace: queue.DefaultNamespace, Ticker: "t"})
	}
}

func (f *fake) TakeTicks(ctx context.Context, _ string, limit int, hold time.Duration) ([]queue.Tick, time.Duration, error) {
	if err := f.enter(ctx, "take", hold); err != nil {
		return nil, 0, err
	}
	defer f.mu.Unlock()
	n := min(limit, len(f.ticks))
	out := slices.Clone(f.ticks[:n])
	f.ticks = f.ticks[n:]
	for _, t := range out {
		f.taken[t.ID] = t
	}
	return out, 0, nil
}

func (f *fake) SettleTicks(ctx context.Context, _ string, ids []int64, delivered bool) error {
	if err := f.enter(ctx, "settle", delivered); err != nil {
		return err
	}
	defer f.mu.Unlock()
	for _, id := range ids {
		if delivered {
			f.done = append(f.done, id)
		} else {
			f.ticks = append(f.ticks, f.taken[id])
		}
		delete(f.taken, id)
	}
	return nil
}

func (f *fake) Maintain(ctx context.Context, c queue.Chore) (queue.Maintained, error) {
	if err := f.enter(ctx, string(c), nil); err != nil {
		return queue.Maintained{}, err
	}
	m := f.maintain
	f.mu.Unlock()
	if m == nil {
		return queue.Maintained{}, nil
	}
	return m(ctx, c)
}

func (f *fake) GetQueue(ctx context.Context, namespace, name string) (*queue.Queue, error) {
	if err := f.enter(ctx, "queue", name); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	return &queue.Queue{Namespace: namespace, Name: name, Concurrency: f.concurrency}, nil
}

func (f *fake) Listen(ctx context.Context, wake func(queue.Wake)) error {
	for {
		select {
		case w := <-f.wakes:
			wake(w)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bubble runs test in fake time with a manager over a fake store. It fails when a goroutine runs on after Close.
func bubble(t *testing.T, name string, test func(t *testing.T, f *fake, m *Manager), opts ...Option) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			m, err := New(f, append([]Option{WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
			if err != nil {
				t.Fatal(err)
			}
			test(t, f, m)
			if err := m.Close(context.Background()); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	})
}

// each runs n goroutines. wait returns their errors in order once all are done.
func each(n int, f func(i int) error) (wait func() []error) {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	return func() []error { wg.Wait(); return errs }
}

func none(t *testing.T, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
}

func kind(t *testing.T, err error, want queue.Kind) {
	t.Helper()
	if got := queue.KindOf(err); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

// later is a call that runs in a goroutine.
type later[T any] struct {
	done atomic.Bool
	ch   chan struct{}
	out  T
	err  error
	took time.Duration
}

func start[T any](f func() (T, error)) *later[T] {
	l := &later[T]{ch: make(chan struct{})}
	began := time.Now()
	go func() {
		l.out, l.err = f()
		l.took = time.Since(began)
		l.done.Store(true)
		close(l.ch)
	}()
	return l
}

func (l *later[T]) wait() (T, error) { <-l.ch; return l.out, l.err }

// pass lets fake time pass, and everything happen that becomes due.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func waitFor(worker string, wait time.Duration, queues ...string) queue.RetainRequest {
	return queue.RetainRequest{Worker: worker, Queues: queues, Wait: wait}
}

func workerName(i int) string { return fmt.Sprintf("w%04d", i) }

// cloneWholeTask returns a copy of t that shares no memory with it, as far as the fake changes it.
func cloneWholeTask(t *queue.Task) *queue.Task {
	c := *t
	c.Payload, c.Result = slices.Clone(t.Payload), slices.Clone(t.Result)
	if t.Lease != nil {
		lease := *t.Lease
		c.Lease = &lease
	}

	return &c
}
