package manager

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/ticks"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// Bounds of the pause of a listener after its handler failed.
const (
	minTickPause = 100 * time.Millisecond
	maxTickPause = 10 * time.Second
)

// RunTickerLoop calls handle with each tick of the namespace's tickers that have no queue, one call at a time, until ctx
// ends; then it returns the error of ctx. The process asks the store once for all its loops and gives each tick to one
// loop, in turn. The context of handle ends with ctx and after the tick timeout. When handle returns an error the tick
// goes to the next loop, and this one pauses before it takes another.
func (m *Manager) RunTickerLoop(ctx context.Context, handle func(context.Context, queue.Tick) error) error {
	_, err := runOperation(ctx, m, queue.OpRunTickerLoop, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.withListener(func(l *ticks.Listener) error {
			backoff := retry.Backoff{Min: minTickPause, Max: maxTickPause}
			for {
				t, err := l.Next(ctx)
				if err != nil {
					return err
				}
				if err := m.handleAndSettle(ctx, t, handle); err == nil {
					backoff.Reset()
					continue
				}

				select {
				case <-ctx.Done():
				case <-m.owner.Closing():
				case <-time.After(backoff.Next()):
				}
			}
		})
	})

	return err
}

// withListener runs f as a listener of the namespace.
func (m *Manager) withListener(f func(*ticks.Listener) error) error {
	end, err := m.owner.Wait()
	if err != nil {
		return err
	}
	defer end()

	l, err := m.dealers.Join(m.namespace)
	if err != nil {
		return err
	}
	defer l.Leave()

	return f(l)
}

// handleAndSettle runs handle and settles the tick by its result; a panic counts as an error.
func (m *Manager) handleAndSettle(ctx context.Context, t queue.Tick, handle func(context.Context, queue.Tick) error) (err error) {
	delivered := false
	defer func() { _ = m.dealers.Settle(t, delivered) }() // logged; the tick comes again after its lease
	ctx, cancel := context.WithTimeout(ctx, TickTimeout)
	defer cancel()
	err = handle(ctx, t)
	delivered = err == nil

	return err
}

// NextTicker blocks until a ticker of the namespace without a queue ticks, and takes the tick. The tick is delivered when
// NextTicker returns it.
func (m *Manager) NextTicker(ctx context.Context) (*queue.Tick, error) {
	return runOperation(ctx, m, queue.OpNextTicker, func(ctx context.Context) (tick *queue.Tick, err error) {
		err = m.withListener(func(l *ticks.Listener) error {
			t, err := l.Next(ctx)
			if err != nil {
				return err
			}
			tick = &t

			return m.dealers.Settle(t, true)
		})

		return tick, err
	})
}
