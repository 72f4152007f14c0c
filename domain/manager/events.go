package manager

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ListEvents returns the events behind f.After, at most limit: 1 to 1,000, 0 = 100.
func (m *Manager) ListEvents(ctx context.Context, f queue.EventFilter, limit int) (queue.EventPage, error) {
	return callStoreDirectly(ctx, m, queue.OpListEvents, func(ctx context.Context) (queue.EventPage, error) {
		f, err := f.Normalize()
		if err != nil {
			return queue.EventPage{}, err
		}
		p, err := queue.Page{Limit: limit}.Normalize()
		if err != nil {
			return queue.EventPage{}, err
		}

		return m.store.ListEvents(ctx, m.namespace, f, p.Limit)
	})
}

// LastEvent returns the cursor of now in the feed: later events are behind it. A server sends it to a new subscriber, which
// can then resume without a gap before it has any event.
func (m *Manager) LastEvent(ctx context.Context) (string, error) {
	return callStoreDirectly(ctx, m, queue.OpLastEvent, func(ctx context.Context) (string, error) {
		return m.store.LastEvent(ctx, m.namespace)
	})
}

// SubscribeEvents calls handle with each event behind f.After (from now on when empty), in the feed's order and without
// gaps, until ctx ends or handle returns an error, which it returns. The process reads the feed once for all subscribers
// of a namespace. A subscriber with more unread events than the event buffer gets KindSlowReader, and resumes with the
// cursor of the last event that it handled.
func (m *Manager) SubscribeEvents(ctx context.Context, f queue.EventFilter, handle func(queue.Event) error) error {
	var handleErr error
	_, err := runOperation(ctx, m, queue.OpSubscribeEvents, func(ctx context.Context) (struct{}, error) {
		f, err := f.Normalize()
		if err != nil {
			return struct{}{}, err
		}

		return struct{}{}, m.feeds.Subscribe(ctx, m.namespace, f, func(e queue.Event) error {
			handleErr = handle(e)
			return handleErr
		})
	})
	if handleErr != nil {
		return handleErr
	}

	return err
}
