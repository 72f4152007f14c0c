package queues

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func newHistoryCommand(f *factory.Factory) *cobra.Command {
	var q queue.HistoryQuery
	var step string
	cmd := cmdutil.About(f, &cobra.Command{
		Use:         "history QUEUE",
		Annotations: cmdutil.Calls(queue.OpQueueHistory, "queue history"),
		Long: "Show what happened in a queue by minutes of the last day, or by hours of the last 30 days, the oldest first. A minute\n" +
			"in which nothing happened and no task was ready is missing.",
		Example: "  pgqueue history mail\n" +
			"  pgqueue history mail --step hour --after 2026-01-02\n" +
			"  pgqueue history mail --jq '.points[-1].failed'",
	}, "a queue's name", cmdutil.QueueNames(f), func(ctx context.Context, svc queue.Service, name string) (*queue.QueueHistory, error) {
		q.Step = queue.HistoryStep(step)
		return svc.QueueHistory(ctx, name, q)
	}, func(p *output.Printer, h *queue.QueueHistory) error {
		w := restapi.QueueHistoryOf(h)
		if !p.Human() {
			return p.Value(w)
		}
		return output.List(p, restapi.ListOf(w.Points), "nothing happened in that time", historyColumns(f.Now()))
	})

	cmd.Flags().StringVar(&step, "step", "minute", "the length of a line: minute or hour")
	cmdutil.Time(cmd.Flags(), &q.After, "after", "only what is later than this `time`")
	cmdutil.Time(cmd.Flags(), &q.Before, "before", "only what is earlier than this `time`")
	_ = cmd.RegisterFlagCompletionFunc("step", cmdutil.Fixed("minute", "hour"))

	return cmd
}

func historyColumns(now time.Time) []output.Column[restapi.HistoryPoint] {
	type row = restapi.HistoryPoint
	return []output.Column[row]{
		{Head: "AT", Cell: func(p row) string { return p.At.In(now.Location()).Format("2006-01-02 15:04") }},
		{Head: "CREATED", Right: true, Cell: func(p row) string { return output.Number(p.Created) }},
		{Head: "RELEASED", Right: true, Cell: func(p row) string { return output.Number(p.Released) }},
		{Head: "FAILED", Right: true, Cell: func(p row) string { return output.Number(p.Failed) }},
		{Head: "RETRIED", Right: true, Cell: func(p row) string { return output.Number(p.Retried) }},
		{Head: "READY", Right: true, Cell: func(p row) string { return output.Number(p.Ready) }},
		{Head: "OLDEST", Right: true, Cell: func(p row) string { return formatDuration(p.OldestReadyAge) }},
	}
}
