package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// auditedService records the calls of a guard. The embedded Service records those with at most one name, by
// [callAuditor]; the methods here record more of their arguments and their answer.
type auditedService struct {
	queue.Service
	next  *guard
	audit *AuditRecorder
}

// auditCalls returns g with each change by an operator and each refusal recorded.
func auditCalls(g *guard, audit *AuditRecorder) queue.Service {
	return &auditedService{Service: queue.ObserveService(g, callAuditor{audit}), next: g, audit: audit}
}

// callAuditor records refusals of every operation, and the operations that isAudited has.
type callAuditor struct{ audit *AuditRecorder }

// isAudited has the operations that are recorded without a refusal too. Creates, retains, heartbeats and releases are in the feed of
// events; reads change nothing.
var isAudited = indexAudited()

func indexAudited() (byOp [256]bool) {
	changes := []queue.Action{queue.ActionTaskOperate, queue.ActionQueueManage, queue.ActionTickerManage, queue.ActionTickerRun}
	for _, op := range queue.ServiceOps() {
		byOp[op] = slices.Contains(changes, op.Operation().Action)
	}
	return byOp
}

// Start changes nothing.
func (callAuditor) Start(ctx context.Context, _ queue.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}

// End records the call.
func (a callAuditor) End(ctx context.Context, call queue.Call, _ struct{}, err error) error {
	if isAudited[call.Op] || isRefusal(err) {
		a.audit.Record(ctx, entryOf(call.Op, call.Namespace, call.Name), err)
	}
	return nil
}

// entryOf returns the entry of an operation that names a queue, a ticker or none. A text that is not a name is left out: a
// caller may send anything in its place.
func entryOf(op queue.Op, namespace, name string) AuditEntry {
	e := AuditEntry{Action: actionOf[op], Operation: op.Label(), Namespace: namespace}
	normal, err := queue.QueueName(name)
	switch {
	case err != nil:
	case strings.Contains(e.Operation, "ticker"), op == queue.OpListTicks:
		e.Ticker = normal
	default:
		e.Queue = normal
	}
	return e
}

func (s *auditedService) In(namespace string) (queue.Service, error) { return s.next.In(namespace) }

func (s *auditedService) LastEvent(ctx context.Context) (string, error) {
	cursor, err := s.next.LastEvent(ctx)
	if isRefusal(err) {
		s.audit.Record(ctx, entryOf(queue.OpLastEvent, s.next.namespace, ""), err)
	}
	return cursor, err
}

// SharedStats records a refusal alone, as ListQueueStatuses does.
func (s *auditedService) SharedStats(ctx context.Context) ([]*queue.QueueStats, error) {
	stats, err := s.next.SharedStats(ctx)
	if isRefusal(err) {
		s.audit.Record(ctx, entryOf(queue.OpListQueueStatuses, s.next.namespace, ""), err)
	}
	return stats, err
}

// watchStream records a refusal alone: each operation of the stream records itself.
func (s *auditedService) watchStream(ctx context.Context, op queue.Op) (watched context.Context, stop func(), err error) {
	watched, stop, err = s.next.watchStream(ctx, op)
	if isRefusal(err) {
		s.audit.Record(ctx, entryOf(op, s.next.namespace, ""), err)
	}
	return watched, stop, err
}

func (s *auditedService) CancelTasks(ctx context.Context, sel queue.Selection) (queue.Bulk, error) {
	return s.auditBulk(ctx, queue.OpCancelTasks, sel, s.next.CancelTasks)
}

func (s *auditedService) RetryTasks(ctx context.Context, sel queue.Selection) (queue.Bulk, error) {
	return s.auditBulk(ctx, queue.OpRetryTasks, sel, s.next.RetryTasks)
}

func (s *auditedService) DeleteTasks(ctx context.Context, sel queue.Selection) (queue.Bulk, error) {
	return s.auditBulk(ctx, queue.OpDeleteTasks, sel, s.next.DeleteTasks)
}

// auditBulk records a bulk operation with its selection and its counts, which a failed call has too.
func (s *auditedService) auditBulk(
	ctx context.Context, op queue.Op, sel queue.Selection, do func(context.Context, queue.Selection) (queue.Bulk, error),
) (queue.Bulk, error) {
	e := entryOf(op, s.next.namespace, "")
	e.IDs = len(sel.IDs)
	e.DryRun = sel.DryRun
	if len(sel.IDs) == 1 {
		e.Task = sel.IDs[0]
	}
	if sel.Filter != nil {
		e.Queue, e.Filter = describeFilter(sel.Filter)
	}

	b, err := do(ctx, sel)
	// Also after an error: the steps before it have moved tasks.
	e.Matched = b.Matched
	e.Moved = b.Moved
	s.audit.Record(ctx, e, err)
	return b, err
}

// describeFilter returns the queue of f, and f as text. Of a filter that breaks a rule it returns no more than that.
func describeFilter(f *queue.TaskFilter) (name, text string) {
	normal, err := f.Normalize()
	if err != nil {
		return "", "invalid"
	}

	var parts []string
	if normal.Queue != "" {
		parts = append(parts, "queue="+normal.Queue)
	}
	if len(normal.Statuses) > 0 {
		parts = append(parts, "status="+strings.ReplaceAll(joinNames(normal.Statuses), ", ", ","))
	}
	if normal.Worker != "" {
		parts = append(parts, fmt.Sprintf("worker=%q", normal.Worker))
	}
	if !normal.CreatedAfter.IsZero() {
		parts = append(parts, "created_after="+normal.CreatedAfter.UTC().Format(time.RFC3339Nano))
	}
	if !normal.CreatedBefore.IsZero() {
		parts = append(parts, "created_before="+normal.CreatedBefore.UTC().Format(time.RFC3339Nano))
	}
	if !normal.FinishedAfter.IsZero() {
		parts = append(parts, "finished_after="+normal.FinishedAfter.UTC().Format(time.RFC3339Nano))
	}
	if !normal.FinishedBefore.IsZero() {
		parts = append(parts, "finished_before="+normal.FinishedBefore.UTC().Format(time.RFC3339Nano))
	}
	if normal.Key != "" {
		parts = append(parts, fmt.Sprintf("key=%q", normal.Key))
	}
	if normal.Text != "" { // a part of a payload, which the audit never has
		parts = append(parts, fmt.Sprintf("text of %d bytes", len(normal.Text)))
	}
	return normal.Queue, strings.Join(parts, " ")
}

// UpdateQueue records the right that the call needs, which depends on what it changes.
func (s *auditedService) UpdateQueue(ctx context.Context, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	e := entryOf(queue.OpUpdateQueue, s.next.namespace, name)
	if pausesQueue(meta) {
		e.Action = queue.ActionQueuePause
	}
	return s.auditQueue(ctx, e, name, meta, func() (*queue.Queue, error) { return s.next.UpdateQueue(ctx, name, meta) })
}

// RegisterQueue records which settings the call has set.
func (s *auditedService) RegisterQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	e := entryOf(queue.OpRegisterQueue, s.next.namespace, meta.Name)
	return s.auditQueue(ctx, e, meta.Name, meta, func() (*queue.Queue, error) { return s.next.RegisterQueue(ctx, meta) })
}

// auditQueue records a call that sets meta on a queue. It reads the former settings first. The caller does not get them, so
// it needs no right to them.
func (s *auditedService) auditQueue(ctx context.Context, e AuditEntry, name string, meta queue.QueueMeta, set func() (*queue.Queue, error)) (*queue.Queue, error) {
	var before *queue.Queue
	if mayOperate(ctx, e) {
		before, _ = s.next.next.GetQueue(ctx, name) // without it the entry has no former values
	}
	q, err := set()
	if err == nil {
		e.Changes = changesOfQueue(meta, before, q)
	}
	s.audit.Record(ctx, e, err)
	return q, err
}

// mayOperate reports whether the principal of ctx has the right of e in any part of its namespace. A refused call reads nothing.
func mayOperate(ctx context.Context, e AuditEntry) bool {
	_, err := findActionScope(ctx, e.Action, e.Namespace)
	return err == nil
}

// CreateQueue records the settings of the new queue.
func (s *auditedService) CreateQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	e := entryOf(queue.OpCreateQueue, s.next.namespace, meta.Name)
	q, err := s.next.CreateQueue(ctx, meta)
	if err == nil {
		e.Changes = changesOfQueue(meta, nil, q)
	}
	s.audit.Record(ctx, e, err)
	return q, err
}

// DeleteQueue records the settings of the former queue.
func (s *auditedService) DeleteQueue(ctx context.Context, name string, only ...queue.DeleteCondition) (*queue.Queue, error) {
	e := entryOf(queue.OpDeleteQueue, s.next.namespace, name)
	q, err := s.next.DeleteQueue(ctx, name, only...)
	if err == nil {
		e.Changes = changesOfQueue(queue.QueueMeta{}, q, nil)
	}
	s.audit.Record(ctx, e, err)
	return q, err
}

// UpdateTicker is [auditedService.UpdateQueue] for a ticker.
func (s *auditedService) UpdateTicker(ctx context.Context, name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	e := entryOf(queue.OpUpdateTicker, s.next.namespace, name)
	if pausesTicker(meta) {
		e.Action = queue.ActionQueuePause
	}
	return s.auditTicker(ctx, e, name, meta, func() (*queue.Ticker, error) { return s.next.UpdateTicker(ctx, name, meta) })
}

// RegisterTicker is [auditedService.RegisterQueue] for a ticker.
func (s *auditedService) RegisterTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	e := entryOf(queue.OpRegisterTicker, s.next.namespace, meta.Name)
	return s.auditTicker(ctx, e, meta.Name, meta, func() (*queue.Ticker, error) { return s.next.RegisterTicker(ctx, meta) })
}

// auditTicker is [auditedService.auditQueue] for a ticker.
func (s *auditedService) auditTicker(ctx context.Context, e AuditEntry, name string, meta queue.TickerMeta, set func() (*queue.Ticker, error)) (*queue.Ticker, error) {
	var before *queue.Ticker
	if mayOperate(ctx, e) {
		before, _ = s.next.next.GetTicker(ctx, name)
	}
	t, err := set()
	if err == nil {
		e.Changes = changesOfTicker(meta, before, t)
	}
	s.audit.Record(ctx, e, err)
	return t, err
}

// RunTicker records the task that the fire has made.
func (s *auditedService) RunTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	e := entryOf(queue.OpRunTicker, s.next.namespace, name)
	tick, err := s.next.RunTicker(ctx, name, only...)
	if err == nil && tick != nil {
		e.Queue = tick.Queue
		e.Task = tick.TaskID
	}
	s.audit.Record(ctx, e, err)
	return tick, err
}

// CreateTicker records the settings of the new ticker.
func (s *auditedService) CreateTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	e := entryOf(queue.OpCreateTicker, s.next.namespace, meta.Name)
	t, err := s.next.CreateTicker(ctx, meta)
	if err == nil {
		e.Changes = changesOfTicker(meta, nil, t)
	}
	s.audit.Record(ctx, e, err)
	return t, err
}

// DeleteTicker records the settings of the former ticker.
func (s *auditedService) DeleteTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	e := entryOf(queue.OpDeleteTicker, s.next.namespace, name)
	t, err := s.next.DeleteTicker(ctx, name, only...)
	if err == nil {
		e.Changes = changesOfTicker(queue.TickerMeta{}, t, nil)
	}
	s.audit.Record(ctx, e, err)
	return t, err
}

func (s *auditedService) CleanQueue(ctx context.Context, name string, only ...queue.IfVersion) (int64, error) {
	e := entryOf(queue.OpCleanQueue, s.next.namespace, name)
	var err error
	e.Moved, err = s.next.CleanQueue(ctx, name, only...)
	s.audit.Record(ctx, e, err)
	return e.Moved, err
}

func (s *auditedService) CleanQueueWithin(ctx context.Context, name string, within time.Duration, only ...queue.IfVersion) (queue.Cleaned, error) {
	e := entryOf(queue.OpCleanQueueWithin, s.next.namespace, name)
	c, err := s.next.CleanQueueWithin(ctx, name, within, only...)
	e.Moved = c.Count
	s.audit.Record(ctx, e, err)
	return c, err
}
