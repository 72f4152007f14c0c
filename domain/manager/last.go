package manager

import "context"

// LastEvent is the cursor of now in the feed: what happens later is behind it. A server tells it to a new subscriber, who
// can then resume without a gap before having seen any event.
func (m *Manager) LastEvent(ctx context.Context) (string, error) {
	return ask(ctx, m, opListEvents, func(ctx context.Context) (string, error) { return m.store.LastEvent(ctx) })
}
