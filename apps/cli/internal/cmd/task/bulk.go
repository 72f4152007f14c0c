package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// bulk describes one bulk operation.
type bulk struct {
	verb, done, short, long, example string
	op                               queue.Op
	call                             func(queue.Tasks, context.Context, queue.Selection) (queue.Bulk, error)
}

var (
	bulkCancel = bulk{
		"cancel", "cancelled", "Cancel tasks by ids or filter",
		"Waiting tasks end cancelled; the holders of tasks that are held are asked to stop.",
		"  pgqueue cancel-task 42 43\n  pgqueue cancel-task --queue mail --status new --dry-run",
		queue.OpCancelTasks, queue.Tasks.CancelTasks,
	}
	bulkRetry = bulk{
		"retry", "made new", "Make finished tasks new again, by ids or filter",
		"Finished tasks become new, with attempts from the start.",
		"  pgqueue retry-task 42\n  pgqueue retry-task --queue mail --status failed",
		queue.OpRetryTasks, queue.Tasks.RetryTasks,
	}
	bulkDelete = bulk{
		"delete", "deleted", "Delete tasks without a lease, by ids or filter",
		"Tasks that are held stay.",
		"  pgqueue delete-task 42\n  pgqueue delete-task --queue mail --status released --created-before 2026-01-01 --dry-run",
		queue.OpDeleteTasks, queue.Tasks.DeleteTasks,
	}
)

func newBulkCommand(f *factory.Factory, b bulk) *cobra.Command {
	var filter cmdutil.Filter
	var dryRun bool
	cmd := &cobra.Command{
		Use:         b.verb + "-task [ID...]",
		Annotations: cmdutil.Calls(b.op, "task "+b.verb),
		Short:       b.short,
		Long: b.short + ". " + b.long + "\nBy ids, or by a filter that names at least one thing; --dry-run counts and changes nothing.\n" +
			"It goes on until all is done, in calls of a few seconds; --timeout is for each of them. When it is stopped it says how\n" +
			"many tasks were " + b.done + ", and the same command does the rest.",
		Example: b.example,

		RunE: func(cmd *cobra.Command, args []string) error {
			s := queue.Selection{DryRun: dryRun}
			switch {
			case len(args) == 0 && filter.Empty():
				return cmdutil.Usage("tasks: must be ids or a filter such as --queue or --status, got none")
			case len(args) > 0 && !filter.Empty():
				return cmdutil.Usage("tasks: must be ids or a filter, got both; leave one out")
			case len(args) > 0:
				var err error
				if s.IDs, err = cmdutil.IDs(args); err != nil {
					return err
				}

			default:
				df := filter.Domain()
				s.Filter = &df
			}

			svc, p, err := f.Both()
			if err != nil {
				return err
			}

			var got queue.Bulk

			err = cmdutil.Steps(cmd.Context(), f, func() string { return b.describeCounts(got, dryRun) }, func(ctx context.Context, within time.Duration) (bool, error) {
				// Each step goes on behind the last one, so no task is looked at twice.
				s.Cursor, s.Within = got.Next, within
				step, err := b.call(svc, ctx, s)
				if err != nil {
					return false, err
				}

				got.Add(step)

				return got.Next != "", nil
			})

			// Nothing was done, so a count of 0 would only hide the error.
			if err != nil && got.Matched == 0 {
				return err
			}

			// The counts are true also after an error, which is the more important one.
			return cmp.Or(err, printBulkResult(f, p, b, got, dryRun))
		},
	}

	filter.Flags(f, cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "count, and change nothing")

	return cmd
}

// describeCounts returns the sentence of the counts, done or to be done.
func (b bulk) describeCounts(got queue.Bulk, dryRun bool) string {
	if dryRun {
		return output.Count(got.Matched, "task") + " would be " + b.done
	}
	return output.Count(got.Moved, "task") + " " + b.done
}

// printBulkResult writes the result. When no id was moved, the exit code is that of the first error.
func printBulkResult(f *factory.Factory, p *output.Printer, b bulk, got queue.Bulk, dryRun bool) error {
	if p.Human() {
		fmt.Fprintln(f.IO.Out, b.describeCounts(got, dryRun))
	} else if err := p.Value(restapi.BulkOf(got)); err != nil {
		return err
	}

	ids := slices.Sorted(maps.Keys(got.Errs))
	for _, id := range ids {
		fmt.Fprintf(f.IO.Err, "pgqueue: %s task: task %d: %s\n", b.verb, id, reasonOfError(got.Errs[id]))
	}

	if len(ids) > 0 {
		return &cmdutil.Exit{Code: program.ExitCode(got.Errs[ids[0]])}
	}

	return nil
}

// reasonOfError returns the text of an error without its operation and subject, which its line names already.
func reasonOfError(err error) string {
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Msg != "" {
		return e.Msg
	}
	return err.Error()
}
