package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Service returns next with metrics and spans of its calls. Creates, retains and releases have spans of messaging; the
// other operations have spans inside a trace that is being recorded. Each created task carries the context of its span,
// so that the span of the worker links to it. Service returns next itself when metrics and traces are off.
//
// It decorates a manager, or a client in the process of a producer or a worker. Both at once complement each other, and a
// task keeps the context of the first creation.
func (t *Telemetry) Service(next queue.Service) queue.Service {
	if t.isOff() {
		return next
	}

	observer := &callObserver{t: t, layer: "service"}
	if t.m != nil {
		observer.calls = t.m.service
	}
	return decorateService(next, observer)
}

// service is the decorated Service. Creates, retains and releases are here; the observer measures the others.
type service struct {
	queue.Service // observed

	next      queue.Service
	observer  *callObserver
	namespace string
}

func decorateService(next queue.Service, observer *callObserver) *service {
	return &service{
		Service: queue.ObserveService(next, observer), next: next, observer: observer, namespace: next.Namespace(),
	}
}

// Unwrap returns the service without telemetry.
func (s *service) Unwrap() queue.Service { return s.next }

func (s *service) In(namespace string) (queue.Service, error) {
	next, err := s.next.In(namespace)
	if err != nil {
		return nil, err
	}
	return decorateService(next, s.observer), nil
}

// recordCall records the duration of a call and its error.
func (s *service) recordCall(op queue.Op, took time.Duration, err error) {
	if s.observer.calls != nil {
		s.observer.calls.recordCall(op, took, err)
	}
}

func (s *service) spanTracer() trace.Tracer { return s.observer.t.tracer }

func (s *service) CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	var span trace.Span
	if s.spanTracer() != nil {
		ctx, span = s.spanTracer().Start(ctx, opSend.spanName(name), trace.WithSpanKind(opSend.kind))
		meta.Headers = injectContext(ctx, meta.Headers)
	}

	start := readStopwatch()
	task, err := s.next.CreateTask(ctx, name, meta)
	s.recordCall(queue.OpCreateTask, readStopwatch()-start, err)

	if span == nil {
		return task, err
	}
	if span.IsRecording() {
		attrs := append(opSend.describe(s.namespace, name), attrSize(len(meta.Payload)))
		if task != nil {
			attrs = append(attrs, attrTask(task.ID), keyReplayed.Bool(task.Replayed))
		}
		span.SetAttributes(attrs...)
	}
	endSpan(span, err)
	return task, err
}

func (s *service) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	var span trace.Span
	if s.spanTracer() != nil {
		name := commonQueue(tasks)
		ctx, span = s.spanTracer().Start(ctx, opSend.spanName(name), trace.WithSpanKind(opSend.kind))
		tasks = injectAll(ctx, tasks)
		if span.IsRecording() {
			span.SetAttributes(append(opSend.describe(s.namespace, name), attrBatch(len(tasks)))...)
		}
	}

	start := readStopwatch()
	created, err := s.next.CreateTasks(ctx, tasks)
	s.recordCall(queue.OpCreateTasks, readStopwatch()-start, err)

	endSpan(span, err)
	return created, err
}

// injectAll injects the context into each task of a batch. Tasks without headers share one map.
func injectAll(ctx context.Context, tasks []queue.NewTask) []queue.NewTask {
	shared := injectContext(ctx, nil)
	if shared == nil {
		return tasks
	}

	// The tasks belong to the caller, so the headers go into a copy.
	injected := make([]queue.NewTask, len(tasks))
	copy(injected, tasks)
	for i := range injected {
		if len(injected[i].Headers) == 0 {
			injected[i].Headers = shared
		} else {
			injected[i].Headers = injectContext(ctx, injected[i].Headers)
		}
	}
	return injected
}

// commonQueue returns the queue of all tasks; "" when they have several.
func commonQueue(tasks []queue.NewTask) string {
	if len(tasks) == 0 {
		return ""
	}
	for i := range tasks {
		if tasks[i].Queue != tasks[0].Queue {
			return ""
		}
	}
	return tasks[0].Queue
}

func (s *service) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	call := queue.Call{Op: queue.OpRetainTasks, Wait: r.Wait}
	if open := s.observer.countOpenCall(call); open != nil {
		defer open.Dec()
	}

	start := readStopwatch()
	tasks, err := s.next.RetainTasks(ctx, r)
	took := readStopwatch() - start
	s.recordCall(queue.OpRetainTasks, took, err)

	// An idle worker retains nothing again and again: only tasks and errors are worth a span.
	if s.spanTracer() != nil && (len(tasks) > 0 || err != nil && queue.KindOf(err) != queue.KindCanceled) {
		// A span starts after the fact, when its links are known: a search that finds nothing then leaves none.
		now := time.Now()
		s.recordRetain(ctx, r, tasks, err, now.Add(-took), now)
	}
	return tasks, err
}

// recordRetain records the span of a retain after its end, because only the answer says which creations it links to.
func (s *service) recordRetain(
	ctx context.Context, r queue.RetainRequest, tasks []*queue.Task, err error, start, now time.Time,
) {
	name := ""
	if len(r.Queues) == 1 {
		name = r.Queues[0]
	}

	var from creations
	for _, t := range tasks {
		from.addHeaders(t.Headers)
	}

	if len(from.links) == 0 && !isRecorded(ctx) {
		return
	}

	_, span := s.spanTracer().Start(ctx, opReceive.spanName(name), trace.WithSpanKind(opReceive.kind),
		trace.WithTimestamp(start), trace.WithLinks(from.links...))
	if span.IsRecording() {
		attrs := append(opReceive.describe(s.namespace, name), attrWorker(r.Worker), attrBatch(len(tasks)))
		if len(tasks) == 1 {
			attrs = append(attrs, attrTask(tasks[0].ID))
		}
		span.SetAttributes(attrs...)
		if err != nil {
			markFailed(span, err)
		}
	}

	span.End(trace.WithTimestamp(now))
}

func (s *service) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	var span trace.Span
	var op operation
	// Without a recorded trace the span begins after the call: only the answers show the creations that it links to.
	outer := ctx
	if s.spanTracer() != nil && len(releases) > 0 {
		if op = settleOperation(commonOutcome(releases)); isRecorded(ctx) {
			ctx, span = s.spanTracer().Start(ctx, op.name, trace.WithSpanKind(op.kind))
		}
	}

	start := readStopwatch()
	outs, err := s.next.ReleaseTasks(ctx, releases)
	took := readStopwatch() - start
	s.recordCall(queue.OpReleaseTasks, took, err)

	if op.name == "" {
		return outs, err
	}

	name, from, first := summarizeReleased(outs, err)
	// A caller without a trace of its own still gets a span when the tasks have one to link to.
	if span == nil && len(from.links) > 0 {
		_, span = s.spanTracer().Start(outer, op.name, trace.WithSpanKind(op.kind), trace.WithTimestamp(time.Now().Add(-took)))
	}

	if span != nil {
		if span.IsRecording() {
			s.describeReleases(span, op, name, from, releases)
		}
		endSpan(span, first)
	}

	return outs, err
}

// summarizeReleased returns the queue of all released tasks ("" = several), their creations, and the first error.
func summarizeReleased(outs []queue.Released, err error) (name string, from creations, first error) {
	first = err
	queueKnown := false

	for i := range outs {
		if first == nil {
			first = outs[i].Err
		}
		task := outs[i].Task
		if task == nil {
			continue
		}

		from.addHeaders(task.Headers)
		if !queueKnown {
			name = task.Queue
			queueKnown = true
		} else if name != task.Queue {
			name = ""
		}
	}
	return name, from, first
}

// describeReleases gives the span of releases its name, links and attributes. Only the answers say the queue.
func (s *service) describeReleases(
	span trace.Span, op operation, name string, from creations, releases []queue.Release,
) {
	span.SetName(op.spanName(name))
	for _, link := range from.links {
		span.AddLink(link)
	}

	attrs := append(op.describe(s.namespace, name), attrBatch(len(releases)))
	if len(releases) == 1 {
		only := &releases[0]
		attrs = append(attrs, attrTask(only.ID), keyOutcome.String(string(only.Outcome)), keyToken.Int64(only.Token))
	}
	span.SetAttributes(attrs...)
}

// commonOutcome returns the outcome of all releases; "" when they have several.
func commonOutcome(releases []queue.Release) queue.Outcome {
	for i := range releases {
		if releases[i].Outcome != releases[0].Outcome {
			return ""
		}
	}
	return releases[0].Outcome
}
