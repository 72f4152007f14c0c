package queuetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Chooser makes the choices of a model run: IntN returns a number in [0, n). A *rand.Rand implements it. The draws of a
// property testing library implement it too, and then failures shrink.
type Chooser interface{ IntN(n int) int }

// Model does steps random operations and clock jumps on a fresh store of h. It compares every answer with a model built
// on queue.Transitions, and recounts everything at the end. Equal seeds give equal runs; a failure reports its seed.
func Model(t testing.TB, h StoreHarness, steps int, seed uint64) {
	t.Helper()
	m := NewModelRun(t, h, rand.New(rand.NewPCG(seed, 0)))
	for i := range steps {
		if err := m.Step(); err != nil {
			t.Fatalf("seed %d, step %d: %v\nlast operations:\n%s", seed, i, err, m.Log())
		}
	}
	if err := m.Check(); err != nil {
		t.Fatalf("seed %d, after %d steps: %v\nlast operations:\n%s", seed, steps, err, m.Log())
	}
}

// ModelRun is one run of the model. Only one goroutine may use it.
//
// The model receives the answers and derives from them only the choices that the contract leaves open: the task that a
// retain took, the length of a jittered delay. It looks up the next status of a task in queue.Transitions: it shares no
// code with the rules that a store is built on.
type ModelRun struct {
	t       testing.TB
	h       StoreHarness
	s       queue.Store
	choose  Chooser
	ctx     context.Context
	queues  map[string]*modelQueue
	names   []string
	tasks   map[int64]*modelTask
	gone    []int64 // ids that must never appear again; only the newest ones
	lastID  int64
	order   int
	token   int64
	now     time.Time
	log     []string
	retains int
	shared  queue.Service
}

type modelQueue struct {
	ttl         time.Duration
	retries     int
	concurrency int
	paused      bool
	keys        map[string]int64
}

type modelTask struct {
	id        int64
	queue     string
	key       string
	payload   string
	priority  int16
	status    queue.Status
	attempt   int
	retries   int
	errors    int
	due       time.Time // the earliest time of the next retain
	dies      time.Time
	finished  time.Time
	expires   time.Time // end of the lease
	token     int64     // token of the present lease, else of none
	settled   int64     // token of the last accepted release
	asked     bool
	order     int  // position in which it became ready
	atCreate  bool // ready since its creation, so its position is certain
	held      int
	delivered string        // answer to the last accepted release
	length    time.Duration // length of the last granted lease
	progress  string
}

const modelSpace = "model"

// modelStay is the retention of every queue of the model.
const modelStay = 200 * time.Hour

// modelLease is the lease of every queue of the model.
const modelLease = 5 * time.Hour

// NewModelRun makes a fresh store with queues of different policies.
func NewModelRun(t testing.TB, h StoreHarness, choose Chooser) *ModelRun {
	t.Helper()
	m := &ModelRun{
		t: t, h: h, s: h.New(t), choose: choose, ctx: t.Context(),
		queues: map[string]*modelQueue{
			"plain":  {retries: 3},
			"once":   {retries: 0},
			"mortal": {retries: 2, ttl: 12 * time.Hour},
			"narrow": {retries: 1, concurrency: 2},
		},
		tasks: map[int64]*modelTask{},
	}
	m.names = slices.Sorted(maps.Keys(m.queues))
	for _, name := range m.names {
		mq := m.queues[name]
		mq.keys = map[string]int64{}
		q, err := queue.NewQueue(modelSpace, queue.QueueMeta{
			Name: name, TTL: &mq.ttl, Retries: &mq.retries, RetryDelay: new(time.Hour), Concurrency: &mq.concurrency,
			Lease: new(modelLease), Retention: new(modelStay), Events: new(false),
		})
		if err != nil {
			t.Fatal(err)
		}
		made, err := m.s.CreateQueue(m.ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		m.now = made.CreatedAt
	}
	for _, meta := range slices.Concat(replacedQueues(), pausedQueues()) {
		q, err := queue.NewQueue(modelSpace, meta)
		if err == nil {
			_, err = m.s.CreateQueue(m.ctx, q)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if h.Shared != nil {
		m.shared = h.Shared(t, m.s, modelSpace)
	}
	return m
}

// Log returns the last operations.
func (m *ModelRun) Log() string {
	var out strings.Builder
	for _, l := range m.log[max(0, len(m.log)-30):] {
		out.WriteString("  " + l + "\n")
	}
	return out.String()
}

func (m *ModelRun) say(format string, args ...any) {
	if len(m.log) > 200 {
		m.log = slices.Delete(m.log, 0, 100)
	}
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// Step does one operation. Its error describes the difference between store and model.
func (m *ModelRun) Step() error {
	ops := []struct {
		weight int
		do     func() error
	}{
		{16, m.create},
		{22, m.retain},
		{24, m.release},
		{6, m.staleRelease},
		{6, m.heartbeat},
		{6, m.heartbeats},
		{5, m.releases},
		{3, m.callers},
		{2, m.callersCreate},
		{2, m.callersRetain},
		{3, m.callersRelease},
		{3, m.locked},
		{1, m.lockedKey},
		{1, m.lockedReplace},
		{1, m.releasePauses},
		{1, m.lockedQueue},
		{1, m.audit},
		{6, m.cancel},
		{4, m.retry},
		{2, m.remove},
		{8, m.jump},
		{4, m.rescue},
		{3, m.expire},
		{2, m.prune},
		{1, m.pause},
		{4, m.look},
		{1, m.counts},
	}
	total := 0
	for _, op := range ops {
		total += op.weight
	}
	n := m.choose.IntN(total)
	for _, op := range ops {
		if n -= op.weight; n < 0 {
			return op.do()
		}
	}
	return nil
}

func (m *ModelRun) anyQueue() string { return m.names[m.choose.IntN(len(m.names))] }

// pick returns a task that ok accepts, or nil.
func (m *ModelRun) pick(ok func(*modelTask) bool) *modelTask {
	var found []*modelTask
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		if t := m.tasks[id]; ok(t) {
			found = append(found, t)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[m.choose.IntN(len(found))]
}

func (t *modelTask) waiting() bool {
	return t.status == queue.StatusNew || t.status == queue.StatusRetry
}

func isFinished(s queue.Status) bool {
	switch s {
	case queue.StatusReleased, queue.StatusFailed, queue.StatusExpired, queue.StatusCancelled:
		return true
	case queue.StatusNew, queue.StatusRetry, queue.StatusRetained:
	}
	return false
}

// moved records the status after a move. It returns an error when the table has no such row.
func (m *ModelRun) moved(t *modelTask, move queue.Move, to queue.Status) error {
	ok := slices.ContainsFunc(queue.Transitions(), func(r queue.Transition) bool {
		return r.From == t.status && r.Move == move && r.To == to
	})
	if !ok {
		return fmt.Errorf("task %d went from %s by %s to %s, which the table does not have", t.id, t.status, move, to)
	}
	t.status = to
	if isFinished(to) {
		t.finished = m.now
		t.asked = false
	}
	return nil
}

func (m *ModelRun) create() error {
	name := m.anyQueue()
	m.now = m.clock()
	n := 1 + m.choose.IntN(4)
	batch := make([]queue.NewTask, n)
	for i := range batch {
		meta := queue.TaskMeta{
			Payload:  fmt.Appendf(nil, `%d`, m.choose.IntN(2)),
			Priority: int16(m.choose.IntN(3)),
			Delay:    time.Duration(max(0, m.choose.IntN(6)-3)) * 2 * time.Hour,
		}
		if m.choose.IntN(3) == 0 {
			meta.Key = fmt.Sprintf("k%d", m.choose.IntN(6))
		}
		batch[i] = queue.NewTask{Queue: name, TaskMeta: meta}
	}
	m.say("create %d in %s", n, name)
	out, err := m.s.CreateTasks(m.ctx, queue.Create{Namespace: modelSpace, Tasks: batch})
	if err != nil {
		return err
	}
	for i, c := range out {
		if err := m.created(batch[i], c); err != nil {
			return err
		}
	}
	return nil
}

// created checks the answer to a create of t and adds a new task to the model.
func (m *ModelRun) created(t queue.NewTask, c queue.Created) error {
	q := m.queues[t.Queue]
	there := m.tasks[q.keys[t.Key]]
	if t.Key != "" && there != nil && !m.past(there) {
		switch same := there.payload == string(t.Payload); {
		case same && (c.Err != nil || c.Task.ID != there.id || !c.Task.Replayed):
			return fmt.Errorf("key %s of task %d was answered by %+v, %w", t.Key, there.id, c.Task, c.Err)
		case !same && !errors.Is(c.Err, queue.ErrKeyReused):
			return fmt.Errorf("key %s of task %d with another payload was answered by %w", t.Key, there.id, c.Err)
		}
		return nil
	}

	if c.Err != nil {
		return c.Err
	}
	if c.Task.ID <= m.lastID || c.Task.Replayed {
		return fmt.Errorf("a new task got id %d behind %d, replayed %v", c.Task.ID, m.lastID, c.Task.Replayed)
	}
	m.lastID = c.Task.ID
	m.born(c.Task, t, q)
	return nil
}

func (m *ModelRun) born(made *queue.Task, t queue.NewTask, q *modelQueue) {
	m.order++
	mt := &modelTask{
		id: made.ID, queue: t.Queue, key: t.Key, payload: string(t.Payload), priority: t.Priority, status: queue.StatusNew,
		retries: q.retries, due: made.CreatedAt.Add(t.Delay), order: m.order, atCreate: t.Delay == 0,
	}
	if q.ttl > 0 {
		mt.dies = mt.due.Add(q.ttl)
	}
	m.tasks[mt.id] = mt
	if t.Key != "" {
		q.keys[t.Key] = mt.id
	}
}

// past reports whether the retention of t is over.
func (m *ModelRun) past(t *modelTask) bool {
	return isFinished(t.status) && m.now.Sub(t.finished) >= modelStay
}

// leeway bounds the lag of the model's clock behind the store's; all durations of the model are hours.
const leeway = 20 * time.Minute

func (m *ModelRun) retain() error {
	names := []string{m.anyQueue()}
	switch m.choose.IntN(3) {
	case 0:
		names = nil
	case 1:
		if other := m.anyQueue(); other != names[0] {
			names = append(names, other)
			slices.Sort(names)
		}
	}
	limit := 1 + m.choose.IntN(5)
	lease := time.Duration(0)
	if m.choose.IntN(4) == 0 {
		lease = 8 * time.Hour
	}
	m.say("retain %d from %v", limit, names)
	if err := m.promote(); err != nil {
		return err
	}
	m.now = m.clock()
	out, err := m.s.RetainTasks(m.ctx, queue.Retain{
		Namespace: modelSpace, Queues: names, Requests: []queue.RetainShare{{Worker: "w", Limit: limit, Lease: lease}},
	})
	if err != nil {
		return err
	}
	return m.retained(out[0], limit, names, cmp.Or(lease, modelLease))
}

// retained checks got, ordered by token, as the answers to retains of limit tasks together.
func (m *ModelRun) retained(got []*queue.Task, limit int, names []string, lease time.Duration) error {
	if len(names) == 0 {
		names = m.names
	}
	could, available := m.available(names)
	if len(got) != min(limit, available) {
		return fmt.Errorf("retained %d of %d where %d are available", len(got), limit, available)
	}

	for _, g := range got {
		if err := m.took(g, names, could, lease); err != nil {
			return err
		}
	}
	if err := m.ordered(got, could); err != nil {
		return err
	}
	return m.sync()
}

// available returns the ready tasks of the queues, and the number that pauses and limits allow to retain.
func (m *ModelRun) available(names []string) (ready []*modelTask, n int) {
	for _, name := range names {
		q := m.queues[name]
		held, before := 0, len(ready)
		for _, t := range m.tasks {
			switch {
			case t.queue != name:
			case t.status == queue.StatusRetained:
				held++
			case t.waiting() && !t.due.After(m.now) && (t.dies.IsZero() || t.dies.After(m.now)):
				ready = append(ready, t)
			}
		}

		switch fresh := len(ready) - before; {
		case q.paused:
		case q.concurrency > 0:
			n += min(fresh, max(0, q.concurrency-held))
		default:
			n += fresh
		}
	}
	return ready, n
}

func (m *ModelRun) took(g *queue.Task, names []string, could []*modelTask, lease time.Duration) error {
	t := m.tasks[g.ID]
	switch {
	case t == nil || !slices.Contains(could, t):
		return fmt.Errorf("task %d was retained, which could not be: %+v", g.ID, t)
	case m.queues[t.queue].paused || !slices.Contains(names, t.queue):
		return fmt.Errorf("task %d was retained from queue %s", g.ID, t.queue)
	case g.Lease == nil || g.Lease.Token <= m.token:
		return fmt.Errorf("task %d got lease %+v behind token %d", g.ID, g.Lease, m.token)
	case string(g.Payload) != t.payload:
		return fmt.Errorf("task %d has payload %s, want %s", g.ID, g.Payload, t.payload)
	}
	if err := m.moved(t, queue.MoveRetain, queue.StatusRetained); err != nil {
		return err
	}
	m.token = g.Lease.Token
	t.token, t.settled, t.expires, t.length = g.Lease.Token, 0, g.Lease.ExpiresAt, lease
	t.attempt++
	t.held++
	m.retains++
	if g.Attempt != t.attempt || g.Retries != t.retries {
		return fmt.Errorf("task %d has attempt %d and retries %d, want %d and %d", g.ID, g.Attempt, g.Retries, t.attempt, t.retries)
	}
	return nil
}

// ordered checks that no remaining task comes before a retained task of its queue.
func (m *ModelRun) ordered(got []*queue.Task, could []*modelTask) error {
	for _, g := range got {
		a := m.tasks[g.ID]
		for _, b := range could {
			if b.queue != a.queue || b.status == queue.StatusRetained {
				continue
			}
			if b.priority < a.priority || b.priority == a.priority && a.atCreate && b.atCreate && b.order < a.order {
				return fmt.Errorf("task %d (priority %d) was retained before task %d (priority %d)", a.id, a.priority, b.id, b.priority)
			}
		}
	}
	return nil
}

func (m *ModelRun) release() error {
	t := m.pick(func(t *modelTask) bool { return t.status == queue.StatusRetained })
	if t == nil {
		return nil
	}
	o := outcomes()[m.choose.IntN(len(outcomes()))]
	r := releaseOf(t.id, t.token, o)
	if m.choose.IntN(8) == 0 {
		r.Token = 0
	}
	m.say("release %d: %s with token %d", t.id, o, r.Token)
	m.now = m.clock()
	after, err := m.releaseOne(r)
	if err != nil {
		return fmt.Errorf("release %d: %w", t.id, err)
	}
	if err := m.ended(t, o, after); err != nil {
		return err
	}
	t.delivered = string(after.Status)
	if m.choose.IntN(3) > 0 {
		return nil
	}
	m.say("release %d again", t.id)
	r.Token = t.token
	again, err := m.releaseOne(r)
	if err != nil || string(again.Status) != t.delivered {
		return fmt.Errorf("a repeat of an accepted release of %d was answered by %+v, %w", t.id, again, err)
	}
	return m.compare(t)
}

func (m *ModelRun) ended(t *modelTask, o queue.Outcome, after *queue.Task) error {
	want := map[queue.Outcome]queue.Status{
		queue.OutcomeSuccess: queue.StatusReleased, queue.OutcomePermanent: queue.StatusFailed, queue.OutcomeFailure: queue.StatusFailed,
	}[o]
	t.atCreate = false
	switch o {
	case queue.OutcomeFailure, queue.OutcomePermanent:
		t.errors++
	case queue.OutcomeSuccess, queue.OutcomeHandBack, queue.OutcomeSnooze:
	}
	switch {
	case t.asked:
		want = queue.StatusCancelled
	case o == queue.OutcomeFailure && t.retries > 0:
		want = queue.StatusRetry
		t.retries--
		t.due = after.DelayedAt // with jitter only its bounds are known
		base := time.Hour << (t.attempt - 1)
		if d := t.due.Sub(m.now); d < base*9/10-leeway || d > base*11/10+leeway {
			return fmt.Errorf("task %d waits %v after attempt %d, want %v ± 10%%", t.id, d, t.attempt, base)
		}
	case o == queue.OutcomeHandBack, o == queue.OutcomeSnooze:
		t.attempt--
		want = queue.StatusNew
		if t.attempt > 0 {
			want = queue.StatusRetry
		}
		t.due = m.now
		if o == queue.OutcomeSnooze {
			t.due = m.now.Add(time.Hour)
		}
	}
	if after.Status != want {
		return fmt.Errorf("task %d is %s after %s, want %s", t.id, after.Status, o, want)
	}
	t.settled = t.token
	if err := m.moved(t, o.Move(), want); err != nil {
		return err
	}
	if !after.FinishedAt.IsZero() {
		t.finished = after.FinishedAt
	}
	return m.compare(t)
}

func (m *ModelRun) releaseOne(r queue.Release) (*queue.Task, error) {
	out, err := m.s.ReleaseTasks(m.ctx, modelSpace, []queue.Release{r})
	if err != nil {
		return nil, err
	}
	return out[0].Task, out[0].Err
}

// staleRelease sends releases that the store must refuse.
func (m *ModelRun) staleRelease() error {
	t := m.pick(func(*modelTask) bool { return true })
	if t == nil || m.past(t) {
		return nil
	}
	r := releaseOf(t.id, m.token+1+int64(m.choose.IntN(3)), outcomes()[m.choose.IntN(len(outcomes()))])
	want := queue.KindLeaseLost
	if t.status != queue.StatusRetained && m.choose.IntN(2) == 0 {
		r.Token, want = 0, queue.KindConflict
	} else if t.held > 0 && t.status != queue.StatusRetained && t.settled == 0 {
		r.Token = t.token // the token of a lapsed lease
	}
	m.say("stale release %d with token %d", t.id, r.Token)
	if after, err := m.releaseOne(r); queue.KindOf(err) != want {
		return fmt.Errorf("a stale release of %d (%s) was answered by %+v, %w; want %w", t.id, t.status, after, err, want)
	}
	return m.compare(t)
}

func (m *ModelRun) heartbeat() error {
	t := m.pick(func(t *modelTask) bool { return t.held > 0 })
	if t == nil || m.past(t) {
		return nil
	}
	m.now = m.clock()
	h := queue.Heartbeat{ID: t.id, Token: t.token - int64(m.choose.IntN(2))}
	m.say("heartbeat %d with token %d", t.id, h.Token)
	if h.Token <= 0 {
		return nil
	}
	out, err := m.s.HeartbeatTasks(m.ctx, modelSpace, []queue.Heartbeat{h})
	if err != nil {
		return err
	}
	if err := m.beat(h, out[0]); err != nil {
		return err
	}
	return m.compare(t)
}

// bulk does a bulk operation on up to three tasks, and names some of them twice.
func (m *ModelRun) bulk(what string, f bulkFunc, allowed func(*modelTask) bool, then func(*modelTask) error) error {
	tasks := m.some(1+m.choose.IntN(3), func(*modelTask) bool { return true })
	if len(tasks) == 0 {
		return nil
	}
	var ids []int64
	for _, t := range tasks {
		ids = append(ids, t.id)
	}
	m.now = m.clock()
	m.say("%s %v", what, ids)
	b, err := f(m.ctx, modelSpace, queue.Selection{IDs: ids})
	if err != nil {
		return err
	}

	moved := 0
	for i, t := range tasks {
		if slices.Contains(ids[:i], t.id) {
			continue
		}
		switch refused := b.Errs[t.id]; {
		case m.past(t):
			if !errors.Is(refused, queue.ErrNotFound) {
				return fmt.Errorf("%s of %d, which is past its retention, was answered by %+v", what, t.id, b)
			}
			continue
		case !allowed(t):
			if !errors.Is(refused, queue.ErrConflict) {
				return fmt.Errorf("%s of %d (%s) was answered by %+v", what, t.id, t.status, b)
			}
		case refused != nil:
			return fmt.Errorf("%s of %d (%s) was answered by %+v", what, t.id, t.status, b)
		default:
			moved++
			if err := then(t); err != nil {
				return err
			}
		}
		if err := m.compare(t); err != nil {
			return err
		}
	}
	if int(b.Moved) != moved {
		return fmt.Errorf("%s of %v moved %d, want %d", what, ids, b.Moved, moved)
	}
	return nil
}

func (m *ModelRun) cancel() error {
	return m.bulk("cancel", m.s.CancelTasks,
		func(t *modelTask) bool { return !isFinished(t.status) },
		func(t *modelTask) error {
			if t.status == queue.StatusRetained {
				t.asked = true
				return nil
			}
			return m.moved(t, queue.MoveCancel, queue.StatusCancelled)
		})
}

func (m *ModelRun) retry() error {
	return m.bulk("retry", m.s.RetryTasks,
		func(t *modelTask) bool { return isFinished(t.status) },
		func(t *modelTask) error {
			q := m.queues[t.queue]
			t.attempt, t.retries, t.due, t.finished, t.dies, t.atCreate = 0, q.retries, m.now, time.Time{}, time.Time{}, false
			if q.ttl > 0 {
				t.dies = m.now.Add(q.ttl)
			}
			return m.moved(t, queue.MoveRetry, queue.StatusNew)
		})
}

func (m *ModelRun) remove() error {
	return m.bulk("delete", m.s.DeleteTasks,
		func(t *modelTask) bool { return t.status != queue.StatusRetained },
		func(t *modelTask) error {
			m.forget(t)
			return nil
		})
}

func (m *ModelRun) forget(t *modelTask) {
	delete(m.tasks, t.id)
	if q := m.queues[t.queue]; t.key != "" && q.keys[t.key] == t.id {
		delete(q.keys, t.key)
	}
	if len(m.gone) == 1000 {
		m.gone = slices.Delete(m.gone, 0, 500)
	}
	m.gone = append(m.gone, t.id)
}

// jump lets hours pass and makes the tasks ready that became due. It adds half hours to whole ones, so it never lands
// near a time at which something happens.
func (m *ModelRun) jump() error {
	d := time.Duration(1+m.choose.IntN(12)) * 30 * time.Minute
	if m.choose.IntN(40) == 0 {
		d = modelStay
	}
	m.say("jump %v", d)
	m.h.Advance(m.t, m.s, d)
	m.now = m.clock()
	if err := m.promote(); err != nil {
		return err
	}
	return m.sync()
}

// sync reads the tasks that are past their ttl: the store may have ended them already, at any call.
func (m *ModelRun) sync() error {
	return m.compareAll(func(t *modelTask) bool { return t.waiting() && !t.dies.IsZero() && !t.dies.After(m.now) })
}

func (m *ModelRun) promote() error { return m.chore(queue.ChorePromote, nil) }

func (m *ModelRun) chore(c queue.Chore, sum *queue.Maintained) error {
	for {
		done, err := m.s.Maintain(m.ctx, c)
		if err != nil {
			return err
		}
		if sum != nil {
			sum.Moved += done.Moved
		}
		if !done.More {
			return nil
		}
	}
}

func (m *ModelRun) rescue() error {
	m.say("rescue")
	m.now = m.clock()
	if err := m.chore(queue.ChoreRescue, nil); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		t := m.tasks[id]
		if t.status != queue.StatusRetained || t.expires.After(m.now) {
			continue
		}
		to := queue.StatusFailed
		t.errors++
		t.atCreate = false
		switch {
		case t.asked:
			to = queue.StatusCancelled
		case !t.dies.IsZero() && !t.dies.After(m.now):
			to = queue.StatusExpired
		case t.retries > 0:
			to = queue.StatusRetry
			t.retries--
		}
		got, err := m.find(id)
		if err != nil {
			return err
		}
		if got == nil || got.Status != to {
			return fmt.Errorf("task %d of an expired lease is %+v, want %s", id, got, to)
		}
		t.due = got.DelayedAt
		if err := m.moved(t, queue.MoveLeaseLost, to); err != nil {
			return err
		}
		if err := m.compare(t); err != nil {
			return err
		}
	}
	return nil
}

func (m *ModelRun) expire() error {
	m.say("expire")
	m.now = m.clock()
	if err := m.chore(queue.ChoreExpire, nil); err != nil {
		return err
	}
	return m.compareAll(func(t *modelTask) bool { return t.waiting() })
}

func (m *ModelRun) prune() error {
	m.say("prune")
	m.now = m.clock()
	if err := m.chore(queue.ChorePrune, nil); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		if t := m.tasks[id]; m.past(t) {
			got, err := m.find(id)
			if err != nil {
				return err
			}
			if got != nil {
				return fmt.Errorf("task %d is there past its retention", id)
			}
			m.forget(t)
		}
	}
	return nil
}

func (m *ModelRun) pause() error {
	name := m.anyQueue()
	q := m.queues[name]
	q.paused = !q.paused && m.choose.IntN(3) == 0
	m.say("pause %s: %v", name, q.paused)
	_, err := m.s.UpdateQueue(m.ctx, modelSpace, name, queue.QueueMeta{Paused: &q.paused})
	return err
}

func (m *ModelRun) look() error {
	m.say("look")
	m.now = m.clock()
	if len(m.gone) > 0 {
		id := m.gone[m.choose.IntN(len(m.gone))]
		if got, err := m.find(id); err != nil || got != nil {
			return fmt.Errorf("task %d is gone and found: %+v, %w", id, got, err)
		}
	}
	if t := m.pick(func(*modelTask) bool { return true }); t != nil {
		return m.compare(t)
	}
	return nil
}

func (m *ModelRun) find(id int64) (*queue.Task, error) {
	got, err := m.s.GetTasks(m.ctx, modelSpace, []int64{id}, true)
	if err != nil || len(got) == 0 {
		return nil, err
	}
	return got[0], nil
}

// compare checks the store's task against the model's.
func (m *ModelRun) compare(t *modelTask) error {
	if m.tasks[t.id] == nil {
		return nil // deleted
	}
	m.now = m.clock()
	got, err := m.find(t.id)
	if err != nil {
		return err
	}
	return m.same(t, got)
}

func (m *ModelRun) same(t *modelTask, got *queue.Task) error {
	if m.past(t) {
		if got != nil {
			return fmt.Errorf("task %d can be seen past its retention", t.id)
		}
		return nil
	}
	if got == nil {
		return fmt.Errorf("task %d (%s) is not there", t.id, t.status)
	}
	if t.waiting() && got.Status == queue.StatusExpired && !t.dies.IsZero() && !t.dies.After(m.now) {
		// The ttl of the task is over: a store may end it at any time.
		if err := m.moved(t, queue.MoveExpire, queue.StatusExpired); err != nil {
			return err
		}
		t.finished = got.FinishedAt
	}
	if isFinished(t.status) && !got.FinishedAt.IsZero() && got.FinishedAt.Sub(t.finished).Abs() < leeway {
		t.finished = got.FinishedAt
	}
	if t.status == queue.StatusRetained && string(got.Progress) != t.progress {
		return fmt.Errorf("task %d has progress %s, want %s", t.id, got.Progress, t.progress)
	}
	type state struct {
		status           queue.Status
		attempt, retries int
		errors           int
		asked, finished  bool
		key              string
	}
	have := state{got.Status, got.Attempt, got.Retries, len(got.Errors), got.CancelRequested, !got.FinishedAt.IsZero(), got.Key}
	want := state{t.status, t.attempt, t.retries, min(t.errors, queue.MaxErrors), t.asked, isFinished(t.status), t.key}
	if have != want {
		return fmt.Errorf("task %d in %s is %+v, want %+v", t.id, t.queue, have, want)
	}
	return nil
}

func (m *ModelRun) compareAll(which func(*modelTask) bool) error {
	m.now = m.clock()
	var wanted []int64
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		if which(m.tasks[id]) {
			wanted = append(wanted, id)
		}
	}
	for chunk := range slices.Chunk(wanted, 1000) {
		got, err := m.s.GetTasks(m.ctx, modelSpace, chunk, true)
		if err != nil {
			return err
		}
		byID := map[int64]*queue.Task{}
		for _, g := range got {
			byID[g.ID] = g
		}
		for _, id := range chunk {
			if err := m.same(m.tasks[id], byID[id]); err != nil {
				return err
			}
		}
	}
	return nil
}

// counts checks the stored counts against a recount.
func (m *ModelRun) counts() error {
	m.say("counts")
	for _, do := range []func() error{m.expire, m.prune} {
		if err := do(); err != nil {
			return err
		}
	}
	if m.choose.IntN(2) == 0 {
		if err := m.chore(queue.ChoreFold, nil); err != nil {
			return err
		}
	}
	for _, name := range m.names {
		want := map[queue.Status]int64{}
		for _, s := range queue.Statuses() {
			want[s] = 0
		}
		for _, t := range m.tasks {
			if t.queue == name {
				want[t.status]++
			}
		}
		st, err := m.s.QueueStats(m.ctx, modelSpace, name)
		if err != nil {
			return err
		}
		if !maps.Equal(st[0].Counts, want) {
			return fmt.Errorf("counts of %s are %v, a recount gives %v", name, st[0].Counts, want)
		}
		if waiting := want[queue.StatusNew] + want[queue.StatusRetry]; st[0].Ready+st[0].Delayed != waiting {
			return fmt.Errorf("of %s %d are ready and %d delayed, %d wait", name, st[0].Ready, st[0].Delayed, waiting)
		}
	}
	return nil
}

// Check compares all tasks and counts.
func (m *ModelRun) Check() error {
	if err := m.compareAll(func(*modelTask) bool { return true }); err != nil {
		return err
	}
	if err := m.counts(); err != nil {
		return err
	}
	if err := m.audit(); err != nil {
		return err
	}
	if m.retains == 0 && len(m.tasks) > 200 {
		return errors.New("the run retained nothing")
	}
	return nil
}

// clock reads the store's clock from the time of a stored value.
func (m *ModelRun) clock() time.Time {
	q, err := m.s.UpdateQueue(m.ctx, modelSpace, m.names[0], queue.QueueMeta{})
	if err != nil {
		m.t.Fatal(err)
	}
	return q.UpdatedAt
}
