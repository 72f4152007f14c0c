package contender

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// riverQueue is River. It drains fastest here with a fetch every 2 ms and thousands of workers. The bulk call is its
// COPY.
type riverQueue struct {
	plan   plan.Plan
	pool   *pgxpool.Pool
	driver *riverpgxv5.Driver
	client *river.Client[pgx.Tx]

	done   atomic.Int64
	ended  func()
	wg     sync.WaitGroup
	worked bool
}

// riverArgs is the payload in the type that River needs.
type riverArgs struct{ Payload }

// Kind returns the kind of the job.
func (riverArgs) Kind() string { return "bench" }

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	handle func(Payload)
}

func (w *riverWorker) Work(_ context.Context, job *river.Job[riverArgs]) error {
	w.handle(job.Args.Payload)
	return nil
}

func openRiver(ctx context.Context, p plan.Plan, fresh bool) (Queue, error) {
	if p.Groups > 1 {
		return nil, fmt.Errorf("groups: must be at most 1 for River, which has groups by licence alone, got %d; leave River out", p.Groups)
	}
	cfg, err := pgxpool.ParseConfig(p.URL)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}

	r := &riverQueue{plan: p, pool: pool, driver: riverpgxv5.New(pool), ended: func() {}}
	if fresh {
		m, err := rivermigrate.New(r.driver, nil)
		if err == nil {
			_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
		}
		if err != nil {
			pool.Close()
			return nil, err
		}
	}

	// This client only inserts; Work creates the client that works.
	if r.client, err = river.NewClient(r.driver, &river.Config{}); err != nil {
		pool.Close()
		return nil, err
	}
	return r, nil
}

func (r *riverQueue) queue(i int) string {
	if r.plan.Queues == 1 {
		return river.QueueDefault
	}
	return queueName(i)
}

func (r *riverQueue) opts(t Task) *river.InsertOpts {
	o := &river.InsertOpts{Queue: r.queue(t.Queue)}
	if t.Delay > 0 {
		o.ScheduledAt = time.Now().Add(t.Delay)
	}
	return o
}

func (r *riverQueue) Insert(ctx context.Context, batch []Task) error {
	params := make([]river.InsertManyParams, len(batch))
	for i, t := range batch {
		params[i] = river.InsertManyParams{Args: riverArgs{t.Payload}, InsertOpts: r.opts(t)}
	}
	_, err := r.client.InsertManyFast(ctx, params)
	return err
}

func (r *riverQueue) InsertOne(ctx context.Context, t Task) error {
	_, err := r.client.Insert(ctx, riverArgs{t.Payload}, r.opts(t))
	return err
}

func (r *riverQueue) Work(ctx context.Context, handle func(Payload)) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{handle: handle})
	queues := map[string]river.QueueConfig{}
	for i := range r.plan.Queues {
		queues[r.queue(i)] = river.QueueConfig{MaxWorkers: max(4*r.plan.Workers/r.plan.Queues, 10)}
		if r.plan.Groups == 1 {
			queues[r.queue(i)] = river.QueueConfig{MaxWorkers: 1}
		}
	}

	client, err := river.NewClient(r.driver, &river.Config{
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond, Queues: queues, Workers: workers,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}

	events, cancel := client.SubscribeConfig(&river.SubscribeConfig{
		ChanSize: 2_000_000, Kinds: []river.EventKind{river.EventKindJobCompleted},
	})
	r.ended = cancel
	r.wg.Go(func() {
		for range events {
			r.done.Add(1)
		}
	})

	r.client, r.worked = client, true
	return client.Start(ctx)
}

func (r *riverQueue) Completed() int64 { return r.done.Load() }

func (r *riverQueue) Close(ctx context.Context) error {
	var err error
	if r.worked {
		err = r.client.StopAndCancel(ctx)
	}
	r.ended()
	r.wg.Wait()
	r.pool.Close()
	return err
}
