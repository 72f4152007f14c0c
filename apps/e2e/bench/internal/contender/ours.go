package contender

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// ours is pgqueue in process: the worker runtime over the manager over the PostgreSQL store.
type ours struct {
	worker.NoObserver
	plan  plan.Plan
	store *postgres.Store
	m     *manager.Manager

	done atomic.Int64
	stop context.CancelFunc
	wg   sync.WaitGroup
	errs [2]error // results of Run of the manager and of the worker
}

func openOurs(ctx context.Context, p plan.Plan, fresh bool) (Queue, error) {
	store, err := postgres.Open(ctx, p.URL)
	if err != nil {
		return nil, err
	}

	o := &ours{plan: p, store: store, stop: func() {}}
	if fresh {
		if _, err := store.MigrateUp(ctx); err != nil {
			store.Close()
			return nil, err
		}
	}
	if o.m, err = manager.New(store); err != nil {
		store.Close()
		return nil, err
	}

	for i := range p.Queues {
		meta := queue.QueueMeta{Name: queueName(i)}
		if p.Groups > 0 {
			meta.Order = new(queue.OrderFIFO)
		}
		if _, err := o.m.RegisterQueue(ctx, meta); err != nil {
			store.Close()
			return nil, err
		}
	}
	return o, nil
}

func (o *ours) Insert(ctx context.Context, batch []Task) error {
	tasks := make([]queue.NewTask, len(batch))
	for i, t := range batch {
		tasks[i] = queue.NewTask{Queue: queueName(t.Queue), TaskMeta: queue.TaskMeta{Payload: t.Payload.JSON(), Delay: t.Delay, Group: t.Group}}
	}
	_, err := o.m.CreateTasks(ctx, tasks)
	return err
}

func (o *ours) InsertOne(ctx context.Context, t Task) error {
	_, err := o.m.CreateTask(ctx, queueName(t.Queue), queue.TaskMeta{Payload: t.Payload.JSON(), Delay: t.Delay})
	return err
}

func (o *ours) Work(ctx context.Context, handle func(Payload)) error {
	w := worker.New(o.m, worker.WithConcurrency(o.plan.Workers), worker.WithObserver(o), worker.WithInProcess(),
		worker.WithDrain(time.Second), worker.WithGrace(time.Second))
	for i := range o.plan.Queues {
		w.HandleFunc(queueName(i), func(_ context.Context, t *queue.Task) (any, error) {
			var p Payload
			if err := json.Unmarshal(t.Payload, &p); err != nil {
				return nil, err
			}
			handle(p)
			return nil, nil
		})
	}

	running, cancel := context.WithCancel(ctx)
	o.stop = cancel
	o.wg.Go(func() { o.errs[0] = o.m.Run(running) })
	o.wg.Go(func() { o.errs[1] = w.Run(running) })
	return nil
}

// Released makes ours the observer of its worker. A release that the store has answered is final.
func (o *ours) Released(n int, _ time.Duration, err error) {
	if err == nil {
		o.done.Add(int64(n))
	}
}

func (o *ours) Completed() int64 { return o.done.Load() }

func (o *ours) Close(ctx context.Context) error {
	o.stop()
	o.wg.Wait()
	err := o.m.Close(ctx)
	o.store.Close()
	for _, e := range o.errs {
		if err == nil {
			err = e
		}
	}
	return err
}
