package manager

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateTicker makes a ticker; KindAlreadyExists when it is there, KindNotFound for an unknown queue.
func (m *Manager) CreateTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return m.changeTicker(ctx, opCreateTicker, func(ctx context.Context) (*queue.Ticker, error) {
		t, err := queue.NewTicker(m.namespace, meta, m.cfg.maxPayload)
		if err != nil {
			return nil, err
		}
		return m.store.CreateTicker(ctx, t)
	})
}

// RegisterTicker makes a ticker, or updates what meta names of the one that is there.
func (m *Manager) RegisterTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	return m.changeTicker(ctx, opRegisterTicker, func(ctx context.Context) (*queue.Ticker, error) {
		name, err := queue.TickerName(meta.Name)
		if err != nil {
			return nil, err
		}
		return register(
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
	return onTicker(ctx, m, opGetTicker, name, m.store.GetTicker)
}

// onTicker is an operation on the one ticker of a name.
func onTicker[T any](ctx context.Context, m *Manager, o op, name string, f func(context.Context, string, string) (T, error)) (T, error) {
	return callStore(ctx, m, o, func(ctx context.Context) (T, error) {
		n, err := queue.TickerName(name)
		if err != nil {
			var none T
			return none, err
		}
		return f(ctx, m.namespace, n)
	})
}

// changeTicker is an operation after which something may be due.
func (m *Manager) changeTicker(ctx context.Context, o op, f func(context.Context) (*queue.Ticker, error)) (*queue.Ticker, error) {
	t, err := callStore(ctx, m, o, f)
	if err == nil {
		m.chores.kickIn(queue.ChoreTick, 0)
		m.ticks.ring(m.namespace)
	}
	return t, err
}

// ListTickers returns a page in the order of names.
func (m *Manager) ListTickers(ctx context.Context, p queue.Page) (queue.TickerPage, error) {
	return callStore(ctx, m, opListTickers, func(ctx context.Context) (queue.TickerPage, error) {
		p, err := p.Normalize()
		if err != nil {
			return queue.TickerPage{}, err
		}
		return m.store.ListTickers(ctx, m.namespace, p)
	})
}

// UpdateTicker changes what meta names. KindPrecondition when IfVersion is not the present version.
func (m *Manager) UpdateTicker(ctx context.Context, name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	return m.changeTicker(ctx, opUpdateTicker, func(ctx context.Context) (*queue.Ticker, error) {
		n, err := queue.TickerName(name)
		if err != nil {
			return nil, err
		}
		if err := sameName("ticker", n, meta.Name, queue.TickerName); err != nil {
			return nil, err
		}
		meta.Name = n
		return m.store.UpdateTicker(ctx, m.namespace, n, meta, m.cfg.maxPayload)
	})
}

// DeleteTicker deletes a ticker and returns it as it was.
func (m *Manager) DeleteTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	return onTicker(ctx, m, opDeleteTicker, name, func(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
		return m.store.DeleteTicker(ctx, namespace, name, only...)
	})
}

// PreviewTicker returns the next n nominal times, 1 to 1,000; fewer when the schedule has no more. A paused ticker's are
// those it would have if it were resumed now.
func (m *Manager) PreviewTicker(ctx context.Context, name string, n int) ([]time.Time, error) {
	return onTicker(ctx, m, opPreviewTicker, name, func(ctx context.Context, namespace, name string) ([]time.Time, error) {
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
			return s.Preview(t.Anchor, time.Now().UTC(), n), nil // nothing is decided by this clock
		}
		return append([]time.Time{t.NextAt}, s.Preview(t.Anchor, t.NextAt, n-1)...), nil
	})
}

// RunTicker fires a ticker now, beside its schedule.
func (m *Manager) RunTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	return onTicker(ctx, m, opRunTicker, name, func(ctx context.Context, namespace, name string) (*queue.Tick, error) {
		t, err := m.store.RunTicker(ctx, namespace, name, only...)
		if err != nil {
			return nil, err
		}
		if t.Queue == "" {
			m.ticks.ring(namespace)
		} else {
			m.rooms.wake(queue.Wake{Namespace: namespace, Queue: t.Queue})
			m.feeds.changed(namespace)
		}
		return t, nil
	})
}

// ListTicks returns the last ticks of a ticker, newest first, at most limit: 1 to 1,000, 0 = 100.
func (m *Manager) ListTicks(ctx context.Context, name string, limit int) ([]queue.Tick, error) {
	return onTicker(ctx, m, opListTicks, name, func(ctx context.Context, namespace, name string) ([]queue.Tick, error) {
		p, err := queue.Page{Limit: limit}.Normalize()
		if err != nil {
			return nil, err
		}
		return m.store.ListTicks(ctx, namespace, name, p.Limit)
	})
}
