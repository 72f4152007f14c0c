// Package why has the command that explains why work does not proceed.
package why

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Commands returns the command.
func Commands(f *factory.Factory) []*cobra.Command {
	return cmdutil.InGroup(cmdutil.GroupWatch, newCommand(f))
}

func newCommand(f *factory.Factory) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:         "why [ID]",
		Annotations: cmdutil.Calls(queue.OpExplainTask, "task why"),
		SuggestFor:  []string{"explain"},
		Short:       "Show why a task or a queue does not proceed, and until when",
		Long: "Show why a task does not run, or why no task of a queue is retained: the reason that decides comes first, each with\n" +
			"what to do, and until when it holds.",
		Example: "  pgqueue why 42\n  pgqueue why --queue mail\n  pgqueue why 42 --jq '.reasons[0].code'",
		Args:    cmdutil.Args(0, 1, "a task id", "--queue"),

		RunE: func(cmd *cobra.Command, args []string) error {
			explain := func(ctx context.Context, svc queue.Service) (*queue.Explanation, error) {
				return svc.ExplainQueue(ctx, name)
			}
			switch {
			case len(args) == 0 && name == "":
				return cmdutil.Usage("arguments: must be a task id or --queue, got none")
			case len(args) > 0 && name != "":
				return cmdutil.Usage("arguments: must be a task id or --queue, got both; leave one out")
			case len(args) > 0:
				id, err := cmdutil.ID(args[0])
				if err != nil {
					return err
				}
				explain = func(ctx context.Context, svc queue.Service) (*queue.Explanation, error) {
					return svc.ExplainTask(ctx, id)
				}
			}

			return f.Do(cmd, func(ctx context.Context, svc queue.Service, p *output.Printer) error {
				e, err := explain(ctx, svc)
				if err != nil {
					return err
				}

				w := restapi.ExplanationOf(e)
				return output.One(p, w, func() []output.Field { return describeExplanation(w, f.Now()) })
			})
		},
	}

	cmd.Flags().StringVar(&name, "queue", "", "explain this `queue`")
	_ = cmd.RegisterFlagCompletionFunc("queue", cmdutil.QueueNames(f))

	return cmd
}

// describeExplanation returns the lines of an explanation: each reason with its times, its hold and its remedy.
func describeExplanation(e restapi.Explanation, now time.Time) []output.Field {
	lines := []output.Field{{Name: "queue", Value: e.Queue}}
	if e.Task > 0 {
		lines = []output.Field{
			{Name: "task", Value: strconv.FormatInt(e.Task, 10), Style: iostreams.Bold},
			{Name: "status", Value: e.Status, Style: output.StatusStyle(queue.Status(e.Status))},
			{Name: "queue", Value: e.Queue},
		}
	}

	for _, r := range e.Reasons {
		lines = append(lines, output.Field{Name: "why", Value: output.Clean(r.Text), Style: iostreams.Bold})
		if !r.Since.IsZero() {
			lines = append(lines, output.Field{Name: "since", Value: output.Time(r.Since, now)})
		}
		if !r.Until.IsZero() {
			lines = append(lines, output.Field{Name: "until", Value: output.Time(r.Until, now)})
		}
		if h := r.Hold; h != nil {
			text := fmt.Sprintf("task %d by %s since %s, lease until %s", h.Task, output.Clean(h.Worker), output.Time(h.Since, now), output.Time(h.ExpiresAt, now))
			lines = append(lines, output.Field{Name: "hold", Value: text})
		}
		lines = append(lines, output.Field{Name: "remedy", Value: output.Clean(r.Advice)})
	}
	return lines
}
