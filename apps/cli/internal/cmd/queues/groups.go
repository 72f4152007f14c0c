package queues

import (
	"context"
	"fmt"
	"strconv"
	"strings"
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

// defineFlowFlags defines the flags of a queue's flow.
func defineFlowFlags(cmd *cobra.Command, m *queue.FlowMeta) {
	fs := cmd.Flags()
	cmdutil.MaybeBool(fs, &m.Fair, "fair", "let the groups of its tasks share the queue equally")
	cmdutil.MaybeInt(fs, &m.RateLimit, "rate-limit", "most starts in the rate period over all workers; 0 = no limit")
	cmdutil.MaybeDuration(fs, &m.RatePeriod, "rate-period", "period of the rate limit, 1s to 24h")
	cmdutil.MaybeInt(fs, &m.RateBurst, "rate-burst", "most starts at once; 0 = those of a tenth of a second, at least 1")
	cmdutil.MaybeInt(fs, &m.GroupConcurrency, "group-concurrency", "most tasks of one group retained at once; 0 = no limit")
	cmdutil.MaybeInt(fs, &m.GroupRateLimit, "group-rate-limit", "most starts of one group in the group rate period; 0 = no limit")
	cmdutil.MaybeDuration(fs, &m.GroupRatePeriod, "group-rate-period", "period of the group rate limit, 1s to 24h")
	cmdutil.MaybeInt(fs, &m.GroupRateBurst, "group-rate-burst", "most starts of one group at once; 0 as for --rate-burst")
	cmdutil.MaybeText(fs, &m.Order, "order", "none, or fifo: the tasks of a group run one after the other")
	cmdutil.MaybeInt(fs, &m.FIFOBatch, "fifo-batch", "most tasks of one group in one retain of a fifo queue")
	cmdutil.MaybeText(fs, &m.GroupOnFailure, "group-on-failure", "how a group of a fifo queue goes on after a failed task: skip or block")
	cmdutil.MaybeInt(fs, &m.MaxWaiting, "max-waiting", "refuse creates from so many waiting tasks on; 0 = no limit")
	_ = cmd.RegisterFlagCompletionFunc("order", cmdutil.Fixed("none", "fifo"))
	_ = cmd.RegisterFlagCompletionFunc("group-on-failure", cmdutil.Fixed("skip", "block"))
}

// describeFlow names the settings of a flow that do something; "-" without any.
func describeFlow(q restapi.Queue) string {
	var parts []string
	if q.Fair {
		parts = append(parts, "fair")
	}
	if q.RateLimit > 0 {
		parts = append(parts, formatRate(q.RateLimit, q.RatePeriod))
	}
	if q.GroupConcurrency > 0 {
		parts = append(parts, fmt.Sprintf("%d of a group", q.GroupConcurrency))
	}
	if q.GroupRateLimit > 0 {
		parts = append(parts, formatRate(q.GroupRateLimit, q.GroupRatePeriod)+" of a group")
	}
	if q.Order == string(queue.OrderFIFO) {
		parts = append(parts, fmt.Sprintf("fifo, batches of %d, %s on failure", q.FIFOBatch, q.GroupOnFailure))
	}
	if q.MaxWaiting > 0 {
		parts = append(parts, fmt.Sprintf("at most %d waiting", q.MaxWaiting))
	}
	if q.GroupPolicies > 0 {
		parts = append(parts, fmt.Sprintf("%d groups with settings", q.GroupPolicies))
	}
	if !q.PausedUntil.IsZero() {
		parts = append(parts, "paused until "+q.PausedUntil.UTC().Format(time.RFC3339))
	}
	return output.Dash(strings.Join(parts, ", "))
}

func formatRate(limit int, period int64) string {
	return fmt.Sprintf("%d in %s", limit, formatDuration(period))
}

func newGroupsCommand(f *factory.Factory) *cobra.Command {
	q := queue.GroupQuery{}
	cmd := cmdutil.About(f, &cobra.Command{
		Use:         "groups QUEUE",
		Annotations: cmdutil.Calls(queue.OpListGroups, "queue groups"),
		Long: "List the groups of a queue that have settings of their own, a task that waits for them, or one that keeps a place of\n" +
			"the group. A group without any of it is not listed.",
		Example: "  pgqueue groups mail\n" +
			"  pgqueue groups mail --group tenant-7\n" +
			"  pgqueue groups mail --jq '.body[] | select(.blocked)'",
	}, "a queue's name", cmdutil.QueueNames(f), func(ctx context.Context, svc queue.Service, name string) (queue.GroupPage, error) {
		return svc.ListGroups(ctx, name, q)
	}, func(p *output.Printer, page queue.GroupPage) error {
		list := restapi.List[restapi.Group]{Count: int64(len(page.Groups)), Body: restapi.Each(page.Groups, restapi.GroupOf), Next: page.Next}
		if err := output.List(p, list, "no group has settings, and none waits", groupColumns(f.Now())); err != nil {
			return err
		}
		if p.Human() && page.Next != "" {
			fmt.Fprintf(f.IO.Err, "there are more groups; go on with --cursor %s\n", page.Next)
		}
		return nil
	})

	cmd.Flags().StringVar(&q.Name, "group", "", "one group, also one without tasks")
	cmd.Flags().IntVar(&q.Limit, "limit", queue.DefaultPage, "most groups")
	cmd.Flags().StringVar(&q.Cursor, "cursor", "", "go on where the last page ended")

	return cmd
}

func groupColumns(now time.Time) []output.Column[restapi.Group] {
	type row = restapi.Group
	number := func(n int) string {
		if n == 0 {
			return "-"
		}
		return strconv.Itoa(n)
	}
	return []output.Column[row]{
		{Head: "GROUP", Cell: func(g row) string { return output.Dash(g.Group) }, Style: func(row) iostreams.Style { return iostreams.Bold }},
		{Head: "WAITING", Right: true, Cell: func(g row) string { return output.Number(g.Waiting) }},
		{Head: "RETAINED", Right: true, Cell: func(g row) string { return output.Number(g.Retained) }},
		{Head: "STATE", Cell: func(g row) string { return describeGroupState(g, now) }},
		{Head: "CONCURRENCY", Right: true, Cell: func(g row) string { return number(g.Concurrency) }},
		{Head: "RATE", Right: true, Cell: func(g row) string {
			if g.RateLimit == 0 {
				return "-"
			}
			return formatRate(g.RateLimit, g.RatePeriod)
		}},
		{Head: "WEIGHT", Right: true, Cell: func(g row) string { return number(g.Weight) }},
	}
}

// describeGroupState says in a few words what holds up a group.
func describeGroupState(g restapi.Group, now time.Time) string {
	switch {
	case g.PausedUntil.After(now):
		return "paused, " + output.Ago(g.PausedUntil, now)
	case g.Blocked != 0:
		return fmt.Sprintf("blocked by task %d", g.Blocked)
	case g.Next.After(now):
		return "next " + output.Ago(g.Next, now)
	}
	return "-"
}

type groupOptions struct {
	meta     queue.GroupMeta
	pauseFor time.Duration
	resume   bool
}

func newGroupCommand(f *factory.Factory) *cobra.Command {
	var o groupOptions
	cmd := &cobra.Command{
		Use:         "group QUEUE GROUP",
		Annotations: cmdutil.Calls(queue.OpUpdateGroup, "queue group"),
		SuggestFor:  []string{"update-group", "pause-group", "resume-group"},
		Short:       "Limit, weigh, pause or resume one group of a queue",
		Long: "Change the settings of one group of a queue. 0 takes a limit away: then that of the queue holds. --pause-for starts none of\n" +
			"its tasks for that long, and --resume ends the pause.",
		Example: "  pgqueue group mail tenant-7 --concurrency 5\n" +
			"  pgqueue group mail tenant-7 --weight 4\n" +
			"  pgqueue group mail tenant-7 --pause-for 1h\n" +
			"  pgqueue group mail tenant-7 --resume",
		Args:              cmdutil.Args(2, 2, "a queue's name and a group"),
		ValidArgsFunction: cmdutil.First(cmdutil.QueueNames(f)),

		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.readPause(f.Now()); err != nil {
				return err
			}
			// A call without a setting would succeed and change nothing, which hides a forgotten flag.
			if o.meta == (queue.GroupMeta{}) {
				return cmdutil.Usage("settings: must be at least one, got none; see pgqueue group --help")
			}
			return changeGroup(cmd, f, func(ctx context.Context, svc queue.Service) (*queue.Group, error) {
				return svc.UpdateGroup(ctx, args[0], args[1], o.meta)
			})
		},
	}

	fs := cmd.Flags()
	cmdutil.MaybeInt(fs, &o.meta.Weight, "weight", "share of a fair queue, as a multiple of that of other groups")
	cmdutil.MaybeInt(fs, &o.meta.Concurrency, "concurrency", "most tasks retained at once over all workers; 0 = no limit")
	cmdutil.MaybeInt(fs, &o.meta.RateLimit, "rate-limit", "most starts in the rate period over all workers; 0 = no limit")
	cmdutil.MaybeDuration(fs, &o.meta.RatePeriod, "rate-period", "period of the rate limit, 1s to 24h")
	cmdutil.MaybeInt(fs, &o.meta.RateBurst, "rate-burst", "most starts at once; 0 = those of a tenth of a second, at least 1")
	program.DurationVar(fs, &o.pauseFor, "pause-for", "start none of its tasks for that long")
	fs.BoolVar(&o.resume, "resume", false, "end its pause")

	return cmd
}

// readPause turns the flags of a pause into a time.
func (o *groupOptions) readPause(now time.Time) error {
	switch {
	case o.resume && o.pauseFor > 0:
		return cmdutil.Usage("--resume: must not come with --pause-for; leave one out")
	case o.resume:
		// The zero time takes the pause away.
		o.meta.PausedUntil = new(time.Time)
	case o.pauseFor > 0:
		// By the clock of this machine, because the operation takes a time and no duration.
		o.meta.PausedUntil = new(now.Add(o.pauseFor))
	}
	return nil
}

func newUnblockCommand(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:         "unblock-group QUEUE GROUP",
		Annotations: cmdutil.Calls(queue.OpUnblockGroup, "queue unblock"),
		Short:       "Let a group go on that a failed task holds up",
		Example:     "  pgqueue unblock-group mail account-7",
		Args:        cmdutil.Args(2, 2, "a queue's name and a group"),

		ValidArgsFunction: cmdutil.First(cmdutil.QueueNames(f)),

		RunE: func(cmd *cobra.Command, args []string) error {
			return changeGroup(cmd, f, func(ctx context.Context, svc queue.Service) (*queue.Group, error) {
				return svc.UnblockGroup(ctx, args[0], args[1])
			})
		},
	}
}

// changeGroup makes a call that changes a group, and shows the group.
func changeGroup(cmd *cobra.Command, f *factory.Factory, change func(context.Context, queue.Service) (*queue.Group, error)) error {
	return f.Do(cmd, func(ctx context.Context, svc queue.Service, p *output.Printer) error {
		g, err := change(ctx, svc)
		if err != nil {
			return err
		}
		w := restapi.GroupOf(g)
		return output.One(p, w, func() []output.Field {
			fields := []output.Field{{Name: "queue", Value: w.Queue}}
			for _, c := range groupColumns(f.Now()) {
				fields = append(fields, output.Field{Name: strings.ToLower(c.Head), Value: c.Cell(w)})
			}
			return fields
		})
	})
}
