package contender

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/vgarvardt/gue/v5"
	"github.com/vgarvardt/gue/v5/adapter/pgxv5"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// gueWorkers is the number of workers that drains fastest here. Each needs its own connection, because an open
// transaction holds a job.
const gueWorkers = 8

// gueQueue is gue. It has no hook after the commit of a job; the nearest hook runs just before it deletes the row.
type gueQueue struct {
	plan   plan.Plan
	pool   *pgxpool.Pool
	client *gue.Client

	done atomic.Int64
	stop context.CancelFunc
	wg   sync.WaitGroup
	errs []error // results of the workers, by queue
}

func openGue(ctx context.Context, p plan.Plan, fresh bool) (Queue, error) {
	cfg, err := pgxpool.ParseConfig(p.URL)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = gueWorkers + 4
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}

	g := &gueQueue{plan: p, pool: pool, stop: func() {}}
	if fresh {
		if p.Schema == "" {
			err = errors.New("its schema was not given")
		} else {
			_, err = pool.Exec(ctx, p.Schema)
		}
	}

	if err == nil {
		g.client, err = gue.NewClient(pgxv5.NewConnPool(pool))
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return g, nil
}

func gueJob(t Task) *gue.Job {
	j := &gue.Job{Queue: queueName(t.Queue), Type: "bench", Args: t.Payload.JSON()}
	if t.Delay > 0 {
		j.RunAt = time.Now().Add(t.Delay)
	}
	return j
}

func (g *gueQueue) Insert(ctx context.Context, batch []Task) error {
	jobs := make([]*gue.Job, len(batch))
	for i, t := range batch {
		jobs[i] = gueJob(t)
	}
	return g.client.EnqueueBatch(ctx, jobs)
}

func (g *gueQueue) InsertOne(ctx context.Context, t Task) error {
	return g.client.Enqueue(ctx, gueJob(t))
}

func (g *gueQueue) Work(ctx context.Context, handle func(Payload)) error {
	work := gue.WorkMap{"bench": func(_ context.Context, j *gue.Job) error {
		var p Payload
		if err := json.Unmarshal(j.Args, &p); err != nil {
			return err
		}
		handle(p)
		return nil
	}}

	running, cancel := context.WithCancel(ctx)
	g.stop = cancel
	g.errs = make([]error, g.plan.Queues)
	for i := range g.plan.Queues {

		pool, err := gue.NewWorkerPool(g.client, work, max(gueWorkers/g.plan.Queues, 1),
			gue.WithPoolQueue(queueName(i)), gue.WithPoolPollInterval(2*time.Millisecond), gue.WithPoolPollStrategy(gue.RunAtPollStrategy),
			gue.WithPoolHooksJobDone(func(_ context.Context, _ *gue.Job, err error) {
				if err == nil {
					g.done.Add(1)
				}
			}))
		if err != nil {
			return err
		}

		g.wg.Go(func() { g.errs[i] = pool.Run(running) })
	}
	return nil
}

func (g *gueQueue) Completed() int64 { return g.done.Load() }

func (g *gueQueue) Close(context.Context) error {
	g.stop()
	g.wg.Wait()
	g.pool.Close()
	return errors.Join(g.errs...)
}
