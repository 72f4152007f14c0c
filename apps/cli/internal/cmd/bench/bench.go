// Package bench has the command that measures a server as its client.
package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Commands returns the command bench.
func Commands(f *factory.Factory) []*cobra.Command { return []*cobra.Command{newBenchCommand(f)} }

type options struct {
	tasks, batch, parallel int
	queue                  string
}

// Result holds the rates of one measurement.
type Result struct {
	Tasks           int     `json:"tasks"`
	Batch           int     `json:"batch"`
	Parallel        int     `json:"parallel"`
	CreateSeconds   float64 `json:"create_seconds"`
	CreatePerSecond float64 `json:"create_per_second"`
	WorkSeconds     float64 `json:"work_seconds"`
	WorkPerSecond   float64 `json:"work_per_second"`
}

func newBenchCommand(f *factory.Factory) *cobra.Command {
	o := options{tasks: 10_000, batch: 500, parallel: 4, queue: "pgqueue-bench"}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast a server creates, retains and releases tasks",
		Long: "Create tasks in a queue of its own, retain and release them all, and show the rates. The queue is deleted\n" +
			"afterwards. It measures this machine, the network and the server together.",
		Example: "  pgqueue bench\n  pgqueue bench --tasks 100000 --batch 1000 --parallel 8",
		GroupID: cmdutil.GroupOther,
		Args:    cmdutil.Args(0, 0, ""),

		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, c := range []struct {
				flag    string
				n, most int
			}{{"--tasks", o.tasks, 10_000_000}, {"--batch", o.batch, queue.MaxBatch}, {"--parallel", o.parallel, 1000}} {
				if err := queue.CheckInt(c.flag, c.n, 1, c.most); err != nil {
					return err
				}
			}

			svc, p, err := f.Both()
			if err != nil {
				return err
			}

			r, err := o.runBenchmark(cmd.Context(), svc)
			if err != nil {
				return err
			}

			return output.One(p, r, func() []output.Field {
				return []output.Field{
					{Name: "created", Value: fmt.Sprintf("%s in %.2fs: %s", output.Count(r.Tasks, "task"), r.CreateSeconds, output.Rate(r.CreatePerSecond))},
					{Name: "worked", Value: fmt.Sprintf("%s in %.2fs: %s", output.Count(r.Tasks, "task"), r.WorkSeconds, output.Rate(r.WorkPerSecond))},
				}
			})
		},
	}

	cmd.Flags().IntVar(&o.tasks, "tasks", o.tasks, "how many tasks")
	cmd.Flags().IntVar(&o.batch, "batch", o.batch, "tasks in a call")
	cmd.Flags().IntVar(&o.parallel, "parallel", o.parallel, "calls under way at once")
	cmd.Flags().StringVar(&o.queue, "queue", o.queue, "`queue` to make for it; it must not be there yet")

	return cmd
}

func (o options) runBenchmark(ctx context.Context, svc queue.Service) (r Result, err error) {
	if _, err := svc.CreateQueue(ctx, queue.QueueMeta{Name: o.queue}); err != nil {
		return r, err
	}
	defer func() {
		// An interrupted benchmark deletes its queue too; 30 s bound that.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if _, failed := svc.DeleteQueue(clean, o.queue); err == nil {
			err = failed
		}
	}()

	r = Result{Tasks: o.tasks, Batch: o.batch, Parallel: o.parallel}
	r.CreateSeconds, err = o.workThroughBatches(ctx, func(ctx context.Context, _, n int) (int, error) {
		return n, o.createTasks(ctx, svc, n)
	})
	if err != nil {
		return r, err
	}

	r.WorkSeconds, err = o.workThroughBatches(ctx, func(ctx context.Context, worker, n int) (int, error) {
		return o.workTasks(ctx, svc, fmt.Sprintf("bench-%d", worker), n)
	})

	r.CreatePerSecond = float64(o.tasks) / r.CreateSeconds
	r.WorkPerSecond = float64(o.tasks) / r.WorkSeconds
	return r, err
}

// createTasks creates n tasks in one call.
func (o options) createTasks(ctx context.Context, svc queue.Service, n int) error {
	payload := []byte(`{"to":"ann@example.org","subject":"a task of the benchmark"}`)
	tasks := make([]queue.NewTask, n)
	for i := range tasks {
		tasks[i] = queue.NewTask{Queue: o.queue, TaskMeta: queue.TaskMeta{Payload: payload}}
	}

	_, err := svc.CreateTasks(ctx, tasks)
	return err
}

// workTasks retains and releases at most n tasks, and returns their number.
func (o options) workTasks(ctx context.Context, svc queue.Service, worker string, n int) (int, error) {
	held, err := svc.RetainTasks(ctx, queue.RetainRequest{Worker: worker, Queues: []string{o.queue}, Limit: n, Wait: time.Second})
	if err != nil || len(held) == 0 {
		return 0, err
	}

	releases := make([]queue.Release, len(held))
	for i, t := range held {
		releases[i] = queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}
	}

	out, err := svc.ReleaseTasks(ctx, releases)
	if err != nil {
		return 0, err
	}
	for _, rel := range out {
		if rel.Err != nil {
			return 0, rel.Err
		}
	}
	return len(held), nil
}

// workThroughBatches calls step in parallel, each time with the number of tasks that it may do, until all tasks are done.
// step returns the number that it did. The result is the time in seconds.
func (o options) workThroughBatches(ctx context.Context, step func(ctx context.Context, worker, n int) (done int, err error)) (float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now()
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(o.tasks))

	for worker := range o.parallel {
		wg.Go(func() {
			for ctx.Err() == nil {
				// Each step takes at most a batch from the tasks that are left, and returns those that it did not do.
				n := min(o.batch, int(left.Add(-int64(o.batch)))+o.batch)
				if n <= 0 {
					// Other steps have the rest; a further retain would wait for nothing.
					return
				}

				done, err := step(ctx, worker, n)
				if err != nil {
					cancel(err)
				}
				left.Add(int64(n - done))
			}
		})
	}

	wg.Wait()

	return time.Since(begin).Seconds(), context.Cause(ctx)
}
