package access

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ListEvents lists the events of visible queues.
func (g *guard) ListEvents(ctx context.Context, f queue.EventFilter, limit int) (queue.EventPage, error) {
	s, err := g.scope(ctx, queue.OpListEvents)
	if err != nil {
		return queue.EventPage{}, err
	}

	page, err := g.next.ListEvents(ctx, f, limit)
	if s.All() {
		return page, err
	}
	visible := page.Events[:0:0]
	for _, e := range page.Events {
		if s.Has(e.Queue) {
			visible = append(visible, e)
		}
	}
	page.Events = visible
	return page, err
}

// SubscribeEvents follows the events of visible queues, until the credential is no longer valid.
func (g *guard) SubscribeEvents(ctx context.Context, f queue.EventFilter, handle func(queue.Event) error) error {
	s, err := g.scope(ctx, queue.OpSubscribeEvents)
	if err != nil {
		return err
	}

	visible := handle
	if !s.All() {
		visible = func(e queue.Event) error {
			if !s.Has(e.Queue) {
				return nil
			}
			return handle(e)
		}
	}

	ctx, stop := g.watch(ctx)
	defer stop()
	return endOf(ctx, g.next.SubscribeEvents(ctx, f, visible))
}

// LastEvent returns the end of the feed. It shows no event.
func (g *guard) LastEvent(ctx context.Context) (string, error) {
	if _, err := g.scope(ctx, queue.OpLastEvent); err != nil {
		return "", err
	}
	feed, ok := queue.ServiceAs[queue.FeedEnd](g.next)
	if !ok {
		return "", nil
	}
	return feed.LastEvent(ctx)
}
