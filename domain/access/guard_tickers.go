package access

import (
	"context"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// CreateTicker needs the right to manage tickers, and to create tasks, in the queue that the ticker names. A ticker without
// a queue needs them in the whole namespace.
func (g *guard) CreateTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	if err := g.checkTickerQueue(ctx, meta.Queue); err != nil {
		return nil, err
	}
	return g.next.CreateTicker(ctx, meta)
}

// RegisterTicker is [guard.CreateTicker] for a ticker that may exist. A name that a ticker of another queue has is taken, as
// for a create.
func (g *guard) RegisterTicker(ctx context.Context, meta queue.TickerMeta) (*queue.Ticker, error) {
	if err := g.checkTickerQueue(ctx, meta.Queue); err != nil {
		return nil, err
	}

	made, err := changePresentTicker(meta.Name, meta.IfVersion, func() (int64, error) {
		return g.checkPresentTicker(ctx, queue.ActionTickerManage, meta.Name, queue.ActionTaskCreate)
	}, func(version int64) (*queue.Ticker, error) {
		meta := meta
		meta.IfVersion = version
		return g.next.RegisterTicker(ctx, meta)
	})
	if queue.KindOf(err) == queue.KindNotFound && meta.IfVersion == 0 {
		// A create cannot change a ticker that another caller has made meanwhile.
		return g.next.CreateTicker(ctx, meta)
	}
	return made, err
}

// maxTickerLooks bounds the looks at a ticker that others change between the look and the change.
const maxTickerLooks = 3

// changePresentTicker decides by check and then changes the ticker called name. check returns the version that it has read, 0 for a
// decision without the ticker. The change is one of that version alone: another caller may move the ticker into a foreign queue
// after the look. given is the version that the caller demands, 0 for any.
func changePresentTicker[T any](name string, given int64, check func() (version int64, err error), change func(version int64) (T, error)) (T, error) {
	var none T
	for range maxTickerLooks {
		version, err := check()
		if err != nil {
			return none, err
		}
		if version == 0 {
			return change(given)
		}
		if err := queue.CheckVersion("ticker "+name, version, queue.IfVersion(given)); err != nil {
			return none, err
		}

		changed, err := change(version)
		if queue.KindOf(err) != queue.KindPrecondition || given != 0 {
			return changed, err
		}
	}
	return none, queue.NotFoundTicker(name)
}

// checkTickerQueue returns an error unless the principal may manage tickers and create tasks in the queue called name.
func (g *guard) checkTickerQueue(ctx context.Context, name *string) error {
	for _, action := range []queue.Action{queue.ActionTickerManage, queue.ActionTaskCreate} {
		s, err := findActionScope(ctx, action, g.namespace)
		if err != nil {
			return err
		}
		if name == nil || *name == "" {
			err = checkNamespace(s, action, g.namespace)
		} else {
			err = queue.At("queue", checkQueue(s, action, g.namespace, *name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkPresentTicker returns an error unless the principal may do each of actions in the queue of the ticker called name. It
// reads the ticker only for a principal with grants for some queues. A ticker in another queue, or without a queue, does
// not exist for such a principal. It returns the version of the ticker, 0 when it has not read it.
func (g *guard) checkPresentTicker(ctx context.Context, action queue.Action, name string, more ...queue.Action) (version int64, err error) {
	var ticker *queue.Ticker
	for _, a := range append([]queue.Action{action}, more...) {
		s, err := findActionScope(ctx, a, g.namespace)
		if err != nil {
			return 0, err
		}
		if s.All() {
			continue
		}

		if ticker == nil {
			if ticker, err = g.next.GetTicker(ctx, name); err != nil {
				return 0, err
			}
		}
		// Not denied: that would show that the ticker exists.
		if !s.Has(ticker.Queue) {
			return 0, queue.NotFoundTicker(ticker.Name)
		}
	}
	if ticker == nil {
		return 0, nil
	}
	return ticker.Version, nil
}

// UpdateTicker needs the right to manage the present ticker, and the one with the new values. A change of Paused alone
// needs the right to pause the queue of the ticker.
func (g *guard) UpdateTicker(ctx context.Context, name string, meta queue.TickerMeta) (*queue.Ticker, error) {
	action, more := queue.ActionTickerManage, []queue.Action{queue.ActionTaskCreate}
	if pausesTicker(meta) {
		action, more = queue.ActionQueuePause, nil
	}
	return changePresentTicker(name, meta.IfVersion, func() (int64, error) {
		version, err := g.checkPresentTicker(ctx, action, name, more...)
		if err != nil || meta.Queue == nil {
			return version, err
		}
		// The ticker may move into another queue, which needs the rights there too.
		return version, g.checkTickerQueue(ctx, meta.Queue)
	}, func(version int64) (*queue.Ticker, error) {
		meta := meta
		meta.IfVersion = version
		return g.next.UpdateTicker(ctx, name, meta)
	})
}

func (g *guard) DeleteTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	return changePresentTicker(name, queue.RequiredVersion(only), func() (int64, error) {
		return g.checkPresentTicker(ctx, queue.ActionTickerManage, name)
	}, func(version int64) (*queue.Ticker, error) {
		return g.next.DeleteTicker(ctx, name, queue.IfVersion(version))
	})
}

// RunTicker creates a task, so it needs that right too.
func (g *guard) RunTicker(ctx context.Context, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	return changePresentTicker(name, queue.RequiredVersion(only), func() (int64, error) {
		return g.checkPresentTicker(ctx, queue.ActionTickerRun, name, queue.ActionTaskCreate)
	}, func(version int64) (*queue.Tick, error) {
		return g.next.RunTicker(ctx, name, queue.IfVersion(version))
	})
}

func (g *guard) GetTicker(ctx context.Context, name string) (*queue.Ticker, error) {
	s, err := g.scope(ctx, queue.OpGetTicker)
	if err != nil {
		return nil, err
	}

	t, err := g.next.GetTicker(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case !s.Has(t.Queue):
		return nil, queue.NotFoundTicker(t.Name)
	}
	return g.redactTicker(ctx, t), nil
}

// redactTicker returns t without its payload, unless the principal may read content in its queue.
func (g *guard) redactTicker(ctx context.Context, t *queue.Ticker) *queue.Ticker {
	if From(ctx).May(queue.ActionTaskPayload, g.namespace, t.Queue) {
		return t
	}
	bare := *t
	bare.Payload = nil
	return &bare
}

// ListTickers lists the tickers of visible queues; see [guard.ListQueues].
func (g *guard) ListTickers(ctx context.Context, p queue.Page) (queue.TickerPage, error) {
	s, err := g.scope(ctx, queue.OpListTickers)
	if err != nil {
		return queue.TickerPage{}, err
	}

	var page queue.TickerPage
	if s.All() {
		page, err = g.next.ListTickers(ctx, p)
	} else {
		page, err = g.listVisibleTickers(ctx, s, p)
	}
	for i, t := range page.Tickers {
		page.Tickers[i] = g.redactTicker(ctx, t)
	}
	return page, err
}

func (g *guard) listVisibleTickers(ctx context.Context, s Scope, p queue.Page) (queue.TickerPage, error) {
	p, err := p.Normalize()
	if err != nil {
		return queue.TickerPage{}, err
	}
	visible, err := collectVisible(s, func(all queue.Page) ([]*queue.Ticker, string, error) {
		page, err := g.next.ListTickers(ctx, all)
		return page.Tickers, page.Next, err
	}, func(t *queue.Ticker) string { return t.Queue })
	if err != nil {
		return queue.TickerPage{}, err
	}

	part, next := cutVisible(visible, p, func(t *queue.Ticker) string { return t.Name })
	return queue.TickerPage{Tickers: part, Count: int64(len(visible)), Next: next}, nil
}

// UpcomingTicks shows the fires of visible tickers. For a principal with grants for some queues it reads all tickers, so that
// neither the limit nor More shows a fire of another.
func (g *guard) UpcomingTicks(ctx context.Context, q queue.UpcomingQuery) (*queue.Upcoming, error) {
	s, err := g.scope(ctx, queue.OpUpcomingTicks)
	if err != nil || s.All() {
		if err != nil {
			return nil, err
		}
		return g.next.UpcomingTicks(ctx, q)
	}

	// The service normalizes too, but here the guard itself makes the answer.
	if q, err = q.Normalize(time.Now()); err != nil {
		return nil, err
	}
	visible, err := collectVisible(s, func(all queue.Page) ([]*queue.Ticker, string, error) {
		page, err := g.next.ListTickers(ctx, all)
		return page.Tickers, page.Next, err
	}, func(t *queue.Ticker) string { return t.Queue })
	if err != nil {
		return nil, err
	}
	return queue.FindUpcoming(visible, q), nil
}

func (g *guard) PreviewTicker(ctx context.Context, name string, n int) ([]time.Time, error) {
	if _, err := g.checkPresentTicker(ctx, queue.ActionTickerRead, name); err != nil {
		return nil, err
	}
	return g.next.PreviewTicker(ctx, name, n)
}

// ListTicks lists the ticks of a visible ticker, without payloads for a principal that may not read content. Ticks into a
// queue that the ticker had before, and that is not visible, are left out.
func (g *guard) ListTicks(ctx context.Context, name string, limit int) ([]queue.Tick, error) {
	s, err := g.scope(ctx, queue.OpListTicks)
	if err != nil {
		return nil, err
	}
	if _, err := g.checkPresentTicker(ctx, queue.ActionTickerRead, name); err != nil {
		return nil, err
	}

	ticks, err := g.next.ListTicks(ctx, name, limit)
	ticks = slices.DeleteFunc(slices.Clone(ticks), func(t queue.Tick) bool { return !s.Has(t.Queue) })
	for i := range ticks {
		if !From(ctx).May(queue.ActionTaskPayload, g.namespace, ticks[i].Queue) {
			ticks[i].Payload = nil
		}
	}
	return ticks, err
}

// RunTickerLoop receives the ticks of tickers without a queue, so it needs the right in the whole namespace.
func (g *guard) RunTickerLoop(ctx context.Context, handle func(context.Context, queue.Tick) error) error {
	s, err := g.scope(ctx, queue.OpRunTickerLoop)
	if err != nil {
		return err
	}
	if err := checkNamespace(s, queue.ActionTickerListen, g.namespace); err != nil {
		return err
	}

	ctx, stop := g.watch(ctx)
	defer stop()
	return endOf(ctx, g.next.RunTickerLoop(ctx, handle))
}
