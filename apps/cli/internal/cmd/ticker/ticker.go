// Package ticker has the commands of tickers.
package ticker

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Commands returns the commands of tickers.
func Commands(f *factory.Factory) []*cobra.Command {
	return cmdutil.InGroup(cmdutil.GroupTickers,
		newListCommand(f), newViewCommand(f), newCreateCommand(f), newUpdateCommand(f), newDeleteCommand(f),
		newNextCommand(f), newPreviewCommand(f), newUpcomingCommand(f), newRunCommand(f), newTicksCommand(f),
	)
}

// formatSchedule formats the schedule of a ticker for people.
func formatSchedule(t restapi.Ticker) string {
	if t.Cron == "" {
		return "every " + output.Duration(time.Duration(t.Period))
	}
	if t.Timezone != "" {
		return t.Cron + " " + t.Timezone
	}
	return t.Cron + " UTC"
}

func tickerColumns(now time.Time) []output.Column[restapi.Ticker] {
	type row = restapi.Ticker
	return []output.Column[row]{
		{Head: "TICKER", Cell: func(t row) string { return t.Ticker }, Style: func(row) iostreams.Style { return iostreams.Bold }},
		{Head: "SCHEDULE", Cell: formatSchedule},
		{Head: "QUEUE", Cell: func(t row) string { return output.Dash(t.Queue) }},
		{Head: "PAUSED", Cell: func(t row) string { return output.YesNo(t.Paused) }},
		{Head: "LAST", Cell: func(t row) string { return output.Ago(t.Timestamp, now) }},
		{Head: "NEXT", Cell: func(t row) string {
			if t.Fault != "" {
				return "fails; see: pgqueue ticker " + t.Ticker
			}

			return output.Ago(t.NextAt, now)
		}},
		{Head: "MISFIRE", Wide: true, Cell: func(t row) string { return t.Misfire }},
		{Head: "OVERLAP", Wide: true, Cell: func(t row) string { return t.Overlap }},
		{Head: "PAYLOAD", Cell: func(t row) string { return output.Clean(string(t.Payload)) }},
	}
}

func printTicker(f *factory.Factory, p *output.Printer, t *queue.Ticker) error {
	w, now := restapi.TickerOf(t), f.Now()
	return output.One(p, w, func() []output.Field {
		misfire := w.Misfire
		// The limit has no effect on the other policies.
		if w.Misfire == string(queue.MisfireAll) {
			misfire = fmt.Sprintf("all, at most %d", w.MisfireLimit)
		}

		fields := []output.Field{
			{Name: "ticker", Value: w.Ticker, Style: iostreams.Bold},
			{Name: "namespace", Value: w.Namespace},
			{Name: "schedule", Value: formatSchedule(w)},
			{Name: "queue", Value: output.Dash(w.Queue)},
			{Name: "paused", Value: output.YesNo(w.Paused)},
			{Name: "last", Value: output.Time(w.Timestamp, now)},
			{Name: "next", Value: output.Time(w.NextAt, now)},
			{Name: "misfire", Value: misfire},
			{Name: "overlap", Value: w.Overlap},
			{Name: "payload", Value: output.Pretty(w.Payload)},
		}

		if w.Fault != "" {
			fields = append(fields, output.Field{Name: "fault", Value: output.Clean(w.Fault), Style: iostreams.Red})
		}

		return fields
	})
}

func newListCommand(f *factory.Factory) *cobra.Command {
	return cmdutil.ListAll(f, &cobra.Command{
		Use: "tickers", Annotations: cmdutil.Calls(queue.OpListTickers, "ticker list"),
		Example: "  pgqueue tickers\n  pgqueue tickers --jq '.body[] | [.ticker, .next_at] | @tsv'",
	}, func(ctx context.Context, svc queue.Service, page queue.Page) ([]*queue.Ticker, int64, error) {
		got, err := svc.ListTickers(ctx, page)
		return got.Tickers, got.Count, err
	}, restapi.TickerOf, "no tickers; make one with: pgqueue create-ticker NAME --period 1h --queue QUEUE", tickerColumns)
}

// deleted is the change of a ticker after which its settings are not shown.
const deleted = "deleted"

// newNamedCommand returns a command on one named ticker.
func newNamedCommand(f *factory.Factory, cmd *cobra.Command, do func(context.Context, queue.Service, string) (*queue.Ticker, error), done string) *cobra.Command {
	return cmdutil.About(f, cmd, "a ticker's name", cmdutil.TickerNames(f), do, func(p *output.Printer, t *queue.Ticker) error {
		if done != "" {
			p.Done("ticker %s %s", t.Name, done)
		}

		if p.Human() && done == deleted {
			// The sentence is enough.
			return nil
		}

		return printTicker(f, p, t)
	})
}

func newViewCommand(f *factory.Factory) *cobra.Command {
	return newNamedCommand(f, &cobra.Command{Use: "ticker NAME", Annotations: cmdutil.Calls(queue.OpGetTicker, "ticker view"), Short: "Show a ticker", Example: "  pgqueue ticker nightly"},
		func(ctx context.Context, svc queue.Service, name string) (*queue.Ticker, error) {
			return svc.GetTicker(ctx, name)
		}, "")
}

// settings holds the flags of a ticker's settings.
type settings struct {
	meta    queue.TickerMeta
	payload string
}

func (s *settings) defineFlags(f *factory.Factory, cmd *cobra.Command) {
	fs := cmd.Flags()
	cmdutil.MaybeDuration(fs, &s.meta.Period, "period", "fire at this interval")
	cmdutil.MaybeText(fs, &s.meta.Cron, "cron", "fire by this 5-field cron expression, or @hourly and the like")
	cmdutil.MaybeText(fs, &s.meta.Timezone, "timezone", "IANA name of the cron expression's zone, as Europe/Berlin (default UTC)")
	cmdutil.MaybeText(fs, &s.meta.Queue, "queue", "make each tick a task of this queue; update-ticker: empty = ticks go to listeners")
	fs.StringVar(&s.payload, "payload", "", "`payload` of each tick: JSON, @file, or - for stdin")
	cmdutil.MaybeText(fs, &s.meta.Misfire, "misfire", "after a downtime: skip, once or all")
	cmdutil.MaybeInt(fs, &s.meta.MisfireLimit, "misfire-limit", "with --misfire all: at most this many")
	cmdutil.MaybeText(fs, &s.meta.Overlap, "overlap", "while the last tick's task is unfinished: allow or skip")
	cmdutil.MaybeBool(fs, &s.meta.Paused, "paused", "do not fire")
	_ = cmd.RegisterFlagCompletionFunc("queue", cmdutil.QueueNames(f))
	_ = cmd.RegisterFlagCompletionFunc("misfire", cmdutil.Fixed("skip", "once", "all"))
	_ = cmd.RegisterFlagCompletionFunc("overlap", cmdutil.Fixed("allow", "skip"))
}

func (s *settings) readPayload(f *factory.Factory, name string) (_ queue.TickerMeta, err error) {
	s.meta.Name = name
	s.meta.Payload, err = cmdutil.JSON(f, "--payload", s.payload)
	return s.meta, err
}

func newCreateCommand(f *factory.Factory) *cobra.Command {
	var s settings
	cmd := newNamedCommand(f, &cobra.Command{
		Use: "create-ticker NAME", Annotations: cmdutil.Calls(queue.OpCreateTicker, "ticker create"),
		Example: "  pgqueue create-ticker nightly --cron '30 3 * * *' --timezone Europe/Berlin --queue reports\n" +
			"  pgqueue create-ticker pulse --period 10s",
		ValidArgsFunction: cobra.NoFileCompletions,
	}, func(ctx context.Context, svc queue.Service, name string) (*queue.Ticker, error) {
		// The server would refuse it too; here the message names the flags.
		if s.meta.Period == nil && s.meta.Cron == nil {
			return nil, cmdutil.Usage("--period, --cron: must be one of them, got none")
		}

		m, err := s.readPayload(f, name)
		if err != nil {
			return nil, err
		}

		return svc.CreateTicker(ctx, m)
	}, "created")

	s.defineFlags(f, cmd)

	return cmd
}

func newUpdateCommand(f *factory.Factory) *cobra.Command {
	var s settings
	cmd := newNamedCommand(f, &cobra.Command{
		Use: "update-ticker NAME", Annotations: cmdutil.Calls(queue.OpUpdateTicker, "ticker update"), Short: "Change settings of a ticker",
		Example: "  pgqueue update-ticker nightly --paused\n  pgqueue update-ticker nightly --paused=false --cron '0 4 * * *'",
	}, func(ctx context.Context, svc queue.Service, name string) (*queue.Ticker, error) {
		m, err := s.readPayload(f, "")
		if err != nil {
			return nil, err
		}

		return svc.UpdateTicker(ctx, name, m)
	}, "updated")

	s.defineFlags(f, cmd)
	cmdutil.IfVersion(cmd, &s.meta.IfVersion, "ticker")
	program.MayBeEmpty(cmd.Flags(), "queue")

	return cmd
}

func newDeleteCommand(f *factory.Factory) *cobra.Command {
	var version int64
	cmd := newNamedCommand(f, &cobra.Command{Use: "delete-ticker NAME", Annotations: cmdutil.Calls(queue.OpDeleteTicker, "ticker delete"), Example: "  pgqueue delete-ticker nightly"},
		func(ctx context.Context, svc queue.Service, name string) (*queue.Ticker, error) {
			return svc.DeleteTicker(ctx, name, queue.IfVersion(version))
		}, deleted)
	cmdutil.IfVersion(cmd, &version, "ticker")
	return cmd
}

func tickColumns(now time.Time) []output.Column[restapi.Tick] {
	type row = restapi.Tick
	return []output.Column[row]{
		{Head: "TICK", Right: true, Cell: func(t row) string { return output.Number(t.ID) }},
		{Head: "TICKER", Cell: func(t row) string { return t.Ticker }},
		{Head: "AT", Cell: func(t row) string { return output.Time(t.Timestamp, now) }},
		{Head: "TASK", Right: true, Cell: func(t row) string {
			switch {
			case t.Skipped:
				return "skipped"
			case t.Task == 0:
				return "-"
			}

			return output.Number(t.Task)
		}},
		{Head: "MANUAL", Cell: func(t row) string { return output.YesNo(t.Manual) }},
	}
}

func newTicksCommand(f *factory.Factory) *cobra.Command {
	limit := 20
	cmd := &cobra.Command{
		Use: "ticks NAME", Annotations: cmdutil.Calls(queue.OpListTicks, "ticker ticks"), Example: "  pgqueue ticks nightly --limit 5",
		Args:              cmdutil.Args(1, 1, "a ticker's name"),
		ValidArgsFunction: cmdutil.First(cmdutil.TickerNames(f)),

		RunE: f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, args []string) error {
			if err := queue.CheckInt("--limit", limit, 1, queue.MaxPage); err != nil {
				return err
			}

			// One more than shown, to see whether the list is cut.
			got, err := svc.ListTicks(ctx, args[0], min(limit+1, queue.MaxPage))
			if err != nil {
				return err
			}

			more := len(got) > limit
			if more {
				got = got[:limit]
			}

			list := restapi.ListOf(restapi.Each(got, restapi.TickOf))
			if err := output.List(p, list, "it has not fired yet", tickColumns(f.Now())); err != nil {
				return err
			}

			if more {
				p.Cut(len(got), "more", fmt.Sprintf("--limit shows more, up to %d", queue.MaxPage))
			}

			return nil
		}),
	}

	cmdutil.LimitVar(cmd.Flags(), &limit, "show at most this many")

	return cmd
}

func newPreviewCommand(f *factory.Factory) *cobra.Command {
	n := 10
	cmd := &cobra.Command{
		Use: "preview-ticker NAME", Annotations: cmdutil.Calls(queue.OpPreviewTicker, "ticker preview"), Example: "  pgqueue preview-ticker nightly -N 3",
		Args:              cmdutil.Args(1, 1, "a ticker's name"),
		ValidArgsFunction: cmdutil.First(cmdutil.TickerNames(f)),

		RunE: f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, args []string) error {
			times, err := svc.PreviewTicker(ctx, args[0], n)
			if err != nil {
				return err
			}

			now := f.Now()

			return output.List(p, restapi.ListOf(times), "it does not fire: it is paused", []output.Column[time.Time]{
				{Head: "AT", Cell: func(t time.Time) string { return t.In(now.Location()).Format("Mon 2006-01-02 15:04:05 MST") }},
				{Head: "IN", Cell: func(t time.Time) string { return output.Ago(t, now) }},
			})
		}),
	}

	cmd.Flags().IntVarP(&n, "count", "N", n, "how many")

	return cmd
}

func newRunCommand(f *factory.Factory) *cobra.Command {
	var version int64
	cmd := &cobra.Command{
		Use: "run-ticker NAME", Annotations: cmdutil.Calls(queue.OpRunTicker, "ticker run"), Example: "  pgqueue run-ticker nightly",
		Args:              cmdutil.Args(1, 1, "a ticker's name"),
		ValidArgsFunction: cmdutil.First(cmdutil.TickerNames(f)),

		RunE: f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, args []string) error {
			t, err := svc.RunTicker(ctx, args[0], queue.IfVersion(version))
			if err != nil {
				return err
			}

			if !p.Human() {
				return p.Value(restapi.TickOf(*t))
			}

			switch {
			case t.Skipped:
				p.Done("ticker %s fired; no task: the last one is unfinished", t.Ticker)
			case t.TaskID == 0:
				p.Done("ticker %s fired; the tick goes to a listener", t.Ticker)
			default:
				p.Done("ticker %s fired: task %d in %s", t.Ticker, t.TaskID, t.Queue)
			}

			return nil
		}),
	}

	cmdutil.IfVersion(cmd, &version, "ticker")

	return cmd
}

func newNextCommand(f *factory.Factory) *cobra.Command {
	count := 0
	cmd := &cobra.Command{
		Use:         "next-ticker",
		Annotations: cmdutil.Calls(queue.OpRunTickerLoop, "ticker next"),
		Short:       "Follow the ticks of tickers that have no queue",
		Long: "Follow the ticks of tickers that have no queue, until interrupted. Each tick goes to one listener; it counts as\n" +
			"delivered when it was written out.",
		Example: "  pgqueue next-ticker\n  pgqueue next-ticker --count 1 --jq .ticker",
		Args:    cmdutil.Args(0, 0, ""),

		RunE: func(cmd *cobra.Command, _ []string) error {
			svc, p, err := f.Both()
			if err != nil {
				return err
			}

			seen := 0
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()

			err = svc.RunTickerLoop(ctx, func(_ context.Context, t queue.Tick) error {
				if err := printTick(f, p, t); err != nil {
					cancel()
					return err
				}

				if seen++; seen == count {
					// A handled tick is settled all the same.
					cancel()
				}

				return nil
			})

			// The user asked for this end, by --count or by a signal.
			if count > 0 && seen == count || count == 0 && cmd.Context().Err() != nil {
				return nil
			}

			return err
		},
	}

	cmd.Flags().IntVar(&count, "count", 0, "end after this many")

	return cmd
}

func printTick(f *factory.Factory, p *output.Printer, t queue.Tick) error {
	if !p.Human() {
		line := *p
		// A stream has no end at which a list could be closed, so each tick is a line.
		line.Format = output.NDJSON
		return line.Value(restapi.TickOf(t))
	}

	_, err := fmt.Fprintf(f.IO.Out, "%s  %s  %s\n", t.At.In(f.Now().Location()).Format(time.DateTime),
		f.IO.Paint(iostreams.Bold, t.Ticker), output.Clean(string(t.Payload)))
	return err
}
