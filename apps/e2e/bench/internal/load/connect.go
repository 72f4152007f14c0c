package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// one returns a client of Connect. Many goroutines share it and its connection, as in a user's program.
func (l *load) one() (*connectclient.Client, error) { return connectclient.New(l.plan.Server) }

// connectCreate creates one task with each unary call.
func (l *load) connectCreate(ctx context.Context) error {
	c, err := l.one()
	if err != nil {
		return err
	}
	defer c.Close()

	meta := queue.TaskMeta{Payload: []byte(`{"to":"a@b.c"}`)}
	return clients(ctx, l, "connect create", shared(c), func(c *connectclient.Client, seen *client) bool {
		begin := time.Now()
		_, err := c.CreateTask(ctx, benchQueue, meta)

		seen.took = append(seen.took, time.Since(begin))
		if err != nil {
			seen.fail(err)
			return true
		}
		seen.done++
		return true
	})
}

// connectPairs retains one task and releases it, with one unary call each.
func (l *load) connectPairs(ctx context.Context) error {
	if err := l.fill(ctx, l.plan.Tasks); err != nil {
		return err
	}

	c, err := l.one()
	if err != nil {
		return err
	}
	defer c.Close()

	return clients(ctx, l, "connect pairs", shared(c), func(c *connectclient.Client, seen *client) bool {
		begin := time.Now()
		tasks, err := c.RetainTasks(ctx, queue.RetainRequest{Worker: "w1", Queues: []string{benchQueue}})
		if err == nil && len(tasks) == 0 {
			return false // no task is left
		}

		seen.took = append(seen.took, time.Since(begin))
		if err != nil {
			seen.fail(fmt.Errorf("retain: %w", err))
			return true
		}

		begin = time.Now()
		out, err := c.ReleaseTasks(ctx, []queue.Release{{ID: tasks[0].ID, Token: tasks[0].Lease.Token, Outcome: queue.OutcomeSuccess}})
		seen.took = append(seen.took, time.Since(begin))

		if err == nil {
			err = out[0].Err
		}
		if err != nil {
			seen.fail(fmt.Errorf("release: %w", err))
			return true
		}

		seen.done++
		return true
	})
}

// shared returns the same state for all clients.
func shared[S any](s S) func() (S, error) { return func() (S, error) { return s, nil } }

// streamRuntime works tasks with the worker runtime over one worker stream, with Clients handlers at once.
func (l *load) streamRuntime(ctx context.Context) error {
	if err := l.fill(ctx, l.plan.Tasks); err != nil {
		return err
	}

	c, err := l.one()
	if err != nil {
		return err
	}
	defer c.Close()
	stream := connectclient.NewStream(c)
	defer stream.Close()

	return l.stage.Phase("stream runtime", func() (plan.Result, error) {
		running, cancel := context.WithCancel(ctx)
		defer cancel()

		released := &counter{limit: int64(l.plan.Tasks), reached: cancel}
		w := worker.New(stream, worker.WithConcurrency(l.plan.Clients), worker.WithObserver(released), worker.WithWait(time.Second))
		w.HandleFunc(benchQueue, func(context.Context, *queue.Task) (any, error) {
			l.plan.Handle()
			return nil, nil
		})

		begin := time.Now()
		err := w.Run(running)
		if ctx.Err() != nil {
			err = errors.Join(err, ctx.Err())
		}

		at := released.at.Load()
		if at == nil {
			return plan.Result{}, errors.Join(err, fmt.Errorf("%d of %d tasks released", released.n.Load(), l.plan.Tasks))
		}
		return plan.Result{N: l.plan.Tasks, Seconds: at.Sub(begin).Seconds()}, err
	})
}

// counter records the time at which limit tasks were released.
type counter struct {
	worker.NoObserver
	limit   int64
	reached func()
	n       atomic.Int64
	at      atomic.Pointer[time.Time]
}

// Released counts the released tasks.
func (c *counter) Released(n int, _ time.Duration, err error) {
	if err != nil {
		return
	}
	if sum := c.n.Add(int64(n)); sum >= c.limit && sum-int64(n) < c.limit {
		now := time.Now()
		c.at.Store(&now)
		c.reached()
	}
}
