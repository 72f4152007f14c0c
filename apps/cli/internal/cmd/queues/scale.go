package queues

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func newScaleCommand(f *factory.Factory) *cobra.Command {
	within := queue.DefaultScaleWithin
	cmd := &cobra.Command{
		Use:         "scale QUEUE...",
		Short:       "Show the number of slots that queues have work for",
		Annotations: cmdutil.Reads("queue scale"),
		Long: "Show the number of slots that queues have work for: those of the tasks in hand, and those that work off the ready tasks in\n" +
			"a time. A slot runs one task at a time; a worker has as many as its concurrency. Divide the slots by it to scale workers.",
		Example: "  pgqueue scale mail\n" +
			"  pgqueue scale mail hooks --within 5m\n" +
			"  pgqueue scale mail --jq .slots",
		Args:              cmdutil.Args(1, -1, "the names of queues"),
		ValidArgsFunction: cmdutil.QueueNames(f),

		RunE: f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, args []string) error {
			scale, err := queue.ReadScale(ctx, svc, within, args...)
			if err != nil {
				return err
			}
			return output.One(p, restapi.ScaleOf(scale), func() []output.Field {
				return []output.Field{
					{Name: "slots", Value: strconv.FormatFloat(scale.Slots, 'f', 2, 64)},
					{Name: "ready", Value: output.Number(scale.Ready)},
					{Name: "retained", Value: output.Number(scale.Retained)},
				}
			})
		}),
	}

	program.DurationVar(cmd.Flags(), &within, "within", "the time in which to work off the ready tasks, 1s to 24h")
	return cmd
}
