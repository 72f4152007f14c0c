package ticker

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func newUpcomingCommand(f *factory.Factory) *cobra.Command {
	var q queue.UpcomingQuery
	cmd := &cobra.Command{
		Use:         "upcoming-ticks",
		Annotations: cmdutil.Calls(queue.OpUpcomingTicks, "ticker upcoming"),
		SuggestFor:  []string{"upcoming", "agenda"},
		Long:        "Show the next fires of all tickers that are not paused, in the order of their times: those of a day, or until a time.",
		Example:     "  pgqueue upcoming-ticks\n  pgqueue upcoming-ticks --until 2026-01-03 --limit 1000\n  pgqueue upcoming-ticks --jq '.body[].ticker'",
		Args:        cmdutil.Args(0, 0, ""),

		RunE: f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, _ []string) error {
			got, err := svc.UpcomingTicks(ctx, q)
			if err != nil {
				return err
			}

			w := restapi.UpcomingOf(got)
			if !p.Human() {
				return p.Value(w)
			}
			if err := output.List(p, restapi.ListOf(w.Body), "no ticker fires in that time", upcomingColumns(f.Now())); err != nil {
				return err
			}
			if w.More {
				fmt.Fprintf(f.IO.Err, "the first %d; raise --limit for more\n", len(w.Body))
			}
			return nil
		}),
	}

	cmdutil.Time(cmd.Flags(), &q.Until, "until", "only fires before this `time` (default a day from now)")
	cmd.Flags().IntVar(&q.PerTicker, "per-ticker", 0, "show at most this many of one ticker; 0 = no limit")
	cmdutil.LimitVar(cmd.Flags(), &q.Limit, "show at most this many, up to 1000 (default 100)")

	return cmd
}

func upcomingColumns(now time.Time) []output.Column[restapi.UpcomingTick] {
	type row = restapi.UpcomingTick
	return []output.Column[row]{
		{Head: "AT", Cell: func(t row) string { return output.Time(t.At, now) }},
		{Head: "TICKER", Cell: func(t row) string { return t.Ticker }},
		{Head: "QUEUE", Cell: func(t row) string { return output.Dash(t.Queue) }},
	}
}
