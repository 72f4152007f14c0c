package access

import (
	"context"
	"slices"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxHiddenPages bounds the pages without a visible event that one list reads over.
const maxHiddenPages = 20

// ListEvents lists the events of visible queues. It reads over pages of other queues, because the number of empty pages would show
// how much happens there.
func (g *guard) ListEvents(ctx context.Context, f queue.EventFilter, limit int) (queue.EventPage, error) {
	s, err := g.scope(ctx, queue.OpListEvents)
	if err != nil {
		return queue.EventPage{}, err
	}
	if s.All() {
		return g.next.ListEvents(ctx, f, limit)
	}
	if err := g.checkEventQueue(s, queue.ActionEventRead, f.Queue); err != nil {
		return queue.EventPage{}, err
	}

	var page queue.EventPage
	for range maxHiddenPages {
		page, err = g.next.ListEvents(ctx, f, limit)
		if err != nil {
			return queue.EventPage{}, err
		}
		page.Events = slices.DeleteFunc(page.Events, func(e queue.Event) bool { return !s.Has(e.Queue) })
		// A cursor that does not move would read the same page again.
		if len(page.Events) > 0 || !page.More || page.Next == f.After {
			break
		}
		f.After = page.Next
	}
	return page, nil
}

// checkEventQueue refuses a foreign queue that a filter names; "" names none.
func (g *guard) checkEventQueue(s Scope, action queue.Action, name string) error {
	if name == "" {
		return nil
	}
	return queue.At("queue", checkQueue(s, action, g.namespace, name))
}

// SubscribeEvents follows the events of visible queues, until the credential is no longer valid.
func (g *guard) SubscribeEvents(ctx context.Context, f queue.EventFilter, handle func(queue.Event) error) error {
	s, err := g.scope(ctx, queue.OpSubscribeEvents)
	if err != nil {
		return err
	}

	if err := g.checkEventQueue(s, queue.ActionEventRead, f.Queue); err != nil {
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
