package queues

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

func newFailuresCommand(f *factory.Factory) *cobra.Command {
	var q queue.FailureQuery
	cmd := cmdutil.About(f, &cobra.Command{
		Use:         "failures QUEUE",
		Annotations: cmdutil.Calls(queue.OpListFailures, "queue failures"),
		SuggestFor:  []string{"errors"},
		Long: "Group the newest 10,000 failed tasks of a queue by their errors. Errors of a group differ in ids, numbers, times and other\n" +
			"data alone. To retry a group: pgqueue retry-task with its ids.",
		Example: "  pgqueue failures mail\n" +
			"  pgqueue failures mail --after 2026-01-02 --before 2026-01-03\n" +
			"  pgqueue retry-task $(pgqueue failures mail --jq '.body[0].ids[]')",
	}, "a queue's name", cmdutil.QueueNames(f), func(ctx context.Context, svc queue.Service, name string) (*queue.Failures, error) {
		return svc.ListFailures(ctx, name, q)
	}, func(p *output.Printer, got *queue.Failures) error {
		w := restapi.FailuresOf(got)
		if !p.Human() {
			return p.Value(w)
		}

		list := restapi.List[restapi.FailureGroup]{Count: w.Count, Body: w.Body}
		if err := output.List(p, list, "no failed tasks", failureColumns(f.Now())); err != nil {
			return err
		}
		if w.More {
			fmt.Fprintf(f.IO.Err, "the newest %d failed tasks; there are older ones\n", w.Examined)
		}
		return nil
	})

	cmdutil.Time(cmd.Flags(), &q.After, "after", "only tasks that ended after this `time`")
	cmdutil.Time(cmd.Flags(), &q.Before, "before", "only tasks that ended before this `time`")
	return cmd
}

func failureColumns(now time.Time) []output.Column[restapi.FailureGroup] {
	type row = restapi.FailureGroup
	return []output.Column[row]{
		{Head: "COUNT", Right: true, Cell: func(g row) string { return output.Number(g.Count) }, Style: func(row) iostreams.Style { return iostreams.Bold }},
		{Head: "FINGERPRINT", Cell: func(g row) string { return g.Fingerprint }},
		{Head: "LAST", Cell: func(g row) string { return output.Ago(g.LastAt, now) }},
		{Head: "FIRST", Cell: func(g row) string { return output.Ago(g.FirstAt, now) }},
		{Head: "NEWEST", Right: true, Wide: true, Cell: func(g row) string { return strconv.FormatInt(g.Sample.Task, 10) }},
		{Head: "KIND", Cell: func(g row) string { return output.Dash(g.Kind) }},
		{Head: "ERROR", Cell: func(g row) string { return output.Dash(g.Message) }},
	}
}
