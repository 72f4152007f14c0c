package worker_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// fake is a consumer in memory with leases, tokens, waits, and faults set by a test.
type fake struct {
	// trip is the duration of every call, lease the length of each lease.
	trip  time.Duration
	lease time.Duration
	// beatTrip is the duration of a heartbeat.
	beatTrip time.Duration

	mu      sync.Mutex
	ready   []*queue.Task
	held    map[int64]*queue.Task
	ended   map[int64]queue.Release
	ends    int
	wake    chan struct{}
	nextID  int64
	token   int64
	cancels map[int64]bool
	lost    map[int64]bool

	counts
	progress map[int64][]string
	order    []int64

	// inOrder: the tasks of a group are in one hand at a time, and their leases say that they run in order.
	inOrder bool

	// absent queues: a retain from one is an error.
	absent map[string]bool

	failRetain  func(n int) error
	failRelease func(n int, rs []queue.Release) error
	failOne     func(r queue.Release) error
	failBeat    func(n int) error
}

// counts holds the numbers of calls, and the largest number of tasks held at once.
type counts struct{ retains, releases, beats, maxHeld int }

// n returns the counts so far.
func (f *fake) n() counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

func newFake() *fake {
	return &fake{
		lease: time.Minute, held: map[int64]*queue.Task{}, ended: map[int64]queue.Release{},
		wake: make(chan struct{}), cancels: map[int64]bool{}, lost: map[int64]bool{}, progress: map[int64][]string{},
	}
}

// lacks sets the queues that do not exist.
func (f *fake) lacks(names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.absent = map[string]bool{}
	for _, name := range names {
		f.absent[name] = true
	}
	close(f.wake)
	f.wake = make(chan struct{})
}

// add makes n tasks of a queue ready and returns the id of the first.
func (f *fake) add(name string, n int, change ...func(*queue.Task)) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.nextID + 1
	for range n {
		f.nextID++
		t := &queue.Task{ID: f.nextID, Queue: name, Payload: queue.EmptyJSON, Status: queue.StatusNew, Retries: 3}
		for _, c := range change {
			c(t)
		}
		f.ready = append(f.ready, t)
	}
	close(f.wake)
	f.wake = make(chan struct{})
	return first
}

func (f *fake) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	if r, err := r.Normalize(); err != nil {
		return nil, queue.WithOp("retain "+r.Worker, err)
	}
	f.mu.Lock()
	f.retains++
	n := f.retains
	f.mu.Unlock()
	if f.trip > 0 {
		time.Sleep(f.trip)
	}
	if f.failRetain != nil {
		if err := f.failRetain(n); err != nil {
			return nil, err
		}
	}
	var over <-chan time.Time
	for {
		f.mu.Lock()
		for _, name := range r.Queues {
			if f.absent[name] {
				f.mu.Unlock()
				return nil, &queue.Error{Kind: queue.KindNotFound, Subject: "queue " + name}
			}
		}
		got := f.take(r)
		wake := f.wake
		f.mu.Unlock()
		if len(got) > 0 || r.Wait == 0 {
			return got, nil
		}
		if over == nil {
			over = time.After(r.Wait)
		}
		select {
		case <-wake:
		case <-over:
			return nil, nil
		case <-ctx.Done():
			return nil, &queue.Error{Kind: queue.KindCanceled, Err: ctx.Err()}
		}
	}
}

func (f *fake) take(r queue.RetainRequest) []*queue.Task {
	var got, left []*queue.Task
	inHand := map[string]bool{}
	if f.inOrder {
		for _, t := range f.held {
			inHand[t.Group] = true
		}
	}
	for i, t := range f.ready {
		if len(got) == r.Limit {
			left = append(left, f.ready[i:]...)
			break
		}
		if len(r.Queues) > 0 && !slices.Contains(r.Queues, t.Queue) || inHand[t.Group] {
			left = append(left, t)
			continue
		}
		f.token++
		c := *t
		c.Status, c.Worker = queue.StatusRetained, r.Worker
		c.Attempt++
		c.Lease = &queue.Lease{Token: f.token, Duration: f.lease, ExpiresAt: time.Now().Add(f.lease), InOrder: f.inOrder}
		f.held[c.ID] = &c
		out := c // the holder may change it freely
		lease := *c.Lease
		out.Lease, out.Headers, out.Payload = &lease, maps.Clone(c.Headers), slices.Clone(c.Payload)
		got = append(got, &out)
	}
	f.ready = left
	f.maxHeld = max(f.maxHeld, len(f.held))
	return got
}

func (f *fake) HeartbeatTasks(ctx context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	if f.beatTrip > 0 {
		select {
		case <-time.After(f.beatTrip):
		case <-ctx.Done():
			return nil, &queue.Error{Kind: queue.KindDeadline, Err: ctx.Err()}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beats++
	if f.failBeat != nil {
		if err := f.failBeat(f.beats); err != nil {
			return nil, err
		}
	}
	out := make([]queue.Beat, len(beats))
	for i, b := range beats {
		t := f.held[b.ID]
		switch {
		case t == nil || t.Lease.Token != b.Token || f.lost[b.ID]:
			out[i].Err = queue.ErrLeaseLost
			continue
		case b.Check() != nil:
			out[i].Err = b.Check()
			continue
		}
		if b.Progress != nil {
			f.progress[b.ID] = append(f.progress[b.ID], string(b.Progress))
		}
		out[i].Lease = queue.Lease{Token: b.Token, Duration: f.lease, ExpiresAt: time.Now().Add(f.lease)}
		out[i].CancelRequested = f.cancels[b.ID]
	}
	return out, nil
}

func (f *fake) ReleaseTasks(_ context.Context, rs []queue.Release) ([]queue.Released, error) {
	f.mu.Lock()
	f.releases++
	n := f.releases
	f.mu.Unlock()
	if f.trip > 0 {
		time.Sleep(f.trip)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failRelease != nil {
		if err := f.failRelease(n, rs); err != nil {
			return nil, err
		}
	}
	out := make([]queue.Released, len(rs))
	for i, r := range rs {
		t := f.held[r.ID]
		if t == nil || t.Lease.Token != r.Token || f.lost[r.ID] {
			out[i].Err = queue.ErrLeaseLost
			continue
		}
		err := r.Check(queue.DefaultMaxPayloadBytes)
		if err == nil && f.failOne != nil {
			err = f.failOne(r)
		}
		if err != nil {
			out[i].Err = err
			continue
		}
		delete(f.held, r.ID)
		f.ends++
		f.order = append(f.order, r.ID)
		f.ended[r.ID] = r
		out[i].Task = t
	}
	if f.inOrder { // a group may go on
		close(f.wake)
		f.wake = make(chan struct{})
	}
	return out, nil
}

func (f *fake) CancelTasks(_ context.Context, s queue.Selection) (queue.Bulk, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range s.IDs {
		f.cancels[id] = true
	}
	return queue.Bulk{Matched: int64(len(s.IDs)), Moved: int64(len(s.IDs))}, nil
}

// end returns the release that ended a task.
func (f *fake) end(t *testing.T, id int64) queue.Release {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.ended[id]
	if !ok {
		t.Fatalf("task %d has not ended", id)
	}
	return r
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ends
}

func (f *fake) holds() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.held)
}

// running is a worker that runs until stop, or until the end of the test.
type running struct {
	*worker.Worker
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func start(t *testing.T, w *worker.Worker) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Worker: w, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = w.Run(ctx)
	}()
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func (r *running) stop() error {
	r.cancel()
	<-r.done
	return r.err
}

// quiet is a logger that discards its records.
var quiet = slog.New(slog.DiscardHandler)

func newWorker(f queue.Consumer, opts ...worker.Option) *worker.Worker {
	return worker.New(f, append([]worker.Option{worker.WithName("w"), worker.WithLogger(quiet)}, opts...)...)
}

// pass lets d of virtual time pass, and waits until every goroutine blocks.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
