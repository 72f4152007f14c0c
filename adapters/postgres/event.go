package postgres

import (
	"context"

	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ queue.Listener = (*Store)(nil)

// ListEvents implements queue.Store.
func (s *Store) ListEvents(ctx context.Context, namespace string, f queue.EventFilter, limit int) (queue.EventPage, error) {
	return s.feed.ListEvents(ctx, namespace, f, limit)
}

// LastEvent implements queue.Store.
func (s *Store) LastEvent(ctx context.Context, _ string) (string, error) {
	return s.feed.LastEvent(ctx)
}

// Listen implements queue.Listener on one connection of its own, outside of the pool. It notifies itself through the
// pool every 10 s and ends the connection if the notification takes longer than 5 s. A store made WithoutNotify sends
// no proofs and notices only a broken connection. Notifications of this Store do not call wake. Several calls may
// listen concurrently. Listen reconnects with backoff until ctx ends and then returns its error. An invalid listen URL
// is KindInvalid.
func (s *Store) Listen(ctx context.Context, wake func(queue.Wake)) error {
	return s.listener.Listen(ctx, wake)
}

// Listening reports whether a connection listens now. A deaf connection counts until its proof fails, at most 15 s.
func (s *Store) Listening() bool { return s.listener.Listening() }
