package manager

import (
	"context"
	"sync"

	"github.com/pgqueue/pgqueue/domain/manager/internal/background"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// ChoreHealth is the state of a background agent in this process.
type ChoreHealth = background.Health

// Health returns the state of each background agent in this process. It is a copy.
func (m *Manager) Health() []ChoreHealth { return m.agents.Health() }

// Run does the background work, unless WithBackgroundWork(false), listens for wake-ups of other processes, and runs the
// registered workers, until ctx ends or the manager is closed. Then it drains the workers, waits for the steps in flight
// and returns nil. KindConflict when it runs already. Steps that fail are logged and repeated; see [Manager.Health]. A
// worker that cannot run ends Run with its error.
func (m *Manager) Run(ctx context.Context) error {
	_, err := runOperation(ctx, m, queue.OpRun, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.runBackground(ctx)
	})

	return err
}

func (p *parts) runBackground(ctx context.Context) error {
	if !p.agents.Begin() {
		return &queue.Error{Kind: queue.KindConflict, Msg: "must run once, got a second call; wait for the end of the first Run"}
	}
	defer p.agents.End()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	start := func(f func(context.Context)) bool {
		running.Add(1)
		ok := p.owner.Go(func() { defer running.Done(); f(ctx) })
		if !ok {
			running.Done()
		}
		return ok
	}

	ok := true
	if store, canListen := queue.StoreAs[queue.Listener](p.store); canListen {
		ok = start(func(ctx context.Context) { background.Listen(ctx, p.owner, store, p.wakeFromStore) })
	}
	if ok && p.cfg.background {
		ok = p.agents.Start(start)
	}

	wait := func() error { return nil }
	if ok {
		wait = p.workers.startWorkers(ctx, cancel)
		select {
		case <-ctx.Done():
		case <-p.owner.Closing():
		}
	}
	cancel()
	running.Wait()

	return wait()
}
