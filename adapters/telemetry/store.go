package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Store returns next with metrics of its calls and of the tasks that they move. Store returns next itself when metrics and
// traces are off. Each process counts only its own calls: creates inside a caller's own transaction are not counted.
func (t *Telemetry) Store(next queue.Store) queue.Store {
	if t.isOff() {
		return next
	}

	observer := &callObserver{t: t, layer: "store"}
	if t.m != nil {
		observer.calls = t.m.store
	}
	s := &store{Store: queue.ObserveStore(next, observer), next: next, observer: observer, m: t.m}
	if l, ok := queue.StoreAs[queue.Listener](next); ok {
		return &listeningStore{store: s, listener: l}
	}
	return s
}

// store is the decorated Store. The observer measures the calls; the methods here count the tasks that the calls move.
type store struct {
	queue.Store // observed

	next     queue.Store
	observer *callObserver
	m        *meters // nil when metrics are off
}

var (
	_ queue.Unwrapper = (*store)(nil)
	_ queue.Listener  = (*listeningStore)(nil)
	_ queue.Unwrapper = (*listeningStore)(nil)
)

// Unwrap returns the store without telemetry, for queue.StoreAs.
func (s *store) Unwrap() queue.Store { return s.next }

// withoutTelemetry returns the store for readings that must not be counted.
func (s *store) withoutTelemetry() queue.Store { return s.next }

func (s *store) CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error) {
	call := queue.Call{Op: queue.OpCreateTasks, Namespace: c.Namespace, Count: len(c.Tasks)}
	ctx, state := s.startCreate(ctx, call, c.Tasks)

	created, err := s.next.CreateTasks(ctx, c)

	_ = s.observer.End(ctx, call, state, err)
	if s.m != nil {
		s.m.countCreated(c, created)
	}
	return created, err
}

func (s *store) CreateAndRetain(
	ctx context.Context, c queue.Create, r queue.Retain,
) ([]queue.Created, [][]*queue.Task, error) {
	call := queue.Call{Op: queue.OpCreateAndRetain, Namespace: c.Namespace, Count: len(c.Tasks)}
	ctx, state := s.startCreate(ctx, call, c.Tasks)

	created, outs, err := s.next.CreateAndRetain(ctx, c, r)

	_ = s.observer.End(ctx, call, state, err)
	if s.m != nil {
		s.m.countCreated(c, created)
		if err == nil {
			s.m.countPoll(r.Namespace, outs)
		}
	}
	return created, outs, err
}

// startCreate starts a create. Its span links to the spans that create the tasks, so that a batched call leads back to
// its callers.
func (s *store) startCreate(ctx context.Context, call queue.Call, tasks []queue.NewTask) (context.Context, callState) {
	var state callState

	if s.observer.t.tracer != nil {
		var from creations
		for i := range tasks {
			from.addHeaders(tasks[i].Headers)
		}
		var span trace.Span
		if ctx, span = s.observer.startSpan(ctx, call, from.links); span != nil {
			span.SetAttributes(attrBatch(call.Count))
			state.span = span
		}
	}

	state.start = readStopwatch()
	return ctx, state
}

// countCreated counts the tasks that a create made, one addition for each run of tasks of one queue.
func (m *meters) countCreated(c queue.Create, created []queue.Created) {
	m.batch[queue.OpCreateTasks].Observe(float64(len(c.Tasks)))

	for i := range created {
		if one := &created[i]; one.Superseded != 0 {
			m.tasks.metersOf(c.Namespace, one.Task.Queue).countMoved(queue.Tally{
				Namespace: c.Namespace, Queue: one.Task.Queue, Was: one.WasStatus, Is: queue.StatusCancelled, N: 1,
			})
		}
	}

	for i := range created {
		if created[i].Err != nil && queue.KindOf(created[i].Err) == queue.KindExhausted {
			m.tasks.metersOf(c.Namespace, c.Tasks[i].Queue).refused.Inc()
		}
	}

	for i := 0; i < len(created); {
		task := created[i].Task
		if !isNewTask(created[i]) {
			i++
			continue
		}
		// Tasks of a queue mostly stand side by side in a batch: one look-up of the meters for each row of them.
		n := 1
		for i++; i < len(created) && isNewTask(created[i]) && created[i].Task.Queue == task.Queue; i++ {
			n++
		}
		m.tasks.metersOf(c.Namespace, task.Queue).created.Add(float64(n))
	}
}

// isNewTask reports whether a create made the task, rather than found it by its key.
func isNewTask(c queue.Created) bool { return c.Task != nil && c.Err == nil && !c.Task.Replayed }

func (s *store) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	outs, err := s.Store.RetainTasks(ctx, r)
	if s.m != nil && err == nil {
		s.m.countPoll(r.Namespace, outs)
	}
	return outs, err
}

// countPoll counts the tasks that a retain found.
func (m *meters) countPoll(namespace string, outs [][]*queue.Task) {
	found := 0
	for _, tasks := range outs {
		found += len(tasks)
		m.countRetained(namespace, tasks)
	}

	if found == 0 {
		m.pollsEmpty.Inc()
		return
	}
	m.pollsFound.Inc()
	m.batch[queue.OpRetainTasks].Observe(float64(found))
}

// countRetained counts tasks that were just retained, and the time that each had waited.
func (m *meters) countRetained(namespace string, tasks []*queue.Task) {
	for i := 0; i < len(tasks); {
		name := tasks[i].Queue
		of := m.tasks.metersOf(namespace, name)
		n := 0
		for ; i < len(tasks) && tasks[i].Queue == name; i++ {
			n++
			of.wait.Observe(waitTime(tasks[i]).Seconds())
		}
		of.retained.Add(float64(n))
	}
}

// waitTime returns the time for which a retained task was available before, by the database's clock.
func waitTime(t *queue.Task) time.Duration {
	from := t.CreatedAt
	if t.DelayedAt.After(from) {
		from = t.DelayedAt
	}
	return max(t.StartedAt.Sub(from), 0)
}

func (s *store) HeartbeatTasks(ctx context.Context, namespace string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	outs, err := s.Store.HeartbeatTasks(ctx, namespace, beats)
	if s.m == nil {
		return outs, err
	}

	s.m.batch[queue.OpHeartbeatTasks].Observe(float64(len(beats)))
	for i := range outs {
		s.m.countLostLease(queue.OpHeartbeatTasks, outs[i].Err)
	}
	return outs, err
}

// countLostLease counts an answer with a lost lease.
func (m *meters) countLostLease(op queue.Op, err error) {
	if err != nil && queue.KindOf(err) == queue.KindLeaseLost {
		m.leaseLost.WithLabelValues(op.Label()).Inc()
	}
}

func (s *store) ReleaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	outs, err := s.Store.ReleaseTasks(ctx, namespace, releases)
	if s.m == nil {
		return outs, err
	}

	s.m.batch[queue.OpReleaseTasks].Observe(float64(len(releases)))
	// A store that answers with another number of results broke its contract; a wrong count would hide it.
	if len(outs) == len(releases) {
		s.m.countReleased(namespace, releases, outs)
	}
	return outs, err
}

// countReleased counts the tasks of a release by their new status. A repeated release was counted before.
func (m *meters) countReleased(namespace string, releases []queue.Release, outs []queue.Released) {
	var last *taskMeters
	var name string

	for i := range outs {
		o := &outs[i]
		if o.Err != nil {
			m.countLostLease(queue.OpReleaseTasks, o.Err)
			continue
		}
		// The first answer has been counted.
		if o.Replayed {
			continue
		}

		after := *o
		if o.Task != nil {
			after.Queue = o.Task.Queue
			after.Status = o.Task.Status
			after.Held = heldTime(o.Task)
		} else if after.Status == "" { // a store that answers a quiet release without a status
			after.Status = likelyStatus(releases[i].Outcome)
		}
		if last == nil || name != after.Queue {
			name = after.Queue
			last = m.tasks.metersOf(namespace, name)
		}
		last.countEnd(releases[i].Outcome, after)
	}
}

// likelyStatus returns the most likely status of a task after a release that was answered without one.
func likelyStatus(o queue.Outcome) queue.Status {
	switch o {
	case queue.OutcomeSuccess:
		return queue.StatusReleased
	case queue.OutcomePermanent:
		return queue.StatusFailed
	case queue.OutcomeFailure:
		return queue.StatusRetry
	case queue.OutcomeHandBack, queue.OutcomeSnooze:
	}
	return queue.StatusNew
}

// heldTime returns the time from the last retain of a released task to its end, by the database's clock; 0 = not known.
func heldTime(t *queue.Task) time.Duration {
	if t.FinishedAt.IsZero() || t.StartedAt.IsZero() {
		return 0
	}
	return t.FinishedAt.Sub(t.StartedAt)
}

// countEnd counts a task that was released with outcome o, and observes its times.
func (t *taskMeters) countEnd(o queue.Outcome, after queue.Released) {
	var run prometheus.Observer

	switch {
	case after.Status == queue.StatusReleased:
		t.released.Inc()
		run = t.run.released
	case after.Status == queue.StatusFailed:
		t.failed.Inc()
		run = t.run.failed
	case after.Status == queue.StatusCancelled:
		t.cancelled.Inc()
		run = t.run.cancelled
	case o == queue.OutcomeHandBack || o == queue.OutcomeSnooze:
		t.returned.Inc()
	default:
		t.retried.Inc()
	}

	// 0 means that the store did not report how long the task was held.
	if run != nil && after.Held > 0 {
		run.Observe(after.Held.Seconds())
	}

	if task := after.Task; task != nil && !task.FinishedAt.IsZero() && !task.CreatedAt.IsZero() {
		t.endToEnd.Observe(max(task.FinishedAt.Sub(task.CreatedAt), 0).Seconds())
	}
}

func (s *store) CancelTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return s.countBulk(s.Store.CancelTasks(ctx, namespace, sel))
}

func (s *store) RetryTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return s.countBulk(s.Store.RetryTasks(ctx, namespace, sel))
}

func (s *store) DeleteTasks(ctx context.Context, namespace string, sel queue.Selection) (queue.Bulk, error) {
	return s.countBulk(s.Store.DeleteTasks(ctx, namespace, sel))
}

// countBulk counts the tasks that a bulk operation moved. Beside an error it counts the steps that succeeded before.
func (s *store) countBulk(b queue.Bulk, err error) (queue.Bulk, error) {
	if s.m != nil {
		for _, t := range b.Tallies {
			s.m.tasks.metersOf(t.Namespace, t.Queue).countMoved(t)
		}
	}
	return b, err
}
