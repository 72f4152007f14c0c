package access

import (
	"context"
	"reflect"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// UpdateQueue needs the right to manage the queue. A change of Paused alone needs the right to pause it.
func (g *guard) UpdateQueue(ctx context.Context, name string, meta queue.QueueMeta) (*queue.Queue, error) {
	action := queue.ActionQueueManage
	if pausesQueue(meta) {
		action = queue.ActionQueuePause
	}

	s, err := findActionScope(ctx, action, g.namespace)
	if err != nil {
		return nil, err
	}
	if err := checkQueue(s, action, g.namespace, name); err != nil {
		return nil, err
	}
	if err := g.checkDeadLetter(ctx, meta); err != nil {
		return nil, err
	}
	return g.next.UpdateQueue(ctx, name, meta)
}

// CreateQueue needs the right to manage the queue.
func (g *guard) CreateQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	if err := g.checkNewQueue(ctx, meta); err != nil {
		return nil, err
	}
	return g.next.CreateQueue(ctx, meta)
}

// RegisterQueue needs the right to manage the queue.
func (g *guard) RegisterQueue(ctx context.Context, meta queue.QueueMeta) (*queue.Queue, error) {
	if err := g.checkNewQueue(ctx, meta); err != nil {
		return nil, err
	}
	return g.next.RegisterQueue(ctx, meta)
}

func (g *guard) checkNewQueue(ctx context.Context, meta queue.QueueMeta) error {
	s, err := findActionScope(ctx, queue.ActionQueueManage, g.namespace)
	if err != nil {
		return err
	}
	if err := checkQueue(s, queue.ActionQueueManage, g.namespace, meta.Name); err != nil {
		return err
	}
	return g.checkDeadLetter(ctx, meta)
}

// checkDeadLetter demands the right to create tasks in the dead letter queue of meta: each failure creates one there.
func (g *guard) checkDeadLetter(ctx context.Context, meta queue.QueueMeta) error {
	if meta.DeadLetter == nil || *meta.DeadLetter == "" {
		return nil
	}
	s, err := findActionScope(ctx, queue.ActionTaskCreate, g.namespace)
	if err != nil {
		return err
	}
	return checkQueue(s, queue.ActionTaskCreate, g.namespace, *meta.DeadLetter)
}

// pausesQueue reports whether meta sets nothing but Paused, perhaps under a condition.
func pausesQueue(meta queue.QueueMeta) bool {
	if meta.Paused == nil {
		return false
	}
	meta.Paused = nil
	meta.IfVersion = 0
	meta.Name = ""
	return meta == queue.QueueMeta{}
}

// pausesTicker is pausesQueue for a ticker.
func pausesTicker(meta queue.TickerMeta) bool {
	if meta.Paused == nil {
		return false
	}
	meta.Paused = nil
	meta.IfVersion = 0
	meta.Name = ""
	return reflect.ValueOf(meta).IsZero()
}

// ListQueues lists the visible queues. For a principal with grants for some queues it reads all queues and makes the page
// of the visible ones, so that neither the count nor the cursor shows another queue.
func (g *guard) ListQueues(ctx context.Context, p queue.Page) (queue.QueuePage, error) {
	s, err := g.scope(ctx, queue.OpListQueues)
	if err != nil || s.All() {
		if err != nil {
			return queue.QueuePage{}, err
		}
		return g.next.ListQueues(ctx, p)
	}

	if p, err = p.Normalize(); err != nil {
		return queue.QueuePage{}, err
	}
	visible, err := collectVisible(s, func(all queue.Page) ([]*queue.Queue, string, error) {
		page, err := g.next.ListQueues(ctx, all)
		return page.Queues, page.Next, err
	}, func(q *queue.Queue) string { return q.Name })
	if err != nil {
		return queue.QueuePage{}, err
	}

	part, next := cutVisible(visible, p, func(q *queue.Queue) string { return q.Name })
	return queue.QueuePage{Queues: part, Count: int64(len(visible)), Next: next}, nil
}

// cutVisible returns the part of visible that the normalized p selects, and the cursor of the next page. visible is in the
// order of names.
func cutVisible[T any](visible []T, p queue.Page, nameOf func(T) string) (part []T, next string) {
	names := make([]string, len(visible))
	for i, item := range visible {
		names[i] = nameOf(item)
	}

	part = visible[len(visible)-len(p.Skip(names)):]
	if len(part) > p.Limit {
		part = part[:p.Limit]
		next = nameOf(part[p.Limit-1])
	}
	return part, next
}

// collectVisible reads all pages of list and returns the items of queues that s has. The number of queues and tickers of a
// namespace bounds it.
func collectVisible[T any](s Scope, list func(queue.Page) (items []T, next string, err error), queueOf func(T) string) ([]T, error) {
	var visible []T
	p := queue.Page{Limit: queue.MaxPage}
	for {
		items, next, err := list(p)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if s.Has(queueOf(item)) {
				visible = append(visible, item)
			}
		}
		if next == "" {
			return visible, nil
		}
		p.Cursor = next
	}
}

// ListQueueStatuses lists the counts of the visible queues.
func (g *guard) ListQueueStatuses(ctx context.Context) ([]*queue.QueueStats, error) {
	return g.listVisibleStats(ctx, g.next.ListQueueStatuses)
}

// SharedStats is ListQueueStatuses by the reading that viewers share.
func (g *guard) SharedStats(ctx context.Context) ([]*queue.QueueStats, error) {
	list := g.next.ListQueueStatuses
	if feed, ok := queue.ServiceAs[queue.StatsFeed](g.next); ok {
		list = feed.SharedStats
	}
	return g.listVisibleStats(ctx, list)
}

// listVisibleStats decides, and lists the counts of the visible queues.
func (g *guard) listVisibleStats(ctx context.Context, list func(context.Context) ([]*queue.QueueStats, error)) ([]*queue.QueueStats, error) {
	s, err := g.scope(ctx, queue.OpListQueueStatuses)
	if err != nil {
		return nil, err
	}

	all, err := list(ctx)
	if s.All() {
		return all, err
	}
	visible := all[:0:0]
	for _, stats := range all {
		if s.Has(stats.Queue) {
			visible = append(visible, stats)
		}
	}
	return visible, err
}
