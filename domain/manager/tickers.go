package manager

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateTicker makes a ticker; KindAlreadyExists when it exists, KindNotFound for an unknown queue.
func (m *Manager) CreateTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return m.changeTicker(ctx, queue.OpCreateTicker, func(ctx context.Context) (*queue.Ticker, error) {
		t, err := queue.NewTicker(m.namespace, meta, m.cfg.maxPayload)
		if err != nil {
			return nil, err
		}
		return m.store.CreateTicker(ctx, t)
	})
}

// RegisterTicker makes a ticker, or sets the fields of meta on the one that exists.
func (m *Manager) RegisterTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return m.changeTicker(ctx, queue.OpRegisterTicker, func(ctx context.Context) (*queue.Ticker, error) {
		name, err := queue.TickerName(meta.Name)
		if err != nil {
			return nil, err
		}
		return updateOrCreate(
			func() (*queue.Ticker, error) {
				return m.store.UpdateTicker(ctx, m.namespace, name, meta, m.cfg.maxPayload)
			},
			func() (*queue.Ticker, error) {
				t, err := queue.NewTicker(m.namespace, meta, m.cfg.maxPayload)
				if err != nil {
					return nil, err
				}
				return m.store.CreateTicker(ctx, t)
			},
			meta.IfVersion)
	})
}

// GetTicker returns a ticker, or KindNotFound.
func (m *Manager) GetTicker(ctx context.Context, name string) (*queue.Ticker, error) {
	return callWithTicker(ctx, m, queue.OpGetTicker, name, m.store.GetTicker)
}

// callWithTicker is an operation on the ticker of a name.
func callWithTicker[T any](ctx context.Context, m *Manager, op queue.Op, name string, f func(context.Context, string, string) (T, error)) (T, error) {
	return callStoreDirectly(ctx, m, op, func(ctx context.Context) (T, error) {
		n, err := queue.TickerName(name)
		if err != nil {
			var none T
			return none, err
		}
		return f(ctx, m.namespace, n)
	})
}

// changeTicker is an operation after which a tick may be due.
func (m *Manager) changeTicker(ctx context.Context, op queue.Op, f func(context.Context) (*queue.Ticker, error)) (*queue.Ticker, error) {
	t, err := callStoreDirectly(ctx, m, op, f)
	if err == nil {
		m.agents.WakeIn(queue.ChoreTick, 0)
		m.dealers.Wake(m.namespace)
	}
	return t, err
}

// ListTickers returns a page in the order of names.
func (m *Manager) ListTickers(ctx context.Context, p queue.Page) (queue.TickerPage, error) {
	return callStoreDirectly(ctx, m, queue.OpListTickers, func(ctx context.Context) (queue.TickerPage, error) {
		p, err := p.Normalize()
		if err != nil {
			return queue.TickerPage{}, err
		}
		return m.store.ListTickers(ctx, m.namespace, p)
	})
}

// UpdateTicker sets the fields of meta. KindPrecondition when IfVersion is not the present version.
func (m *Manager) UpdateTicker(ctx context.Context, name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	return m.changeTicker(ctx, queue.OpUpdateTicker, func(ctx context.Context) (*queue.Ticker, error) {
		n, err := queue.TickerName(name)
		if err != nil {
			return nil, err
		}
		if err := checkSameName("ticker", n, meta.Name, queue.TickerName); err != nil {
			return nil, err
		}
		meta.Name = n
		return m.store.UpdateTicker(ctx, m.namespace, n, meta, m.cfg.maxPayload)
	})
}

// DeleteTicker deletes a ticker and returns its last state.
func (m *Manager) DeleteTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	return callWithTicker(ctx, m, queue.OpDeleteTicker, name, func(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
		return m.store.DeleteTicker(ctx, namespace, name, only...)
	})
}

// PreviewTicker returns the next n nominal times, 1 to 1,000; fewer when the schedule has no more. For a paused ticker
// they are the times after a resume now.
func (m *Manager) PreviewTicker(ctx context.Context, name string, n int) ([]time.Time, error) {
	return callWithTicker(ctx, m, queue.OpPreviewTicker, name, func(ctx context.Context, namespace, name string) ([]time.Time, error) {
		if err := queue.CheckInt("n", n, 1, queue.MaxPreview); err != nil {
			return nil, err
		}
		t, err := m.store.GetTicker(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		s, err := t.Schedule()
		if err != nil {
			return nil, err
		}
		if t.NextAt.IsZero() {
			return s.Preview(t.Anchor, time.Now().UTC(), n), nil // a preview may use the clock of the process
		}
		return append([]time.Time{t.NextAt}, s.Preview(t.Anchor, t.NextAt, n-1)...), nil
	})
}

// UpcomingTicks returns the next fires of all tickers of the namespace that are not paused, in the order of their times.
func (m *Manager) UpcomingTicks(ctx context.Context, q queue.UpcomingQuery) (*queue.Upcoming, error) {
	return callStoreDirectly(ctx, m, queue.OpUpcomingTicks, func(ctx context.Context) (*queue.Upcoming, error) {
		q, err := q.Normalize(time.Now()) // a preview may use the clock of the process
		if err != nil {
			return nil, err
		}

		var all []*queue.Ticker
		for page := (queue.Page{Limit: queue.MaxPage}); ; {
			part, err := m.store.ListTickers(ctx, m.namespace, page)
			if err != nil {
				return nil, err
			}
			for _, t := range part.Tickers {
				t.Payload = nil // it is not needed, and may be large
			}
			all = append(all, part.Tickers...)
			if part.Next == "" {
				return queue.FindUpcoming(all, q), nil
			}
			page.Cursor = part.Next
		}
	})
}

// RunTicker fires a ticker now, beside its schedule.
func (m *Manager) RunTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	return callWithTicker(ctx, m, queue.OpRunTicker, name, func(ctx context.Context, namespace, name string) (*queue.Tick, error) {
		t, err := m.store.RunTicker(ctx, namespace, name, only...)
		if err != nil {
			return nil, err
		}
		if t.Queue == "" {
			m.dealers.Wake(namespace)
		} else {
			m.waitlists.Wake(queue.Wake{Namespace: namespace, Queue: t.Queue})
			m.feeds.Changed(namespace)
		}
		return t, nil
	})
}

// ListTicks returns the last ticks of a ticker, newest first, at most limit: 1 to 1,000, 0 = 100.
func (m *Manager) ListTicks(ctx context.Context, name string, limit int) ([]queue.Tick, error) {
	return callWithTicker(ctx, m, queue.OpListTicks, name, func(ctx context.Context, namespace, name string) ([]queue.Tick, error) {
		p, err := queue.Page{Limit: limit}.Normalize()
		if err != nil {
			return nil, err
		}
		return m.store.ListTicks(ctx, namespace, name, p.Limit)
	})
}
