package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func (s *service) CreateTask(ctx context.Context, name string, meta queue.TaskMeta) (*queue.Task, error) {
	var span trace.Span
	if s.t.tracer != nil {
		ctx, span = s.t.tracer.Start(ctx, opSend.spanName(name), trace.WithSpanKind(opSend.kind))
		meta.Headers = inject(ctx, meta.Headers)
	}
	start := stopwatch()
	task, err := s.next.CreateTask(ctx, name, meta)
	s.done(opCreateTask, stopwatch()-start, err)
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
	end(span, err)
	return task, err
}

func (s *service) CreateTasks(ctx context.Context, tasks []queue.NewTask) ([]*queue.Task, error) {
	var span trace.Span
	if s.t.tracer != nil {
		name := commonQueue(tasks)
		ctx, span = s.t.tracer.Start(ctx, opSend.spanName(name), trace.WithSpanKind(opSend.kind))
		tasks = injectAll(ctx, tasks)
		if span.IsRecording() {
			span.SetAttributes(append(opSend.describe(s.namespace, name), attrBatch(len(tasks)))...)
		}
	}
	start := stopwatch()
	made, err := s.next.CreateTasks(ctx, tasks)
	s.done(opCreateTasks, stopwatch()-start, err)
	end(span, err)
	return made, err
}

// injectAll is inject for a batch: those without headers of their own share theirs.
func injectAll(ctx context.Context, tasks []queue.NewTask) []queue.NewTask {
	shared := inject(ctx, nil)
	if shared == nil {
		return tasks
	}
	with := make([]queue.NewTask, len(tasks))
	copy(with, tasks)
	for i := range with {
		if len(with[i].Headers) == 0 {
			with[i].Headers = shared
		} else {
			with[i].Headers = inject(ctx, with[i].Headers)
		}
	}
	return with
}

// commonQueue is the queue of all tasks; "" when they have several.
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
	if r.Wait > 0 {
		leave := s.open(streamRetain)
		defer leave()
	}
	start := stopwatch()
	tasks, err := s.next.RetainTasks(ctx, r)
	took := stopwatch() - start
	s.done(opRetainTasks, took, err)
	if s.t.tracer != nil && (len(tasks) > 0 || err != nil && queue.KindOf(err) != queue.KindCanceled) {
		now := time.Now()
		s.received(ctx, r, tasks, err, now.Add(-took), now)
	}
	return tasks, err
}

// received records a retain after the fact: one that found nothing, as idle workers make them all the time, is none.
func (s *service) received(ctx context.Context, r queue.RetainRequest, tasks []*queue.Task, err error, start, now time.Time) {
	name := ""
	if len(r.Queues) == 1 {
		name = r.Queues[0]
	}
	var from creations
	for _, t := range tasks {
		from.add(t.Headers)
	}
	if len(from.links) == 0 && !recorded(ctx) {
		return // of no trace that anybody looks at
	}
	_, span := s.t.tracer.Start(ctx, opReceive.spanName(name), trace.WithSpanKind(opReceive.kind), trace.WithTimestamp(start),
		trace.WithLinks(from.links...))
	if span.IsRecording() {
		attrs := append(opReceive.describe(s.namespace, name), attrWorker(r.Worker), attrBatch(len(tasks)))
		if len(tasks) == 1 {
			attrs = append(attrs, attrTask(tasks[0].ID))
		}
		span.SetAttributes(attrs...)
		if err != nil {
			failed(span, err)
		}
	}
	span.End(trace.WithTimestamp(now))
}

func (s *service) ReleaseTasks(ctx context.Context, releases []queue.Release) ([]queue.Released, error) {
	var span trace.Span
	var op operation
	outer := ctx
	if s.t.tracer != nil && len(releases) > 0 {
		if op = settling(commonOutcome(releases)); recorded(ctx) {
			ctx, span = s.t.tracer.Start(ctx, op.name, trace.WithSpanKind(op.kind))
		}
	}
	start := stopwatch()
	outs, err := s.next.ReleaseTasks(ctx, releases)
	took := stopwatch() - start
	s.done(opReleaseTasks, took, err)
	if op.name != "" {
		s.settled(outer, span, op, releases, outs, err, took)
	}
	return outs, err
}

// settled records releases, in span or after the fact in one of its own when they are linked to a creation that somebody
// recorded. What they are about is known only from their answers.
func (s *service) settled(ctx context.Context, span trace.Span, op operation, releases []queue.Release, outs []queue.Released, err error, took time.Duration) {
	var from creations
	name, first := "", true
	for i := range outs {
		if err == nil && outs[i].Err != nil {
			err = outs[i].Err
		}
		t := outs[i].Task
		if t == nil {
			continue
		}
		from.add(t.Headers)
		if first {
			name, first = t.Queue, false
		} else if name != t.Queue {
			name = ""
		}
	}
	if span == nil {
		if len(from.links) == 0 {
			return
		}
		_, span = s.t.tracer.Start(ctx, op.name, trace.WithSpanKind(op.kind), trace.WithTimestamp(time.Now().Add(-took)))
	}
	if !span.IsRecording() {
		span.End()
		return
	}
	span.SetName(op.spanName(name))
	for _, l := range from.links {
		span.AddLink(l)
	}
	attrs := append(op.describe(s.namespace, name), attrBatch(len(releases)))
	if len(releases) == 1 {
		attrs = append(attrs, attrTask(releases[0].ID), keyOutcome.String(string(releases[0].Outcome)), keyToken.Int64(releases[0].Token))
	}
	span.SetAttributes(attrs...)
	end(span, err)
}

// recorded says that ctx is of a trace that is being recorded.
func recorded(ctx context.Context) bool { return trace.SpanContextFromContext(ctx).IsSampled() }

// commonOutcome is the outcome of all releases; "" when they have several.
func commonOutcome(releases []queue.Release) queue.Outcome {
	for i := range releases {
		if releases[i].Outcome != releases[0].Outcome {
			return ""
		}
	}
	return releases[0].Outcome
}
