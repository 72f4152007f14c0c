package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Store counts what next moves and times its calls. It gives next itself when all is off. What a caller does in his own
// transaction passes by it uncounted, and so does what other processes do: each counts its own.
func (t *Telemetry) Store(next queue.Store) queue.Store {
	if t.off() {
		return next
	}
	s := &store{next: next, t: t}
	if l, ok := queue.StoreAs[queue.Listener](next); ok {
		return &listeningStore{store: s, listener: l}
	}
	return s
}

// store is the decorated Store. The hot path is here, the rest in store_admin.go.
type store struct {
	next queue.Store
	t    *Telemetry
}

var (
	_ queue.Store     = (*store)(nil)
	_ queue.Unwrapper = (*store)(nil)
	_ queue.Listener  = (*listeningStore)(nil)
	_ queue.Unwrapper = (*listeningStore)(nil)
)

// Unwrap gives the store without telemetry, for queue.StoreAs.
func (s *store) Unwrap() queue.Store { return s.next }

func (s *store) CreateTasks(ctx context.Context, c queue.Create) ([]queue.Created, error) {
	ctx, span := s.t.within(ctx, "store", opCreateTasks, c.Namespace, s.created(c.Tasks))
	if span != nil && span.IsRecording() {
		span.SetAttributes(attrBatch(len(c.Tasks)))
	}
	start := stopwatch()
	made, err := s.next.CreateTasks(ctx, c)
	took := stopwatch() - start
	end(span, err)
	m := s.t.m
	if m == nil {
		return made, err
	}
	m.store.done(opCreateTasks, took, err)
	m.created(c, made)
	return made, err
}

// created counts what a create made; nothing of one that failed.
func (m *meters) created(c queue.Create, made []queue.Created) {
	m.batch[opCreateTasks].Observe(float64(len(c.Tasks)))
	for i := 0; i < len(made); {
		task := made[i].Task
		if !isMade(made[i]) {
			i++
			continue
		}
		n := 1
		for i++; i < len(made) && isMade(made[i]) && made[i].Task.Queue == task.Queue; i++ {
			n++
		}
		m.tasks.get(c.Namespace, task.Queue).created.Add(float64(n))
	}
}

func isMade(c queue.Created) bool { return c.Task != nil && c.Err == nil && !c.Task.Replayed }

// created links to the spans that create tasks, so that a gathered call leads back to its callers.
func (s *store) created(tasks []queue.NewTask) []trace.Link {
	if s.t.tracer == nil {
		return nil
	}
	var c creations
	for i := range tasks {
		c.add(tasks[i].Headers)
	}
	return c.links
}

func (s *store) RetainTasks(ctx context.Context, r queue.Retain) ([][]*queue.Task, error) {
	ctx, span := s.t.within(ctx, "store", opRetainTasks, r.Namespace, nil)
	start := stopwatch()
	outs, err := s.next.RetainTasks(ctx, r)
	took := stopwatch() - start
	end(span, err)
	m := s.t.m
	if m == nil {
		return outs, err
	}
	m.store.done(opRetainTasks, took, err)
	if err == nil {
		m.polled(r.Namespace, outs)
	}
	return outs, err
}

func (s *store) CreateAndRetain(ctx context.Context, c queue.Create, r queue.Retain) ([]queue.Created, [][]*queue.Task, error) {
	ctx, span := s.t.within(ctx, "store", opCreateAndRetain, c.Namespace, s.created(c.Tasks))
	if span != nil && span.IsRecording() {
		span.SetAttributes(attrBatch(len(c.Tasks)))
	}
	start := stopwatch()
	made, outs, err := s.next.CreateAndRetain(ctx, c, r)
	took := stopwatch() - start
	end(span, err)
	if m := s.t.m; m != nil {
		m.store.done(opCreateAndRetain, took, err)
		m.created(c, made)
		if err == nil {
			m.polled(r.Namespace, outs)
		}
	}
	return made, outs, err
}

// polled counts what a retain found.
func (m *meters) polled(namespace string, outs [][]*queue.Task) {
	got := 0
	for _, tasks := range outs {
		got += len(tasks)
		m.retained(namespace, tasks)
	}
	if got == 0 {
		m.pollsEmpty.Inc()
		return
	}
	m.pollsFound.Inc()
	m.batch[opRetainTasks].Observe(float64(got))
}

// retained counts tasks that were just retained, and how long each had waited.
func (m *meters) retained(namespace string, tasks []*queue.Task) {
	for i := 0; i < len(tasks); {
		name := tasks[i].Queue
		of := m.tasks.get(namespace, name)
		n := 0
		for ; i < len(tasks) && tasks[i].Queue == name; i++ {
			n++
			of.wait.Observe(waited(tasks[i]).Seconds())
		}
		of.retained.Add(float64(n))
	}
}

// waited is how long a retained task could have been retained before, by the database's clock.
func waited(t *queue.Task) time.Duration {
	from := t.CreatedAt
	if t.DelayedAt.After(from) {
		from = t.DelayedAt
	}
	return max(t.StartedAt.Sub(from), 0)
}

func (s *store) HeartbeatTasks(ctx context.Context, namespace string, beats []queue.Heartbeat) ([]queue.Beat, error) {
	ctx, span := s.t.within(ctx, "store", opHeartbeatTasks, namespace, nil)
	start := stopwatch()
	outs, err := s.next.HeartbeatTasks(ctx, namespace, beats)
	took := stopwatch() - start
	end(span, err)
	m := s.t.m
	if m == nil {
		return outs, err
	}
	m.store.done(opHeartbeatTasks, took, err)
	m.batch[opHeartbeatTasks].Observe(float64(len(beats)))
	for i := range outs {
		m.refused(opHeartbeatTasks, outs[i].Err)
	}
	return outs, err
}

// refused counts an answer that says that the lease was lost.
func (m *meters) refused(o op, err error) {
	if err != nil && queue.KindOf(err) == queue.KindLeaseLost {
		m.leaseLost.WithLabelValues(o.String()).Inc()
	}
}

func (s *store) ReleaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	ctx, span := s.t.within(ctx, "store", opReleaseTasks, namespace, nil)
	start := stopwatch()
	outs, err := s.next.ReleaseTasks(ctx, namespace, releases)
	took := stopwatch() - start
	end(span, err)
	m := s.t.m
	if m == nil {
		return outs, err
	}
	m.store.done(opReleaseTasks, took, err)
	m.batch[opReleaseTasks].Observe(float64(len(releases)))
	if err != nil || len(outs) != len(releases) {
		return outs, err
	}
	var last *taskMeters
	var name string
	for i := range outs {
		o := &outs[i]
		switch {
		case o.Err != nil:
			m.refused(opReleaseTasks, o.Err)
			continue
		case o.Replayed:
			continue
		}
		after := *o
		if o.Task != nil {
			after.Queue, after.Status, after.Held = o.Task.Queue, o.Task.Status, held(o.Task)
		} else if after.Status == "" { // a remote store, say, that tells nothing of a quiet release
			after.Status = statusOf(releases[i].Outcome)
		}
		if last == nil || name != after.Queue {
			name = after.Queue
			last = m.tasks.get(namespace, name)
		}
		last.ended(releases[i].Outcome, after)
	}
	return outs, nil
}

// statusOf is what most likely became of a task after a release whose answer does not say.
func statusOf(o queue.Outcome) queue.Status {
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

// held is how long a task that was released had been held, by the database's clock; 0 = not known.
func held(t *queue.Task) time.Duration {
	if t.FinishedAt.IsZero() || t.StartedAt.IsZero() {
		return 0
	}
	return t.FinishedAt.Sub(t.StartedAt)
}

// ended counts a task whose hold ended with o, and takes its times.
func (t *taskMeters) ended(o queue.Outcome, after queue.Released) {
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
	if run != nil && after.Held > 0 {
		run.Observe(after.Held.Seconds())
	}
	if task := after.Task; task != nil && !task.FinishedAt.IsZero() && !task.CreatedAt.IsZero() {
		t.endToEnd.Observe(max(task.FinishedAt.Sub(task.CreatedAt), 0).Seconds())
	}
}

// undecorated is for readings that are not to be counted.
func (s *store) undecorated() queue.Store { return s.next }
