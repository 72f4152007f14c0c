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
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if _, gone := svc.DeleteQueue(clean, o.queue); err == nil {
			err = gone
		}
	}()

	r = Result{Tasks: o.tasks, Batch: o.batch, Parallel: o.parallel}
	payload := []byte(`{"to":"ann@example.org","subject":"a task of the benchmark"}`)
	left := atomic.Int64{}
	share := func() int { return min(o.batch, int(left.Add(-int64(o.batch)))+o.batch) }
	left.Store(int64(o.tasks))

	r.CreateSeconds, err = o.workThroughBatches(ctx, func(ctx context.Context, _ int) (bool, error) {
		n := share()
		if n <= 0 {
			return false, nil
		}

		tasks := make([]queue.NewTask, n)
		for i := range tasks {
			tasks[i] = queue.NewTask{Queue: o.queue, TaskMeta: queue.TaskMeta{Payload: payload}}
		}

		_, err := svc.CreateTasks(ctx, tasks)

		return true, err
	})
	if err != nil {
		return r, err
	}

	left.Store(int64(o.tasks))

	r.WorkSeconds, err = o.workThroughBatches(ctx, func(ctx context.Context, worker int) (bool, error) {
		n := share()
		if n <= 0 {
			// The other retains take the rest; one more would wait for nothing.
			return false, nil
		}

		held, err := svc.RetainTasks(ctx, queue.RetainRequest{
			Worker: fmt.Sprintf("bench-%d", worker), Queues: []string{o.queue}, Limit: n, Wait: time.Second,
		})
		if err != nil {
			return false, err
		}

		left.Add(int64(n - len(held)))

		if len(held) == 0 {
			return true, nil
		}

		releases := make([]queue.Release, len(held))
		for i, t := range held {
			releases[i] = queue.Release{ID: t.ID, Token: t.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}
		}

		out, err := svc.ReleaseTasks(ctx, releases)
		if err != nil {
			return false, err
		}

		for _, rel := range out {
			if rel.Err != nil {
				return false, rel.Err
			}
		}

		return true, nil
	})

	r.CreatePerSecond = float64(o.tasks) / r.CreateSeconds
	r.WorkPerSecond = float64(o.tasks) / r.WorkSeconds

	return r, err
}

// workThroughBatches repeats step in parallel until it reports the end, and returns the seconds that this took.
func (o options) workThroughBatches(ctx context.Context, step func(context.Context, int) (more bool, err error)) (float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now()
	var wg sync.WaitGroup

	for worker := range o.parallel {
		wg.Go(func() {
			for more := true; more && ctx.Err() == nil; {
				var err error
				if more, err = step(ctx, worker); err != nil {
					cancel(err)
				}
			}
		})
	}

	wg.Wait()

	return time.Since(begin).Seconds(), context.Cause(ctx)
}
